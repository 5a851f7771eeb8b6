"""The quintic spline through values at knots: from what filter networks compute to the coefficients of a table."""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyg_schnet.compiling import loops_of
from pyg_schnet.fast import ways
from pyg_schnet.fast.bspline import PIECES, SUPPORT, FilterTable
from pyg_schnet.fast.knots import knots_of
from pyg_schnet.fast.plain import LOOPED, has_numbers, is_plain


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
        >>> from pyg_schnet.fast import evaluate
        >>> table = filter_table(lambda d: torch.stack([d.sin(), d.cos()], dim=1), 0.5, 2.0, spacing=0.1)
        >>> evaluate(table, torch.tensor([1.0], dtype=torch.float64)).round(decimals=6)
        tensor([[0.8415, 0.5403]], dtype=torch.float64)
    """
    start, knots = knots_of(low, high, spacing, device)
    values = function(knots)  # [K', F]
    coefficients = interpolate(values.double(), values.dtype if dtype is None else dtype)  # [K' + 4, F]
    return FilterTable(coefficients, start, spacing)


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
    return (_interpolation_like(values) @ values).to(dtype)


def _interpolation_like(values: Tensor) -> Tensor:
    """The matrix for such values; on a GPU it stays there."""
    if not values.is_cuda or torch.compiler.is_compiling():
        return interpolation(values.size(-2)).to(values)
    return _kept_interpolation(values.size(-2), values.dtype, values.device)


@functools.lru_cache(maxsize=64)
def _kept_interpolation(number: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return interpolation(number).to(device, dtype)


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


def spline_loops() -> Any:
    """The compiled loops of :mod:`pyg_schnet.fast.cpu.banded_solver`.

    Returns:
        The module; ``None`` without a Numba that works, and where compiled loops are turned off.
    """
    return _installed_loops() if ways.loops_enabled() else None


@functools.cache
def _installed_loops() -> Any:
    return loops_of("pyg_schnet.fast.cpu.banded_solver")


def looped(values: Tensor) -> Any:
    """The compiled loops for such a tensor, if any.

    Args:
        values: Any tensor.

    Returns:
        None for those without values, with which compilers trace, for those inside of ``torch.func`` and for those with
        forward derivatives, of which loops know nothing; for others than plain float32 and float64 on a CPU; and
        without Numba, or where compiled loops are turned off.
    """
    return spline_loops() if is_plain(values, weight=True) and has_numbers(values) else None


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
