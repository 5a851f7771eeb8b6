"""Cutoff functions: how a filter ends at the cutoff distance."""

import math

import torch
from torch import Tensor

#: Below this 1 - (d / cutoff)^2 the mollifier is less than 5e-35, its derivatives less than 1e-27: taken as zero.
SMALLEST_GAP = 0.0125


def cosine_cutoff(distance: Tensor, cutoff: float) -> Tensor:
    r"""Cosine cutoff (Behler), exactly zero at and beyond the cutoff.

    .. math:: C(d) = \tfrac12 \left(\cos\frac{\pi d}{r_\mathrm{cut}} + 1\right) \text{ for } d < r_\mathrm{cut},
        \text{ else } 0

    Value and first derivative are continuous at the cutoff. Not in the papers of 2017 and 2018, which use no cutoff
    function; PyG and SchNetPack do (PyG without the second case).

    Args:
        distance: Distances in Angstrom, any shape.
        cutoff: Cutoff distance in Angstrom.

    Returns:
        Factors between 0 and 1, the same shape.

    Example:
        >>> cosine_cutoff(torch.tensor([0.0, 2.5, 5.0, 6.0]), cutoff=5.0)
        tensor([1.0000, 0.5000, 0.0000, 0.0000])
    """
    inside = 0.5 * (torch.cos(distance * (math.pi / cutoff)) + 1.0)
    return torch.where(distance < cutoff, inside, 0.0)


def mollifier_cutoff(distance: Tensor, cutoff: float) -> Tensor:
    r"""Mollifier cutoff, smooth to all orders and exactly zero at and beyond the cutoff.

    .. math:: C(d) = \exp\left(1 - \frac{1}{1 - (d / r_\mathrm{cut})^2}\right) \text{ for } d < r_\mathrm{cut},
        \text{ else } 0

    The bump function of analysis, one at distance zero; SchNetPack offers it too. Not in the papers.

    Args:
        distance: Distances in Angstrom, any shape.
        cutoff: Cutoff distance in Angstrom.

    Returns:
        Factors between 0 and 1, the same shape.

    Example:
        >>> mollifier_cutoff(torch.tensor([0.0, 2.5, 5.0, 6.0]), cutoff=5.0).round(decimals=4)
        tensor([1.0000, 0.7165, 0.0000, 0.0000])
    """
    gap = 1.0 - (distance / cutoff).square()
    inside = gap > SMALLEST_GAP
    # the other branch of `where` must stay finite in all derivatives, or their zeros become NaN
    return torch.where(inside, torch.exp(1.0 - torch.where(inside, gap, 1.0).reciprocal()), 0.0)


def polynomial_cutoff(distance: Tensor, cutoff: float | Tensor, exponent: int = 6) -> Tensor:
    r"""Polynomial cutoff: value, first and second derivative are zero at the cutoff.

    .. math:: C(d) = 1 - \frac{(p+1)(p+2)}{2} u^p + p (p+2) u^{p+1} - \frac{p (p+1)}{2} u^{p+2}
        = (1 - u)^3 \sum_{k=0}^{p-1} \frac{(k+1)(k+2)}{2} u^k, \quad u = d / r_\mathrm{cut} < 1, \text{ else } 0

    Gasteiger et al., "Directional message passing for molecular graphs", ICLR 2020, equation (8). The second form is
    evaluated: it loses no digits near the cutoff. Not in the papers.

    Args:
        distance: Distances in Angstrom, any shape.
        cutoff: Cutoff distance in Angstrom, one for all or one for each.
        exponent: Exponent p, at least 1.

    Returns:
        Factors between 0 and 1, the same shape.

    Example:
        >>> polynomial_cutoff(torch.tensor([0.0, 2.5, 5.0, 6.0]), cutoff=5.0).round(decimals=4)
        tensor([1.0000, 0.8555, 0.0000, 0.0000])
    """
    u = distance / cutoff
    total = torch.full_like(u, exponent * (exponent + 1) / 2)
    for k in range(exponent - 1, 0, -1):
        total = total * u + k * (k + 1) / 2
    return torch.where(distance < cutoff, (1.0 - u) ** 3 * total, 0.0)
