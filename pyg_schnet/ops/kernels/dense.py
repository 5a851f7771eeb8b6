"""Compiled loops of dense layers and the shifted softplus, for a few atoms (extra ``fast``).

For a few atoms, the way to the libraries beneath torch is longer than the work. Arrays are flat: weights [out, in], as
torch has them, features [features, atoms], so that sixteen atoms are behind one another.
"""

import math
from typing import Any

import numpy as np
from numba import float32
from numba.extending import overload
from numpy import ndarray

from pyg_schnet.ops.kernels.jit import CONTRACT, OPTIONS, part
from pyg_schnet.ops.kernels.lanes import LANES
from pyg_schnet.ops.kernels.tiles import COLUMNS, ROWS, multiply_narrow, multiply_wide, transpose

#: Added to a number below 2^51, it leaves the nearest integer in the last bits.
ROUNDER = 1.5 * 2.0**52
LOG2_E, LN_2 = 1.0 / math.log(2.0), math.log(2.0)
#: What LN_2 lacks of the logarithm of two.
LN_2_REST = 2.3190468138462996e-17
#: Taylor coefficients of the exponential function and of the logarithm, to the last digit of float64.
EXP = tuple(1.0 / math.factorial(k) for k in range(14))
LOG = tuple(2.0 / (2 * k + 1) for k in range(17))
_CONTRACT: Any = {"fastmath": CONTRACT, **OPTIONS}
#: The same for float32: what is added to numbers below 2^22, both parts of the logarithm of two, coefficients.
_ROUNDER, _LOG2_E, _LN_2, _LN_2_REST = map(np.float32, (1.5 * 2.0**23, LOG2_E, 0.693359375, LN_2 - 0.693359375))
_EXP, _LOG = tuple(map(np.float32, EXP[:8])), tuple(map(np.float32, LOG[:8]))
#: From here on exp(-u) is too small for float32.
_FLAT, _ZERO, _ONE = np.float32(87.0), np.float32(0.0), np.float32(1.0)


@part()
def add_dense(y: ndarray, x: ndarray, w: ndarray, columns: int, inputs: int, outputs: int) -> None:
    """Y += w x for x [inputs, columns] and y [outputs, columns]; outputs come by eight, columns by sixteen."""
    _multiply(y, x, w, columns, (outputs, inputs, 1, inputs))


@part()
def add_dense_backward(g: ndarray, v: ndarray, w: ndarray, columns: int, inputs: int, outputs: int) -> None:
    """G += w^T v, the gradient through :func:`add_dense`; inputs come by eight."""
    _multiply(g, v, w, columns, (inputs, 1, inputs, outputs))


@part()
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


@part()
def turn(y: ndarray, x: ndarray, rows: int, columns: int) -> None:
    """Y [columns, rows] = x^T for x [rows, columns], sixteen times sixteen at a time."""
    m, n, lanes = np.uintp(rows), np.uintp(columns), np.uintp(LANES)
    for i in range(np.uintp(0), m, lanes):
        for k in range(np.uintp(0), n, lanes):
            transpose(y, k * m + i, m, x, i * n + k, n)


def shifted_softplus(y: ndarray, slope: ndarray, u: ndarray, shift: float, linear_from: float) -> None:
    """Ssp and its derivative, the logistic function, for compiled loops.

    Written out, because only then do processors compute several at a time: with e = exp(-|u|), the softplus is
    max(u, 0) + ln(1 + e), and ln(1 + e) = 2 artanh(e / (2 + e)).
    """
    raise NotImplementedError("for compiled loops alone")


def _shifted_softplus64(y: ndarray, slope: ndarray, u: ndarray, shift: float, linear_from: float) -> None:
    """In float64."""
    size = len(u)
    whole, power = np.empty(size, np.float64), np.empty(size, np.float64)
    bits = power.view(np.int64)
    for f in range(size):
        power[f] = -min(abs(u[f]), 708.0) * LOG2_E + ROUNDER
        whole[f] = power[f] - ROUNDER
    for f in range(size):
        bits[f] = (bits[f] << 52) + (1023 << 52)  # two to that integer
    for f in range(size):
        v = u[f]
        r = -min(abs(v), 708.0) - whole[f] * LN_2 - whole[f] * LN_2_REST
        p = EXP[13]
        p = p * r + EXP[12]
        p = p * r + EXP[11]
        p = p * r + EXP[10]
        p = p * r + EXP[9]
        p = p * r + EXP[8]
        p = p * r + EXP[7]
        p = p * r + EXP[6]
        p = p * r + EXP[5]
        p = p * r + EXP[4]
        p = p * r + EXP[3]
        p = p * r + EXP[2]
        p = p * r + 1.0
        e = (p * r + 1.0) * power[f]
        s = e / (2.0 + e)
        t = s * s
        q = LOG[16]
        q = q * t + LOG[15]
        q = q * t + LOG[14]
        q = q * t + LOG[13]
        q = q * t + LOG[12]
        q = q * t + LOG[11]
        q = q * t + LOG[10]
        q = q * t + LOG[9]
        q = q * t + LOG[8]
        q = q * t + LOG[7]
        q = q * t + LOG[6]
        q = q * t + LOG[5]
        q = q * t + LOG[4]
        q = q * t + LOG[3]
        q = q * t + LOG[2]
        q = q * t + LOG[1]
        q = (q * t + LOG[0]) * s
        linear = not (v <= linear_from)  # NaN stays NaN
        slope[f] = 1.0 if linear else (1.0 if v > 0.0 else e) / (1.0 + e)
        y[f] = (v if linear else max(v, 0.0) + q) - shift


def _shifted_softplus32(y: ndarray, slope: ndarray, u: ndarray, shift: float, linear_from: float) -> None:
    """In float32, where half the terms do."""
    size, down, bend = len(u), np.float32(shift), np.float32(linear_from)
    whole, power = np.empty(size, np.float32), np.empty(size, np.float32)
    bits = power.view(np.int32)
    for f in range(size):
        power[f] = -min(abs(u[f]), _FLAT) * _LOG2_E + _ROUNDER
        whole[f] = power[f] - _ROUNDER
    for f in range(size):
        bits[f] = (bits[f] << np.int32(23)) + np.int32(127 << 23)
    for f in range(size):
        v = u[f]
        r = -min(abs(v), _FLAT) - whole[f] * _LN_2 - whole[f] * _LN_2_REST
        p = _EXP[7]
        p = p * r + _EXP[6]
        p = p * r + _EXP[5]
        p = p * r + _EXP[4]
        p = p * r + _EXP[3]
        p = p * r + _EXP[2]
        p = p * r + _ONE
        e = (p * r + _ONE) * power[f]
        s = e / (_ONE + _ONE + e)
        t = s * s
        q = _LOG[7]
        q = q * t + _LOG[6]
        q = q * t + _LOG[5]
        q = q * t + _LOG[4]
        q = q * t + _LOG[3]
        q = q * t + _LOG[2]
        q = q * t + _LOG[1]
        q = (q * t + _LOG[0]) * s
        linear = not (v <= bend)  # NaN stays NaN
        slope[f] = _ONE if linear else (_ONE if v > _ZERO else e) / (_ONE + e)
        y[f] = (v if linear else max(v, _ZERO) + q) - down


@overload(shifted_softplus, jit_options=_CONTRACT)
def _by_kind(y: ndarray, slope: ndarray, u: ndarray, shift: float, linear_from: float) -> Any:
    """Which of the two, by the kind of numbers."""
    del y, slope, shift, linear_from
    return _shifted_softplus32 if u.dtype == float32 else _shifted_softplus64
