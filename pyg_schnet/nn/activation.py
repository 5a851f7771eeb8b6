"""Activation layers."""

from torch import Tensor, nn

from pyg_schnet.ops.activation import LINEAR_FROM, LN2, shifted_softplus


class ShiftedSoftplus(nn.Module):
    r"""Shifted softplus :math:`\ln(\frac12 e^x + \frac12)` as a layer, see :func:`pyg_schnet.ops.shifted_softplus`.

    Args:
        shift: What to subtract from the softplus; the default makes the function zero at zero.
        linear_from: Argument above which the softplus is taken to be x.

    Example:
        >>> import torch
        >>> ShiftedSoftplus()(torch.zeros(2))
        tensor([0., 0.])
    """

    def __init__(self, shift: float = LN2, linear_from: float = LINEAR_FROM) -> None:
        super().__init__()
        self.shift, self.linear_from = shift, linear_from

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation elementwise.

        Args:
            x: Any shape.

        Returns:
            The same shape.
        """
        return shifted_softplus(x, self.shift, self.linear_from)
