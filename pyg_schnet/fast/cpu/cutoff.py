"""Cutoff functions and their derivatives in compiled loops (extra ``fast``)."""

import math

import numpy as np
from numpy import ndarray

from pyg_schnet.compiling import inlined
from pyg_schnet.ops.cutoff import SMALLEST_GAP

#: Numbers by which the loops know the functions of :mod:`pyg_schnet.ops.cutoff`.
NONE, COSINE, MOLLIFIER, POLYNOMIAL = range(4)


@inlined()
def write_cutoff(value: ndarray, slope: ndarray, d: ndarray, kind: int, cutoff: float, exponent: int) -> None:
    """Factors of pairs and their derivatives with respect to the distance."""
    for n in range(len(d)):
        u = np.float64(d[n]) / cutoff
        f, s = 0.0, 0.0
        if kind == NONE:
            f = 1.0
        elif d[n] < cutoff:
            if kind == COSINE:
                f, s = 0.5 * (math.cos(math.pi * u) + 1.0), -0.5 * math.pi * math.sin(math.pi * u)
            elif kind == MOLLIFIER:
                gap = 1.0 - u * u
                if gap > SMALLEST_GAP:
                    f = math.exp(1.0 - 1.0 / gap)
                    s = -2.0 * u * f / (gap * gap)
            else:
                f = exponent * (exponent + 1) / 2.0
                for k in range(exponent - 1, 0, -1):
                    f = f * u + k * (k + 1) / 2.0
                f *= (1.0 - u) ** 3
                s = -0.5 * exponent * (exponent + 1) * (exponent + 2) * u ** (exponent - 1) * (1.0 - u) ** 2
        value[n], slope[n] = f, s / cutoff
