"""Where a structure is put in space, the same from step to step as long as that serves."""

import numpy as np
from numpy import ndarray

from pyg_schnet.graph.centre import NEAR, centred


class NearOrigin:
    """Brings structures near the origin, each in the same way as the one before if it still serves.

    :func:`~pyg_schnet.graph.centre.centred` decides anew for each structure, so that atoms may jump by whole lattice
    vectors between two steps. Nothing depends on that but lists of pairs in which such a jump counts as a move.

    Example:
        >>> place, far = NearOrigin(), np.array([[99.0, 0.0, 0.0], [101.5, 0.0, 0.0]])
        >>> place(far, np.zeros((3, 3)), np.zeros(3, dtype=bool))[:, 0].tolist()
        [-1.0, 1.5]
        >>> place(far + 0.75, np.zeros((3, 3)), np.zeros(3, dtype=bool))[:, 0].tolist()
        [-0.25, 2.25]
    """

    def __init__(self) -> None:
        self._kind: tuple[object, ...] = ()
        self._shift, self._turns = np.zeros(3), np.zeros((0, 3))
        self._limit = 0.0

    def __call__(self, positions: ndarray, cell: ndarray, pbc: ndarray) -> ndarray:
        """The structure near the origin.

        Args:
            positions: Positions in Angstrom, float64 [n, 3].
            cell: Lattice vectors as rows in Angstrom [3, 3].
            pbc: Periodic axes [3].

        Returns:
            Positions in Angstrom [n, 3], which differ from those given by a common shift and whole lattice vectors.

        Raises:
            ValueError: If positions are too far from the origin to have any digits left.
        """
        kind = positions.shape, pbc.tobytes()
        if kind == self._kind:
            moved = positions + (self._shift - self._turns @ cell)
            if np.abs(moved).max(initial=0.0) <= self._limit:
                return moved
        moved = centred(positions, cell, pbc)
        self._remember(kind, moved - positions, cell, pbc)
        self._limit = 2.0 * max(NEAR, float(np.abs(moved).max(initial=0.0)))
        return moved

    def _remember(self, kind: tuple[object, ...], change: ndarray, cell: ndarray, pbc: ndarray) -> None:
        """Divide the change of each atom [n, 3] into what all have in common and whole lattice vectors."""
        self._kind, self._shift = kind, change[0] if len(change) else np.zeros(3)
        self._turns = np.zeros_like(change)
        axes = np.flatnonzero(pbc)
        if len(axes) and len(change):
            self._turns[:, axes] = np.rint((self._shift - change) @ np.linalg.pinv(cell[axes]))
