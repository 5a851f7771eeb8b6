"""From float64 to float32 without losing what matters."""

import numpy as np
from numpy.typing import NDArray

from pyg_schnet.graph.centre import centred

#: Structures stay where a file has them up to so far from the origin, in Angstrom; float32 keeps six digits there.
NEAR = 32.0
#: Largest number of float32.
LARGEST = float(np.finfo(np.float32).max)


def rounded_positions(
    where: str, positions: NDArray, sizes: NDArray, cells: NDArray | None = None
) -> NDArray[np.float32]:
    """Positions of many structures in float32, those far from the origin brought near it.

    Args:
        where: The file, to be named in errors.
        positions: Positions in Angstrom, float64 [N, 3].
        sizes: Numbers of atoms [B].
        cells: Lattice vectors of crystals [B, 3, 3]; ``None`` for molecules.

    Returns:
        Positions [N, 3]; where the largest coordinate of a structure is below 32 Angstrom, those of the file.

    Raises:
        ValueError: If a structure is so far from the origin that its digits are lost.

    Example:
        >>> far = np.array([[0.5, 0.0, 0.0], [1000.5, 0.0, 0.0], [1001.5, 0.0, 0.0]])
        >>> rounded_positions("a file", far, np.array([1, 2]))[:, 0].tolist()
        [0.5, -0.5, 0.5]
    """
    ends = np.cumsum(sizes)
    begins = ends - sizes
    far = np.abs(positions).max(axis=1, initial=0.0) > NEAR  # [N]
    if not far.any():
        return positions.astype(np.float32)
    near, pbc = positions.copy(), np.ones(3, dtype=bool)
    for number in np.unique(np.searchsorted(ends, np.flatnonzero(far), side="right")):
        rows = slice(begins[number], ends[number])
        cell = None if cells is None else cells[number]
        try:
            near[rows] = centred(positions[rows], cell, None if cells is None else pbc, near=NEAR)
        except ValueError as error:
            raise ValueError(f"{where}, structure {number}: {error}") from None
    return near.astype(np.float32)
