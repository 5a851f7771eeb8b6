"""Activation layers."""

from torch import Tensor, nn

from pyg_schnet.ops.activation import LN2, shifted_softplus


class ShiftedSoftplus(nn.Module):
    r"""Shifted softplus :math:`\ln(\frac12 e^x + \frac12)` as a layer, see :func:`pyg_schnet.ops.shifted_softplus`.

    Args:
        shift: What to subtract from the softplus; the default makes the function zero at zero.

    Example:
        >>> import torch
        >>> ShiftedSoftplus()(torch.zeros(2))
        tensor([0., 0.])
    """

    def __init__(self, shift: float = LN2) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation elementwise.

        Args:
            x: Any shape.

        Returns:
            The same shape.
        """
        return shifted_softplus(x, self.shift)
