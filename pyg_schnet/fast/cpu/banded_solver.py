"""Coefficients of splines on the CPU by compiled loops (extra ``fast``).

The system of the coefficients has five numbers in a row, and seven in the two outermost ones at each end. Its factors
are made once for each number of knots; what remains is a sweep down and one up. Everything is computed in float64,
sixteen numbers at a time. Threads share the columns: the result does not depend on how many threads there are.
"""

import functools
import math
from typing import Any

import numpy as np
import torch
from numba import types
from numba.extending import intrinsic
from numpy import ndarray
from torch import Tensor

from pyg_schnet.compiling import CONTRACT, compiled, inlined
from pyg_schnet.fast.bspline import DEGREE, SUPPORT
from pyg_schnet.fast.cpu.arrays import flat
from pyg_schnet.fast.cpu.memory import doubles
from pyg_schnet.fast.cpu.vectors import LANES, Lanes, load, pointer, splat, store
from pyg_schnet.fast.spline import system_rows
from pyg_schnet.threads import share_out

#: There are so many more coefficients than knots.
BEYOND = DEGREE - 1
#: Neighbours of a row in the factors, and numbers for a row there: its scale, theirs, and one that does not count.
REACH, WIDTH = SUPPORT, SUPPORT + 2
#: So many rows at each end may have more than two neighbours.
ENDS = 8
#: Products for each number of a column, as threads are shared.
SOLVING = 12
_KIND: Any = types.float64
_Lanes = Any


def solve(x: Tensor, transposed: bool, dtype: torch.dtype) -> Tensor:
    """Coefficients [..., K' + 4, F] of values [..., K', F]; the transposed map takes [..., K' + 4, F] to [..., K', F].

    Args:
        x: Values or, transposed, gradients of coefficients; float32 or float64.
        transposed: Which of the two maps.
        dtype: Kind of the result, float32 or float64.

    Returns:
        The result, contiguous.
    """
    (*many, rows, columns), missing = x.shape, -x.size(-1) % LANES
    size, wide = rows if transposed else rows + BEYOND, columns + missing
    x = torch.nn.functional.pad(x.detach(), (0, missing)) if missing else x
    y = x.new_empty(*many, size - BEYOND if transposed else size, wide, dtype=dtype)
    arrays, how = (flat(y), flat(x)), (factors(size - BEYOND)[transposed], (rows, y.size(-2), wide))
    share_out(lambda *part: sweep(*arrays, *how, part), math.prod(many) * wide // LANES, 1, SOLVING * LANES * size)
    return y[..., :columns].contiguous()


@functools.lru_cache(maxsize=256)
def factors(number: int) -> tuple[tuple[ndarray, ndarray], tuple[ndarray, ndarray]]:
    """What rows and their neighbours are multiplied with on the way down and up, and that for the transposed system.

    The system for so many knots is L U with rows as they are: pivots are between 0.05 and 1, and errors those of other
    ways to solve it.
    """
    band = system_rows(number)
    size = len(band)
    for k in range(size):
        for i in range(k + 1, min(k + REACH + 1, size)):
            at = REACH + k - i
            if band[i][at] != 0.0:
                band[i][at] /= band[k][REACH]
                for m in range(1, REACH + 1):
                    band[i][at + m] -= band[i][at] * band[k][REACH + m]
    table = np.array(band)
    scale, one = 1.0 / table[:, REACH], np.ones(size)
    lower, upper = table[:, REACH - 1 :: -1], table[:, REACH + 1 :]  # nearest neighbour first [size, 6]
    left, above = np.zeros_like(lower), np.zeros_like(upper)  # the same of the transposed factors
    for m in range(REACH):
        left[m + 1 :, m], above[: -m - 1, m] = upper[: -m - 1, m], lower[m + 1 :, m]
    return (_for_sweep(one, lower), _for_sweep(scale, upper)), (_for_sweep(scale, left), _for_sweep(one, above))


def _for_sweep(scale: ndarray, neighbours: ndarray) -> ndarray:
    """What rows and their neighbours are multiplied with [size * WIDTH]."""
    return np.column_stack((scale, -scale[:, None] * neighbours, scale)).reshape(-1)


# Sixteen numbers at a time.


def _read(typing: Any, array: Any, index: Any) -> Any:
    del typing

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0]
        value = builder.load(pointer(context, builder, kind, *arguments), align=kind.dtype.bitwidth // 8)
        return value if kind.dtype == _KIND else builder.fpext(value, context.get_value_type(Lanes(_KIND)))

    return Lanes(_KIND)(array, index), build


def _write(typing: Any, array: Any, index: Any, value: Any) -> Any:
    del typing

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0]
        place, value = pointer(context, builder, kind, *arguments[:2]), arguments[2]
        if kind.dtype != _KIND:
            value = builder.fptrunc(value, context.get_value_type(Lanes(kind.dtype)))
        builder.store(value, place, align=kind.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, index, value), build


#: ``read(array, index)`` and ``write(array, index, lanes)``: as ``load`` and ``store``, from and to any kind.
read: Any = intrinsic(_read)
write: Any = intrinsic(_write)


@inlined()
def _row(value: _Lanes, y: ndarray, f: ndarray, i: int, step: int, neighbours: int) -> _Lanes:
    """A row times its scale, and so many neighbours before it (step -1) or behind it (step 1)."""
    value = splat(f[np.uintp(i * WIDTH)]) * value
    for m in range(1, neighbours + 1):
        value += splat(f[np.uintp(i * WIDTH + m)]) * load(y, np.uintp((i + step * m) * LANES))
    return value


@inlined()
def _middle(value: _Lanes, near: _Lanes, far: _Lanes, f: ndarray, i: int) -> _Lanes:
    """A row times its scale, and both its neighbours."""
    at = np.uintp(i * WIDTH)
    return splat(f[at]) * value + splat(f[at + np.uintp(2)]) * far + splat(f[at + np.uintp(1)]) * near


@inlined()
def _given(x: ndarray, i: int, place: tuple[int, int, int]) -> _Lanes:
    """A row of the right side, from its first number, the distance of rows and their number; zero beyond."""
    if 0 <= i < place[2]:
        return read(x, np.uintp(place[0] + i * place[1]))
    return splat(0.0)


@inlined()
def _sweep_down(y: ndarray, x: ndarray, f: ndarray, size: int, beyond: int, place: tuple[int, int, int]) -> None:
    """Each row from those before it."""
    last = max(size - ENDS, ENDS)
    for i in range(min(ENDS, size)):
        store(y, np.uintp(i * LANES), _row(_given(x, i - beyond, place), y, f, i, -1, min(i, REACH)))
    far, near = load(y, np.uintp((ENDS - 2) * LANES)), load(y, np.uintp((ENDS - 1) * LANES))
    for i in range(ENDS, last):
        value = _middle(read(x, np.uintp(place[0] + (i - beyond) * place[1])), near, far, f, i)
        store(y, np.uintp(i * LANES), value)
        far, near = near, value
    for i in range(last, size):
        store(y, np.uintp(i * LANES), _row(_given(x, i - beyond, place), y, f, i, -1, REACH))


@inlined()
def _sweep_up(y: ndarray, out: ndarray, f: ndarray, size: int, beyond: int, place: tuple[int, int, int]) -> None:
    """Each row from those behind it."""
    last = max(size - ENDS, ENDS)
    for i in range(size - 1, last - 1, -1):
        value = _row(load(y, np.uintp(i * LANES)), y, f, i, 1, min(size - 1 - i, REACH))
        store(y, np.uintp(i * LANES), value)
        if i - beyond < place[2]:
            write(out, np.uintp(place[0] + (i - beyond) * place[1]), value)
    far, near = load(y, np.uintp((last + 1) * LANES)), load(y, np.uintp(last * LANES))
    for i in range(last - 1, ENDS - 1, -1):
        value = _middle(load(y, np.uintp(i * LANES)), near, far, f, i)
        write(out, np.uintp(place[0] + (i - beyond) * place[1]), value)
        far, near = near, value
    store(y, np.uintp((ENDS + 1) * LANES), far)
    store(y, np.uintp(ENDS * LANES), near)
    for i in range(ENDS - 1, -1, -1):
        value = _row(load(y, np.uintp(i * LANES)), y, f, i, 1, min(size - 1 - i, REACH))
        store(y, np.uintp(i * LANES), value)
        if i >= beyond:
            write(out, np.uintp(place[0] + (i - beyond) * place[1]), value)


@compiled(CONTRACT)
def sweep(
    out: ndarray,
    x: ndarray,
    both: tuple[ndarray, ndarray],
    shape: tuple[int, int, int],
    limits: tuple[int, int],
) -> None:
    """Solve for some columns, sixteen at a time, of blocks with so many rows given, rows wanted and columns."""
    given, wanted, columns = shape
    down, up = both
    size, pieces = len(down) // WIDTH, columns // LANES
    y = doubles(size * LANES)
    for piece in range(limits[0], limits[1]):
        block, first = piece // pieces, piece % pieces * LANES
        _sweep_down(y, x, down, size, (size - given) // 2, (block * given * columns + first, columns, given))
        _sweep_up(y, out, up, size, (size - wanted) // 2, (block * wanted * columns + first, columns, wanted))
