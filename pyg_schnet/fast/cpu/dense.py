"""Compiled loops of dense layers for a few atoms (extra ``fast``).

For a few atoms, the way to the libraries beneath torch is longer than the work. Arrays are flat: weights [out, in], as
torch has them, features [features, atoms], so that sixteen atoms are behind one another.
"""

import numpy as np
from numpy import ndarray

from pyg_schnet.compiling import inlined
from pyg_schnet.fast.cpu.tiles import COLUMNS, ROWS, multiply_narrow, multiply_wide, transpose
from pyg_schnet.fast.cpu.vectors import LANES


@inlined()
def add_dense(y: ndarray, x: ndarray, w: ndarray, columns: int, inputs: int, outputs: int) -> None:
    """Y += w x for x [inputs, columns] and y [outputs, columns]; outputs come by eight, columns by sixteen."""
    _multiply(y, x, w, columns, (outputs, inputs, 1, inputs))


@inlined()
def add_dense_backward(g: ndarray, v: ndarray, w: ndarray, columns: int, inputs: int, outputs: int) -> None:
    """G += w^T v, the gradient through :func:`add_dense`; inputs come by eight."""
    _multiply(g, v, w, columns, (inputs, 1, inputs, outputs))


@inlined()
def _multiply(y: ndarray, x: ndarray, w: ndarray, columns: int, weights: tuple[int, int, int, int]) -> None:
    """Add products with weights: rows of y, from one weight to that of the next row, of the next summand, summands."""
    size, (rows, row, column, count) = np.uintp(columns), weights
    step = np.uintp(row), np.uintp(column), np.uintp(count)
    wide, ends = np.uintp(columns // (COLUMNS * LANES) * COLUMNS * LANES), np.uintp(rows)
    for n in range(np.uintp(0), wide, np.uintp(COLUMNS * LANES)):
        for r in range(np.uintp(0), ends, np.uintp(ROWS)):
            multiply_wide(y, r * size + n, x, n, size, w, r * step[0], step)
    for n in range(wide, size, np.uintp(LANES)):
        for r in range(np.uintp(0), ends, np.uintp(ROWS)):
            multiply_narrow(y, r * size + n, x, n, size, w, r * step[0], step)


@inlined()
def turn(y: ndarray, x: ndarray, rows: int, columns: int) -> None:
    """Y [columns, rows] = x^T for x [rows, columns], sixteen times sixteen at a time."""
    m, n, lanes = np.uintp(rows), np.uintp(columns), np.uintp(LANES)
    for i in range(np.uintp(0), m, lanes):
        for k in range(np.uintp(0), n, lanes):
            transpose(y, k * m + i, m, x, i * n + k, n)
