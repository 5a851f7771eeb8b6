"""The compiled searches for open structures of a few atoms each: every pair is looked at, twice, instead of kept."""

import numpy as np
from numpy import ndarray

from pyg_schnet.compiling import compiled, part
from pyg_schnet.graph.edges import SAME_PLACE_SQUARED


@part()
def _squared(pos: ndarray, i: int, j: int) -> float:
    """Squared distance, rounded as ``squared_distance`` rounds it."""
    x = np.float64(pos[j, 0]) - np.float64(pos[i, 0])
    y = np.float64(pos[j, 1]) - np.float64(pos[i, 1])
    z = np.float64(pos[j, 2]) - np.float64(pos[i, 2])
    return x * x + y * y + z * z


@compiled()
def search_all(
    pos: ndarray, batch: ndarray, cutoff: float
) -> tuple[ndarray, ndarray, ndarray, ndarray, tuple[int, int]]:
    """The graph of atoms closer than the cutoff.

    Args:
        pos: Positions in Angstrom [N, 3] float64.
        batch: Structure of each atom [N], sorted.
        cutoff: Cutoff distance in Angstrom.

    Returns:
        ``edge_index`` [2, E], ``edge_shift`` [E, 3], ``rowptr`` [N + 1] and ``reverse`` [E] of the graph; two atoms at
        the same place, or -1 twice.
    """
    atoms, limit, twins, first = len(batch), cutoff * cutoff, (-1, -1), 0
    rowptr = np.zeros(atoms + 1, np.int64)
    for i in range(atoms):
        if batch[i] != batch[first]:
            first = i
        for j in range(first, i):
            squared = _squared(pos, i, j)
            if squared < limit:
                rowptr[i + 1] += 1
                rowptr[j + 1] += 1
                if squared < SAME_PLACE_SQUARED and twins[0] < 0:
                    twins = j, i
    for i in range(atoms):
        rowptr[i + 1] += rowptr[i]
    edges, first = rowptr[atoms], 0
    edge_index, reverse = np.empty((2, edges), np.int64), np.empty(edges, np.int64)
    place = rowptr.copy()  # where the next edge of each target goes
    for i in range(atoms):
        if batch[i] != batch[first]:
            first = i
        for j in range(first, i):
            if _squared(pos, i, j) < limit:
                one, other = place[i], place[j]
                edge_index[0, one], edge_index[1, one], reverse[one] = j, i, other
                edge_index[0, other], edge_index[1, other], reverse[other] = i, j, one
                place[i] += 1
                place[j] += 1
    return edge_index, np.zeros((edges, 3), np.int64), rowptr, reverse, twins


@compiled()
def search_pairs(pos: ndarray, batch: ndarray, batch_size: int, most: int, cutoff: float) -> tuple[ndarray, bool]:
    """One edge of each two opposite ones, without the rest of a graph.

    Args:
        pos: Positions in Angstrom [N, 3].
        batch: Structure of each atom [N].
        batch_size: Number of structures.
        most: Atoms of a structure, at most.
        cutoff: Cutoff distance in Angstrom.

    Returns:
        Targets and sources [2, P]; whether all is as usual: positions finite, structures in ascending order and not
        larger, no two atoms at the same place. If not, pairs mean nothing.
    """
    limit, first, count, none = cutoff * cutoff, 0, 0, np.empty((2, 0), np.int64)
    for i in range(len(batch)):
        if batch[i] != batch[first]:
            first = i
        sorted_so_far = batch[i] >= (batch[i - 1] if i > 0 else 0) and batch[i] < batch_size
        if not sorted_so_far or i - first >= most or not np.isfinite(pos[i, 0] + pos[i, 1] + pos[i, 2]):
            return none, False
        for j in range(first, i):
            squared = _squared(pos, i, j)
            if squared < SAME_PLACE_SQUARED:
                return none, False
            count += squared < limit
    pairs, first, count = np.empty((2, count), np.int64), 0, 0
    for i in range(len(batch)):
        if batch[i] != batch[first]:
            first = i
        for j in range(first, i):
            if _squared(pos, i, j) < limit:
                pairs[0, count], pairs[1, count] = i, j
                count += 1
    return pairs, True
