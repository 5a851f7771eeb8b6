"""The widest gap in each structure, which shows that parts of it fly apart."""

import numpy as np
from numpy import ndarray

from pyg_schnet.simulation.systems import System

#: How much farther than at the beginning parts of a structure may be from each other, in Angstrom.
APART = 5.0


class Fragments:
    """Open structures, and how far their parts are from each other.

    Args:
        system: The structures.
        positions: Where they begin, in Angstrom [N, 3].

    Example:
        >>> from pyg_schnet.simulation.systems import system_of
        >>> import torch
        >>> from torch_geometric.data import Data
        >>> pos = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [2.0, 0, 0]])
        >>> system, positions, _ = system_of(Data(z=torch.tensor([8, 1, 1]), pos=pos, mass=torch.ones(3)))
        >>> fragments = Fragments(system, positions)
        >>> fragments.apart(3 * positions), fragments.apart(7 * positions)
        (None, 0)
    """

    def __init__(self, system: System, positions: ndarray) -> None:
        self.system = system
        gaps = [
            np.inf if periodic else APART + widest_gap(positions[part])
            for part, periodic in zip(system.parts, map(any, system.pbc.tolist()), strict=True)
        ]
        self._limit = np.array(gaps)

    def apart(self, positions: ndarray) -> int | None:
        """The first structure whose parts have flown apart.

        Args:
            positions: In Angstrom [N, 3].

        Returns:
            Its number, or ``None``.
        """
        first = self.system.first[:-1]
        extent = np.maximum.reduceat(positions, first) - np.minimum.reduceat(positions, first)
        for number in np.flatnonzero(np.linalg.norm(extent, axis=1) > self._limit).tolist():  # others cannot
            if widest_gap(positions[self.system.parts[number]]) > self._limit[number]:
                return number
        return None


def widest_gap(positions: ndarray) -> float:
    """The longest step that connects all atoms if each is reached by the shortest steps there are (Prim's tree).

    Args:
        positions: In Angstrom [n, 3].

    Returns:
        In Angstrom.

    Example:
        >>> widest_gap(np.array([[0.0, 0, 0], [1.0, 0, 0], [4.0, 0, 0]]))
        3.0
    """
    widest, left = 0.0, positions[1:]
    distance = np.linalg.norm(left - positions[0], axis=1)
    while len(left):
        nearest = int(distance.argmin())
        widest = max(widest, float(distance[nearest]))
        others = np.arange(len(left)) != nearest
        place, left = left[nearest], left[others]
        distance = np.minimum(distance[others], np.linalg.norm(left - place, axis=1))
    return widest
