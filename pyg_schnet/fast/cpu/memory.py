"""New arrays in compiled loops: one way to ask for them, lest each be compiled anew (extra ``fast``)."""

import numpy as np
from numpy import ndarray

from pyg_schnet.compiling import CONTRACT, part


@part(CONTRACT)
def empty(count: int, like: ndarray) -> ndarray:
    """So many numbers that nobody has written, of the kind of an array's."""
    return np.empty(count, like.dtype)


@part(CONTRACT)
def zeros(count: int, like: ndarray) -> ndarray:
    """So many zeros of the kind of an array's numbers."""
    new = np.empty(count, like.dtype)
    for n in range(count):
        new[n] = 0
    return new


@part(CONTRACT)
def row_of(x: ndarray, row: int, length: int) -> ndarray:
    """A row of a flat array."""
    return x[row * length : (row + 1) * length]
