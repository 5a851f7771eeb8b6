"""Activation layers."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pyg_schnet.ops.activation import LINEAR_FROM, LN2, shifted_softplus


class ShiftedSoftplus(nn.Module):
    r"""Shifted softplus :math:`\ln(\frac12 e^x + \frac12)` as a layer, see :func:`pyg_schnet.ops.shifted_softplus`.

    Args:
        shift: What to subtract from the softplus; the default makes the function zero at zero.
        linear_from: Argument above which the softplus is taken to be x.

    Example:
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


#: Activations by name. PyG rounds ln 2 to float32; PyG and SchNetPack take the softplus as linear above 20.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "ssp": ShiftedSoftplus,
    "ssp-pyg": lambda: ShiftedSoftplus(float(torch.tensor(2.0).log()), linear_from=20.0),
    "ssp-schnetpack": lambda: ShiftedSoftplus(linear_from=20.0),
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
}


def activation(name: str, argument: str = "act") -> nn.Module:
    """An activation by its name.

    Args:
        name: One of :data:`ACTIVATIONS`.
        argument: What the caller calls it, for messages.

    Returns:
        The activation as a layer.

    Raises:
        ValueError: If there is none of this name.

    Example:
        >>> activation("silu")
        SiLU()
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"`{argument}` must be one of {', '.join(map(repr, ACTIVATIONS))}, got {name!r}")
    return ACTIVATIONS[name]()
