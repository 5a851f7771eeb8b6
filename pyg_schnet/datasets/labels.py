"""Which fields of a user's files are energies, forces and stresses, whatever they are called."""

import re
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

#: Names of each label by themselves.
_WORDS = {
    "energy": {"energy", "energies", "e", "e0", "etot", "etotal", "toten", "epot", "escf"},
    "forces": {"forces", "force", "f"},
    "stress": {"stress", "stresses"},
    "virial": {"virial", "virials"},
}
_SHAPES = {"energy": ("number",), "forces": ("vectors",), "stress": ("matrix",), "virial": ("matrix",)}
#: What may be a part of a longer word: ``totalenergy``, ``dftforces``.
_STEMS = {
    "energy": ("energies", "energy"),
    "forces": ("forces", "force"),
    "stress": ("stresses", "stress"),
    "virial": ("virials", "virial"),
}
#: Words beside "energy" and the like that change nothing.
_NEUTRAL = {"total", "tot", "scf", "pot", "potential", "cell", "per", "of", "the", "calc", "calculated", "final"}
_NEUTRAL |= {"label", "labels", "target", "atomic"}
#: Words that may say that kinetic energies are in it.
_TOTAL = {"total", "tot", "etot", "etotal", "toten"}
_PLURAL = {"energy": "energies", "forces": "forces"}
#: Words for another energy of the same calculation, taken if there is no plain one.
_VARIANTS = {"free", "corrected", "uncorrected", "electronic", "e0"}
#: Words that say that a label is the true one.
_TRUE = {"dft", "ref", "reference", "qm", "true", "truth", "exact", "qc"}
#: Words of models that a label is of, and of methods that others correct.
_MODELS = {"ml", "mlip", "mlff", "nn", "nnp", "gap", "ace", "mtp", "mace", "nequip", "allegro", "schnet", "painn"}
_MODELS |= {"ani", "dimenet", "gemnet", "chgnet", "m3gnet", "orb", "sevennet", "mattersim", "model", "xtb", "gfn"}
_MODELS |= {"gfn1", "gfn2", "gfnff", "dftb", "pm3", "pm6", "pm7", "am1", "ff", "mm", "uff", "mmff", "gaff", "emt"}
_MODELS |= {"lj", "eam"}
#: Words of methods and programs, which make an energy of a single "e".
_METHODS = {"pbe", "pbesol", "r2scan", "scan", "hse", "b3lyp", "wb97x", "mp2", "ccsd", "hf", "vasp", "qe", "orca"}
_METHODS |= {"cp2k"}
#: Words of what a model says, and of how far that is off.
_UNCERTAIN = {"std", "error", "errors", "err", "uncertainty", "variance", "var", "mae", "rmse", "mse"}
_UNCERTAIN |= {"pred", "predicted", "prediction", "predictions"}
#: Words beside which a label is that of something else, or no label.
_OTHER = _UNCERTAIN | {"weight", "weights", "diff", "difference", "delta", "residual", "max", "min", "norm"}
_OTHER |= {"rms", "mean", "constant", "constants", "unit", "units", "index", "id", "cutoff", "cut", "threshold"}
_OTHER |= {"tolerance", "convergence", "kinetic", "kin", "external", "bias", "random", "dispersion", "disp", "drift"}
_OTHER_ENERGY = {"atom", "atoms", "atomic", "peratom", "formation", "form", "binding", "interaction", "gap", "level"}
_OTHER_ENERGY |= {"levels", "homo", "lumo", "fermi", "hull", "zero", "zpe", "zpve", "vibrational", "thermal"}
_OTHER_ENERGY |= {"cohesive", "rotational", "relative", "rel", "atomization", "adsorption", "ads", "activation"}
_OTHER_ENERGY |= {"reaction", "internal", "barrier", "coulomb", "exchange", "xc", "correlation", "repulsion"}
_OTHER_ENERGY |= {"nuclear", "solvation", "strain", "deformation", "bond", "angle", "dihedral", "shift", "offset"}
_OTHER_ENERGY |= {"ionization", "affinity", "excitation", "band", "density", "decomposition", "mixing", "defect"}
_OTHER_ENERGY |= {"migration", "lattice", "surface"}
#: Words of units, which may stand behind the name; a single "a" is one only beside them.
_UNITS = {"ev", "mev", "kcal", "kcalmol", "kj", "kjmol", "mol", "ha", "hartree", "hartrees", "au", "ang", "angstrom"}
_UNITS |= {"bohr", "nm"}
#: Words of numbers that count, name or describe a structure, or say how it was made.
_BOOKKEEPING = {"step", "steps", "timestep", "time", "frame", "frames", "index", "idx", "id", "ids", "uid", "number"}
_BOOKKEEPING |= {"no", "num", "n", "nsites", "natoms", "natom", "nat", "nelements", "nions", "spacegroup"}
_BOOKKEEPING |= {"temperature", "weight", "weights", "temp", "pressure", "seed", "iteration", "iter", "snapshot"}
_BOOKKEEPING |= {"image", "epoch", "generation", "batch"}
#: Words that leave such a number what it is.
_BESIDE = {"md", "sim", "simulation", "fs", "ps", "ns", "k", "gpa", "bar", "atm", "atoms", "sites", "elements", "space"}
_BESIDE |= {"group", "structure", "material", "mp", "config", "of", "the", "total", "ionic", "count"}


class FoundLabels(NamedTuple):
    """Names of the labels of a file.

    Attributes:
        keys: Names in the file by ``energy``, ``forces``, ``stress`` and ``virial``, as far as they are there.
        others: Further names that could have been meant, likewise.
        gradients: Fields that look like gradients of the energy, the negative of forces.
        unclear: A sentence if others could be meant as well as those of ``keys``, empty if not.
    """

    keys: dict[str, str]
    others: dict[str, list[str]]
    gradients: list[str]
    unclear: str = ""


class _Named(NamedTuple):
    """A field that may be a label.

    Attributes:
        rank: How surely its name is that of the label, the surest first.
        name: Its name.
        method: Words that say what it was computed with.
    """

    rank: tuple[int, bool]
    name: str
    method: frozenset[str]


class _Together(NamedTuple):
    """Labels of one method.

    Attributes:
        order: What goes before, the first first.
        keys: Names by label.
        rivals: Label and names of those that could be meant as well as one of them.
    """

    order: tuple[bool, bool, int]
    keys: dict[str, str]
    rivals: dict[str, list[str]]


def find_labels(
    shapes: Mapping[str, str],
    given: Mapping[str, str] | None = None,
    constant: Callable[[str], bool] = lambda name: False,
    same: Callable[[str, str], bool] = lambda one, other: False,
) -> FoundLabels:
    """Find the labels among the fields of a file: those of one method together.

    Capitals, underscores and units do not matter, and what else is in a name is the method: ``Energy``,
    ``energy_kcal_mol``, ``dft_total_energy`` and ``wB97X_energy`` are energies, but no formation, kinetic or binding
    energy and none per atom. Of several methods those are taken first that have forces beside energies and whose names
    say that they are the true ones (``ref``, ``dft``), then plain names, then other methods; models and what they
    correct (``mace``, ``xtb``) come last. ``free_energy``, which ASE's calculators write beside ``energy``, is taken if
    there is nothing else.

    Args:
        shapes: Shape of each field: ``"number"``, ``"vectors"`` (one for each atom), ``"matrix"`` (6 or 9 numbers) or
            any other word.
        given: Names of labels that are known; the others are then of the same method.
        constant: Tells if a field is the same in all structures; it is then taken only if there is no other.
        same: Tells if two fields say the same, so that it does not matter which is taken.

    Returns:
        Their names.

    Example:
        >>> find_labels({"REF_energy": "number", "Force": "vectors", "gap": "number"}).keys
        {'energy': 'REF_energy', 'forces': 'Force'}
        >>> fields = {"MACE_energy": "number", "REF_energy": "number", "MACE_F": "vectors", "REF_forces": "vectors"}
        >>> find_labels(fields).keys
        {'energy': 'REF_energy', 'forces': 'REF_forces'}
    """
    given = given or {}
    every = {label: _candidates(shapes, label) for label in _WORDS}
    varying = {
        label: [one for one in named if len(named) == 1 or not constant(one.name)] or named
        for label, named in every.items()
    }
    taken = {one.method for one in varying["energy"]}
    usable = varying | {
        label: [_named(name, label) or _Named((0, False), name, frozenset())] for label, name in given.items()
    }
    chosen = _choose(usable, taken, same)
    keys = {label: name for label in _WORDS if (name := given.get(label, chosen.keys.get(label))) is not None}
    rest = {label: [one.name for one in named if one.name != keys.get(label)] for label, named in every.items()}
    gradients = [name for name, shape in shapes.items() if shape == "vectors" and re.search("grad|^g$", name.lower())]
    return FoundLabels(keys, {label: names for label, names in rest.items() if names}, gradients, _unclear(chosen))


def is_bookkeeping(name: str) -> bool:
    """True for the name of a number that nobody learns unless they say so: a step, a temperature, an uncertainty.

    Args:
        name: Name of a field.

    Returns:
        ``True`` or ``False``.

    Example:
        >>> [is_bookkeeping(name) for name in ("step", "spacegroup_number", "energy_std", "melting_temperature")]
        [True, True, True, False]
    """
    words = _words_of(name)
    counts = words - _BESIDE
    return bool(words & _UNCERTAIN) or (bool(counts) and counts <= _BOOKKEEPING)


def _words_of(name: str) -> set[str]:
    small = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.replace("eV", "ev").replace("kJ", "kj")).lower()
    words = set(re.split(r"[^a-z0-9]+", small)) - {""}
    return words - _UNITS - {"a", "in"} if words & _UNITS else words


def _candidates(shapes: Mapping[str, str], label: str) -> list[_Named]:
    """Fields that may be a label, those first whose names say it most surely."""
    fits = (name for name, shape in shapes.items() if shape in _SHAPES[label])
    return sorted(one for name in fits if (one := _named(name, label)) is not None)


def _named(name: str, label: str) -> _Named | None:
    """What the name of a field says of it as a label; ``None`` if it is none."""
    words, excluded = _words_of(name), _OTHER | (_OTHER_ENERGY if label == "energy" else set())
    own = words & _WORDS[label]
    if not own:
        stem, word = next(((s, w) for w in sorted(words) for s in _STEMS[label] if s in w), ("", ""))
        beside = word.replace(stem, "", 1)
        if not stem or any(other in beside for other in excluded if len(other) > 3):
            return None
        words, own = words - {word} | {stem, beside}, {stem}
    rest = words - own
    if rest & excluded or (own <= {"e", "f"} and not rest <= _NEUTRAL | _TRUE | _MODELS | _METHODS):
        return None
    sure = 0 if name == label else 3 if words & _VARIANTS else 2 if rest else 1
    return _Named((sure, bool(words & _TOTAL)), name, frozenset(rest - _NEUTRAL - _VARIANTS))


def _choose(
    usable: Mapping[str, list[_Named]], taken: Collection[frozenset[str]], same: Callable[[str, str], bool]
) -> _Together:
    """The labels of the best method; each may have those of no other method beside it that has energies."""
    leading = next((label for label, named in usable.items() if named), None)
    if leading is None:
        return _Together((False, False, 0), {}, {})
    methods = sorted({one.method for one in usable[leading]}, key=sorted)
    each = [_of_method(method, usable, taken, same) for method in methods]
    first = min(each, key=lambda one: one.order)
    plain = each[0] if not methods[0] else first
    if plain.order[:2] == first.order[:2] and _agree(first, plain, same):
        first = plain
    equal = [one for one in each if one.order == first.order and not _agree(first, one, same)]
    if equal:
        first.rivals[leading] = [one.keys[leading] for one in equal]
    return first


def _of_method(
    method: frozenset[str],
    usable: Mapping[str, list[_Named]],
    taken: Collection[frozenset[str]],
    same: Callable[[str, str], bool],
) -> _Together:
    """The labels of a method, and those of others that fit and have no energy of their own."""
    keys, rivals = dict[str, str](), dict[str, list[str]]()
    for label, named in usable.items():
        own = [(one.rank, one.name) for one in named if one.method == method]
        if not own and label != "energy":
            loose = [one for one in named if one.method not in taken and _fit(one.method, method)]
            own = sorted(((_level(one.method), False), one.name) for one in loose)
        if own:
            (rank, keys[label]), *further = own
            equal = [name for other, name in further if other == rank and not same(keys[label], name)]
            rivals |= {label: equal} if equal else {}
    return _Together((bool(method & _MODELS), "forces" not in keys, _level(method)), keys, rivals)


def _level(method: frozenset[str]) -> int:
    """Which methods go before which others."""
    return 3 if method & _MODELS else 0 if method & _TRUE else 2 if method else 1


def _fit(one: frozenset[str], other: frozenset[str]) -> bool:
    """True if labels may be of the same method for all that their names say."""
    if not one or not other:
        return True
    return bool(one & _MODELS) == bool(other & _MODELS) and (one <= _TRUE or other <= _TRUE)


def _agree(one: _Together, other: _Together, same: Callable[[str, str], bool]) -> bool:
    both = one.keys.keys() & other.keys.keys() & {"energy", "forces"}
    return all(one.keys[label] == other.keys[label] or same(one.keys[label], other.keys[label]) for label in both)


def _unclear(chosen: _Together) -> str:
    for label, names in chosen.rivals.items():
        if label in {"energy", "forces"}:
            return (
                f"{', '.join([chosen.keys[label], *names[:-1]])} and {names[-1]} differ, and nothing tells which "
                f"{_PLURAL[label]} to learn; name them with --{label}_key"
            )
    return ""
