"""The continuous-filter convolution as a PyG layer."""

from typing import Any

from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from pyg_schnet.nn.cutoff import CosineCutoff, NoCutoff
from pyg_schnet.nn.filter import dense, reset_dense
from pyg_schnet.nn.normalization import NeighborNormalization
from pyg_schnet.ops import cfconv
from pyg_schnet.segments import take


class CFConv(MessagePassing):
    r"""Continuous-filter convolution between two dense layers.

    .. math:: x_i' = W_2 \Big(\nu_i \sum_{j \in \mathcal N(i)} (W_1 x_j) \circ \mathcal W(e_{ij})\, C(d_{ij})\Big) + b_2

    Schütt et al., J. Chem. Phys. 148, 241722 (2018), equation (3) and figure 1. The call is that of PyG's ``CFConv``,
    so the layer fits into any PyG model, ``torch_geometric.nn.Sequential`` included.

    Args:
        in_channels: Size of the input features.
        out_channels: Size of the output features.
        num_filters: Number of filters F, the size inside the convolution.
        nn: Filter network: any module from edge attributes [E, G] to filters [E, F].
        cutoff: Cutoff function of the distance as a module, a number for :class:`CosineCutoff` at this distance,
            ``None`` for none.
        normalization: Factor :math:`\nu_i` by the number of neighbours: ``"mean"``, ``"smooth"`` (see
            :class:`~pyg_schnet.nn.NeighborNormalization`) or ``None`` for 1.

    Example:
        >>> import torch
        >>> from pyg_schnet import FilterNetwork
        >>> conv = CFConv(16, 32, 8, FilterNetwork(num_gaussians=20, num_filters=8), cutoff=5.0)
        >>> edge_index = torch.tensor([[0, 1], [1, 0]])
        >>> conv(torch.rand(2, 16), edge_index, torch.full((2,), 1.2), torch.rand(2, 20)).shape
        torch.Size([2, 32])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_filters: int,
        nn: nn.Module,
        cutoff: float | nn.Module | None = None,
        normalization: str | None = None,
    ) -> None:
        super().__init__(aggr="add")
        self.in_channels, self.out_channels, self.num_filters = in_channels, out_channels, num_filters
        self.lin1 = dense(in_channels, num_filters, bias=False)
        self.lin2 = dense(num_filters, out_channels)
        self.nn = nn
        self.cutoff = cutoff_module(cutoff)
        self.norm = None if normalization is None else NeighborNormalization(normalization, self.cutoff)

    def reset_parameters(self) -> None:
        """Draw the weights of the layer and of its filter network anew."""
        super().reset_parameters()
        for layer in (self.lin1, self.lin2):
            reset_dense(layer)
        reset = getattr(self.nn, "reset_parameters", None)
        if reset is not None:
            reset()

    def forward(
        self,
        x: Tensor | tuple[Tensor, Tensor],
        edge_index: Tensor,
        edge_weight: Tensor,
        edge_attr: Any,
        edge_pair: Tensor | None = None,
    ) -> Tensor:
        """Convolve.

        Args:
            x: Atom features [N, in_channels]; for bipartite graphs those of the sources and those of the targets, of
                which only the number counts, as PyG's ``HeteroConv`` passes them.
            edge_index: Row 0 the source j, row 1 the target i [2, E].
            edge_weight: Distances in Angstrom [E].
            edge_attr: Expanded distances [E, G]; or a filter, an object whose ``convolve(h)`` is the sum over the
                neighbours of the features ``h`` [N, F] times its filters, cutoff function included.
            edge_pair: Where edges share distances, as j -> i and i -> j do: the row of ``edge_weight`` and
                ``edge_attr`` that belongs to each edge [E], so that a shared filter is computed once. ``None`` if there
                is a row for each edge.

        Returns:
            Convolved features [N, out_channels].
        """
        source, target = (x, x) if isinstance(x, Tensor) else x
        if target is None:
            raise TypeError("features of the targets are missing in `x`: pass them, or any [M, 1], for their number")
        size = (source.size(0), target.size(0))
        h = self.lin1(source)  # [N, F]
        if not isinstance(edge_attr, Tensor):
            h = edge_attr.convolve(h)
        else:
            w = self.filters(edge_weight, edge_attr)  # [E, F]
            if edge_pair is not None:
                w = take(w, edge_pair)
            # PyG's Explainer masks messages, which only the general path knows
            h = self.propagate(edge_index, x=h, w=w, size=size) if self.explain else cfconv(h, w, edge_index, size[1])
        norm = self.normalize(edge_index, edge_weight, edge_pair, size[1])
        return self.lin2(h if norm is None else h * norm)  # [N, out_channels]

    def factor(self, edge_weight: Tensor) -> Tensor | None:
        """Cutoff function of the edges.

        Args:
            edge_weight: Distances in Angstrom [E].

        Returns:
            Factors [E]; ``None`` without a cutoff function, for ones.
        """
        return None if isinstance(self.cutoff, NoCutoff) else self.cutoff(edge_weight)

    def normalize(
        self, edge_index: Tensor, edge_weight: Tensor, edge_pair: Tensor | None, num_targets: int
    ) -> Tensor | None:
        """Normalisation by the number of neighbours.

        Args:
            edge_index: Row 0 the source j, row 1 the target i [2, E].
            edge_weight: Distances in Angstrom [E], or one for each pair.
            edge_pair: Pair of each edge [E] if the distances are given by pair, else ``None``.
            num_targets: Number N of target atoms.

        Returns:
            Factors [N, 1]; ``None`` without normalisation, for ones.
        """
        if self.norm is None:
            return None
        distance = edge_weight if edge_pair is None else take(edge_weight, edge_pair)
        factors: Tensor = self.norm(edge_index, distance, num_targets)
        return factors

    def filters(self, edge_weight: Tensor, edge_attr: Tensor) -> Tensor:
        """Filters of the edges, cutoff function included.

        Args:
            edge_weight: Distances in Angstrom [E].
            edge_attr: Expanded distances [E, G].

        Returns:
            Filters [E, F].
        """
        w = self.nn(edge_attr)
        factor = self.factor(edge_weight)
        return w if factor is None else w * factor.reshape(-1, 1)  # distances of PyG may be [E, 1]

    def message(self, x_j: Tensor, w: Tensor) -> Tensor:
        """Message of an edge: the source's features times the filter.

        Args:
            x_j: Features of the source of each edge [E, F].
            w: Filters [E, F].

        Returns:
            Messages [E, F].
        """
        return x_j * w


def cutoff_module(cutoff: float | nn.Module | None) -> nn.Module:
    """The cutoff function that an argument ``cutoff`` stands for."""
    if cutoff is None:
        return NoCutoff()
    return cutoff if isinstance(cutoff, nn.Module) else CosineCutoff(cutoff)
