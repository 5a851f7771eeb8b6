"""The tensor layer of deep tensor neural networks as a PyG layer."""

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from pyg_schnet.nn.cfconv import cutoff_module
from pyg_schnet.nn.cutoff import NoCutoff
from pyg_schnet.nn.filter import dense, reset_dense
from pyg_schnet.segments import take


class TensorLayer(MessagePassing):
    r"""Tensor layer, in its low-rank form: how an atom's features change under the influence of its neighbours.

    .. math:: v_i = \sum_{j \in \mathcal N(i)} \tanh\Big(W^\mathrm{fc} \big((W^\mathrm{cf} x_j + b^{f_1}) \circ
              (W^\mathrm{df} e_{ij} + b^{f_2})\, C(d_{ij})\big)\Big)

    Schütt et al., Nat. Commun. 8, 13890 (2017), Methods; the cutoff function C is not in the paper. SchNet's
    continuous-filter convolution leaves out the tanh, so that the sum may come first, and lets a network of two layers
    make the second factor. The call is that of :class:`~pyg_schnet.CFConv`.

    Args:
        in_channels: Size of the features.
        num_factors: Number of factors K, the rank.
        num_gaussians: Size G of the expanded distance.
        cutoff: Cutoff function of the distance as a module, a number for :class:`~pyg_schnet.CosineCutoff` at this
            distance, ``None`` for none.
        zero_output: True if :math:`W^\mathrm{fc}` starts at zero, as in the authors' code, so that an untrained layer
            changes nothing.

    Example:
        >>> layer = TensorLayer(30, num_factors=60, num_gaussians=100)
        >>> edge_index = torch.tensor([[0, 1], [1, 0]])
        >>> layer(torch.rand(2, 30), edge_index, torch.full((2,), 1.2), torch.rand(2, 100)).shape
        torch.Size([2, 30])
    """

    def __init__(
        self,
        in_channels: int,
        num_factors: int,
        num_gaussians: int,
        cutoff: float | nn.Module | None = None,
        zero_output: bool = False,
    ) -> None:
        super().__init__(aggr="add")
        self.lin_atom = dense(in_channels, num_factors)
        self.lin_edge = dense(num_gaussians, num_factors)
        self.lin_out = dense(num_factors, in_channels, bias=False)
        self.cutoff = cutoff_module(cutoff)
        self.zero_output = zero_output
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        super().reset_parameters()
        for layer in (self.lin_atom, self.lin_edge, self.lin_out):
            reset_dense(layer)
        if self.zero_output:
            nn.init.zeros_(self.lin_out.weight)

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_weight: Tensor, edge_attr: Tensor, edge_pair: Tensor | None = None
    ) -> Tensor:
        """Change of the features.

        Args:
            x: Atom features [N, in_channels].
            edge_index: Row 0 the source j, row 1 the target i [2, E].
            edge_weight: Distances in Angstrom [E].
            edge_attr: Expanded distances [E, G].
            edge_pair: Pair of each edge if the distances are given by pair, see :class:`~pyg_schnet.CFConv`.

        Returns:
            What to add to the features [N, in_channels].
        """
        return self.interact(x, edge_index, self.filters(edge_weight, edge_attr, edge_pair))

    def filters(self, edge_weight: Tensor, edge_attr: Tensor, edge_pair: Tensor | None = None) -> Tensor:
        """Factors of the edges, cutoff function included; passes that share the layer share them too.

        Args:
            edge_weight: Distances in Angstrom [E].
            edge_attr: Expanded distances [E, G].
            edge_pair: Pair of each edge if the distances are given by pair.

        Returns:
            Factors [E, K].
        """
        w = self.lin_edge(edge_attr)
        if not isinstance(self.cutoff, NoCutoff):
            w = w * self.cutoff(edge_weight).unsqueeze(-1)
        return w if edge_pair is None else take(w, edge_pair)

    def interact(self, x: Tensor, edge_index: Tensor, w: Tensor) -> Tensor:
        """Change of the features from the factors of the edges.

        Args:
            x: Atom features [N, in_channels].
            edge_index: Row 0 the source j, row 1 the target i [2, E].
            w: Factors of the edges [E, K].

        Returns:
            What to add to the features [N, in_channels].
        """
        return self.propagate(edge_index, x=self.lin_atom(x), w=w, size=(x.size(0), x.size(0)))

    def message(self, x_j: Tensor, w: Tensor) -> Tensor:
        """Message of an edge.

        Args:
            x_j: Factors of the source of each edge [E, K].
            w: Factors of the edges [E, K].

        Returns:
            Messages [E, in_channels].
        """
        return torch.tanh(self.lin_out(x_j * w))
