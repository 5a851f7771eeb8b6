"""The knots of filter tables: where filter networks are evaluated."""

import math

import torch
from torch import Tensor

#: Knots beyond the distances at either end: there the end conditions cost accuracy.
EXTRA_KNOTS = 4
#: So much farther apart knots may be where nobody asks for derivatives of a table: values are at the round-off of
#: float32 still, derivatives lose one power of the spacing more.
WITHOUT_SLOPES = 1.75


def knots_of(low: float, high: float, spacing: float, device: torch.device | None = None) -> tuple[float, Tensor]:
    """All knots that distances in an interval need: multiples of the spacing, whatever the interval is.

    Args:
        low: Smallest distance in Angstrom.
        high: Largest distance in Angstrom.
        spacing: Distance between knots in Angstrom.
        device: Where the knots are.

    Returns:
        The first knot, and all of them [K'] float64.

    Raises:
        ValueError: If the spacing is not positive or the interval not finite.
    """
    if not 0.0 < spacing < math.inf:
        raise ValueError(f"`spacing` must be positive, got {spacing}")
    if not -math.inf < low <= high < math.inf:
        raise ValueError(f"`low` and `high` must be the ends of a finite interval, got {low} and {high}")
    first = math.floor(low / spacing) - EXTRA_KNOTS
    number = math.ceil(high / spacing) + EXTRA_KNOTS + 1 - first
    return first * spacing, (first + torch.arange(number, dtype=torch.float64, device=device)) * spacing


def knot_spacing(gamma: float | None = None, frequency: float | None = None) -> float:
    r"""Spacing of knots at which the spline through a filter network's values is exact to float32 round-off.

    .. math:: h = \frac{\sigma}{10}, \quad \sigma = (2 \gamma)^{-1/2}

    for Gaussians :math:`\exp(-\gamma (d - \mu)^2)`; waves :math:`\sin(k d)` count as Gaussians of width 1/k.

    Args:
        gamma: Largest inverse squared width of Gaussians in 1/Angstrom^2.
        frequency: Largest angular frequency k of waves in 1/Angstrom.

    Returns:
        Spacing in Angstrom.

    Raises:
        ValueError: If not exactly one positive number is given.

    Example:
        >>> round(knot_spacing(gamma=10.0), 4)
        0.0224
    """
    if (gamma is None) == (frequency is None):
        raise ValueError(f"give either `gamma` or `frequency`, got {gamma} and {frequency}")
    width = frequency if gamma is None else math.sqrt(2.0 * gamma) if gamma > 0.0 else gamma
    if width is None or not 0.0 < width < math.inf:
        raise ValueError(f"`gamma` or `frequency` must be positive, got {width if gamma is None else gamma}")
    return 0.1 / width
