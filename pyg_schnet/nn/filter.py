"""The filter-generating network."""

from torch import Tensor, nn

from pyg_schnet.nn.activation import ShiftedSoftplus


def dense(in_channels: int, out_channels: int, bias: bool = True) -> nn.Linear:
    """An atom-wise layer, equation (2), with Glorot-uniform weights and zero bias."""
    layer = nn.Linear(in_channels, out_channels, bias=bias)
    reset_dense(layer)
    return layer


def reset_dense(layer: nn.Linear) -> None:
    """Draw the weights of a layer anew: Glorot-uniform, bias zero."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class FilterNetwork(nn.Sequential):
    r"""Filter-generating network: two dense layers from the expanded distance to the filter.

    .. math:: W(d) = W_2\,\mathrm{ssp}(W_1 e(d) + b_1) + b_2

    Schütt et al., J. Chem. Phys. 148, 241722 (2018), section II.D and figure 2. As in PyG, SchNetPack and
    :class:`~pyg_schnet.SchNet`, only the first layer is activated; in the papers and their code, both are.

    Args:
        num_gaussians: Size G of the expanded distance.
        num_filters: Number of filters F.
        activate_last: True if the second layer is activated too, as in the papers.
        act: Activation; ``None`` for :class:`ShiftedSoftplus`.

    Example:
        >>> import torch
        >>> FilterNetwork(num_gaussians=20, num_filters=8)(torch.rand(5, 20)).shape
        torch.Size([5, 8])
    """

    def __init__(
        self, num_gaussians: int, num_filters: int, activate_last: bool = False, act: nn.Module | None = None
    ) -> None:
        act = ShiftedSoftplus() if act is None else act
        layers = [dense(num_gaussians, num_filters), act, dense(num_filters, num_filters)]
        super().__init__(*layers, *([act] if activate_last else []))

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for layer in self:
            if isinstance(layer, nn.Linear):
                reset_dense(layer)

    def forward(self, edge_attr: Tensor) -> Tensor:
        """Filters of the edges.

        Args:
            edge_attr: Expanded distances [E, G].

        Returns:
            Filters [E, F].
        """
        return super().forward(edge_attr)
