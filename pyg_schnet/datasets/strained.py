"""Crystals of a user's files with their stresses, in the unit of the file, and virials beside them."""

import math
from typing import NamedTuple, TypeGuard

import numpy as np
from numpy.typing import NDArray

from pyg_schnet.datasets.gathered import Gathered
from pyg_schnet.units import ENERGY, FORCE, LENGTH


class Strained(NamedTuple):
    """A crystal and what is known of it, in eV and Angstrom but for the stress.

    Attributes:
        numbers: Atomic numbers [n].
        pos: Positions [n, 3].
        cell: Lattice vectors as rows [3, 3].
        energy: Its energy, NaN if that is not known.
        forces: Its forces [n, 3], not finite if they are not known.
        stress: Its stress [3, 3] in the unit of the file.
    """

    numbers: NDArray
    pos: NDArray
    cell: NDArray
    energy: float
    forces: NDArray
    stress: NDArray

    @property
    def volume(self) -> float:
        """The volume of the cell."""
        return abs(float(np.linalg.det(self.cell)))


def matrix(numbers: NDArray) -> NDArray:
    """A stress [3, 3] from 9 numbers, or 6 in Voigt's order.

    Args:
        numbers: The numbers, in any shape.

    Returns:
        The matrix.
    """
    flat = np.asarray(numbers, dtype=np.float64).reshape(-1)
    return flat[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3) if flat.size == 6 else flat.reshape(3, 3)


def stressed_crystals(
    gathered: Gathered, keys: dict[str, str], units: dict[str, str], energies: NDArray, sign: int
) -> list[Strained]:
    """Crystals whose stress, or the virial in its place, is known and not zero.

    Args:
        gathered: The structures.
        keys: Names of the labels, ``stress`` or ``virial`` among them.
        units: Units of ``energy``, ``length`` and ``forces``.
        energies: Energies in eV [M].
        sign: -1 if there are gradients in place of forces.

    Returns:
        The crystals.
    """
    size, factor = LENGTH[units["length"]], sign * FORCE[units["forces"]]
    forces = gathered.arrays(keys["forces"]) if "forces" in keys else [None] * len(gathered.all)
    found = []
    arrays = gathered.arrays(keys.get("stress", keys.get("virial", "")))
    for one, stress, rows, energy in zip(gathered.all, arrays, forces, energies.tolist(), strict=True):
        volume = abs(float(np.linalg.det(one.cell * size)))
        if not (_known(stress) and one.pbc.all() and volume > 0):
            continue
        row = np.full(one.pos.shape, np.nan) if rows is None else rows * factor
        tensor = matrix(stress) if "stress" in keys else -ENERGY[units["energy"]] / volume * matrix(stress)
        found.append(Strained(one.numbers, one.pos * size, one.cell * size, energy, row, tensor))
    return found


def unit_by_virial(gathered: Gathered, stress: str, virial: str, units: dict[str, str]) -> float:
    """The unit of stresses by the virials that stand beside them.

    Args:
        gathered: The structures.
        stress: Name of the stress.
        virial: Name of the virial.
        units: Units of ``energy`` and ``length``.

    Returns:
        The unit in eV/Angstrom^3, negative for stresses of the other sign; NaN if they do not belong together.
    """
    pairs = []
    for one, first, second in zip(gathered.all, gathered.arrays(stress), gathered.arrays(virial), strict=True):
        volume = abs(float(np.linalg.det(one.cell * LENGTH[units["length"]])))
        if _known(first) and _known(second) and volume > 0:
            pairs.append((matrix(first), -ENERGY[units["energy"]] / volume * matrix(second)))
    if not pairs:
        return math.nan
    said, expected = np.array(pairs).transpose(1, 0, 2, 3).reshape(2, -1)
    unit = float(said @ expected) / float(said @ said)
    return unit if np.linalg.norm(expected - unit * said) < 0.05 * np.linalg.norm(expected) else math.nan


def _known(numbers: NDArray | None) -> TypeGuard[NDArray]:
    return numbers is not None and numbers.size in {6, 9} and bool(np.isfinite(numbers).all()) and bool(numbers.any())
