"""Units of energies and forces that files say in words: in the name of a field, or in a field of their own."""

import re
from collections.abc import Iterable
from typing import Any

from pyg_schnet.datasets.npz_structures import SPELLINGS
from pyg_schnet.units import ENERGY, FORCE, LENGTH

#: Energies and lengths by the words that names of fields have for them.
_ENERGIES = {"kcal": "kcal/mol", "kcalmol": "kcal/mol", "kj": "kJ/mol", "kjmol": "kJ/mol", "mev": "meV", "ev": "eV"}
_ENERGIES |= dict.fromkeys(("ha", "hartree", "hartrees", "au"), "Ha")
_LENGTHS = {"a": "Ang", "ang": "Ang", "angstrom": "Ang", "bohr": "Bohr", "au": "Bohr", "nm": "nm"}
#: Names of fields that hold a unit.
_FIELDS = {
    "energy": re.compile(r"(energy|e)_?units?|units?(_?of)?_?energy", re.IGNORECASE),
    "forces": re.compile(r"(forces?|f)_?units?|units?(_?of)?_?forces?", re.IGNORECASE),
}


def unit_in_name(name: str, quantity: str) -> str | None:
    """The unit that the name of a field ends in.

    Args:
        name: The name.
        quantity: ``"energy"`` or ``"forces"``.

    Returns:
        The unit; ``None`` if there is none, or of forces no length.

    Example:
        >>> unit_in_name("energy_kcal_mol", "energy"), unit_in_name("forces_Ha_Bohr", "forces")
        ('kcal/mol', 'Ha/Bohr')
        >>> unit_in_name("REF_energy", "energy")
    """
    words = re.split(r"[^a-z0-9]+", name.lower())[1:]
    energy = next((_ENERGIES[word] for word in words if word in _ENERGIES), None)
    if energy is None or quantity == "energy":
        return energy
    behind = [word for word in words if word not in _ENERGIES or words == ["au"]]
    length = next((_LENGTHS[word] for word in behind if word in _LENGTHS), None)
    return None if length is None else f"{energy}/{length}"


def unit_in_fields(every: Iterable[dict[str, Any]], quantity: str) -> str | None:
    """The unit that structures say in a field, such as ``energy_unit="kcal/mol"``.

    Args:
        every: Fields of each structure.
        quantity: ``"energy"`` or ``"forces"``.

    Returns:
        The unit; ``None`` if nothing is said, or nothing that is known.

    Raises:
        ValueError: If structures say different units.

    Example:
        >>> unit_in_fields([{"energy_units": "Hartree"}], "energy")
        'Ha'
    """
    pattern, known = _FIELDS[quantity], set[str | None]()
    for fields in every:
        said = [value for name, value in fields.items() if isinstance(value, str) and pattern.fullmatch(name)]
        known |= {spelt(value, quantity) for value in said}
    if len(known) > 1:
        names = " and ".join(sorted(one or "one that is not known" for one in known))
        raise ValueError(f"structures say that their {quantity} are in different units, {names}; convert them to one")
    return next(iter(known), None)


def spelt(value: str, quantity: str) -> str | None:
    """A unit as this package spells it.

    Args:
        value: The unit in other words.
        quantity: ``"energy"``, ``"forces"`` or ``"length"``.

    Returns:
        The unit; ``None`` if it is not known.

    Example:
        >>> spelt("Hartree", "energy"), spelt("kcal/mol/A", "forces"), spelt("angstrom", "length")
        ('Ha', 'kcal/mol/Ang', 'Ang')
    """
    text = value.strip().lower().replace(" ", "")
    if quantity != "forces":
        unit = SPELLINGS.get(text)
        return unit if unit in (ENERGY if quantity == "energy" else LENGTH) else None
    energy, _, length = text.rpartition("/")
    energy, length = SPELLINGS.get(energy, ""), SPELLINGS.get(length, "Ang" if length == "a" else "")
    return f"{energy}/{length}" if length in LENGTH and f"{energy}/{length}" in FORCE else None
