"""Compiled loops of atom-wise layers and the shifted softplus, for a few atoms (extra ``fast``).

Of more atoms the libraries beneath torch make shorter work; for a few, the way to them is longer than the work. Arrays
are flat and weights [out, in], as torch has them.
"""

import math
from typing import Any

import numpy as np
from numba import float32, njit
from numba.extending import overload
from numpy import ndarray

from pyg_schnet.ops.kernels.loops import CONTRACT, NOT_FROM_PYTHON, OPTIONS, REORDER, part

#: Added to a number below 2^51, it leaves the nearest integer in the last bits.
ROUNDER = 1.5 * 2.0**52
LOG2_E, LN_2 = 1.0 / math.log(2.0), math.log(2.0)
#: What LN_2 lacks of the logarithm of two.
LN_2_REST = 2.3190468138462996e-17
#: Taylor coefficients of the exponential function and of the logarithm, to the last digit of float64.
EXP = tuple(1.0 / math.factorial(k) for k in range(14))
LOG = tuple(2.0 / (2 * k + 1) for k in range(17))
_TWO, _THREE, _FOUR = np.uintp(2), np.uintp(3), np.uintp(4)
_CONTRACT: Any = {"fastmath": CONTRACT, **OPTIONS}
#: The same for float32: what is added to numbers below 2^22, both parts of the logarithm of two, coefficients.
_ROUNDER, _LOG2_E, _LN_2, _LN_2_REST = map(np.float32, (1.5 * 2.0**23, LOG2_E, 0.693359375, LN_2 - 0.693359375))
_EXP, _LOG = tuple(map(np.float32, EXP[:8])), tuple(map(np.float32, LOG[:8]))
#: From here on exp(-u) is too small for float32.
_FLAT, _ZERO, _ONE = np.float32(87.0), np.float32(0.0), np.float32(1.0)


@njit(fastmath=REORDER, **OPTIONS, **NOT_FROM_PYTHON)
def dense(y: ndarray, x: ndarray, w: ndarray, atoms: int, inputs: int, outputs: int) -> None:
    """Y = x w^T for three atoms and four features at a time; at the ends some are computed again."""
    n, k, m, one = np.uintp(atoms), np.uintp(inputs), np.uintp(outputs), np.uintp(1)
    zero = x.dtype.type(0)
    for i in range(np.uintp(0), n, _THREE):
        i1, i2 = min(i + one, n - one), min(i + _TWO, n - one)
        x0, x1, x2 = i * k, i1 * k, i2 * k
        for o in range(np.uintp(0), m, _FOUR):
            o1, o2, o3 = min(o + one, m - one), min(o + _TWO, m - one), min(o + _THREE, m - one)
            w0, w1, w2, w3 = o * k, o1 * k, o2 * k, o3 * k
            a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = c0 = c1 = c2 = c3 = zero
            for f in range(k):
                p, q, r = x[x0 + f], x[x1 + f], x[x2 + f]
                s, t, u, v = w[w0 + f], w[w1 + f], w[w2 + f], w[w3 + f]
                a0, a1, a2, a3 = a0 + p * s, a1 + p * t, a2 + p * u, a3 + p * v
                b0, b1, b2, b3 = b0 + q * s, b1 + q * t, b2 + q * u, b3 + q * v
                c0, c1, c2, c3 = c0 + r * s, c1 + r * t, c2 + r * u, c3 + r * v
            y0, y1, y2 = i * m, i1 * m, i2 * m
            y[y0 + o], y[y0 + o1], y[y0 + o2], y[y0 + o3] = a0, a1, a2, a3
            y[y1 + o], y[y1 + o1], y[y1 + o2], y[y1 + o3] = b0, b1, b2, b3
            y[y2 + o], y[y2 + o1], y[y2 + o2], y[y2 + o3] = c0, c1, c2, c3


@part
def add_dense_backward(g: ndarray, v: ndarray, w: ndarray, atoms: int, inputs: int, outputs: int) -> None:
    """G += v w, the gradient through :func:`dense`, for four atoms and four features at a time."""
    n, k, m, one = np.uintp(atoms), np.uintp(inputs), np.uintp(outputs), np.uintp(1)
    zero = v.dtype.type(0)
    for i in range(np.uintp(0), n, _FOUR):
        rest = n - i
        g0, g1, g2, g3 = i * k, (i + one) * k, (i + _TWO) * k, (i + _THREE) * k
        for o in range(np.uintp(0), m, _FOUR):
            o1, o2, o3 = min(o + one, m - one), min(o + _TWO, m - one), min(o + _THREE, m - one)
            e1, e2, e3 = o + one < m, o + _TWO < m, o + _THREE < m
            w0, w1, w2, w3 = o * k, o1 * k, o2 * k, o3 * k
            if rest > _THREE:
                v0 = i * m
                v1, v2, v3 = v0 + m, v0 + m + m, v0 + m + m + m
                a0, b0, c0, d0 = v[v0 + o], v[v1 + o], v[v2 + o], v[v3 + o]
                a1, b1, c1, d1 = v[v0 + o1], v[v1 + o1], v[v2 + o1], v[v3 + o1]
                a2, b2, c2, d2 = v[v0 + o2], v[v1 + o2], v[v2 + o2], v[v3 + o2]
                a3, b3, c3, d3 = v[v0 + o3], v[v1 + o3], v[v2 + o3], v[v3 + o3]
                if not e1:
                    a1 = b1 = c1 = d1 = zero
                if not e2:
                    a2 = b2 = c2 = d2 = zero
                if not e3:
                    a3 = b3 = c3 = d3 = zero
                for f in range(k):
                    p, q, r, s = w[w0 + f], w[w1 + f], w[w2 + f], w[w3 + f]
                    g[g0 + f] += a0 * p + a1 * q + a2 * r + a3 * s
                    g[g1 + f] += b0 * p + b1 * q + b2 * r + b3 * s
                    g[g2 + f] += c0 * p + c1 * q + c2 * r + c3 * s
                    g[g3 + f] += d0 * p + d1 * q + d2 * r + d3 * s
            else:
                for j in range(i, n):
                    gj, vj = j * k, j * m
                    a0 = v[vj + o]
                    a1 = v[vj + o1] if e1 else zero
                    a2 = v[vj + o2] if e2 else zero
                    a3 = v[vj + o3] if e3 else zero
                    for f in range(k):
                        g[gj + f] += a0 * w[w0 + f] + a1 * w[w1 + f] + a2 * w[w2 + f] + a3 * w[w3 + f]


@part
def add_bias(y: ndarray, b: ndarray, atoms: int) -> None:
    """Add b to the row of each atom: y += b."""
    size = len(b)
    for i in range(atoms):
        for f in range(size):
            y[i * size + f] += b[f]


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
