"""Structures near the origin, where numbers of single precision have most digits."""

import numpy as np
from numpy import ndarray

from pyg_schnet.graph.reduction import MOST_SKEWED, shortest

#: Positions up to so far from the origin keep seven digits in float32 and stay as they are, in Angstrom.
NEAR = 8.0
#: From here on even positions in float64 have lost the digits of a bond length, in Angstrom.
FARTHEST = 1e9
#: Atoms of a periodic structure are brought together if they are spread over more than so many cells.
MOST_CELLS = 2.0


def centred(
    positions: ndarray, cell: ndarray | None = None, pbc: ndarray | None = None, *, near: float = NEAR
) -> ndarray:
    """The same structure near the origin, so that rounding to float32 keeps its digits.

    Nothing but differences of positions matters to a model, and float32 keeps some seven digits of each: at 5,000
    Angstrom from the origin positions move by 2e-4 Angstrom when they are rounded. So, in float64:

    1. Atoms of a periodic structure that are spread over more than two cells, as after long unwrapped dynamics, come
       back into one cell, by whole lattice vectors along the periodic axes.
    2. A structure whose largest coordinate is more than ``near`` and more than twice its own extent is moved as a
       whole, by whole Angstroms, which is exact.

    All others stay as they are, to the last digit: rounding costs them little more than it would at the origin.

    Args:
        positions: Positions in Angstrom, float64 [n, 3].
        cell: Lattice vectors as rows in Angstrom [3, 3]; those of open axes are not looked at.
        pbc: Periodic axes [3]; ``None`` for none.
        near: Largest coordinate up to which a structure stays as it is in any case, in Angstrom.

    Returns:
        Positions in float64 [n, 3]; ``positions`` themselves if there is nothing to move, or if they are not finite,
        which is for others to say.

    Raises:
        ValueError: If a position is so far from the origin that its digits are lost already.

    Example:
        >>> far = np.array([[5000.25, 0.0, 0.0], [5001.5, 0.0, 0.0]])
        >>> centred(far)[:, 0].tolist()
        [-0.75, 0.5]
        >>> centred(far, 4 * np.eye(3), np.array([True, False, False]))[:, 0].tolist()
        [-0.75, 0.5]
        >>> centred(np.array([[0.5, 0, 0], [4001.5, 0, 0]]), 4 * np.eye(3), np.array([True, True, True]))[:, 0].tolist()
        [0.5, 1.5]
    """
    positions = np.asarray(positions, dtype=np.float64)
    reach = np.abs(positions).max(initial=0.0)
    if reach <= near or not np.isfinite(reach):
        return positions
    if reach > FARTHEST:
        atom, axis = (int(one) for one in np.unravel_index(np.abs(positions).argmax(), positions.shape))
        raise ValueError(
            f"positions must be within {FARTHEST:g} Angstrom of the origin, got {positions[atom, axis]:g} for atom "
            f"{atom}: so far out they have lost the digits of a bond length; repair or drop this structure"
        )
    if cell is not None and pbc is not None and np.any(pbc):
        positions = _together(positions, np.asarray(cell, dtype=np.float64), np.flatnonzero(pbc).tolist())
    low, high = positions.min(axis=0), positions.max(axis=0)
    if max(-low.min(), high.max()) <= max(near, 2.0 * (high - low).max()):
        return positions
    return positions - np.rint((low + high) / 2.0)


def _together(positions: ndarray, cell: ndarray, axes: list[int]) -> ndarray:
    """Atoms in one cell, if they are spread over several; only along the periodic axes."""
    vectors = cell[axes]  # [k, 3]
    if not np.isfinite(vectors).all():
        return positions
    inverse = np.linalg.pinv(vectors)  # [3, k], as if the open axes were normals of the periodic ones
    if (np.linalg.norm(vectors, axis=1) * np.linalg.norm(inverse, axis=0) > MOST_SKEWED).any():
        vectors = shortest(cell, axes)[0][axes]
        inverse = np.linalg.pinv(vectors)
    fractions = positions @ inverse  # [n, k]
    cells = np.where(np.ptp(fractions, axis=0) > MOST_CELLS, np.floor(fractions), 0.0)
    return positions - cells @ vectors
