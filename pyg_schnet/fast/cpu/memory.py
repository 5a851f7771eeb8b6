"""New arrays in compiled loops: one way to ask for them, lest each be compiled anew (extra ``fast``).

Numbers begin where a line of the cache does: loops read sixteen at a time, and those that lie in one line more than
they need take half as long again.
"""

import numpy as np
from numpy import ndarray

from pyg_schnet.compiling import CONTRACT, part

#: Bytes of a line of the cache.
LINE = 64


@part(CONTRACT)
def empty(count: int, like: ndarray) -> ndarray:
    """Room for so many numbers of the kind of an array's, not set to anything."""
    room = np.empty(count + LINE // like.itemsize, like.dtype)
    first = (LINE - room.ctypes.data % LINE) % LINE // like.itemsize
    return room[first : first + count]


@part(CONTRACT)
def doubles(count: int) -> ndarray:
    """Room for so many numbers in double precision, not set to anything."""
    room = np.empty(count + LINE // 8, np.float64)
    first = (LINE - room.ctypes.data % LINE) % LINE // 8
    return room[first : first + count]


@part(CONTRACT)
def integers(count: int) -> ndarray:
    """Room for so many whole numbers, not set to anything."""
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
    clear(new)
    return new


@part(CONTRACT)
def clear(y: ndarray) -> None:
    """Write zeros."""
    for n in range(len(y)):
        y[n] = 0


@part(CONTRACT)
def copy(y: ndarray, x: ndarray) -> None:
    """Write the first numbers of an array to another, of its kind."""
    for n in range(len(y)):
        y[n] = x[n]


@part(CONTRACT)
def row_of(x: ndarray, row: int, length: int) -> ndarray:
    """A row of a flat array."""
    return x[row * length : (row + 1) * length]
