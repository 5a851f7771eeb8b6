r"""Random numbers that are functions of a counter: no state, so any of them can be had at any time, in any order.

Philox 4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), which turns four counters of
32 bits into four random ones, mixed by a key. Normal numbers are made of them by the rule of Box and Muller.

The functions are written so that they take arrays of NumPy as well as single numbers in compiled loops.
"""

from typing import Any

import numpy as np
from numpy import ndarray

_U32, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)
_FIRST, _SECOND = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_GOLDEN, _ROOT = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_ROUNDS = 10
_TO_UNIT, _TURN = 2.0**-32, 2.0 * np.pi

#: Counters of 32 bits, each in an unsigned number of 64 bits, or arrays of them.
Counters = tuple[Any, Any, Any, Any]


def mixed(counters: Counters, key: tuple[np.uint64, np.uint64]) -> Counters:
    """Philox 4x32-10.

    Args:
        counters: Four numbers below 2^32, or four arrays of them, ``uint64``.
        key: Two numbers below 2^32, ``uint64``.

    Returns:
        Four random numbers below 2^32.

    Example:
        >>> zero = np.uint64(0)
        >>> [f"{one:x}" for one in mixed((zero, zero, zero, zero), (zero, zero))]
        ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    a, b, c, d = counters
    k, m = key
    for _ in range(_ROUNDS):
        p, q = a * _FIRST, c * _SECOND
        a, b, c, d = (q >> _U32) ^ b ^ k, q & _LOW, (p >> _U32) ^ d ^ m, p & _LOW
        k, m = (k + _GOLDEN) & _LOW, (m + _ROOT) & _LOW
    return a, b, c, d


def three_normals(bits: Counters) -> tuple[Any, Any, Any]:
    """Three independent normal numbers of mean 0 and variance 1.

    Args:
        bits: Four random numbers below 2^32, or arrays of them, ``uint64``.

    Returns:
        Three numbers, none larger than 6.8, or arrays of them.
    """
    a, b, c, d = bits
    first, second = np.sqrt(-2.0 * np.log((a + 0.5) * _TO_UNIT)), np.sqrt(-2.0 * np.log((c + 0.5) * _TO_UNIT))
    angle, other = _TURN * ((b + 0.5) * _TO_UNIT), _TURN * ((d + 0.5) * _TO_UNIT)
    return first * np.cos(angle), first * np.sin(angle), second * np.cos(other)


def halves(number: int) -> tuple[np.uint64, np.uint64]:
    """The lower and the upper 32 bits of a number of 64 bits.

    Args:
        number: The number; of negative ones, as computers write them.

    Returns:
        Both, ``uint64``.

    Example:
        >>> [int(one) for one in halves(2**32 + 5)], [int(one) for one in halves(-1)]
        ([5, 1], [4294967295, 4294967295])
    """
    return np.uint64(number & 0xFFFFFFFF), np.uint64((number >> 32) & 0xFFFFFFFF)


def normal_vectors(seed: int, step: int, structure: ndarray, atom: ndarray) -> ndarray:
    """Random vectors of atoms, which depend on nothing but what is given.

    Args:
        seed: Any number of 64 bits.
        step: Number of the step.
        structure: Number of each atom's structure [N].
        atom: Number of each atom within its structure [N].

    Returns:
        Vectors [N, 3] float64 of independent normal numbers.

    Example:
        >>> atoms = np.arange(2)
        >>> normal_vectors(0, 7, np.zeros(2, int), atoms).round(3).tolist()
        [[0.881, 0.241, -0.775], [1.044, -0.618, 0.371]]
    """
    low, high = halves(step)
    shape = np.shape(structure)
    counters = np.full(shape, low), np.full(shape, high), np.asarray(structure, np.uint64), np.asarray(atom, np.uint64)
    return np.stack(three_normals(mixed(counters, halves(seed))), axis=1)
