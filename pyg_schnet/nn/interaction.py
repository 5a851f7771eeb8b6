"""The interaction block."""

from typing import Any

from torch import Tensor, nn

from pyg_schnet.nn.activation import ShiftedSoftplus
from pyg_schnet.nn.cfconv import CFConv
from pyg_schnet.nn.filter import FilterNetwork, dense, reset_dense


class InteractionBlock(nn.Module):
    """Interaction block: how an atom's features change under the influence of its neighbours.

    Atom-wise, cfconv, atom-wise, ssp, atom-wise; Schütt et al., J. Chem. Phys. 148, 241722 (2018), figure 1 right. The
    block returns the residual; the model adds it to the features. The first two atom-wise layers are those of
    :class:`~pyg_schnet.CFConv`.

    The first arguments and the call are those of PyG's block, which computes the same up to the cutoff.

    Args:
        hidden_channels: Size of the atom features.
        num_gaussians: Size G of the expanded distance.
        num_filters: Number of filters F.
        cutoff: Cutoff function, see :class:`~pyg_schnet.CFConv`.
        activate_last: True if the filter network activates its second layer, see :class:`~pyg_schnet.FilterNetwork`.
        act: Activation; ``None`` for :class:`~pyg_schnet.ShiftedSoftplus`.
        normalization: Normalisation by the number of neighbours, see :class:`~pyg_schnet.CFConv`.

    Example:
        >>> import torch
        >>> block = InteractionBlock(16, num_gaussians=20, num_filters=8)
        >>> edge_index = torch.tensor([[0, 1], [1, 0]])
        >>> block(torch.rand(2, 16), edge_index, torch.full((2,), 1.2), torch.rand(2, 20)).shape
        torch.Size([2, 16])
    """

    def __init__(
        self,
        hidden_channels: int,
        num_gaussians: int,
        num_filters: int,
        cutoff: float | nn.Module | None = None,
        activate_last: bool = False,
        act: nn.Module | None = None,
        normalization: str | None = None,
    ) -> None:
        super().__init__()
        self.act = ShiftedSoftplus() if act is None else act
        filter_network = FilterNetwork(num_gaussians, num_filters, activate_last, self.act)
        self.conv = CFConv(hidden_channels, hidden_channels, num_filters, filter_network, cutoff, normalization)
        self.lin = dense(hidden_channels, hidden_channels)

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        self.conv.reset_parameters()
        reset_dense(self.lin)

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_weight: Tensor, edge_attr: Any, edge_pair: Tensor | None = None
    ) -> Tensor:
        """Change of the features.

        Args:
            x: Atom features [N, hidden_channels].
            edge_index: Row 0 the source j, row 1 the target i [2, E].
            edge_weight: Distances in Angstrom [E].
            edge_attr: Expanded distances [E, G], or a filter, see :class:`~pyg_schnet.CFConv`.
            edge_pair: Pair of each edge if the distances are given by pair, see :class:`~pyg_schnet.CFConv`.

        Returns:
            What to add to the features [N, hidden_channels].
        """
        return self.lin(self.act(self.conv(x, edge_index, edge_weight, edge_attr, edge_pair)))
