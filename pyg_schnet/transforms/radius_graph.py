"""The radius graph as a PyG transform."""

from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from pyg_schnet.graph import check_cutoff, radius_graph


@functional_transform("exact_radius_graph")
class RadiusGraph(BaseTransform):
    """Connect all atoms closer than a cutoff, see :func:`pyg_schnet.radius_graph`.

    Works on molecules and, with ``cell`` [1, 3, 3] and ``pbc`` [1, 3], on crystals. Writes ``edge_index`` [2, E],
    ``edge_shift`` [E, 3] and ``edge_cutoff`` [1], from which a model sees whether the graph reaches far enough. Used as
    a dataset's ``pre_transform`` the graph is searched once.

    Args:
        cutoff: Cutoff distance in Angstrom.

    Raises:
        ValueError: If the cutoff is not positive.

    Example:
        >>> import torch
        >>> data = RadiusGraph(cutoff=2.0)(Data(pos=torch.tensor([[0.0, 0, 0], [1.0, 0, 0]])))
        >>> data.edge_index
        tensor([[1, 0],
                [0, 1]])
    """

    def __init__(self, cutoff: float) -> None:
        check_cutoff(cutoff)
        self.cutoff = cutoff

    def forward(self, data: Data) -> Data:
        """Add the graph.

        Args:
            data: A structure with ``pos`` and, if there are any, ``batch``, ``cell`` and ``pbc``.

        Returns:
            The structure with ``edge_index`` and ``edge_shift``.
        """
        graph = radius_graph(data.pos, self.cutoff, data.get("batch"), data.get("cell"), data.get("pbc"))
        data.edge_index, data.edge_shift = graph.edge_index, graph.edge_shift
        data.edge_cutoff = data.pos.new_tensor([self.cutoff])
        data.edge_attr = None  # of other edges, if there was one
        return data

    def __repr__(self) -> str:
        return f"{type(self).__name__}(cutoff={self.cutoff})"
