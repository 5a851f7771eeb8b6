"""Constants and unit conversions, in one place.

Inside the package energies are in eV and lengths in Angstrom; units change only where data enter or leave
(``datasets``, ``simulation``, ``analysis``). The values are those of CODATA 2014, the set behind ``ase.units``, so that
numbers agree with ASE to the last digit.

A unit is a string such as ``"kcal/mol/Ang"``; :func:`conversion` turns a pair of them into a factor:

    >>> round(conversion("kcal/mol", "eV"), 6)
    0.043364
    >>> conversion("eV/Ang", "eV/Ang")
    1.0
"""

import math
from collections.abc import Mapping

#: Hartree energy in eV (CODATA 2014).
HARTREE: float = 27.211386024367243
#: Bohr radius in Angstrom (CODATA 2014).
BOHR: float = 0.5291772105638411
#: One Debye in e Angstrom (c exactly; e of CODATA 2014).
DEBYE: float = 1e-11 / 299792458 / 1.6021766208e-19
#: One eV in J, that is the elementary charge in C (CODATA 2014).
ELECTRONVOLT: float = 1.6021766208e-19
#: Atomic mass unit in kg (CODATA 2014).
DALTON: float = 1.660539040e-27
#: One cm^-1 in eV, Planck's constant times the speed of light (CODATA 2014; c exactly).
WAVENUMBER: float = 6.626070040e-34 * 299792458 * 100 / ELECTRONVOLT
#: Boltzmann's constant in eV/K (CODATA 2014).
BOLTZMANN: float = 1.38064852e-23 / ELECTRONVOLT
#: Energy quantum in eV of a unit mass on a spring of 1 eV/Angstrom^2: hbar times the root of 1 eV/Angstrom^2/u.
SPRING_QUANTUM: float = 6.626070040e-34 / (2 * math.pi) * 1e10 / (ELECTRONVOLT * DALTON) ** 0.5
#: One kcal/mol in eV (1 kcal = 4184 J exactly; e and N_A of CODATA 2014).
KCAL_PER_MOL: float = 0.04336410390059322
#: One kJ/mol in eV.
KJ_PER_MOL: float = KCAL_PER_MOL / 4.184
#: Acceleration of one u by one eV/Angstrom, in Angstrom/fs^2 (CODATA 2014).
ACCELERATION: float = ELECTRONVOLT / DALTON * 1e-10

#: Energy units in eV.
ENERGY: dict[str, float] = {
    "eV": 1.0,
    "meV": 1e-3,
    "Ha": HARTREE,
    "kcal/mol": KCAL_PER_MOL,
    "kJ/mol": KJ_PER_MOL,
}
#: Length units in Angstrom.
LENGTH: dict[str, float] = {"Ang": 1.0, "Bohr": BOHR, "nm": 10.0}
#: Force units in eV/Angstrom, all quotients of the above.
FORCE: dict[str, float] = {f"{energy}/{x}": ENERGY[energy] / LENGTH[x] for energy in ENERGY for x in LENGTH}
#: Stress units in eV/Angstrom^3; one eV is 1.6021766208e-19 J (CODATA 2014).
STRESS: dict[str, float] = {"eV/Ang^3": 1.0, "GPa": 1 / 160.21766208, "kbar": 1 / 1602.1766208}

_TABLE = """
X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y
Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os
Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn
Nh Fl Mc Lv Ts Og
"""
#: Symbols of the elements by atomic number, ``"X"`` for 0.
SYMBOLS: tuple[str, ...] = tuple(_TABLE.split())

#: What a model may know the units of beside its targets.
_NO_TARGETS = ("pos", "cell", "forces", "stress")


def target_unit(units: Mapping[str, str], target: int = 0, count: int = 1) -> str:
    """Unit of a target of a model.

    Args:
        units: What the model knows, ``model.units``: units by the names of its targets, in their order, and of others.
        target: Number of the target.
        count: Number of targets of the model.

    Returns:
        The unit, empty if it is not known.

    Example:
        >>> target_unit({"pos": "Ang", "U0": "Ha"}), target_unit({"mu": "D", "gap": "eV"}, 1, 2), target_unit({})
        ('Ha', 'eV', '')
    """
    names = [name for name in units if name not in _NO_TARGETS]
    if count == 1 and "energy" in names:
        return units["energy"]
    return units[names[target]] if len(names) == count else ""


def conversion(source: str, target: str) -> float:
    """Factor that turns a number in units of ``source`` into units of ``target``.

    Args:
        source: The unit the number is in, for example ``"kcal/mol"`` or ``"Ha/Bohr"``.
        target: The unit wanted.

    Returns:
        The factor to multiply with.

    Raises:
        ValueError: If a unit is not known, or the two measure different things.

    Example:
        >>> round(conversion("Ha", "eV"), 4)
        27.2114
    """
    for kind in (ENERGY, LENGTH, FORCE):
        if source in kind and target in kind:
            return kind[source] / kind[target]
    known = ENERGY | LENGTH | FORCE
    for unit in (source, target):
        if unit not in known:
            raise ValueError(f"unknown unit {unit!r}; expected one of {', '.join(sorted(known))}")
    raise ValueError(f"cannot convert {source!r} to {target!r}: expected two units of energy, of length or of force")
