"""A crystal as plain arrays, from lattice parameters or from the structure dictionaries of pymatgen."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyg_schnet.datasets.elements import atomic_number
from pyg_schnet.graph.lattice import SMALLEST_RELATIVE_VOLUME

#: An occupancy that differs from one by more is partial.
OCCUPANCY_TOLERANCE = 1e-6


class PartialOccupancyError(ValueError):
    """A site holds an atom only sometimes: no arrangement of atoms is given, so no graph can be built."""


class Crystal(NamedTuple):
    """Atoms in a periodic cell, float64.

    Attributes:
        numbers: Atomic numbers [n].
        fractional: Positions in units of the lattice vectors [n, 3].
        cell: Lattice vectors as rows in Angstrom [3, 3].
    """

    numbers: NDArray
    fractional: NDArray
    cell: NDArray

    def positions(self) -> NDArray:
        """Positions in Angstrom [n, 3]."""
        return self.fractional @ self.cell


def checked(crystal: Crystal) -> Crystal:
    """The crystal itself if atoms, positions and cell are possible.

    Args:
        crystal: Any crystal.

    Returns:
        The same.

    Raises:
        ValueError: If it has no atoms, numbers are not finite or the lattice vectors span no volume.
    """
    if not len(crystal.numbers):
        raise ValueError("expected at least one atom, got none")
    if crystal.fractional.shape != (len(crystal.numbers), 3) or crystal.cell.shape != (3, 3):
        raise ValueError(
            f"expected positions [{len(crystal.numbers)}, 3] and a cell [3, 3], "
            f"got {list(crystal.fractional.shape)} and {list(crystal.cell.shape)}"
        )
    if not (np.abs(crystal.fractional).max() < 1e4 and np.abs(crystal.cell).max() < 1e4):
        raise ValueError("expected positions and a cell of finite numbers below 10,000, got larger ones, NaN or inf")
    if not abs(_determinant(crystal.cell)) > 1e-3:
        raise ValueError(f"expected lattice vectors that span a volume, got {crystal.cell.tolist()}")
    return crystal


def cell_of(lengths: tuple[float, float, float], angles: tuple[float, float, float]) -> NDArray:
    """Lattice vectors from lengths and angles, the first along x, the second in the xy plane (as ASE does).

    Args:
        lengths: a, b, c in Angstrom.
        angles: alpha (between b and c), beta (a and c), gamma (a and b) in degrees.

    Returns:
        Lattice vectors as rows in Angstrom [3, 3].

    Raises:
        ValueError: If no cell has these parameters.

    Example:
        >>> cell_of((2.0, 3.0, 4.0), (90, 90, 90)).tolist()
        [[2.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 4.0]]
    """
    a, b, c = lengths
    # exactly zero at a right angle, where cos(pi / 2) leaves 6e-17
    cosines = [0.0 if angle == 90 else math.cos(math.radians(angle)) for angle in angles if math.isfinite(angle)]
    if len(cosines) == 3 and all(0 < length < 1e4 for length in lengths) and all(0 < angle < 180 for angle in angles):
        cos_alpha, cos_beta, cos_gamma = cosines
        sin_gamma = math.sqrt(1 - cos_gamma**2)
        along_y = (cos_alpha - cos_beta * cos_gamma) / sin_gamma
        along_z = 1 - cos_beta**2 - along_y**2
        if along_z > 0:
            x, y, z = c * cos_beta, c * along_y, c * math.sqrt(along_z)
            return np.array([[a, 0, 0], [b * cos_gamma, b * sin_gamma, 0], [x, y, z]], dtype=np.float64)
    raise ValueError(
        f"expected positive lengths and angles of a cell, got {list(lengths)} Angstrom and {list(angles)} degrees"
    )


def from_dict(structure: Mapping[str, Any]) -> Crystal:
    """Read a structure dictionary as pymatgen writes it (``Structure.as_dict``).

    Args:
        structure: ``lattice`` with ``matrix`` and ``sites`` with ``species`` and ``abc``.

    Returns:
        The crystal.

    Raises:
        PartialOccupancyError: If a site is shared or not always occupied.
        ValueError: If something is missing or impossible.

    Example:
        >>> site = {"species": [{"element": "Po", "occu": 1}], "abc": [0, 0, 0]}
        >>> from_dict({"lattice": {"matrix": [[3.4, 0, 0], [0, 3.4, 0], [0, 0, 3.4]]}, "sites": [site]}).numbers
        array([84])
    """
    numbers = []
    try:
        for site in structure["sites"]:
            species = site["species"]
            if len(species) != 1 or abs(float(species[0]["occu"]) - 1) > OCCUPANCY_TOLERANCE:
                raise PartialOccupancyError("a site is shared or not always occupied")
            numbers.append(atomic_number(str(species[0]["element"])))
        fractional = np.array([site["abc"] for site in structure["sites"]], dtype=np.float64)
        cell = np.array(structure["lattice"]["matrix"], dtype=np.float64)
    except (KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"expected a structure with lattice/matrix and sites with species, occu and abc, got {error!r}"
        ) from None
    return checked(Crystal(np.array(numbers, dtype=np.int64), fractional.reshape(-1, 3), cell))


def is_shared(occupancy: Any) -> bool:
    """True if a site of a crystal holds several elements or is not always occupied, as ASE reads it from a CIF.

    Args:
        occupancy: What ASE has in ``info["occupancy"]``: how much of each element, by site.

    Returns:
        True if there is such a site.

    Example:
        >>> is_shared({"0": {"Na": 1.0}}), is_shared({"0": {"Na": 0.5, "K": 0.5}})
        (False, True)
    """
    if not isinstance(occupancy, dict):
        return False
    sites = [site for site in occupancy.values() if isinstance(site, dict)]
    return any(len(site) > 1 or abs(sum(site.values()) - 1) > OCCUPANCY_TOLERANCE for site in sites)


def _determinant(m: NDArray) -> float:
    """Of a 3 x 3 matrix; numpy's own costs ten times as much for one so small."""
    (a, b, c), (d, e, f), (g, h, i) = m.tolist()
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def has_stress(stress: NDArray, cell: NDArray, pbc: NDArray) -> bool:
    """True if what a file has for a stress or virial can be one: a stress is per volume.

    Molecules and slabs often stand beside crystals with zeros in their place.

    Args:
        stress: The stress or virial, any shape.
        cell: Lattice vectors as rows [3, 3].
        pbc: Periodic axes [3].

    Returns:
        ``False`` without a periodic axis, where lattice vectors span no volume, and for zeros where an axis is open.

    Example:
        >>> slab = np.array([True, True, False])
        >>> has_stress(np.zeros(6), np.eye(3), slab), has_stress(np.ones(6), np.eye(3), slab)
        (False, True)
    """
    if not np.any(pbc) or not np.isfinite(cell).all() or (not np.all(pbc) and not np.any(stress)):
        return False
    return bool(abs(np.linalg.det(cell)) > SMALLEST_RELATIVE_VOLUME * np.linalg.norm(cell, axis=1).prod())
