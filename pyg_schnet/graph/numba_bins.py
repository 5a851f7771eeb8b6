"""Compiled loops that divide structures into bins (extra ``fast``).

They are made by the rules of :mod:`pyg_schnet.graph.boxes`.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from pyg_schnet.compiling import compiled, part

#: Atoms for each bin at least, and most bins along an axis.
ATOMS_PER_BIN, MOST_BINS = 4, 2**20


class Structures(NamedTuple):
    """A batch: positions [N, 3], structure of each atom [N], first atoms [B + 1], lattices as in ``Lattice``."""

    pos: ndarray
    batch: ndarray
    pointer: ndarray
    cell: ndarray
    inverse: ndarray
    height: ndarray
    periodic: ndarray


class Grid(NamedTuple):
    """How structures are divided into bins.

    Attributes:
        number: Bins along the axes of each structure [B, 3].
        reach: How many bins away neighbours can be [B, 3].
        bits: Bits for the images along the axes [B, 3].
        first: First bin of each structure, and the number of bins [B + 1].
        low: Fractional coordinate where the bins begin [B, 3].
        scale: Bins per fractional coordinate [B, 3].
    """

    number: ndarray
    reach: ndarray
    bits: ndarray
    first: ndarray
    low: ndarray
    scale: ndarray


class Bins(NamedTuple):
    """Atoms in the order of the bins.

    Attributes:
        start: First atom of each bin, and the number of atoms.
        order: Number of each atom [N].
        inside: Wrapped positions [N, 3].
        box: Smallest coordinates of the atoms of each bin, and how much larger the largest are [bins, 2, 3].
    """

    start: ndarray
    order: ndarray
    inside: ndarray
    box: ndarray


@compiled()
def wrap_atoms(structures: Structures) -> tuple[ndarray, ndarray]:
    """Fractional coordinates, in the cell along periodic axes [N, 3], and cells by which atoms were moved [N, 3]."""
    pos, inverse = structures.pos, structures.inverse
    fractional, wrap = np.empty_like(pos), np.zeros(pos.shape, np.int64)
    for i in range(len(pos)):
        s = structures.batch[i]
        for k in range(3):
            value = pos[i, 0] * inverse[s, 0, k] + pos[i, 1] * inverse[s, 1, k] + pos[i, 2] * inverse[s, 2, k]
            cells = math.floor(value) if structures.periodic[s, k] else 0
            fractional[i, k], wrap[i, k] = value - cells, cells
    return fractional, wrap


@compiled()
def make_grid(structures: Structures, fractional: ndarray, reach: float) -> Grid:
    """Divide structures into bins no narrower than the reach, and into fewer than there are atoms."""
    size, periodic = len(structures.pointer) - 1, structures.periodic
    number, away, bits = np.ones((size, 3), np.int64), np.zeros((size, 3), np.int64), np.zeros((size, 3), np.int64)
    first, low, scale = np.zeros(size + 1, np.int64), np.zeros((size, 3)), np.ones((size, 3))
    for s in range(size):
        begin, end = structures.pointer[s], structures.pointer[s + 1]
        for k in range(3):
            if not periodic[s, k]:
                low[s, k], scale[s, k] = _extent(fractional, begin, end, k)
            most = math.floor(scale[s, k] * structures.height[s, k] / reach)
            number[s, k] = min(max(most, 1), MOST_BINS)
        _limit(number, s, end - begin)
        for k in range(3):
            if periodic[s, k]:
                away[s, k] = math.ceil(reach * number[s, k] / structures.height[s, k])
                bits[s, k] = _bits(2 * ((away[s, k] - 1) // number[s, k] + 1))
            elif number[s, k] > 1:
                away[s, k] = 1
            scale[s, k] = number[s, k] / scale[s, k] if scale[s, k] > 0 else 0.0
        first[s + 1] = first[s] + number[s, 0] * number[s, 1] * number[s, 2]
    return Grid(number, away, bits, first, low, scale)


@part()
def _extent(values: ndarray, begin: int, end: int, k: int) -> tuple[float, float]:
    """Smallest value, and how much larger the largest is."""
    if begin == end:
        return 0.0, 0.0
    low = high = values[begin, k]
    for i in range(begin, end):
        low, high = min(low, values[i, k]), max(high, values[i, k])
    return low, high - low


@part()
def _limit(number: ndarray, s: int, atoms: int) -> None:
    """Fewer bins along each axis if there would be too many for so many atoms."""
    for _ in range(3):
        excess = ATOMS_PER_BIN * (1.0 * number[s, 0] * number[s, 1] * number[s, 2]) / max(atoms, 1)
        axes = (number[s, 0] > 1) + (number[s, 1] > 1) + (number[s, 2] > 1)
        if excess > 1 and axes > 0:
            for k in range(3):
                number[s, k] = max(math.floor(number[s, k] * excess ** (-1.0 / axes)), 1)


@part()
def _bits(largest: int) -> int:
    """Bits of numbers up to this one."""
    bits = 0
    while largest >> bits:
        bits += 1
    return bits


@compiled()
def sort_into_bins(structures: Structures, grid: Grid, fractional: ndarray, wrap: ndarray) -> Bins:
    """Sort atoms by bins, within a bin by number."""
    atoms, number, cell = len(fractional), grid.number, structures.cell
    start, bin_of = np.zeros(grid.first[-1] + 1, np.int64), np.empty(atoms, np.int64)
    for i in range(atoms):
        s, place = structures.batch[i], 0
        for k in range(3):
            step = math.floor((fractional[i, k] - grid.low[s, k]) * grid.scale[s, k])
            place = place * number[s, k] + min(max(step, 0), number[s, k] - 1)
        bin_of[i] = grid.first[s] + place
        start[bin_of[i] + 1] += 1
    for k in range(len(start) - 1):
        start[k + 1] += start[k]
    free = start.copy()
    order, inside = np.empty(atoms, np.int64), np.empty((atoms, 3))
    for i in range(atoms):
        s, slot = structures.batch[i], free[bin_of[i]]
        free[bin_of[i]] += 1
        order[slot] = i
        for k in range(3):
            moved = wrap[i, 0] * cell[s, 0, k] + wrap[i, 1] * cell[s, 1, k] + wrap[i, 2] * cell[s, 2, k]
            inside[slot, k] = structures.pos[i, k] - moved
    box = np.empty((len(start) - 1, 2, 3))
    for home in range(len(box)):
        for k in range(3):
            box[home, 0, k], box[home, 1, k] = _extent(inside, start[home], start[home + 1], k)
    return Bins(start, order, inside, box)
