"""In which units the numbers of a file are, as far as physics tells."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyg_schnet.units import ENERGY, FORCE, HARTREE

#: Distances of nearest neighbours in sums of covalent radii, in Bohr and nanometres as if they were Angstrom.
_BOHR, _NANOMETRE = (1.65, 2.2), 0.3
#: Root mean square of the components of forces in eV/Angstrom that no ordinary set of structures exceeds.
LARGEST_FORCE = 15.0
#: Root mean square of stresses in eV/Angstrom^3 that none exceeds, and in GPa.
_LARGEST_STRESS, _LARGEST_PRESSURE = 0.4, 60.0


class Guess(NamedTuple):
    """A unit and why it is taken.

    Attributes:
        unit: The unit.
        why: What speaks for it.
        sure: True if the numbers allow no other one.
    """

    unit: str
    why: str
    sure: bool


def all_electron_energy(numbers: NDArray) -> float:
    r"""About the total energy of free atoms with all their electrons in eV.

    .. math:: E = -\sum_i \big( 0.768745\, Z_i^{7/3} - \tfrac{1}{2} Z_i^2 + 0.269900\, Z_i^{5/3} \big) E_h

    Thomas and Fermi's energy with the corrections of Scott and of Schwinger, Phys. Rev. A 24, 2353 (1981); to 1 % from
    carbon on, without relativity.

    Args:
        numbers: Atomic numbers [n].

    Returns:
        The energy.

    Example:
        >>> round(all_electron_energy(np.array([6])) / 27.2114, 1)  # Hartree and Fock: -37.7
        -37.6
    """
    z = np.asarray(numbers, dtype=np.float64)
    return -HARTREE * float((0.768745 * z ** (7 / 3) - z**2 / 2 + 0.2699 * z ** (5 / 3)).sum())


def guess_length_unit(ratio: float, only_noble: bool = False) -> Guess:
    """The unit of lengths.

    Args:
        ratio: Typical distance of nearest neighbours in sums of their covalent radii, as if positions were in Angstrom.
        only_noble: True if all elements are noble gases, which have no bonds.

    Returns:
        ``"Ang"``, ``"Bohr"`` or ``"nm"``.

    Example:
        >>> guess_length_unit(1.9).unit, guess_length_unit(1.02).unit
        ('Bohr', 'Ang')
    """
    if not math.isfinite(ratio):
        return Guess("Ang", "assumed; no structure has two atoms", False)
    why = f"nearest neighbours are {ratio:.2f} times the sum of their covalent radii apart"
    if ratio < _NANOMETRE:
        return Guess("nm", why, True)
    if _BOHR[0] < ratio < _BOHR[1] and not only_noble:
        return Guess("Bohr", f"{why}, {ratio / 1.8897:.2f} times if they are in Bohr", True)
    return Guess("Ang", why, 0.6 < ratio < 1.5)


def guess_energy_unit(energies: NDArray, electrons: NDArray, force: float, length: str = "Ang") -> Guess:
    """The unit of energies.

    Args:
        energies: Energies of structures [M], as they are in the file.
        electrons: What they would be with all electrons, in eV [M], see :func:`all_electron_energy`.
        force: Root mean square of the components of forces in the unit of the file, NaN without forces.
        length: Unit of lengths.

    Returns:
        One of :data:`~pyg_schnet.units.ENERGY`.

    Example:
        >>> atom = np.array([-1030.6])
        >>> guess_energy_unit(atom, atom, math.nan).unit, guess_energy_unit(atom / 27.2114, atom, math.nan).unit
        ('eV', 'Ha')
    """
    known = np.isfinite(energies)
    if known.any():
        ratio = float(np.median(energies[known] / electrons[known]))
        for unit, factor in ENERGY.items():
            if 0.93 < ratio * factor < 1.1 and np.median(electrons[known]) < -100:
                return Guess(unit, f"they are {ratio * factor:.3f} times what all electrons of the atoms have", True)
    if math.isfinite(force) and force > 0:
        of = f"components of forces are {force:.3g} (root mean square), "
        if force > LARGEST_FORCE:
            return Guess("kcal/mol", f"{of}too large for eV/{length}", False)
        if force > 0.1:
            return Guess("eV", f"{of}as usual in eV/{length}", force > 0.3)
        return Guess("eV", f"assumed; {of}those of eV/{length} and of Ha/Bohr near a minimum look alike", False)
    if known.any() and float(np.median(energies[known] / electrons[known])) > 1.5:
        return Guess("kcal/mol", "assumed; they are deeper than those of all electrons in eV", False)
    return Guess("eV", "assumed; numbers alone do not tell", False)


def guess_stress_unit(size: float) -> Guess:
    """The unit of stresses.

    Args:
        size: Root mean square of the components in the unit of the file.

    Returns:
        ``"eV/Ang^3"``, ``"GPa"`` or ``"kbar"``.

    Example:
        >>> guess_stress_unit(0.02).unit, guess_stress_unit(5.0).unit
        ('eV/Ang^3', 'GPa')
    """
    why = f"components are {size:.3g} (root mean square); the sign is taken for ASE's"
    if size < _LARGEST_STRESS:
        return Guess("eV/Ang^3", why, size > 1e-4)
    return Guess("GPa" if size < _LARGEST_PRESSURE else "kbar", why, False)


def work_and_energy(frames: Any) -> tuple[float, float]:
    r"""How well energies follow the work of the forces along a trajectory.

    From one frame to the next :math:`\Delta E \approx -\tfrac{1}{2} \sum_i (F_i + F_i') \cdot (x_i' - x_i)`. The slope
    of the one against the other is 1 in units that belong together.

    Args:
        frames: Pairs of frames (energy, positions [n, 3], forces [n, 3]) of the same atoms.

    Returns:
        Slope, and correlation of the two.
    """
    steps, works = [], []
    for (energy, pos, forces), (energy_2, pos_2, forces_2) in frames:
        steps.append(energy_2 - energy)
        works.append(-0.5 * float(((forces + forces_2) * (pos_2 - pos)).sum()))
    if len(steps) < 10:
        return math.nan, 0.0
    step, work = np.array(steps), np.array(works)
    if not (np.isfinite(step) & np.isfinite(work)).all() or step.std() == 0 or work.std() == 0:
        return math.nan, 0.0
    correlation = float(np.corrcoef(step, work)[0, 1])
    return float(step.std() / work.std() * np.sign(correlation)), correlation


def forces_unit_of(slope: float, correlation: float, unit: str) -> Guess | None:
    """Another unit of forces, if energies do not follow the work of the forces in the one that was taken.

    Args:
        slope: Change of energy over work, see :func:`work_and_energy`.
        correlation: Correlation of the two.
        unit: The unit of forces that the work was computed with.

    Returns:
        The unit in which they do; ``None`` if there is none, or the one that was taken is right.

    Example:
        >>> forces_unit_of(1.89, 0.97, "Ha/Ang").unit
        'Ha/Bohr'
        >>> forces_unit_of(1.01, 0.97, "Ha/Ang")
    """
    if not correlation > 0.85 or 0.75 < slope < 1.35:
        return None
    off = {other: abs(math.log(slope * FORCE[unit] / factor)) for other, factor in FORCE.items()}
    best = min(off, key=lambda other: off[other])
    why = f"so that energies follow the work of the forces from frame to frame (correlation {correlation:.2f})"
    return Guess(best, why, True) if off[best] < 0.15 else None
