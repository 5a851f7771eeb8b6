"""The message-passing network enn-s2s as a baseline."""

from itertools import pairwise
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from pyg_schnet.graph import Edges
from pyg_schnet.models.arguments import architecture, common
from pyg_schnet.models.atomistic import AtomisticModel, check_sizes
from pyg_schnet.nn.activation import activation
from pyg_schnet.nn.basis import GaussianSmearing
from pyg_schnet.nn.cutoff import NoCutoff, check_positive
from pyg_schnet.nn.cutoff import cutoff_function as make_cutoff
from pyg_schnet.nn.filter import dense, reset_dense
from pyg_schnet.nn.reference import PerTarget

#: Steps of set2set in the authors' code.
PROCESSING_STEPS = 12
#: Factor on the distance in the edge vector: in nanometres it is as large as a Gaussian and does not drown them.
DISTANCE_SCALE = 0.1


class EnnS2S(AtomisticModel):
    r"""Message passing with an edge network, a gated recurrent unit and set2set: enn-s2s.

    Gilmer, Schoenholz, Riley, Vinyals and Dahl, "Neural message passing for quantum chemistry", ICML 2017:

    .. math::
        m_i^{t+1} &= \sum_{j \ne i} A(e_{ij})\, h_j^t \\
        h_i^{t+1} &= \mathrm{GRU}(h_i^t, m_i^{t+1}) \\
        \hat y &= \mathrm{NN}\big(\mathrm{set2set}\{W [h_i^T, h_i^0]\}\big)

    The edge network A makes a matrix of the size F x F from each edge; it and the unit are the same in all T passes.
    As in the paper, every atom sends to every other: QM9 fits into the cutoff of 20 Å. The default sizes are those of
    the authors' code (github.com/brain-research/mpnn): 50 features, edge networks 50 wide, 12 steps of set2set; except
    for the number of passes, 3 (there 6; the paper searches 3 to 8), and of hidden layers in the edge network, 1 (there
    4, with ReLU; smooth activations damp the distance in each layer).

    It differs from the paper where that needs more than numbers and positions of atoms, or has a kink:

    - The features of an atom start as a learned vector of its element, not as a list of chemical properties.
    - The edge vector is the distance (in nm) and its Gaussians, by default as wide (0.4 Å) as the paper's distance bins
      (0.5 Å) but smooth, so that forces exist; the paper's best model takes the distance and the kind of chemical bond.
      Bonds are left out; ``num_gaussians=0`` leaves the distance alone, from which it learns much more slowly.
    - The networks are smooth, not ReLU; the attention of set2set is PyG's scalar product, of which the authors' code
      says that it makes no difference.
    - One matrix for an edge: the code concatenates those of both directions, which distances cannot tell apart.
    - The output network has F neurons, not 200.

    The convolution is that of PyG's ``NNConv``, computed in another order, see :class:`EdgeMatrixConv`. Its table of
    neighbours is as wide as the data ask, so ``torch.export`` does not take this model.

    Args:
        hidden_channels: Size F of the atom features.
        edge_channels: Size of the hidden layers of the edge network.
        num_interactions: Number T of passes.
        num_gaussians: Number of Gaussians from 0 to ``cutoff``, or 0 for the distance alone.
        cutoff: Distance in Angstrom up to which atoms interact.
        readout: How a property of the structure comes from its atoms, see :func:`~pyg_schnet.nn.make_readout`.
        mean: With set2set the mean of the property, see :class:`~pyg_schnet.nn.Reference`.
        std: With set2set the standard deviation of the property.
        atomref: Property of single atoms by atomic number, up to [max_z + 1, C].
        out_channels: Number of targets C.
        edge_layers: Number of hidden layers of the edge network.
        gamma: Inverse squared width of the Gaussians in 1/Angstrom^2; ``None`` for that of their spacing.
        cutoff_function: ``"cosine"``, ``"mollifier"``, ``"polynomial"`` or, as in the paper, ``None``; without one, the
            energy jumps when a pair crosses the cutoff.
        act: Activation of edge and output network, see :data:`~pyg_schnet.nn.activation.ACTIVATIONS`.
        zero_output: True if the last layer starts at zero.
        readout_options: Arguments of the readout; ``None`` for ``{"processing_steps": 12}`` with set2set.
        repulsion: ``"zbl"`` to add the repulsion of nuclei at short distance, see :class:`~pyg_schnet.nn.ZBLRepulsion`;
            for energies in eV only.
        max_z: Largest atomic number.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> z, pos = torch.tensor([8, 1, 1]), torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
        >>> EnnS2S()(z, pos).shape
        torch.Size([1, 1])
    """

    recordable = False  # the table of neighbours is as wide as their largest number

    def __init__(
        self,
        hidden_channels: int = 50,
        edge_channels: int = 50,
        num_interactions: int = 3,
        num_gaussians: int = 50,
        cutoff: float = 20.0,
        *,
        readout: str | nn.Module = "set2set",
        mean: PerTarget | None = None,
        std: PerTarget | None = None,
        atomref: Tensor | None = None,
        out_channels: int = 1,
        edge_layers: int = 1,
        gamma: float | None = None,
        cutoff_function: str | None = None,
        act: str = "silu",
        zero_output: bool = False,
        readout_options: dict[str, Any] | None = None,
        repulsion: str | None = None,
        max_z: int = 118,
    ) -> None:
        if readout == "set2set" and readout_options is None:
            readout_options = {"processing_steps": PROCESSING_STEPS}
        config = architecture(EnnS2S, locals())
        config["cutoff"] = check_positive("cutoff", cutoff)
        labels: dict[str, Any] = {"mean": mean, "std": std, "atomref": atomref}
        super().__init__(**common(config), config=config, act=act, **labels)
        check_sizes(edge_channels=edge_channels, num_interactions=num_interactions, edge_layers=edge_layers)
        if gamma is not None and not num_gaussians:
            raise ValueError(f"`gamma` is the width of Gaussians, but `num_gaussians` is 0; leave it out, got {gamma}")
        self.num_interactions = num_interactions
        self.basis = GaussianSmearing(0.0, self.cutoff, num_gaussians, gamma) if num_gaussians else None
        self.cutoff_function = make_cutoff(cutoff_function, self.cutoff)
        edge_network = EdgeNetwork(1 + num_gaussians, edge_channels, hidden_channels**2, edge_layers, activation(act))
        self.conv = EdgeMatrixConv(hidden_channels, edge_network)
        self.gru = nn.GRUCell(hidden_channels, hidden_channels)
        self.projection = nn.Linear(2 * hidden_channels, hidden_channels, bias=False)

    def represent(self, z: Tensor, edges: Edges) -> Tensor:
        """Projected features of the atoms after all passes.

        Args:
            z: Atomic numbers [N].
            edges: Edges within the cutoff.

        Returns:
            Features [N, hidden_channels].
        """
        edge_weight = edges.edge_vec.norm(dim=-1)  # [P]
        edge_attr = DISTANCE_SCALE * edge_weight.unsqueeze(-1)  # [P, 1]
        if self.basis is not None:
            edge_attr = torch.cat([edge_attr, self.basis(edge_weight)], dim=-1)  # [P, 1 + G]
        factor = None if isinstance(self.cutoff_function, NoCutoff) else self.cutoff_function(edge_weight)
        neighbors = self.conv.neighbors(edges.edge_index, edge_attr, z.size(0), factor, edges.edge_pair)
        start = h = self.embedding(z)  # [N, F]
        for _ in range(self.num_interactions):
            h = self.gru(self.conv(h, neighbors), h)
        return self.projection(torch.cat([h, start], dim=-1))


class Neighbors(NamedTuple):
    """The edges as a table with a row for each atom, as long as the largest number D of neighbours.

    Attributes:
        hidden: What the edge network knows of each neighbour before its last layer, zero where there is none
            [N, H + 1, D].
        source: Atom number of each neighbour [N, D].
    """

    hidden: Tensor
    source: Tensor


class EdgeNetwork(nn.Sequential):
    """Dense layers with activations in between.

    Args:
        in_channels: Size of the input.
        hidden_channels: Size of the hidden layers.
        out_channels: Size of the output.
        num_layers: Number of hidden layers.
        act: Activation.

    Example:
        >>> EdgeNetwork(5, 8, 16, 2, nn.SiLU())(torch.rand(3, 5)).shape
        torch.Size([3, 16])
    """

    def __init__(
        self, in_channels: int, hidden_channels: int, out_channels: int, num_layers: int, act: nn.Module
    ) -> None:
        sizes = [in_channels] + num_layers * [hidden_channels]
        hidden = [layer for pair in pairwise(sizes) for layer in (dense(*pair), act)]
        super().__init__(*hidden, dense(hidden_channels, out_channels))

    @property
    def last(self) -> nn.Linear:
        """The last layer."""
        return cast(nn.Linear, self[-1])

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for layer in self:
            if isinstance(layer, nn.Linear):
                reset_dense(layer)

    def hidden(self, edge_attr: Tensor) -> Tensor:
        """All but the last layer.

        Args:
            edge_attr: Edge vectors [E, in_channels].

        Returns:
            Input of the last layer [E, hidden_channels].
        """
        for layer in list(self)[:-1]:
            edge_attr = layer(edge_attr)
        return edge_attr


class EdgeMatrixConv(nn.Module):
    r"""Convolution with a matrix for each edge, without the matrices.

    The last layer of the edge network is linear, :math:`A(e) = \sum_k W_k\, a_k(e) + W_0`, so that

    .. math:: m_i = \sum_j A(e_{ij})\, h_j = \sum_k W_k \Big(\sum_j a_k(e_{ij})\, h_j\Big), \quad a_0 = 1

    With the sum over neighbours first, nothing of size E F² is made, and the work is that of N, not of E matrices. The
    weights are those of ``torch_geometric.nn.NNConv(F, F, nn, root_weight=False, bias=False)``, which gives the same.

    Args:
        channels: Size F of the features.
        nn: Edge network with F * F outputs.

    Example:
        >>> conv = EdgeMatrixConv(4, EdgeNetwork(5, 8, 16, 1, nn.SiLU()))
        >>> edge_index = torch.tensor([[0, 1], [1, 0]])
        >>> conv(torch.rand(2, 4), conv.neighbors(edge_index, torch.rand(2, 5), num_atoms=2)).shape
        torch.Size([2, 4])
    """

    def __init__(self, channels: int, nn: EdgeNetwork) -> None:
        super().__init__()
        self.channels = channels
        self.nn = nn

    def neighbors(
        self,
        edge_index: Tensor,
        edge_attr: Tensor,
        num_atoms: int,
        factor: Tensor | None = None,
        edge_pair: Tensor | None = None,
    ) -> Neighbors:
        """The table of neighbours, which all passes share.

        Args:
            edge_index: Row 0 the source j, row 1 the target i [2, E].
            edge_attr: Edge vectors [E, in_channels].
            num_atoms: Number N of atoms.
            factor: Factor on the matrix of each edge [E].
            edge_pair: Where edges share vectors, the row of ``edge_attr`` and ``factor`` of each edge [E].

        Returns:
            The table.
        """
        hidden = self.nn.hidden(edge_attr)
        hidden = torch.cat([hidden, torch.ones_like(hidden[:, :1])], dim=-1)  # [P, H + 1], the last one for the bias
        if factor is not None:
            hidden = hidden * factor.unsqueeze(-1)
        edge, source = _table(edge_index, num_atoms, edge_pair, padding=hidden.size(0))  # [N, D]
        hidden = torch.cat([hidden, hidden.new_zeros(1, hidden.size(1))])  # a last row for no neighbour
        hidden = hidden.index_select(0, edge.flatten()).view(*edge.shape, hidden.size(1))  # [N, D, H + 1]
        return Neighbors(hidden.transpose(1, 2), source)

    def forward(self, x: Tensor, neighbors: Neighbors) -> Tensor:
        """Convolve.

        Args:
            x: Atom features [N, F].
            neighbors: What :meth:`neighbors` made of the edges.

        Returns:
            Messages [N, F].
        """
        source = neighbors.source
        x = x.index_select(0, source.flatten()).view(*source.shape, self.channels)  # [N, D, F]
        x = torch.bmm(neighbors.hidden, x)  # [N, H + 1, F]
        return x.flatten(1) @ self._weight()  # [N, F]

    def _weight(self) -> Tensor:
        last, size = self.nn.last, self.channels
        weight = torch.cat([last.weight, last.bias.unsqueeze(-1)], dim=1)  # [F * F, H + 1], source by target
        return weight.view(size, size, -1).permute(2, 0, 1).reshape(-1, size)  # [(H + 1) * F, F]


def _table(edge_index: Tensor, num_atoms: int, edge_pair: Tensor | None, padding: int) -> tuple[Tensor, Tensor]:
    """Row of each neighbour among the edge vectors (``padding`` where there is none) and its atom number [N, D]."""
    order = edge_index[1].argsort(stable=True)
    source, target = edge_index[0].index_select(0, order), edge_index[1].index_select(0, order)
    count = torch.bincount(target, minlength=num_atoms)
    width = int(count.max()) if num_atoms else 0
    start = count.cumsum(0) - count
    slot = torch.arange(target.numel(), device=target.device) - start.index_select(0, target)
    place = target * width + slot
    edge = order if edge_pair is None else edge_pair.index_select(0, order)
    edges = place.new_full((num_atoms * width,), padding).index_copy(0, place, edge)
    sources = place.new_zeros(num_atoms * width).index_copy(0, place, source)
    return edges.view(num_atoms, width), sources.view(num_atoms, width)
