"""How stiff the bonds of a file are: what tells the unit and the sign of forces, in any order of the structures."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyg_schnet.units import SYMBOLS

#: Structures that are looked at, and atoms of each.
_STRUCTURES, _ATOMS = 300, 200
#: Lengths of bonds in sums of covalent radii.
_BOND = (0.6, 1.25)
#: Lengths of one bond that have a mean of their own, and lengths of a kind of bond that tell anything.
_OF_ONE, _FEWEST = 5, 20
#: Correlation of force and length, without its sign, from which stiffness tells the unit and the sign.
_TELLS_UNIT, _TELLS_SIGN = 0.7, 0.6


class Stiffness(NamedTuple):
    """How strongly bonds of one kind resist being stretched.

    Attributes:
        bond: The elements, such as ``"C-H"``.
        value: Force over change of length, in the unit of the forces per Angstrom; negative for gradients.
        usual: What it is in molecules, in eV/Angstrom^2; NaN where that differs too much to tell a unit.
        spread: Standard deviation of the natural logarithm of ``usual`` from molecule to molecule.
    """

    bond: str
    value: float
    usual: float
    spread: float

    def off(self, factor: float) -> float:
        """How far this is from the usual.

        Args:
            factor: Unit of the forces in eV/Angstrom.

        Returns:
            Natural logarithm of the quotient in standard deviations; 0 where nothing is usual.
        """
        return math.log(abs(self.value) * factor / self.usual) / self.spread if self.usual > 0 else 0.0


def stiffness(structures: Iterable[tuple[NDArray, NDArray, NDArray]]) -> Stiffness | None:
    r"""How stiff bonds are: the slope of the force along them over their length.

    A bond of length :math:`d` pulls its atoms together with :math:`-\tfrac{1}{2} (F_i - F_j) \cdot (x_i - x_j) / d`,
    which grows with :math:`d` around the mean of each bond. In molecules that vibrate the slope is 27 to 35
    eV/Angstrom^2 for bonds of carbon to hydrogen by any method. Bonds are those within the positions as they stand:
    none reaches into an image.

    Args:
        structures: Atomic numbers [n], positions [n, 3] in Angstrom and forces [n, 3] of each.

    Returns:
        Of the kind of bond that tells most; ``None`` if none tells anything.

    Example:
        >>> lengths = np.linspace(1.0, 1.2, 30)[:, None, None]
        >>> pos, along = lengths * np.array([[0.0, 0, 0], [0, 0, 1]]), np.array([[0.0, 0, 1], [0, 0, -1]])
        >>> found = stiffness((np.array([6, 1]), x, 30 * (x[1, 2] - 1.1) * along) for x in pos)
        >>> found.bond, round(found.value, 6), round(found.off(27.2), 1)
        ('C-H', 30.0, 25.4)
    """
    found = []
    for bond, groups in _bonds(list(structures)).items():
        lengths, forces, own = _around_means(groups)
        if len(lengths) < _FEWEST or lengths.std() == 0 or forces.std() == 0:
            continue
        correlation = -float(np.corrcoef(lengths, forces)[0, 1])
        usual, spread = _usual(*bond)
        tells = math.isfinite(usual) and abs(correlation) > _TELLS_UNIT
        if tells or (own and abs(correlation) > _TELLS_SIGN):
            value = -float((lengths * forces).mean() / lengths.var())
            name = "-".join(sorted(SYMBOLS[number] for number in bond))
            one = Stiffness(name, value, usual if tells else math.nan, spread if tells else math.inf)
            found.append((one.spread, -len(lengths), one))
    return min(found)[2] if found else None


def _bonds(
    structures: Sequence[tuple[NDArray, NDArray, NDArray]],
) -> dict[tuple[int, int], dict[tuple, list[tuple[float, float]]]]:
    """Length and force along it, by elements and by bond; a bond is named by all atoms of its structure and its own."""
    from ase.data import covalent_radii  # noqa: PLC0415  an extra

    found: dict[tuple[int, int], dict[tuple, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for numbers, pos, forces in structures[:: max(1, len(structures) // _STRUCTURES)]:
        i, j = np.triu_indices(min(len(numbers), _ATOMS), 1)
        vector = pos[i] - pos[j]
        length = np.linalg.norm(vector, axis=1)
        ratio = length / (covalent_radii[numbers[i]] + covalent_radii[numbers[j]])
        bonded = (ratio > _BOND[0]) & (ratio < _BOND[1])
        i, j, vector, length = i[bonded], j[bonded], vector[bonded], length[bonded]
        along = 0.5 * ((forces[i] - forces[j]) * vector).sum(axis=1) / length
        here, there, whole = numbers[i], numbers[j], numbers.tobytes()
        elements = zip(np.minimum(here, there).tolist(), np.maximum(here, there).tolist(), strict=True)
        values = zip(elements, i.tolist(), j.tolist(), length.tolist(), along.tolist(), strict=True)
        for pair, one, other, distance, force in values:
            if math.isfinite(force):
                found[pair][whole, one, other].append((distance, force))
    return found


def _around_means(groups: dict[tuple, list[tuple[float, float]]]) -> tuple[NDArray, NDArray, bool]:
    """Lengths and forces around the means of each bond, or around one mean where bonds are too rarely the same."""
    several = [np.array(values) for values in groups.values() if len(values) >= _OF_ONE]
    own = sum(map(len, several)) >= _FEWEST
    if not own:
        several = [np.concatenate([np.array(values) for values in groups.values()])]
    both = np.concatenate([values - values.mean(axis=0) for values in several])
    return both[:, 0], both[:, 1], own


def _usual(one: int, other: int) -> tuple[float, float]:
    """Stiffness in eV/Angstrom^2, and how the natural logarithm of it spreads.

    MD17's and the bundled molecules have 28 to 32 for C-H, 34 to 46 for O-H and 19 to 75 between carbon and oxygen
    (weakest in C20, strongest in C=O); fullerenes have 35.
    """
    if (one, other) == (1, 6):
        return 30.0, 0.13
    if one == 1 and other in {7, 8}:
        return 41.0, 0.25
    if 5 <= one <= 9 and 5 <= other <= 9:
        return 33.0, 0.5
    return (22.0, 0.6) if other <= 17 and not {one, other} & {2, 3, 4, 10, 11, 12, 13} else (math.nan, math.inf)
