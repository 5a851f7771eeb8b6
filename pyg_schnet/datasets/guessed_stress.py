"""In which unit and with which sign the stresses of a file are, as far as volumes and energies tell."""

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyg_schnet.datasets.guessed_units import Guess
from pyg_schnet.datasets.strained import Strained
from pyg_schnet.units import STRESS

#: Root mean square of stresses in eV/Angstrom^3 that no ordinary set of structures exceeds, and in GPa.
_LARGEST_STRESS, _LARGEST_PRESSURE = 0.4, 60.0
#: Crystals of one composition that are compared with each other, at most, and pairs of crystals, the most alike.
_COMPARED, _PAIRS = 40, 100
#: Least and largest strain between two crystals that are compared.
_STRAIN = (1e-3, 0.12)
#: Crystals, and correlation, from which volumes tell a sign; correlation from which energies tell sign and unit.
_FEWEST, _TELLS, _FOLLOW = 10, 0.7, 0.85
#: Natural logarithm by which work may differ from energies; units differ by 2.3 at least.
_OFF = 0.8


def guess_stress_unit(size: float) -> Guess:
    """The unit of stresses, from their size alone.

    Args:
        size: Root mean square of the components in the unit of the file.

    Returns:
        ``"eV/Ang^3"``, ``"GPa"`` or ``"kbar"``.

    Example:
        >>> guess_stress_unit(0.02).unit, guess_stress_unit(5.0).unit
        ('eV/Ang^3', 'GPa')
    """
    why = f"components are {size:.3g} (root mean square)"
    if size < _LARGEST_STRESS:
        return Guess("eV/Ang^3", why, size > 1e-4)
    return Guess("GPa" if size < _LARGEST_PRESSURE else "kbar", why, False)


def work_of_stress(crystals: Sequence[Strained]) -> float:
    r"""The unit of stresses by which energies follow their work, negative for stresses of the other sign.

    Between two crystals of the same atoms :math:`\Delta E \approx V \sigma : \epsilon - F \cdot \Delta x` with the mean
    of both for :math:`V \sigma` and :math:`F`, the strain :math:`\epsilon` from one cell to the other and the
    displacement :math:`\Delta x` beside it.

    Args:
        crystals: The crystals.

    Returns:
        The unit in eV/Angstrom^3; NaN if energies do not tell.
    """
    found = []
    for group in _groups(crystals):
        for one, other in combinations(group[:: -(-len(group) // _COMPARED)], 2):
            if math.isfinite(one.energy + other.energy) and (both := _work(one, other)) is not None:
                found.append(both)
    nearest = np.array([rest for _, rest in sorted(found)[:_PAIRS]])
    if len(nearest) < _FEWEST or not nearest[:, 1].std() > 0:
        return math.nan
    energies, works = nearest[:, 0], nearest[:, 1:]
    by_forces = works[:, 1].std() > 0.01 * energies.std()
    if not by_forces:  # atoms stay where symmetry has them
        works = works[:, :1]
    factors = np.linalg.lstsq(works, energies, rcond=None)[0]
    follow = float(np.corrcoef(energies, works @ factors)[0, 1]) > _FOLLOW
    large = abs(factors[0]) * works[:, 0].std() > 0.3 * energies.std()
    fit = not by_forces or 0.5 < factors[1] < 1.6
    return float(factors[0]) if follow and large and fit else math.nan


def sign_by_volume(crystals: Sequence[Strained]) -> int:
    """The sign of stresses: in ASE's, they grow with the volume.

    Args:
        crystals: The crystals.

    Returns:
        1 for ASE's, -1 for the other, 0 if volumes do not tell.
    """
    volumes, stresses = list[NDArray](), list[NDArray]()
    for group in _groups(crystals):
        volume = np.log([one.volume for one in group])
        stress = np.array([np.trace(one.stress) for one in group])
        volumes.append(volume - volume.mean())
        stresses.append(stress - stress.mean())
    if sum(map(len, volumes)) < _FEWEST:
        return 0
    volume, stress = np.concatenate(volumes), np.concatenate(stresses)
    if volume.std() < _STRAIN[0] or stress.std() == 0:
        return 0
    correlation = float(np.corrcoef(volume, stress)[0, 1])
    return int(np.sign(correlation)) if abs(correlation) > _TELLS else 0


def named(factor: float) -> str | None:
    """The unit of stress of a size.

    Args:
        factor: It in eV/Angstrom^3.

    Returns:
        Its name; ``None`` if there is none about as large.

    Example:
        >>> named(-0.005), named(0.03)
        ('GPa', None)
    """
    if not abs(factor) > 0:
        return None
    best = min(STRESS, key=lambda unit: abs(math.log(abs(factor) / STRESS[unit])))
    return best if abs(math.log(abs(factor) / STRESS[best])) < _OFF else None


def guess_stress(size: float, crystals: Sequence[Strained], by_virial: float) -> tuple[Guess, int]:
    """The unit and the sign of stresses.

    Args:
        size: Root mean square of the components in the unit of the file.
        crystals: Crystals with their stresses.
        by_virial: The unit in eV/Angstrom^3 that virials beside the stresses ask for, negative for the other sign; NaN
            without them.

    Returns:
        The unit, which is sure where energies or virials tell it; 1 for ASE's sign, -1 for the other.
    """
    by_energy, by_volume = work_of_stress(crystals), sign_by_volume(crystals)
    for factor, why in (
        (by_virial, "checked: virials beside them tell the unit and the sign"),
        (by_energy, "checked: energies tell the unit and the sign"),
    ):
        if (unit := named(factor)) is not None and by_volume * factor >= 0:
            sign = 1 if factor > 0 else -1
            return Guess(unit, f"{why}{_SIGNS[sign]}", True), sign
    guess = guess_stress_unit(size)
    told = "the sign is taken for ASE's" if not by_volume else f"checked: volumes tell the sign{_SIGNS[by_volume]}"
    return guess._replace(why=f"{guess.why}; {told}"), by_volume or 1


#: What is said of the sign.
_SIGNS = {1: "", -1: "; it is not ASE's and is turned"}


def _groups(crystals: Sequence[Strained]) -> list[list[Strained]]:
    """Crystals of the same atoms, at least two of each."""
    groups: dict[Any, list[Strained]] = defaultdict(list)
    for one in crystals:
        groups[one.numbers.tobytes()].append(one)
    return [group for group in groups.values() if len(group) > 1]


def _work(one: Strained, other: Strained) -> tuple[float, tuple[float, float, float]] | None:
    """How unlike two crystals are, their difference of energy, and the works of stress and of forces."""
    change = np.linalg.solve(one.cell, other.cell) - np.eye(3)
    strain = 0.5 * (change + change.T)
    size = float(np.linalg.norm(strain))
    if not _STRAIN[0] < size < _STRAIN[1]:
        return None
    moved = np.linalg.solve(other.cell.T, other.pos.T).T - np.linalg.solve(one.cell.T, one.pos.T).T
    moved -= np.rint(moved)
    moved -= moved.mean(axis=0)
    work = 0.5 * float(((one.volume * one.stress + other.volume * other.stress) * strain).sum())
    pushed = -0.5 * float((one.forces * (moved @ one.cell) + other.forces * (moved @ other.cell)).sum())
    if not math.isfinite(work + pushed):
        return None
    apart = float(np.sqrt(((moved @ one.cell) ** 2).sum(axis=1).mean()))
    return apart + 3 * size, (other.energy - one.energy, work, pushed)
