r"""Filters read from a smooth table instead of computed for every edge.

The filter of a block depends on one distance only: W(d) is a smooth curve in R^F. A quintic spline through its values
at the knots :math:`t_n = t_0 + n h` has the form

.. math:: T(d) = \sum_k c_k B_k(d), \quad B_k(d) = \beta\left(\frac{d - t_0}{h} - k + 5\right)

with the cardinal B-spline :math:`\beta` of degree five on [0, 6]; four derivatives of T are continuous. Its
coefficients are linear in the values, so gradients flow through the table into whatever computed them. At each distance
six rows count; between two knots T is a polynomial, and beyond the first and the last knot the outermost polynomials
continue.
"""

from typing import NamedTuple

import torch
from torch import Tensor

#: Degree of the splines, and how many of them are not zero between two knots.
DEGREE, SUPPORT = 5, 6
#: Polynomial of each of the six splines between two knots, by powers of the distance to the left one, times 120.
PIECES = (
    (1, -5, 10, -10, 5, -1),
    (26, -50, 20, 20, -20, 5),
    (66, 0, -60, 0, 30, -10),
    (26, 50, 20, -20, -20, 10),
    (1, 5, 10, 10, 5, -5),
    (0, 0, 0, 0, 0, 1),
)


class FilterTable(NamedTuple):
    """A curve in R^F as a quintic spline.

    Attributes:
        coefficients: Coefficients of the B-splines [K, F], of K - 5 intervals.
        start: First knot in Angstrom.
        spacing: Distance between knots in Angstrom.
    """

    coefficients: Tensor
    start: float
    spacing: float

    @property
    def stop(self) -> float:
        """Last knot in Angstrom."""
        return self.start + (self.coefficients.size(0) - DEGREE) * self.spacing


def evaluate(table: FilterTable, distance: Tensor, order: int = 0) -> Tensor:
    r"""The spline or one of its derivatives at some distances.

    .. math:: T^{(p)}(d) = \sum_k c_k B_k^{(p)}(d)

    Args:
        table: The spline.
        distance: Distances d in Angstrom [E].
        order: Order p of the derivative; the fifth jumps at the knots, and the sixth and all further ones are zero.

    Returns:
        The values in 1/Angstrom^p [E, F]; differentiable with respect to coefficients and distances.

    Example:
        >>> table = FilterTable(torch.arange(8.0).unsqueeze(1), start=1.0, spacing=0.5)
        >>> evaluate(table, torch.tensor([1.0, 1.5])), evaluate(table, torch.tensor([1.2]), order=1)
        (tensor([[2.],
                [3.]]), tensor([[2.]]))
    """
    row, weights = spline_weights(distance, table.coefficients.size(0), table.start, table.spacing, order)
    rows = row.unsqueeze(1) + torch.arange(SUPPORT, device=row.device)  # [E, 6]
    return (weights.unsqueeze(2) * table.coefficients[rows]).sum(1)  # [E, F]


def spline_weights(distance: Tensor, size: int, start: float, spacing: float, order: int = 0) -> tuple[Tensor, Tensor]:
    """First of the six coefficients that count at each distance, and the values of their B-splines there.

    Args:
        distance: Distances in Angstrom [E].
        size: Number of coefficients K.
        start: First knot in Angstrom.
        spacing: Distance between knots in Angstrom.
        order: Order p of the derivative.

    Returns:
        Rows [E], values in 1/Angstrom^p [E, 6].
    """
    place = (distance - start) / spacing
    row = place.detach().nan_to_num().floor().clamp(0, size - SUPPORT)
    powers = (place - row).unsqueeze(1)  # [E, 1]
    pieces = torch.tensor(pieces_of(order, spacing), dtype=distance.dtype, device=distance.device)  # [6, 6]
    value = pieces[:, -1].expand(distance.size(0), SUPPORT)
    for power in range(SUPPORT - 2, -1, -1):
        value = value * powers + pieces[:, power]
    return row.long(), value


def pieces_of(order: int, spacing: float) -> list[list[float]]:
    """Derivatives of :data:`PIECES` with respect to the distance, again by powers."""
    if order < 0:
        raise ValueError(f"`order` must be the order of a derivative, at least 0, got {order}")
    pieces = [[power / 120 for power in piece] for piece in PIECES]
    for _ in range(order):
        pieces = [[k * piece[k] / spacing for k in range(1, SUPPORT)] + [0.0] for piece in pieces]
    return pieces
