"""A first look at a user's own structures: what they are, what is known of them, and what is odd."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyg_schnet.batching import CHARGES, MULTIPLICITIES
from pyg_schnet.datasets.ase_files import written_by
from pyg_schnet.datasets.crystal import has_stress
from pyg_schnet.datasets.gathered import Gathered
from pyg_schnet.datasets.guessed_stress import guess_stress
from pyg_schnet.datasets.guessed_units import (
    LARGEST_FORCE,
    Evidence,
    Guess,
    all_electron_energy,
    guess_length_unit,
    guess_units,
)
from pyg_schnet.datasets.labels import FoundLabels, find_labels
from pyg_schnet.datasets.nearest import clearance, nearest
from pyg_schnet.datasets.own_files import Paths, files_of, passed_over, told_unit
from pyg_schnet.datasets.placeholders import check_files, labels_and_placeholders, not_calculated, not_converged
from pyg_schnet.datasets.property_table import read_table
from pyg_schnet.datasets.resemblance import find_group_key, memory, of_composition, repeated
from pyg_schnet.datasets.stiffness import Stiffness, stiffness
from pyg_schnet.datasets.strained import stressed_crystals, unit_by_virial
from pyg_schnet.datasets.told_units import unit_in_fields, unit_in_name
from pyg_schnet.datasets.work import work_and_energy
from pyg_schnet.units import ENERGY, FORCE, LENGTH, STRESS, conversion

#: Structures whose distances are looked at.
_LOOKED_AT = 500
#: Median distances from the median beyond which a value is far from all others.
_FAR = 15.0
#: Correlation of energies and work from which they belong together.
_FOLLOW = 0.85
#: Energies of all electrons in eV above which they are no measure.
_FEW_ELECTRONS = -100.0
#: Noble gases, which have no bonds.
_NOBLE = {2, 10, 18, 36, 54, 86}


@dataclass
class Survey:
    """What some files hold; energies, lengths and their quotients are in eV and Angstrom.

    Attributes:
        files: The files, those to train with first.
        parts: Number of structures in the files of each part.
        gathered: The structures that were looked at, in the units of the files.
        labels: Names of the labels.
        units: Unit of the ``energy``, ``length``, ``forces`` and ``stress`` and why it is taken.
        energies: [M], NaN where it is not known.
        rest: Energies without what each element brings [M].
        force_square: Mean square of the forces, NaN for none.
        largest_force: The largest component.
        stress_square: Mean square of the stresses (sum over nine components), NaN for none.
        ratio: Typical distance of nearest neighbours in sums of covalent radii.
        shortest: Shortest distance by pair of elements, of the structures that were looked at.
        neighbour: Typical distance of a nearest neighbour.
        room: Least room between a structure and its images, infinite for open ones.
        slope: Change of energy between structures near each other over the work of the forces, and the correlation of
            the two; both are negative for gradients.
        stiffness: How stiff bonds are, in the unit of the forces; negative for gradients.
        signs: -1 where ``forces`` are gradients of the energy, and where the ``stress``, or the virial, has not ASE's
            sign; else 1.
        near: Correlation of neighbouring frames, and after how many frames there is none.
        duplicates: Number of structures that repeat another one.
        placeholders: Fields that have the names of labels and the same number everywhere, and a sentence on each.
        not_calculated: Structures whose energy is exactly zero, unlike that of others of their composition.
        odd: What is odd, a sentence each.
        group_key: Field with the molecule or material of each structure, ``None`` for none.
        properties: Further numbers of the structures, which might be learnt.
        passed_over: Files in folders that are not read.
        without_volume: Number of structures whose stress or virial says nothing, because they have no volume.
    """

    files: list[Path]
    parts: dict[str, int]
    gathered: Gathered
    labels: FoundLabels
    units: dict[str, Guess]
    energies: NDArray
    rest: NDArray
    force_square: float = math.nan
    largest_force: float = 0.0
    stress_square: float = math.nan
    ratio: float = math.nan
    shortest: dict[tuple[int, int], float] = field(default_factory=dict)
    neighbour: float = math.nan
    room: float = math.inf
    slope: tuple[float, float] = (math.nan, 0.0)
    stiffness: Stiffness | None = None
    signs: dict[str, int] = field(default_factory=dict)
    near: tuple[float, int] = (0.0, 0)
    duplicates: int = 0
    placeholders: dict[str, str] = field(default_factory=dict)
    not_calculated: NDArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    odd: list[str] = field(default_factory=list)
    group_key: str | None = None
    properties: list[str] = field(default_factory=list)
    passed_over: list[Path] = field(default_factory=list)
    without_volume: int = 0

    def __len__(self) -> int:
        return len(self.gathered.all)

    @property
    def periodic(self) -> int:
        """Number of structures with a periodic axis."""
        return sum(bool(one.pbc.any()) for one in self.gathered.all)

    @property
    def elements(self) -> dict[int, int]:
        """Number of structures with each element."""
        found: dict[int, int] = {}
        for formula in self.gathered.formulas:
            for number, _ in formula:
                found[number] = found.get(number, 0) + 1
        return dict(sorted(found.items()))

    @property
    def compositions(self) -> int:
        """Number of different compositions."""
        return len(set(self.gathered.formulas))

    @property
    def groups(self) -> int:
        """Number of different groups, or of compositions where no field names groups."""
        return len(set(self.group_of))

    @property
    def group_of(self) -> list[Any]:
        """The group of each structure: what the field says, or its composition."""
        if self.group_key is None:
            return list(self.gathered.formulas)
        return [str(one.fields.get(self.group_key)) for one in self.gathered.all]

    def within_and_between(self) -> tuple[float, float]:
        """Variance of the energies within groups, and of the means of groups.

        Returns:
            Both in eV^2; NaN for the first if no group has two structures.
        """
        groups: dict[Any, list[float]] = {}
        for group, value in zip(self.group_of, self.rest, strict=True):
            if math.isfinite(value):
                groups.setdefault(group, []).append(value)
        several = [np.array(values) for values in groups.values() if len(values) > 1]
        count = sum(map(len, several)) - len(several)
        within = sum(float(((values - values.mean()) ** 2).sum()) for values in several) / count if count else math.nan
        means = np.array([np.mean(values) for values in groups.values()])
        return within, float(means.var()) if len(means) else math.nan


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
    asked = {name: labels.keys.get(name) for name in ("energy", "length", "forces") if given[name] is None}
    told = {name: unit for name, key in asked.items() if (unit := told_unit(name, files, properties, key))}
    for name in ("energy", "forces"):
        if name in labels.keys and given[name] is None and name not in told:
            unit = unit_in_name(labels.keys[name], name) or unit_in_fields((one.fields for one in gathered.all), name)
            told |= {} if unit is None else {name: unit}
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
    _add_odd(found)
    found.odd += [] if properties is None else _unused(properties.path, properties.without_file(files))
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
        having = [one for one in gathered.all if _known_part(one.fields.get(key)) > 0]
        lacking = [one for one in having if not has_stress(np.asarray(one.fields[key]), one.cell, one.pbc)]
        for one in lacking:
            del one.fields[key]
        flat += len(lacking)
        if having and len(lacking) == len(having):
            del labels.keys[label]
    return flat


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
    tells = [found.slope[1]] if abs(found.slope[1]) > _FOLLOW else []
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


def _add_odd(found: Survey) -> None:
    """What a user should look at."""
    rest, odd = found.rest, found.odd
    known = rest[np.isfinite(rest)]
    spread = float(np.median(np.abs(known - np.median(known)))) if len(known) else 0.0
    if spread > 0:
        per_atom = np.abs(rest - np.median(known)) / spread
        far = np.flatnonzero(per_atom > _FAR)
        if len(far):
            odd.append(f"energies far from all others: {_places(far)}")
    if found.largest_force > 4 * LARGEST_FORCE:
        odd.append(f"a component of a force is {found.largest_force:.3g} eV/Ang; are there structures that flew apart?")
    odd += found.placeholders.values()
    if len(found.not_calculated):
        odd.append(f"the energy is exactly 0, unlike others of the composition: {_places(found.not_calculated)}")
    if len(failed := not_converged(found.gathered)):
        odd.append(f"not converged, as the files say; better leave out: {_places(failed)}")
    odd += _doubtful_forces(found)
    if found.signs.get("stress") == -1:
        key = found.labels.keys.get("stress", found.labels.keys.get("virial"))
        odd.append(f"{key!r} has not ASE's sign, which is turned (stress_sign: -1 in the settings)")
    if 0 < found.ratio < 0.5:
        odd.append(f"nearest neighbours are {found.ratio:.2f} times the sum of their covalent radii apart")
    if found.gathered.partly_occupied:
        odd.append(f"{found.gathered.partly_occupied:,} crystals have sites partly occupied and are left out")
    odd += _unknown_labels(found) + _not_told_apart(found)


def _doubtful_forces(found: Survey) -> list[str]:
    """What speaks against the units of the forces and their sign."""
    odd, (slope, correlation), stiff = [], found.slope, found.stiffness
    if abs(correlation) > _FOLLOW and not 0.75 < abs(slope) < 1.35:
        odd.append(
            f"energies change by {abs(slope):.3g} times the work of the forces; units of energy and forces do not "
            "belong together (--energy_unit, --length_unit, --forces_unit)"
        )
    if stiff is not None and abs(stiff.off(FORCE[found.units["forces"].unit])) > 3:
        value = abs(stiff.value) * FORCE[found.units["forces"].unit]
        odd.append(
            f"{stiff.bond} bonds are {value:.3g} eV/Ang^2 stiff with forces in {found.units['forces'].unit}, about "
            f"{stiff.usual:.0f} are usual; the unit of forces or of lengths is another (--forces_unit, --length_unit)"
        )
    if found.signs.get("forces") == -1:
        key = found.labels.keys["forces"]
        odd.append(f"{key!r} are gradients, not forces: their sign is turned (forces_sign: -1 in the settings)")
    return odd


def _unused(table: Path, names: list[str]) -> list[str]:
    """Which lines of a table have no structure."""
    if not names:
        return []
    few = ", ".join(names[:3]) + ", ..." * (len(names) > 3)
    one = len(names) == 1
    return [f"{len(names):,} line{'' if one else 's'} of {table.name} {'is' if one else 'are'} of no file: {few}"]


def _unknown_labels(found: Survey) -> list[str]:
    """Which labels and lattice vectors are lacking."""
    odd = []
    for label, key in found.labels.keys.items():
        known_parts = [_known_part(one.fields.get(key)) for one in found.gathered.all]
        lacking, partly = known_parts.count(0.0), sum(0 < part < 1 for part in known_parts)
        lacking -= found.without_volume if label in {"stress", "virial"} else 0
        if lacking:
            odd.append(f"{lacking:,} structures have no {label}")
        if partly:
            odd.append(f"some {label} of {partly:,} structures are not known")
    for name in [] if "energy" in found.labels.keys else found.properties:  # one of which is learnt
        if lacking := int(np.isnan(found.gathered.values(name)).sum()):
            odd.append(f"{lacking:,} structures have no {name}")
    if found.without_volume:
        odd.append(
            f"{found.without_volume:,} structures have a stress but no complete periodic cell; it is taken as not known"
        )
    if found.gathered.without_cell:
        odd.append(f"{found.gathered.without_cell:,} structures have periodic axes but no lattice vectors and are open")
    return odd


def _not_told_apart(found: Survey) -> list[str]:
    """What differs in charge alone."""
    odd = []
    if charges := _mixed_charges(found):
        odd.append(
            f"structures of one composition have the net charges {', '.join(f'{one:+g}' for one in charges)}, which a "
            "network of atomic numbers and positions cannot tell apart; train on those of one charge"
        )
    return odd


def _known_part(value: Any) -> float:
    """Which part of the numbers of a label is known."""
    if value is None or isinstance(value, str):
        return 0.0
    numbers = np.asarray(value, dtype=np.float64)
    return float(np.isfinite(numbers).mean()) if numbers.size else 0.0


def _mixed_charges(found: Survey) -> list[float]:
    """Net charges that structures of a same composition have; none if all of each composition have one."""
    charges = dict[Any, set[float]]()
    for key in CHARGES:
        if found.gathered.shapes.get(key) == "number":
            for formula, charge in zip(found.gathered.formulas, found.gathered.values(key), strict=True):
                charges.setdefault(formula, set()).add(float(np.nan_to_num(charge)))
    return sorted(next((several for several in charges.values() if len(several) > 1), set()))


def _places(places: NDArray) -> str:
    few = ", ".join(map(str, places[:5].tolist()))
    return f"structures {few}{' and ' + str(len(places) - 5) + ' more' if len(places) > 5 else ''} (from 0)"
