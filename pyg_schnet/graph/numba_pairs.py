"""Compiled loops of given edges: which are within the cutoff, and which are opposite (extra ``fast``)."""

import numpy as np
from numpy import ndarray

from pyg_schnet.compiling import compiled


@compiled()
def one_of_each(edge_index: ndarray, edge_shift: ndarray, reverse: ndarray) -> tuple[ndarray, ndarray, ndarray]:
    """The edges that come before their opposites.

    Args:
        edge_index: Sources and targets [2, E].
        edge_shift: Images of the sources [E, 3].
        reverse: The opposite of each edge [E].

    Returns:
        Sources and targets of these edges [2, E / 2], images of their sources [E / 2, 3], and for every edge the pair
        it belongs to [E].
    """
    edges = len(reverse)
    pair_index, pair_shift = np.empty((2, edges // 2), np.int64), np.empty((edges // 2, 3), np.int64)
    edge_pair, number = np.empty(edges, np.int64), 0
    for n in range(edges):
        if n < reverse[n]:
            edge_pair[n] = edge_pair[reverse[n]] = number
            pair_index[0, number], pair_index[1, number] = edge_index[0, n], edge_index[1, n]
            for k in range(3):
                pair_shift[number, k] = edge_shift[n, k]
            number += 1
    return pair_index, pair_shift, edge_pair


@compiled()
def opposites(source: ndarray, edge_shift: ndarray, rowptr: ndarray) -> tuple[ndarray, ndarray]:
    """The edges that come before their opposites, of a graph that does not say which these are.

    Opposite edges are found without a search: of those to a target, the first that has no opposite yet comes from the
    first target whose turn it is, and images come in opposite order there.

    Args:
        source: Sources of the edges [E], which are sorted by target, then source, then image.
        edge_shift: Images of the sources [E, 3]; empty without.
        rowptr: Edges of target i are those from ``rowptr[i]`` up to ``rowptr[i + 1]`` [N + 1].

    Returns:
        Positions of these edges [E / 2], and for every edge the pair it belongs to [E]. If an edge has no opposite, or
        edges are not sorted, there are no positions, and the pairs mean nothing.
    """
    edges, shifted, number = len(source), len(edge_shift) > 0, 0
    first, edge_pair, free = np.empty(edges // 2, np.int64), np.empty(edges, np.int64), rowptr.copy()
    for i in range(len(rowptr) - 1):
        begin, stop = free[i], rowptr[i + 1]
        while begin < stop:
            j, end = source[begin], begin + 1
            while end < stop and source[end] == j:
                end += 1
            low = begin if j == i else free[j]
            if low + end - begin > rowptr[j + 1]:
                return first[:0], edge_pair
            for n in range(begin, end):
                other = low + end - 1 - n
                if other < n:
                    break
                wrong = other == n or source[other] != i
                if shifted:
                    for k in range(3):
                        wrong |= edge_shift[n, k] != -edge_shift[other, k]
                if wrong:
                    return first[:0], edge_pair
                first[number] = n
                edge_pair[n] = edge_pair[other] = number
                number += 1
            free[j] = low + end - begin
            begin = end
    return first, edge_pair


@compiled()
def closer(
    pos: ndarray, edge_index: ndarray, edge_shift: ndarray, cell: ndarray, batch: ndarray, cutoff: float
) -> ndarray:
    """Which edges are closer than a cutoff, rounded as ``squared_distance`` rounds.

    Args:
        pos: Positions in Angstrom [N, 3] float64.
        edge_index: Sources and targets [2, E].
        edge_shift: Images of the sources [E, 3]; empty without.
        cell: Lattice vectors as rows in Angstrom [B, 3, 3] float64; empty without.
        batch: Structure of each atom [N].
        cutoff: Cutoff distance in Angstrom.

    Returns:
        True for those edges [E].
    """
    edges, shifted = edge_index.shape[1], len(cell) > 0 and len(edge_shift) > 0
    inside = np.empty(edges, np.bool_)
    for n in range(edges):
        j, i = edge_index[0, n], edge_index[1, n]
        dx, dy, dz = pos[j, 0] - pos[i, 0], pos[j, 1] - pos[i, 1], pos[j, 2] - pos[i, 2]
        if shifted:
            s, u, v, w = batch[i], float(edge_shift[n, 0]), float(edge_shift[n, 1]), float(edge_shift[n, 2])
            dx += u * cell[s, 0, 0] + v * cell[s, 1, 0] + w * cell[s, 2, 0]
            dy += u * cell[s, 0, 1] + v * cell[s, 1, 1] + w * cell[s, 2, 1]
            dz += u * cell[s, 0, 2] + v * cell[s, 1, 2] + w * cell[s, 2, 2]
        inside[n] = dx * dx + dy * dy + dz * dz < cutoff * cutoff
    return inside
