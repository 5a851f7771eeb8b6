"""What a pass through a network leaves behind, for another one that differentiates it (extra ``fast``)."""

from typing import NamedTuple

import numpy as np
from numpy import ndarray

from pyg_schnet.compiling import CONTRACT, inlined, part
from pyg_schnet.fast.cpu.vectors import LANES


class Kept(NamedTuple):
    """What a pass leaves behind for another one that differentiates it, block by block and group by group.

    Each is [T, ...], flat behind that. The number of atoms N is rounded up to a multiple of sixteen.

    Attributes:
        sent: Features that are sent [N, F].
        received: What is received of them [N, F].
        inner: What is activated, after it [A, N].
        slope: Derivative of the activation there [A, N].
        of_inner: Derivatives of the energy with respect to what is activated [A, N].
        of_received: The same of what is received [N, F].
        of_sent: The same of what is sent [F, N].
        features: Features before each block and after the last [T + 1, N, A].
        of_features: Derivatives of the energy with respect to those after each block [A, N].
    """

    sent: ndarray
    received: ndarray
    inner: ndarray
    slope: ndarray
    of_inner: ndarray
    of_received: ndarray
    of_sent: ndarray
    features: ndarray
    of_features: ndarray


@inlined()
def up(number: int, multiple: int) -> int:
    """The next multiple."""
    return (number + multiple - 1) // multiple * multiple


@inlined()
def scratch(blocks: int, sizes: tuple[int, int, int, int], count: int, like: ndarray) -> Kept:
    """What is kept of a group when nobody asks for more than the first derivatives."""
    atoms, one, none = up(count, LANES), np.int64(1), np.int64(0)
    a, f = atoms * up(sizes[0], LANES), atoms * up(sizes[1], LANES)
    return Kept(
        _rows(blocks, f, like),
        _rows(blocks, f, like),
        _rows(one, a, like),
        _rows(blocks, a, like),
        _rows(one, a, like),
        _rows(one, f, like),
        _rows(one, f, like),
        _rows(none, a, like),
        _rows(none, a, like),
    )


@part(CONTRACT)
def _rows(number: int, length: int, like: ndarray) -> ndarray:
    return np.empty((number, length), like.dtype)


def on_tape(memory: ndarray, blocks: int, size: int, width: int) -> Kept:
    """What is kept of a group, in memory of ``numbers_kept(blocks, size, width)`` for each of its atoms."""
    atoms, kept, begin = len(memory) // numbers_kept(blocks, size, width), [], 0
    widths = [(blocks, numbers) for numbers in (width, width, size, size, size, width, width)]
    for rows, numbers in (*widths, (blocks + 1, size), (blocks, size)):
        end = begin + rows * numbers * atoms
        kept.append(memory[begin:end].reshape(rows, numbers * atoms))
        begin = end
    return Kept(*kept)


def numbers_kept(blocks: int, size: int, width: int) -> int:
    """How many numbers are kept of an atom with so many features and filters, both multiples of sixteen."""
    return blocks * (5 * size + 4 * width) + size
