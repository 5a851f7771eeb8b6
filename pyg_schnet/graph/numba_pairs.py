"""Compiled loop that takes one of each two opposite edges (extra ``fast``)."""

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
