r"""Filters read from a smooth table instead of computed for every edge.

The filter of a block depends on one distance only: W(d) is a smooth curve in R^F. A quintic spline through its values
at the knots :math:`t_n = t_0 + n h` has the form

.. math:: T(d) = \sum_k c_k B_k(d), \quad B_k(d) = \beta\left(\frac{d - t_0}{h} - k + 5\right)

with the cardinal B-spline :math:`\beta` of degree five on [0, 6]; four derivatives of T are continuous. Its
coefficients are linear in the values, so gradients flow through the table into whatever computed them. At each distance
six rows count; between two knots T is a polynomial, and beyond the first and the last knot the outermost polynomials
continue.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyg_schnet.compat import in_transform, is_batched
from pyg_schnet.compiling import loops_of

#: Degree of the splines, and how many of them are not zero between two knots.
DEGREE, SUPPORT = 5, 6
#: Knots beyond the distances at either end: there the end conditions cost accuracy.
MARGIN = 4
#: Polynomial of each of the six splines between two knots, by powers of the distance to the left one, times 120.
PIECES = (
    (1, -5, 10, -10, 5, -1),
    (26, -50, 20, 20, -20, 5),
    (66, 0, -60, 0, 30, -10),
    (26, 50, 20, -20, -20, 10),
    (1, 5, 10, 10, 5, -5),
    (0, 0, 0, 0, 0, 1),
)

#: Kinds of coefficients that compiled loops write, and of gradients that they read.
LOOPED = (torch.float32, torch.float64)


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


def filter_table(
    function: Callable[[Tensor], Tensor],
    low: float,
    high: float,
    spacing: float,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> FilterTable:
    """The spline through the values of a function at all knots that some distances need.

    Differentiable with respect to all that the function
    depends on.

    Args:
        function: From distances [K'] float64 to values [K', F], smooth also somewhat outside the interval. What it
            computes in float32 has errors that the derivative of the spline divides by the spacing.
        low: Smallest distance in Angstrom.
        high: Largest distance in Angstrom.
        spacing: Distance between knots in Angstrom, see :func:`knot_spacing`.
        dtype: Kind of the coefficients; ``None`` for that of the values.
        device: Where the knots are.

    Returns:
        The table.

    Raises:
        ValueError: If the spacing is not positive or the interval not finite.

    Example:
        >>> table = filter_table(lambda d: torch.stack([d.sin(), d.cos()], dim=1), 0.5, 2.0, spacing=0.1)
        >>> evaluate(table, torch.tensor([1.0], dtype=torch.float64)).round(decimals=6)
        tensor([[0.8415, 0.5403]], dtype=torch.float64)
    """
    start, knots = knots_of(low, high, spacing, device)
    values = function(knots)  # [K', F]
    coefficients = interpolate(values.double(), values.dtype if dtype is None else dtype)  # [K' + 4, F]
    return FilterTable(coefficients, start, spacing)


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
    first = math.floor(low / spacing) - MARGIN
    number = math.ceil(high / spacing) + MARGIN + 1 - first
    return first * spacing, (first + torch.arange(number, dtype=torch.float64, device=device)) * spacing


def interpolate(values: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    r"""Coefficients of the quintic spline through values at the knots.

    .. math:: \sum_k c_k B_k(t_n) = v_n, \quad n = 0 \dots K'-1

    and, as four more conditions, no jump of the fifth derivative at the two knots next to each end: polynomials of
    degree five are met exactly, up to the ends.

    The system has a few numbers in each row. On a CPU with the extra ``fast``, values in float64 are solved for by
    compiled loops; else they are multiplied with the dense inverse. Both agree to round-off, in all derivatives.

    Args:
        values: Values v at the knots, of one curve or of several [..., K', F], K' at least 8.
        dtype: Kind of the coefficients; ``None`` for that of the values, in which they are computed.

    Returns:
        Coefficients c [..., K' + 4, F]; differentiable any number of times.

    Raises:
        ValueError: If there are fewer than eight knots, or no columns.

    Example:
        >>> interpolate(torch.ones(9, 1, dtype=torch.float64)).flatten()[:3].round(decimals=6)
        tensor([1., 1., 1.], dtype=torch.float64)
    """
    if values.dim() < 2:
        raise ValueError(f"`values` must be [..., K', F], got {list(values.shape)}")
    if values.size(-2) < SUPPORT + 2:
        raise ValueError(f"a quintic spline needs at least {SUPPORT + 2} knots, got {values.size(-2)}")
    dtype = values.dtype if dtype is None else dtype
    if values.dtype == torch.float64 and dtype in LOOPED and looped(values) is not None:
        return _solved(values, False, dtype)
    return (interpolation(values.size(-2)).to(values) @ values).to(dtype)


@functools.lru_cache(maxsize=64)
def interpolation(number: int) -> Tensor:
    """Matrix from values at so many knots to coefficients [number + 4, number] float64."""
    band = system_rows(number)
    size, reach = len(band), SUPPORT
    padded = torch.zeros(size, size + 2 * reach, dtype=torch.float64)
    for row, numbers in enumerate(band):
        padded[row, row : row + 2 * reach + 1] = torch.tensor(numbers, dtype=torch.float64)
    inverse: Tensor = torch.linalg.inv(padded[:, reach:-reach])
    return inverse[:, 2:-2].contiguous()


def system_rows(number: int) -> list[list[float]]:
    """Rows of the system for so many knots: the six numbers before the diagonal, it, and six behind [number + 4, 13].

    Row n + 2 is the value at knot n, where five splines are not zero; the two rows at each end are the jumps.
    """
    size, reach = number + SUPPORT - 2, SUPPORT
    rows = [[0.0] * (2 * reach + 1) for _ in range(size)]
    for row in range(2, size - 2):
        rows[row][reach - 2 : reach + 3] = [piece[0] / 120 for piece in PIECES[:-1]]
    jump = [(-1) ** k * math.comb(SUPPORT, k) / 20 for k in range(SUPPORT + 1)]
    for row in (0, 1):
        rows[row][reach:] = jump
    for row in (size - 2, size - 1):
        rows[row][: reach + 1] = jump
    return rows


@functools.cache
def spline_loops() -> Any:
    """The compiled loops of :mod:`pyg_schnet.ops.kernels.spline`, or ``None`` without a Numba that works."""
    return loops_of("pyg_schnet.ops.kernels.spline")


def looped(values: Tensor) -> Any:
    """The compiled loops for such a tensor, if any.

    Args:
        values: Any tensor.

    Returns:
        None for those without values, with which compilers trace, for those inside of ``torch.func`` and for those with
        forward derivatives, of which loops know nothing; for others than plain float32 and float64 on a CPU; and
        without Numba.
    """
    plain = type(values) in (Tensor, torch.nn.Parameter) and values.dtype in LOOPED and values.device.type == "cpu"
    if not plain or torch.compiler.is_compiling() or in_transform():
        return None
    if is_batched(values):  # gradients of many at once
        return None
    return spline_loops() if torch.autograd.forward_ad.unpack_dual(values).tangent is None else None


def _solved(x: Tensor, transposed: bool, dtype: torch.dtype) -> Tensor:
    """Apply the map from values to coefficients, or the transposed one, and round to a kind."""
    if looped(x) is not None:
        solution: Tensor = _Solve.apply(x, transposed, dtype)
        return solution
    matrix = interpolation(x.size(-2) - (SUPPORT - 2) * transposed).to(x.device)
    return ((matrix.T if transposed else matrix) @ x.double()).to(dtype)


class _Solve(torch.autograd.Function):
    """A linear map: its derivative is the transposed one, of the same kind."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, transposed: bool, dtype: torch.dtype) -> Tensor:
        ctx.transposed, ctx.dtype = transposed, x.dtype
        solution: Tensor = looped(x).solve(x, transposed, dtype)
        return solution

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        return _solved(g, not ctx.transposed, ctx.dtype), None, None


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
