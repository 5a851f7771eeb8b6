"""In which units the numbers of a file are, as far as physics tells."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyg_schnet.datasets.stiffness import Stiffness
from pyg_schnet.units import ENERGY, FORCE, HARTREE

#: Distances of nearest neighbours in sums of covalent radii, in Bohr and nanometres as if they were Angstrom.
_BOHR, _NANOMETRE = (1.65, 2.2), 0.3
#: Root mean square of the components of forces in eV/Angstrom that no ordinary set of structures exceeds.
LARGEST_FORCE = 15.0


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


class Evidence(NamedTuple):
    """What a file tells of the units of energies and forces.

    Attributes:
        ratio: Median of the energies over what all electrons of the atoms would have in eV; NaN where that is not known
            or too small to tell.
        force: Root mean square of the components of forces in the unit of the file, NaN without forces.
        length: Unit of lengths.
        periodic: True if there are crystals.
        slope: Change of energies over work of forces (in the units of the file, lengths in Angstrom) and the
            correlation of both, see :func:`~pyg_schnet.datasets.work.work_and_energy`.
        apart: Typical distance of nearest neighbours in sums of covalent radii.
        stiffness: How stiff bonds are, in the unit of the forces.
    """

    ratio: float = math.nan
    force: float = math.nan
    length: str = "Ang"
    periodic: bool = False
    slope: tuple[float, float] = (math.nan, 0.0)
    apart: float = math.nan
    stiffness: Stiffness | None = None

    @property
    def follows(self) -> bool:
        """True if energies follow the work of the forces, or of gradients, so that their units are tied."""
        return abs(self.slope[1]) > 0.85

    def against(self, energy: str, forces: str) -> float:
        """What speaks against a pair of units.

        Args:
            energy: Unit of energy.
            forces: Unit of forces.

        Returns:
            About a negative logarithm of a likelihood, 0 for nothing.
        """
        found, size = 0.0, math.log(max(self.force, 1e-9) * FORCE[forces]) if self.force > 0 else 0.0
        if math.isfinite(self.ratio):
            whole = self.ratio * ENERGY[energy]
            found += 8.0 * (whole > _ALL_ELECTRONS[1])
            named = any(_ALL_ELECTRONS[0] < self.ratio * factor < _ALL_ELECTRONS[1] for factor in ENERGY.values())
            found += 20.0 * (named and not _ALL_ELECTRONS[0] < whole < _ALL_ELECTRONS[1])
        if self.follows:
            off = math.log(abs(self.slope[0]) * ENERGY[energy] / FORCE[forces])
            found += min(0.5 * (off / _WORK_SPREAD) ** 2, _MOST_AGAINST)
        if self.stiffness is not None and self.stiffness.usual > 0:
            return found + min(0.5 * self.stiffness.off(FORCE[forces]) ** 2, _MOST_AGAINST)
        return found + 0.5 * (size / (1.0 if size > 0 else 2.5)) ** 2  # forces are small near minima


#: Energies between which, over those of all electrons, they are taken for them.
_ALL_ELECTRONS = (0.93, 1.1)
#: Spread of the natural logarithm of energy over work; units of one quantity differ by 0.64 at least.
_WORK_SPREAD = 0.12
#: What one check says against a unit, at most, so that one that no unit passes decides nothing.
_MOST_AGAINST = 10.0
#: How rarely programs write pairs of units, as negative logarithms: for positions in Angstrom, Bohr and nanometres.
_WRITTEN: dict[str, dict[tuple[str, str], float]] = {
    "Ang": {
        ("eV", "eV/Ang"): 0.0,
        ("kcal/mol", "kcal/mol/Ang"): 1.0,
        ("Ha", "Ha/Bohr"): 1.5,
        ("kJ/mol", "kJ/mol/Ang"): 2.0,
        ("meV", "meV/Ang"): 2.0,
        ("Ha", "Ha/Ang"): 2.5,
        ("eV", "Ha/Bohr"): 3.0,
        ("kcal/mol", "Ha/Bohr"): 3.5,
        ("Ha", "eV/Ang"): 3.5,
        ("Ha", "kcal/mol/Ang"): 4.0,
        ("kJ/mol", "kJ/mol/nm"): 4.0,
    },
    "Bohr": {("Ha", "Ha/Bohr"): 0.0, ("Ha", "eV/Ang"): 4.0, ("eV", "eV/Bohr"): 4.0, ("eV", "eV/Ang"): 4.0},
    "nm": {("kJ/mol", "kJ/mol/nm"): 0.0, ("kcal/mol", "kcal/mol/nm"): 3.0, ("eV", "eV/nm"): 3.0, ("eV", "eV/Ang"): 4.0},
}
#: The same of other pairs, and of what a crystal is not calculated in.
_RARE, _NOT_OF_CRYSTALS = 6.0, 2.0
#: What speaks against a second unit, beyond which the first is sure.
_CLEAR = 2.5


def guess_units(evidence: Evidence, energy: Guess | None = None, forces: Guess | None = None) -> tuple[Guess, Guess]:
    """The units of energies and of forces, both at once.

    Of all pairs of units, the one is taken that programs write and that nothing speaks against: energies of all
    electrons, the work of the forces between structures near each other, the stiffness of bonds and the size of forces.
    Forces are sure only where their work or the stiffness of bonds was checked.

    Args:
        evidence: What the file tells.
        energy: The unit of energies, if it is known.
        forces: The unit of forces, if it is known.

    Returns:
        A unit of :data:`~pyg_schnet.units.ENERGY` and one of :data:`~pyg_schnet.units.FORCE`.

    Example:
        >>> energy, forces = guess_units(Evidence(ratio=1 / 27.2114, force=0.02))
        >>> energy.unit, energy.sure, forces.unit, forces.sure
        ('Ha', True, 'Ha/Bohr', False)
    """
    written = _WRITTEN[evidence.length]
    pairs = {
        (one, other): evidence.against(one, other)
        + written.get((one, other), _RARE)
        + _NOT_OF_CRYSTALS * (evidence.periodic and "mol" in one)
        for one in ([energy.unit] if energy else ENERGY)
        for other in ([forces.unit] if forces else FORCE)
    }
    best = min(pairs, key=lambda pair: pairs[pair])
    clear = [
        min((cost for pair, cost in pairs.items() if pair[place] != best[place]), default=math.inf) - pairs[best]
        > _CLEAR
        for place in (0, 1)
    ]
    checked, why = _checked(evidence, *best, clear[0] or energy is not None)
    return (
        energy or _energy(evidence, best, clear[0], checked),
        forces or Guess(best[1], why, checked and clear[1]),
    )


def _checked(evidence: Evidence, energy: str, forces: str, known: bool) -> tuple[bool, str]:
    """Whether a check speaks for the unit of forces, which is that of energies if those are known, and which."""
    stiffness, reasons = evidence.stiffness, []
    if stiffness is not None and abs(stiffness.off(FORCE[forces])) < 2.5 and stiffness.usual > 0:
        value = abs(stiffness.value) * FORCE[forces]
        reasons.append(f"{stiffness.bond} bonds are as stiff as usual, {value:.0f} eV/Ang^2")
    if evidence.follows and abs(math.log(abs(evidence.slope[0]) * ENERGY[energy] / FORCE[forces])) < 3 * _WORK_SPREAD:
        reasons.append("energies follow their work")
    if not reasons:
        same = forces == f"{energy}/{evidence.length}"
        return False, f"{'energy per length' if same else f'as programs write them with {energy}'}; not checked"
    doubtful = stiffness is not None and "stiff" not in reasons[0] and stiffness.usual > 0
    sure = not doubtful and (len(reasons) > 1 or "stiff" in reasons[0] or known)
    return sure, "checked: " * (not doubtful) + " and ".join(reasons)


def _energy(evidence: Evidence, pair: tuple[str, str], clear: bool, checked: bool) -> Guess:
    """The unit of energies, and why."""
    unit, forces = pair
    whole = evidence.ratio * ENERGY[unit]
    if _ALL_ELECTRONS[0] < whole < _ALL_ELECTRONS[1]:
        return Guess(unit, f"they are {whole:.3f} times what all electrons of the atoms have", True)
    if evidence.follows and checked:
        return Guess(unit, f"they follow the work of forces in {forces}", clear)
    why = "assumed; numbers alone do not tell"
    if evidence.force > 0 and checked:
        why, clear = f"assumed; forces are in {forces}", False
    elif evidence.force > 0:
        of = f"components of forces are {evidence.force:.3g} (root mean square), as usual in {forces}"
        why = of if clear else f"assumed; {of}"
    elif evidence.length == "Bohr":
        why = "assumed; lengths are in Bohr"
    elif evidence.ratio > _ALL_ELECTRONS[1]:
        why = "assumed; they are deeper than those of all electrons in eV"
    return Guess(unit, why, clear and not why.startswith("assumed"))
