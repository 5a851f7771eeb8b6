"""New arrays in compiled loops: one way to ask for them, lest each be compiled anew (extra ``fast``)."""

import numpy as np
from numpy import ndarray

from pyg_schnet.compiling import CONTRACT, part


@part(CONTRACT)
def empty(count: int, like: ndarray) -> ndarray:
    """So many numbers that nobody has written, of the kind of an array's."""
    return np.empty(count, like.dtype)


@part(CONTRACT)
def doubles(count: int) -> ndarray:
    """So many numbers in double precision that nobody has written."""
    return np.empty(count, np.float64)


@part(CONTRACT)
def integers(count: int) -> ndarray:
    """So many whole numbers that nobody has written."""
    return np.empty(count, np.int64)


@part(CONTRACT)
def integer_zeros(count: int) -> ndarray:
    """So many whole zeros."""
    new = integers(count)
    for n in range(count):
        new[n] = 0
    return new


@part(CONTRACT)
def zeros(count: int, like: ndarray) -> ndarray:
    """So many zeros of the kind of an array's numbers."""
    new = empty(count, like)
    for n in range(count):
        new[n] = 0
    return new


@part(CONTRACT)
def row_of(x: ndarray, row: int, length: int) -> ndarray:
    """A row of a flat array."""
    return x[row * length : (row + 1) * length]
