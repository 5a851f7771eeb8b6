"""Distances of pairs of atoms of a frame: of periodic ones with all images, of open ones with everyone."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from pyg_schnet.analysis.structure.snapshot import Snapshot
from pyg_schnet.graph import radius_graph
from pyg_schnet.graph.edges import SAME_PLACE
from pyg_schnet.sizes import SIZES


def close_pairs(snapshot: Snapshot, r_max: float) -> tuple[NDArray, NDArray, NDArray]:
    """All pairs of atoms, and of their periodic images, closer than a distance, each pair once.

    Args:
        snapshot: The frame.
        r_max: Distance in Angstrom.

    Returns:
        The two atoms of each pair [P], [P] and their distance in Angstrom [P]; an atom pairs with its own images.

    Raises:
        ValueError: If two atoms are at the same place.

    Example:
        >>> chain = Snapshot(np.array([6]), np.zeros((1, 3)), 1.5 * np.eye(3), np.array([True, False, False]))
        >>> close_pairs(chain, 3.2)[2]
        array([3. , 1.5])
    """
    pos = torch.from_numpy(snapshot.pos)
    periodic = bool(snapshot.pbc.any())
    cell = torch.from_numpy(snapshot.cell).unsqueeze(0) if periodic else None
    pbc = torch.from_numpy(snapshot.pbc).unsqueeze(0) if periodic else None
    graph = radius_graph(pos, r_max, cell=cell, pbc=pbc)
    reverse = graph.reverse.numpy()
    once = np.flatnonzero(np.arange(len(reverse)) < reverse)
    source, target = graph.edge_index.numpy()
    source, target = source.take(once), target.take(once)
    vectors = snapshot.pos.take(source, axis=0) - snapshot.pos.take(target, axis=0)
    if periodic:
        rows = np.where(snapshot.pbc[:, None], snapshot.cell, 0.0)
        vectors += graph.edge_shift.numpy().take(once, axis=0) @ rows
    return target, source, np.sqrt(np.einsum("pk,pk->p", vectors, vectors))


def distance_rows(pos: NDArray) -> Iterator[tuple[int, NDArray]]:
    """Rows of the matrix of all distances of an open structure, as many at a time as memory allows.

    Args:
        pos: Positions in Angstrom [n, 3].

    Yields:
        Number of the first row, and rows [m, n] in Angstrom, infinite for an atom and itself.

    Raises:
        ValueError: If two atoms are at the same place.

    Example:
        >>> next(distance_rows(np.array([[0.0, 0, 0], [0, 3, 4]])))
        (0, array([[inf,  5.],
               [ 5., inf]]))
    """
    atoms = len(pos)
    for start in range(0, atoms, max(1, SIZES.distances_at_once // atoms)):
        rows = pos[start : start + max(1, SIZES.distances_at_once // atoms)]
        squared = sum((rows[:, None, axis] - pos[None, :, axis]) ** 2 for axis in range(3))
        distances = np.sqrt(np.asarray(squared))
        distances[np.arange(len(rows)), start + np.arange(len(rows))] = math.inf
        if distances.min(initial=math.inf) < SAME_PLACE:
            one, other = np.argwhere(distances < SAME_PLACE)[0].tolist()
            raise ValueError(f"atoms {start + one} and {other} are at the same place {pos[other].tolist()}; remove one")
        yield start, distances
