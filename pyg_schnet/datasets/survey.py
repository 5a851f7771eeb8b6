"""A first look at a user's own structures: what they are, what is known of them, and what is odd."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyg_schnet.batching import CHARGES, MULTIPLICITIES
from pyg_schnet.datasets.ase_files import written_by
from pyg_schnet.datasets.crystal import has_stress
from pyg_schnet.datasets.gathered import Gathered
from pyg_schnet.datasets.guessed_stress import guess_stress
from pyg_schnet.datasets.guessed_units import (
    Evidence,
    Guess,
    all_electron_energy,
    guess_length_unit,
    guess_units,
)
from pyg_schnet.datasets.label_values import known_part
from pyg_schnet.datasets.labels import FoundLabels, find_labels
from pyg_schnet.datasets.nearest import clearance, nearest
from pyg_schnet.datasets.oddities import oddities, unused
from pyg_schnet.datasets.own_files import Paths, files_of, passed_over, told_unit
from pyg_schnet.datasets.placeholders import check_files, labels_and_placeholders, not_calculated
from pyg_schnet.datasets.property_table import PropertyTable, read_table
from pyg_schnet.datasets.resemblance import find_group_key, memory, of_composition, repeated
from pyg_schnet.datasets.stiffness import stiffness
from pyg_schnet.datasets.strained import stressed_crystals, unit_by_virial
from pyg_schnet.datasets.surveyed import Survey
from pyg_schnet.datasets.told_units import unit_in_fields, unit_in_name
from pyg_schnet.datasets.work import work_and_energy
from pyg_schnet.units import ENERGY, FORCE, LENGTH, STRESS, conversion

#: Structures whose distances are looked at.
_LOOKED_AT = 500
#: Energies of all electrons in eV above which they are no measure.
_FEW_ELECTRONS = -100.0
#: Noble gases, which have no bonds.
_NOBLE = {2, 10, 18, 36, 54, 86}


def survey(
    path: Paths,
    *,
    val: Paths = (),
    test: Paths = (),
    table: str | Path | None = None,
    energy_key: str | None = None,
    forces_key: str | None = None,
    stress_key: str | None = None,
    energy_unit: str | None = None,
    length_unit: str | None = None,
    forces_unit: str | None = None,
    stress_unit: str | None = None,
    group_key: str | None = None,
    format: str | None = None,
    show: bool = True,
) -> Survey:
    """Look at structures in files of any kind that :class:`~pyg_schnet.datasets.Trajectory` reads.

    Args:
        path: Files, folders and patterns, see :func:`~pyg_schnet.datasets.own_files.files_of`.
        val: Files with structures to validate on, if they are separate.
        test: Files with structures to test on, if they are separate.
        table: Table of properties with a line for each file.
        energy_key: Name of the energies; found by itself otherwise, as are the next ones.
        forces_key: Name of the forces.
        stress_key: Name of the stresses.
        energy_unit: Unit of the energies, if it is known; taken from the numbers otherwise, as are the next ones.
        length_unit: Unit of lengths.
        forces_unit: Unit of forces; energy per length otherwise.
        stress_unit: Unit of stresses.
        group_key: Name of the molecule or material that a structure belongs to; found by itself otherwise.
        format: ASE's name of the format, if the names of the files do not tell.
        show: True to show a progress bar.

    Returns:
        What they hold.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If ASE is not installed.
        ValueError: If a file is damaged, there is no such field, a unit is not known, or files have different units.

    Example:
        >>> import ase, ase.io, tempfile
        >>> file = f"{tempfile.mkdtemp()}/h2.xyz"
        >>> frames = [ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.7 + i / 50]], info={"E": -31.0 + i / 9}) for i in range(9)]
        >>> ase.io.write(file, frames, format="extxyz")
        >>> found = survey(file, show=False)
        >>> len(found), found.labels.keys, found.units["energy"].unit
        (9, {'energy': 'E'}, 'eV')
    """
    parts = {"train": files_of(path)} | {name: files_of(more) for name, more in (("val", val), ("test", test)) if more}
    files = [file for own in parts.values() for file in own]
    for name, unit, known in (
        ("energy_unit", energy_unit, ENERGY),
        ("length_unit", length_unit, LENGTH),
        ("forces_unit", forces_unit, FORCE),
        ("stress_unit", stress_unit, STRESS),
    ):
        if unit is not None and unit not in known:
            raise ValueError(f"`{name}` must be one of {', '.join(known)}, got {unit!r}")
    properties = None if table is None else read_table(table)
    gathered = Gathered(files, properties, format, show)
    labels, placeholders = _labels(gathered, {"energy": energy_key, "forces": forces_key, "stress": stress_key})
    flat = _without_flat(gathered, labels)
    given = {"energy": energy_unit, "length": length_unit, "forces": forces_unit, "stress": stress_unit}
    told = _told(gathered, files, properties, labels, given)
    check_files(gathered, gathered.values(labels.keys.get("energy", "")))
    units, evidence, shortest, neighbour = _units(gathered, labels, given, told)
    if given["energy"] is None and (program := written_by(files[0])) is not None:
        units["energy"] = Guess(units["energy"].unit, f"{program} writes Hartree", False)
    energies = gathered.values(labels.keys.get("energy", ""))
    energies = energies * conversion(units["energy"].unit, "eV")
    counts = {name: sum(gathered.totals[file] for file in own) for name, own in parts.items()}
    rest = of_composition(energies, [one.numbers for one in gathered.all])
    found = Survey(files, counts, gathered, labels, units, energies, rest)
    found.placeholders, found.not_calculated = placeholders, not_calculated(gathered, energies)
    found.ratio, found.shortest, found.neighbour = evidence.apart, shortest, neighbour
    found.slope = (evidence.slope[0] * ENERGY[units["energy"].unit] / FORCE[units["forces"].unit], evidence.slope[1])
    found.stiffness = evidence.stiffness
    found.signs = {"forces": _sign(found)} if "forces" in labels.keys else {}
    _add_stress(found, _chosen("stress", given, told))
    _add_sizes(found)
    found.room = min(clearance(one.pos, one.cell, one.pbc) for one in gathered.all)
    found.room *= LENGTH[units["length"].unit]
    if group_key is not None and group_key not in gathered.shapes:
        fields = ", ".join(sorted(gathered.shapes)) or "none"
        raise ValueError(f"no structure has a field {group_key!r} (--group_key); their fields are {fields}")
    found.group_key = group_key or find_group_key(gathered)
    _add_order(found)
    found.duplicates = repeated(gathered)
    used = {*labels.keys.values(), *(name for names in labels.others.values() for name in names), found.group_key}
    used |= {*CHARGES, *MULTIPLICITIES}
    numbers = [name for name, shape in gathered.shapes.items() if shape == "number" and name not in used]
    found.properties = [name for name in numbers if np.nanstd(gathered.values(name)) > 0]
    found.without_volume = flat
    found.odd += oddities(found)
    found.odd += [] if properties is None else unused(properties.path, properties.without_file(files))
    found.passed_over = [file for paths in (path, val, test) for file in passed_over(paths, table)]
    return found


def _labels(gathered: Gathered, given: dict[str, str | None]) -> tuple[FoundLabels, dict[str, str]]:
    """The labels, and what is said of fields that are none."""
    for label, key in given.items():
        if key is not None and key not in gathered.shapes:
            known = ", ".join(sorted(gathered.shapes)) or "none"
            raise ValueError(f"no structure has a field {key!r} ({label}_key); their fields are {known}")
    found, placeholders = labels_and_placeholders(
        gathered, {name: key for name, key in given.items() if key is not None}
    )
    keys = ({"forces": found.gradients[0]} if found.gradients else {}) | found.keys
    if "stress" in keys and "virial" in keys:
        keys.pop("virial")
    return found._replace(keys=keys), {name: said for name, said in placeholders.items() if name not in keys.values()}


def _without_flat(gathered: Gathered, labels: FoundLabels) -> int:
    """Take away stresses and virials of structures without a volume, and the label if none is left."""
    flat = 0
    for label in ("stress", "virial"):
        key = labels.keys.get(label, "")
        having = [one for one in gathered.all if known_part(one.fields.get(key)) > 0]
        lacking = [one for one in having if not has_stress(np.asarray(one.fields[key]), one.cell, one.pbc)]
        for one in lacking:
            del one.fields[key]
        flat += len(lacking)
        if having and len(lacking) == len(having):
            del labels.keys[label]
    return flat


def _told(
    gathered: Gathered,
    files: list[Path],
    properties: PropertyTable | None,
    labels: FoundLabels,
    given: dict[str, str | None],
) -> dict[str, str]:
    """Units that files, tables, names and fields say, where none is given."""
    asked = {name: labels.keys.get(name) for name in ("energy", "length", "forces") if given[name] is None}
    told = {name: unit for name, key in asked.items() if (unit := told_unit(name, files, properties, key))}
    for name in ("energy", "forces"):
        if name in labels.keys and given[name] is None and name not in told:
            unit = unit_in_name(labels.keys[name], name) or unit_in_fields((one.fields for one in gathered.all), name)
            told |= {} if unit is None else {name: unit}
    return told


def _units(
    gathered: Gathered, labels: FoundLabels, given: dict[str, str | None], told: dict[str, str]
) -> tuple[dict[str, Guess], Evidence, dict[tuple[int, int], float], float]:
    """Units, and what was seen of the numbers on the way to them."""
    apart, shortest, neighbour = _distances(gathered)
    units: dict[str, Guess] = {}
    only_noble = {number for formula in gathered.formulas for number, _ in formula} <= _NOBLE
    units["length"] = _chosen("length", given, told) or guess_length_unit(apart, only_noble)
    size = LENGTH[units["length"].unit]
    shortest, neighbour = {pair: size * one for pair, one in shortest.items()}, neighbour * size
    evidence = _evidence(gathered, labels, units["length"].unit)._replace(apart=apart * size)
    units["energy"], units["forces"] = guess_units(
        evidence, _chosen("energy", given, told), _chosen("forces", given, told)
    )
    return units, evidence, shortest, neighbour


def _evidence(gathered: Gathered, labels: FoundLabels, length: str) -> Evidence:
    """What tells the units of energies and forces."""
    energies = gathered.values(labels.keys.get("energy", ""))
    electrons = np.array([all_electron_energy(one.numbers) for one in gathered.all])
    known = np.isfinite(energies) & (electrons < _FEW_ELECTRONS)
    ratio = float(np.median(energies[known] / electrons[known])) if known.any() else math.nan
    evidence = Evidence(ratio, length=length, periodic=any(one.pbc.any() for one in gathered.all))
    if "forces" not in labels.keys:
        return evidence
    squares = [one for one in _squares(gathered, labels) if math.isfinite(one)]
    force = math.sqrt(float(np.mean(squares)) / 3) if squares else math.nan
    forces, size = gathered.arrays(labels.keys["forces"]), LENGTH[length]
    both = zip(gathered.all, forces, strict=True)
    stiff = stiffness((one.numbers, one.pos * size, rows) for one, rows in both if rows is not None)
    return evidence._replace(force=force, slope=work_and_energy(gathered.all, energies, forces, size), stiffness=stiff)


def _chosen(name: str, given: dict[str, str | None], told: dict[str, str]) -> Guess | None:
    if given[name] is not None:
        return Guess(str(given[name]), "as you say", True)
    return Guess(told[name], "the file says so", True) if name in told else None


def _distances(gathered: Gathered) -> tuple[float, dict[tuple[int, int], float], float]:
    """Typical nearest distance in covalent radii, the shortest by elements, and the typical one, as the files are."""
    from ase.data import covalent_radii  # noqa: PLC0415  an extra

    ratios, shortest, distances = [], dict[tuple[int, int], float](), []
    every = max(1, len(gathered.all) // _LOOKED_AT)
    for one in gathered.all[::every]:
        atoms, partners, apart = nearest(one.pos, one.cell, one.pbc)
        here, there = one.numbers[atoms], one.numbers[partners]
        ratios.append(apart / (covalent_radii[here] + covalent_radii[there]))
        distances.append(apart)
        for a, b, distance in zip(here.tolist(), there.tolist(), apart.tolist(), strict=True):
            pair = (min(a, b), max(a, b))
            shortest[pair] = min(distance, shortest.get(pair, math.inf))
    whole = np.concatenate(ratios)
    if not whole.size:
        return math.nan, {}, math.nan
    return float(np.median(whole)), dict(sorted(shortest.items())), float(np.median(np.concatenate(distances)))


def _squares(gathered: Gathered, labels: FoundLabels) -> list[float]:
    """Mean square of the forces of each structure, sum over three components, in the unit of the file."""
    key = labels.keys.get("forces")
    if key is None:
        return []
    found = []
    for array in gathered.arrays(key):
        known = np.empty(0) if array is None else array[np.isfinite(array)]
        found.append(3 * float((known**2).mean()) if known.size else math.nan)
    return found


def _add_sizes(found: Survey) -> None:
    """Sizes of forces and stresses."""
    factor = FORCE[found.units["forces"].unit]
    squares = np.array(_squares(found.gathered, found.labels)) * factor**2
    if np.isfinite(squares).any():
        found.force_square = float(np.nanmean(squares))
        arrays = [one for one in found.gathered.arrays(found.labels.keys["forces"]) if one is not None]
        found.largest_force = factor * max(float(np.nanmax(np.abs(one), initial=0.0)) for one in arrays)
    if "stress" in found.units:
        stresses = [one for one in found.gathered.arrays(found.labels.keys["stress"]) if one is not None]
        known = [one for one in stresses if np.isfinite(one).all()]
        sizes = [_square(one.reshape(-1)) for one in known]
        found.stress_square = STRESS[found.units["stress"].unit] ** 2 * float(np.mean(sizes)) if sizes else math.nan


def _square(stress: NDArray) -> float:
    """Sum of the squares of the nine components of a stress, given as nine numbers or six."""
    return float((stress**2).sum() if stress.size == 9 else (stress[:3] ** 2).sum() + 2 * (stress[3:] ** 2).sum())


def _sign(found: Survey) -> int:
    """-1 for gradients in place of forces: what is found to rise along them, or, if that is not known, their name."""
    tells = [found.slope[1]] if found.follows else []
    tells += [] if found.stiffness is None else [found.stiffness.value]
    if tells and min(tells) * max(tells) > 0:
        return 1 if tells[0] > 0 else -1
    return -1 if found.labels.keys["forces"] in found.labels.gradients else 1


def _add_stress(found: Survey, given: Guess | None) -> None:
    """The unit of stresses, and the sign of them or of the virials that are there in their place."""
    keys, gathered = found.labels.keys, found.gathered
    key = keys.get("stress", keys.get("virial"))
    if key is None:
        return
    units = {name: guess.unit for name, guess in found.units.items()}
    crystals = stressed_crystals(gathered, keys, units, found.energies, found.signs.get("forces", 1))
    sizes = [np.sqrt((one**2).mean()) for one in gathered.arrays(key) if one is not None and np.isfinite(one).all()]
    typical = float(np.median([size for size in sizes if size > 0] or [0.0]))
    beside = find_labels(gathered.shapes).keys.get("virial") if "stress" in keys else None
    by_virial = math.nan if beside is None else unit_by_virial(gathered, key, beside, units)
    guess, sign = guess_stress(typical, crystals, by_virial)
    if "stress" in keys:
        found.units["stress"] = given or guess
        if given is not None and guess.unit != given.unit and guess.why.startswith("checked"):
            told = guess.why.removeprefix("checked: ")
            found.odd.append(f"stresses are in {guess.unit} rather than {given.unit}: {told} (--stress_unit)")
    found.signs["stress"] = sign


def _add_order(found: Survey) -> None:
    """Add how long neighbouring frames resemble each other."""
    if "energy" in found.labels.keys:
        both = zip(found.gathered.all, found.gathered.formulas, strict=True)
        found.near = memory(found.rest, [(one.file, formula) for one, formula in both])
