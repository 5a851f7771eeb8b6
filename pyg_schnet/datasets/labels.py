"""Which fields of a user's files are energies, forces and stresses, whatever they are called."""

import re
from collections.abc import Mapping
from typing import NamedTuple

#: Words beside "energy" and the like that change nothing.
_MEANINGLESS = {"dft", "ref", "qm", "pbe", "xtb", "total", "tot", "scf", "pot", "potential", "true", "label", "labels"}
_MEANINGLESS |= {
    "target",
    "reference",
    "ml",
    "mace",
    "vasp",
    "qe",
    "orca",
    "r2scan",
    "scan",
    "cell",
    "per",
    "of",
    "the",
}
#: Words of units, which may stand behind the name; a single "a" is one only beside them.
_UNITS = {"ev", "mev", "kcal", "kcalmol", "kj", "kjmol", "mol", "ha", "hartree", "hartrees", "au", "ang", "angstrom"}
_UNITS |= {"bohr", "nm"}
_WORDS = {
    "energy": {"energy", "energies", "e", "etot", "toten", "epot"},
    "forces": {"forces", "force", "f"},
    "stress": {"stress", "stresses"},
    "virial": {"virial", "virials"},
}
_SHAPES = {"energy": ("number",), "forces": ("vectors",), "stress": ("matrix",), "virial": ("matrix",)}


class FoundLabels(NamedTuple):
    """Names of the labels of a file.

    Attributes:
        keys: Names in the file by ``energy``, ``forces``, ``stress`` and ``virial``, as far as they are there.
        others: Further names that could have been meant, likewise.
        gradients: Fields that look like gradients of the energy, the negative of forces.
    """

    keys: dict[str, str]
    others: dict[str, list[str]]
    gradients: list[str]


def find_labels(shapes: Mapping[str, str]) -> FoundLabels:
    """Find the labels among the fields of a file.

    Capitals, underscores, units and words such as ``dft`` or ``ref`` do not matter: ``Energy``, ``REF_energy``,
    ``energy_kcal_mol`` and ``dft_total_energy`` are energies. ``free_energy``, which ASE's calculators write beside
    ``energy``, is taken if there is nothing else.

    Args:
        shapes: Shape of each field: ``"number"``, ``"vectors"`` (one for each atom), ``"matrix"`` (6 or 9 numbers) or
            any other word.

    Returns:
        Their names.

    Example:
        >>> find_labels({"REF_energy": "number", "Force": "vectors", "gap": "number"}).keys
        {'energy': 'REF_energy', 'forces': 'Force'}
    """
    keys, others = {}, {}
    for label, words in _WORDS.items():
        ranked = sorted(
            (rank, name)
            for name, shape in shapes.items()
            if shape in _SHAPES[label] and (rank := _rank(name, label, words)) is not None
        )
        if ranked:
            keys[label] = ranked[0][1]
            if len(ranked) > 1:
                others[label] = [name for _, name in ranked[1:]]
    gradients = [name for name, shape in shapes.items() if shape == "vectors" and re.search("grad|^g$", name.lower())]
    return FoundLabels(keys, others, gradients)


def _rank(name: str, label: str, words: set[str]) -> int | None:
    """How sure it is that a name means a label, 0 for certain; ``None`` if it does not."""
    if name == label:
        return 0
    small = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.replace("eV", "ev").replace("kJ", "kj")).lower()
    if small in {label, *words}:
        return 1
    parts = set(re.split(r"[^a-z0-9]+", small)) - {""}
    if parts & _UNITS:
        parts -= _UNITS | {"a", "in"}
    named = parts & words
    if not named or (named <= {"e", "f"} and len(parts) > 2):
        return None
    rest = parts - words - _MEANINGLESS
    if not rest:
        return 2
    return 3 if label == "energy" and rest == {"free"} else None
