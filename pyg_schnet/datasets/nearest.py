"""How far apart neighbours are in structures whose unit of length is not known yet."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Atoms whose neighbours are looked at in a large structure.
_ATOMS = 200


def nearest(pos: NDArray, cell: NDArray, pbc: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """The nearest neighbour of each atom, or of some of them in a large structure.

    Args:
        pos: Positions [n, 3].
        cell: Lattice vectors as rows [3, 3].
        pbc: Periodic axes [3].

    Returns:
        The atoms [k], the nearest neighbour of each [k] and how far it is [k]; none for a lone atom.

    Example:
        >>> pos = np.array([[0.0, 0, 0], [0, 0, 3], [0, 0, 4]])
        >>> nearest(pos, np.eye(3) * 5, np.array([False, False, True]))[2].tolist()
        [1.0, 1.0, 1.0]
    """
    n = len(pos)
    chosen = np.arange(n) if n <= _ATOMS else np.linspace(0, n - 1, _ATOMS).astype(int)
    images = _images(pos, cell, pbc)
    if n * len(images) < 2 or not (np.isfinite(pos).all() and np.isfinite(cell).all()):
        return chosen[:0], chosen[:0], np.empty(0)
    best, partner = np.full(len(chosen), np.inf), np.zeros(len(chosen), dtype=int)
    for shift in images:
        difference = pos[None] + shift - pos[chosen, None]
        squared = np.einsum("ijk,ijk->ij", difference, difference)
        if not shift.any():
            squared[np.arange(len(chosen)), chosen] = np.inf
        closest = squared.argmin(axis=1)
        distance = squared[np.arange(len(chosen)), closest]
        better = distance < best
        best[better], partner[better] = distance[better], closest[better]
    return chosen, partner, np.sqrt(best)


def clearance(pos: NDArray, cell: NDArray, pbc: NDArray) -> float:
    """How much room there is between a structure as it stands in its cell and its images.

    Args:
        pos: Positions [n, 3].
        cell: Lattice vectors as rows [3, 3].
        pbc: Periodic axes [3].

    Returns:
        The least distance between planes that enclose the structure and those of an image; infinite for open ones,
        at most 0 where a structure reaches around its cell.

    Example:
        >>> round(clearance(np.array([[1.0, 1, 1], [3, 1, 1]]), np.eye(3) * 10, np.ones(3, dtype=bool)), 9)
        8.0
    """
    if not pbc.any():
        return np.inf
    if abs(np.linalg.det(cell)) == 0 or not np.isfinite(pos).all():
        return 0.0
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    extent = np.ptp(pos @ np.linalg.inv(cell), axis=0)
    return float(((1 - extent) * heights)[pbc].min())


def _images(pos: NDArray, cell: NDArray, pbc: NDArray) -> Any:
    """Shifts among which that of a nearest neighbour is, unless the cell is very skewed."""
    reach = 2 if len(pos) <= 30 else 1
    steps = [range(-reach, reach + 1) if axis else range(1) for axis in pbc]
    grid = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3)
    return grid @ cell
