"""Compiled loops of dense layers for a few atoms (extra ``fast``).

For a few atoms, the way to the libraries beneath torch is longer than the work. Arrays are flat: weights [out, in], as
torch has them, features [features, atoms], so that sixteen atoms are behind one another. What is computed together is
small enough to stay in registers; the loops around it choose the places.
"""

from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy import ndarray

from pyg_schnet.compiling import CONTRACT, inlined, part
from pyg_schnet.fast.cpu.vectors import LANES, ROUND_ONCE, Lanes, pointer, spread


def _has_wide_registers() -> bool:
    """True if sixteen float32 fit one register, of which there are then 32."""
    try:
        return bool(llvmlite.binding.get_host_cpu_features().get("avx512f"))
    except RuntimeError:  # LLVM does not know
        return False


#: Rows that are computed together, and how many times sixteen columns: as many sums as there is room for in registers.
ROWS, COLUMNS = (8, 2) if _has_wide_registers() else (4, 1)
#: The first place, and the distance to the next one, of the same kind as all others: each kind is compiled by itself.
_FIRST, _NEXT = np.int64(0), np.int64(1)


def _multiplication(columns: int) -> Any:
    """The product of some rows for so many times sixteen columns."""

    def multiply(typing: Any, y: Any, at: Any, x: Any, start: Any, size: Any, w: Any, first: Any, step: Any) -> Any:
        del typing

        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return _build_product(columns, context, builder, signature, arguments)

        return types.void(y, at, x, start, size, w, first, step), build

    return intrinsic(multiply)


def _build_product(columns: int, context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Build y[at + r, n] += sum over k of w[first + r * row + k * column] x[start + k, n]."""
    _, at, _, start, size, w, first, step = arguments
    kinds, kind = signature.args, context.get_value_type(Lanes(signature.args[0].dtype))
    row, column, count = (builder.extract_value(step, n) for n in range(3))
    align = signature.args[0].dtype.bitwidth // 8

    def lanes(matrix: int, index: Any) -> list[Any]:
        """Where the numbers of some columns are, from an index on."""
        places = [builder.add(index, index.type(n * LANES)) for n in range(columns)]
        return [pointer(context, builder, kinds[matrix], arguments[matrix], place) for place in places]

    targets = [where for r in range(ROWS) for where in lanes(0, _along(builder, at, size, r))]
    sums = [cgutils.alloca_once_value(builder, builder.load(where, align=align)) for where in targets]
    weights = context.make_array(kinds[5])(context, builder, w).data
    with cgutils.for_range(builder, count) as loop:
        here = [builder.load(where, align=align) for where in lanes(2, _along(builder, start, size, loop.index))]
        weight = _along(builder, first, column, loop.index)
        for r in range(ROWS):
            factor = spread(builder, kind, builder.load(builder.gep(weights, [_along(builder, weight, row, r)])))
            for one, value in zip(sums[r * columns :], here, strict=False):
                product = builder.fmul(factor, value, flags=ROUND_ONCE)
                builder.store(builder.fadd(builder.load(one), product, flags=ROUND_ONCE), one)
    for one, where in zip(sums, targets, strict=True):
        builder.store(builder.load(one), where, align=align)
    return context.get_dummy_value()


def _along(builder: Any, first: Any, step: Any, times: Any) -> Any:
    """The index so many steps behind the first."""
    return builder.add(first, builder.mul(step, step.type(times) if isinstance(times, int) else times))


def _transpose(typing: Any, y: Any, at: Any, rows: Any, x: Any, start: Any, columns: Any) -> Any:
    del typing

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        y, at, rows, x, start, columns = arguments
        kinds, align = signature.args, signature.args[0].dtype.bitwidth // 8
        places = [_along(builder, start, columns, n) for n in range(LANES)]
        lines = [builder.load(pointer(context, builder, kinds[3], x, place), align=align) for place in places]
        for _ in range(LANES.bit_length() - 1):  # each time, rows n and n + 8 become 2 n and 2 n + 1, like a zip
            lines = [half for pair in zip(lines[:8], lines[8:], strict=True) for half in _zipped(builder, *pair)]
        for n, line in enumerate(lines):
            where = pointer(context, builder, kinds[0], y, _along(builder, at, rows, n))
            builder.store(line, where, align=align)
        return context.get_dummy_value()

    return types.void(y, at, rows, x, start, columns), build


def _zipped(builder: Any, one: Any, two: Any) -> list[Any]:
    """Numbers of both in turns: the first halves, the second halves."""
    kind, half = ir.VectorType(ir.IntType(32), LANES), LANES // 2
    orders = [[n // 2 + half * part + LANES * (n % 2) for n in range(LANES)] for part in range(2)]
    return [builder.shuffle_vector(one, two, ir.Constant(kind, order)) for order in orders]


#: ``multiply_wide(y, at, x, start, size, w, first, (row, column, count))``: add to ROWS rows of y, each ``size`` behind
#: the other from ``at`` on, the products of weights, ``row`` and ``column`` apart, and ``count`` rows of x.
multiply_wide: Any = _multiplication(COLUMNS)
#: The same for sixteen columns.
multiply_narrow: Any = _multiplication(1)
#: ``transpose(y, at, rows, x, start, columns)``: sixteen rows of x, ``columns`` apart, become columns of y.
transpose: Any = intrinsic(_transpose)


@inlined()
def add_dense(y: ndarray, x: ndarray, w: ndarray, columns: int, inputs: int, outputs: int) -> None:
    """Y += w x for x [inputs, columns] and y [outputs, columns]; outputs come by eight, columns by sixteen."""
    add_products(y, x, w, columns, (_FIRST, _FIRST, _FIRST), (outputs, inputs, _NEXT, inputs))


@inlined()
def add_dense_backward(g: ndarray, v: ndarray, w: ndarray, columns: int, inputs: int, outputs: int) -> None:
    """G += w^T v, the gradient through :func:`add_dense`; inputs come by eight."""
    add_products(g, v, w, columns, (_FIRST, _FIRST, _FIRST), (inputs, _NEXT, inputs, outputs))


@part(CONTRACT)
def add_products(
    y: ndarray, x: ndarray, w: ndarray, columns: int, places: tuple[int, int, int], factors: tuple[int, int, int, int]
) -> None:
    """Add to some rows of y products of numbers w and rows of x, each of so many columns.

    Places are where to begin in y, x and w; factors the number of rows of y, from one number of w to that of the next
    row and to that of the next summand, and the number of summands.
    """
    size, (rows, row, column, count), (at, start, first) = np.uintp(columns), factors, places
    step = np.uintp(row), np.uintp(column), np.uintp(count)
    ends, to, of, by = np.uintp(rows), np.uintp(at), np.uintp(start), np.uintp(first)
    together = COLUMNS * LANES if y.itemsize == 4 else columns + 1  # sums in float64 would not fit the registers
    wide = np.uintp(columns // together * together)
    for n in range(np.uintp(0), wide, np.uintp(COLUMNS * LANES)):
        for r in range(np.uintp(0), ends, np.uintp(ROWS)):
            multiply_wide(y, to + r * size + n, x, of + n, size, w, by + r * step[0], step)
    for n in range(wide, size, np.uintp(LANES)):
        for r in range(np.uintp(0), ends, np.uintp(ROWS)):
            multiply_narrow(y, to + r * size + n, x, of + n, size, w, by + r * step[0], step)


@part(CONTRACT)
def turn(y: ndarray, x: ndarray, rows: int, columns: int) -> None:
    """Y [columns, rows] = x^T for x [rows, columns], sixteen times sixteen at a time."""
    m, n, lanes = np.uintp(rows), np.uintp(columns), np.uintp(LANES)
    for i in range(np.uintp(0), m, lanes):
        for k in range(np.uintp(0), n, lanes):
            transpose(y, k * m + i, m, x, i * n + k, n)
