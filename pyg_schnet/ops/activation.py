"""Activation functions."""

import math

import torch.nn.functional as F
from torch import Tensor

#: Above this argument ln(1 + e^x) equals x in float64; below it torch evaluates the logarithm (its default of 20 would
#: leave a step of 2e-9 in the energy surface).
LINEAR_FROM = 40.0
LN2 = math.log(2.0)


def shifted_softplus(x: Tensor, shift: float = LN2, linear_from: float = LINEAR_FROM) -> Tensor:
    r"""Shifted softplus, smooth to all orders and zero at zero.

    .. math:: \mathrm{ssp}(x) = \ln\left(\tfrac12 e^x + \tfrac12\right) = \mathrm{softplus}(x) - \ln 2

    Schütt et al., J. Chem. Phys. 148, 241722 (2018), section II.C.

    Args:
        x: Any shape.
        shift: What to subtract from the softplus.
        linear_from: Argument above which the softplus is taken to be x.

    Returns:
        The same shape.

    Example:
        >>> import torch
        >>> shifted_softplus(torch.tensor([0.0, 1.0])).round(decimals=4)
        tensor([0.0000, 0.6201])
    """
    return F.softplus(x, threshold=linear_from) - shift
