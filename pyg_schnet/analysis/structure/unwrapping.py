"""Paths of atoms through periodic boundaries."""

import functools
import itertools
import warnings

import numpy as np
import torch
from numpy.typing import NDArray

from pyg_schnet.analysis.structure.snapshot import Snapshot
from pyg_schnet.graph.lattice import lattice_of
from pyg_schnet.graph.reduction import shortest

#: Atoms that move by more than this part of the shortest lattice vector may have moved the other way round.
_FAR = 0.4
_NEAR_IMAGES = np.array(list(itertools.product([-1, 0, 1], repeat=3)), dtype=np.float64)


class Unwrapper:
    """Follows atoms from frame to frame, by the nearest image of each.

    The step of an atom between two frames is the shortest of those to its images in the new cell, and steps are added
    up. In cells that change this keeps distances of motion right (S. von Buelow, J. T. Bullerjahn and G. Hummer, J.
    Chem. Phys. 153, 021101 (2020)), where whole cells added to positions would not.

    Example:
        >>> cell, pbc = 4 * np.eye(3), np.ones(3, dtype=bool)
        >>> frames = [Snapshot(np.array([6]), np.array([[x, 0.0, 0.0]]), cell, pbc) for x in (3.0, 3.9, 0.8)]
        >>> unwrap = Unwrapper()
        >>> [unwrap(frame)[0, 0].round(6).item() for frame in frames]
        [3.0, 3.9, 4.8]
    """

    def __init__(self) -> None:
        self._last: NDArray | None = None
        self._path: NDArray | None = None
        self._warned = False

    def __call__(self, snapshot: Snapshot) -> NDArray:
        """The next frame.

        Args:
            snapshot: The frame, wrapped or not.

        Returns:
            Its positions on the paths of the atoms [n, 3].
        """
        periodic = bool(snapshot.pbc.any())
        pos = _inside(snapshot) if periodic else snapshot.pos
        if self._last is None or self._path is None:
            self._path = snapshot.pos
        else:
            step = pos - self._last
            if periodic:
                step, shortest_vector = nearest_image(step, snapshot.cell, snapshot.pbc)
                self._look(step, shortest_vector)
            self._path = self._path + step
        self._last = pos
        return self._path

    def _look(self, step: NDArray, shortest_vector: float) -> None:
        farthest = float(np.linalg.norm(step, axis=1).max())
        if farthest > _FAR * shortest_vector and not self._warned:
            self._warned = True
            warnings.warn(
                f"an atom moves by {farthest:.3g} Angstrom between two frames, nearly half of the shortest "
                f"lattice vector of {shortest_vector:.3g} Angstrom, so it may have gone another way; store frames more "
                "often, or pass unwrap=False if positions are not wrapped into the cell",
                stacklevel=2,
            )


def nearest_image(vectors: NDArray, cell: NDArray, pbc: NDArray) -> tuple[NDArray, float]:
    """The shortest of vectors that differ by lattice vectors.

    Args:
        vectors: Vectors in Angstrom [n, 3].
        cell: Lattice vectors as rows in Angstrom [3, 3].
        pbc: Periodic axes [3], at least one.

    Returns:
        The shortest vectors [n, 3], and the length of the shortest lattice vector.

    Example:
        >>> nearest_image(np.array([[3.5, 0, 0]]), 4 * np.eye(3), np.array([True, False, False]))
        (array([[-0.5,  0. ,  0. ]]), 4.0)
    """
    short, inverse, length = _reduced(cell.tobytes(), pbc.tobytes())
    images = np.rint(vectors @ inverse) * pbc
    near = vectors - images @ short
    # nearer than half of the shortest lattice vector there is no other image
    doubtful = np.flatnonzero(np.einsum("nk,nk->n", near, near) > (length / 2) ** 2)
    if len(doubtful):
        others = near[doubtful, None] + (_NEAR_IMAGES * pbc) @ short  # [m, 27, 3]
        best = np.einsum("mik,mik->mi", others, others).argmin(axis=1)
        near[doubtful] = others[np.arange(len(doubtful)), best]
    return near, length


def _inside(snapshot: Snapshot) -> NDArray:
    """Positions moved into the cell: what comes of cells that change must not depend on the images in the file."""
    full, inverse = _full(snapshot.cell.tobytes(), snapshot.pbc.tobytes())
    return snapshot.pos - (np.floor(snapshot.pos @ inverse) * snapshot.pbc) @ full


@functools.lru_cache(maxsize=4)  # as most cells do not change
def _full(cell: bytes, pbc: bytes) -> tuple[NDArray, NDArray]:
    """The cell with normals for the vectors of open axes, and its inverse."""
    vectors, axes = np.frombuffer(cell).reshape(3, 3).copy(), np.frombuffer(pbc, dtype=bool).copy()
    lattice = lattice_of(torch.from_numpy(vectors)[None], torch.from_numpy(axes)[None], 1, torch.device("cpu"))
    full = np.eye(3) if lattice is None else lattice.cell[0].numpy()
    return full, np.linalg.inv(full)


@functools.lru_cache(maxsize=4)
def _reduced(cell: bytes, pbc: bytes) -> tuple[NDArray, NDArray, float]:
    """Short lattice vectors, their inverse and the length of the shortest."""
    axes = np.frombuffer(pbc, dtype=bool)
    short = shortest(_full(cell, pbc)[0], np.flatnonzero(axes).tolist())[0]
    return short, np.linalg.inv(short), float(np.linalg.norm(short[axes], axis=1).min())
