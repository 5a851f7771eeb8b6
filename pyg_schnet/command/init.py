"""``pyg-schnet init``: from files of one's own to settings that train on them."""

import inspect
import itertools
import math
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from pyg_schnet.command import recipe
from pyg_schnet.datasets.labels import is_bookkeeping
from pyg_schnet.datasets.own_files import files_of, passed_over
from pyg_schnet.datasets.property_table import PropertyTable, read_table
from pyg_schnet.datasets.survey import Survey, survey
from pyg_schnet.datasets.survey_table import WIDTH, in_words
from pyg_schnet.files import replacing

#: Names of files that say which part of a split they are for.
_PART = re.compile(r"(?:^|[_\-. ])(train|training|val|valid|validation|test|testing)(?:[_\-. ]|$)", re.IGNORECASE)
#: A number and a unit behind it.
_WITH_UNIT = re.compile(r"\s*[+-]?\d*\.?\d+(?:[eE][+-]?\d+)?\s*[A-Za-z][A-Za-z/_.^0-9 ]*")
#: Fewest structures that a model can be trained, validated and tested on.
_FEWEST = 10
#: Runs of frames of each composition, the better number first, the fewest frames of a run, and the smallest share of
#: the frames of a composition that has runs of its own.
_RUNS, _SHORTEST_RUN, _OFTEN = (10, 5), 5, 0.05


def init(
    *files: str,
    output: str = "settings.yaml",
    val: str | list[str] | None = None,
    test: str | list[str] | None = None,
    table: str | None = None,
    target: str | None = None,
    energy_key: str | None = None,
    forces_key: str | None = None,
    stress_key: str | None = None,
    group_key: str | None = None,
    energy_unit: str | None = None,
    length_unit: str | None = None,
    forces_unit: str | None = None,
    stress_unit: str | None = None,
    format: str | None = None,
) -> None:
    """Look at structures of your own, say what is there, and write settings that train on them.

    Args:
        files: Files with structures (extended xyz, ASE databases, npz, CIF, anything ASE reads), folders of them, or
            patterns; names with train, val or test in them are taken for those parts.
        output: File of settings to write; one that is there is never replaced.
        val: File with structures to validate on, if they are separate, or several as [FILE, FILE].
        test: The same to test on.
        table: Table of properties (csv) with a line for each file; one that lies alone in the folder of CIFs is taken.
        target: Property to learn, in place of the energy.
        energy_key: Name of the energies in the files, if it is not found.
        forces_key: Name of the forces.
        stress_key: Name of the stresses.
        group_key: Name of the molecule or material that a structure belongs to: none is in two parts of the split.
        energy_unit: Unit of the energies: eV, meV, Ha, kcal/mol or kJ/mol; taken from the numbers by default.
        length_unit: Unit of lengths: Ang, Bohr or nm.
        forces_unit: Unit of forces, for example Ha/Bohr; energy per length by default.
        stress_unit: Unit of stresses: eV/Ang^3, GPa or kbar.
        format: ASE's name of the format, if the names of the files do not tell.
    """
    path = Path(output)
    if path.exists():
        raise FileExistsError(f"{path} exists already and is not replaced; name another file with --output")
    if not path.resolve().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} for {path.name}; create it first")
    parts, table = _parts(files, _as_list(val), _as_list(test), table)
    given: dict[str, Any] = {
        "energy_key": energy_key,
        "forces_key": forces_key,
        "stress_key": stress_key,
        "energy_unit": energy_unit,
        "group_key": group_key,
    }
    given |= {"length_unit": length_unit, "forces_unit": forces_unit, "stress_unit": stress_unit, "format": format}
    found = survey(parts["train"], val=parts["val"], test=parts["test"], table=table, **given)
    found.passed_over = passed_over([*files, *_as_list(val), *_as_list(test)], table)
    print(in_words(found))
    properties = None if table is None else read_table(table)
    target = _target(found, properties, target)
    text = _settings(found, parts, table, properties, target, format, path, files)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
    print(f"{'learns':{WIDTH}} {_learns(found, target)}")
    print(_next(found, path, text, parts))


def _as_list(files: str | list[str] | None) -> list[str]:
    return [files] if isinstance(files, str) else files or []


def _parts(
    files: tuple[str, ...], val: list[str], test: list[str], table: str | None
) -> tuple[dict[str, list[Path]], str | None]:
    """Files of each part, and the table beside them."""
    if not files:
        raise ValueError("name files with structures, a folder or a pattern: pyg-schnet init FILE ...")
    tables = [one for one in files if one.lower().endswith((".csv", ".tsv"))]
    if tables and table is None:
        table = tables[0]
    if len(tables) == len(files):
        raise ValueError(
            f"{tables[0]} is a table, which alone has no structures; name the files with the structures that its lines "
            "are of, too, or their folder: pyg-schnet init FOLDER --table FILE (molecules that are given as SMILES: "
            "pyg_schnet.datasets.from_smiles makes structures to write to a file)"
        )
    parts = {"train": files_of([one for one in files if one not in tables])}
    parts |= {"val": files_of(val) if val else [], "test": files_of(test) if test else []}
    if table is None:
        first = parts["train"][0]
        beside = _tables_beside(first) if first.suffix.lower() == ".cif" else []
        table = str(beside[0]) if len(beside) == 1 else None
    if not val and not test:
        named = {file: _PART.search(file.stem) for file in parts["train"]}
        words = {file: match[1].lower() for file, match in named.items() if match}
        by_part = {part: [file for file, word in words.items() if word.startswith(part)] for part in parts}
        if by_part["train"] and sum(map(len, by_part.values())) == len(named):
            parts = by_part
    return parts, table


def _tables_beside(file: Path) -> list[Path]:
    return sorted(file.parent.glob("*.csv"))


def _settings(
    found: Survey,
    parts: dict[str, list[Path]],
    table: str | None,
    properties: PropertyTable | None,
    target: str | None,
    format: str | None,
    path: Path,
    named: tuple[str, ...],
) -> str:
    """The file of settings."""
    distance = recipe.cutoff(found)
    edges = recipe.edges(found, distance.value)
    blocks = 3 if target is None or not found.periodic else 4
    split, num_train = _split(found, parts)
    forces = target is None and _has_forces(found)
    plan = recipe.steps(num_train, edges, blocks, forces)
    if target is None:
        task, readout = _potential(found, forces), []
    else:
        unit = "" if properties is None else properties.units.get(target, "")
        intensive = recipe.is_intensive(found, target, unit)
        task, readout = _property(target, unit, intensive), _readout(found, target, intensive)
    network = [*_network(distance, blocks), *readout]
    name = _name(found, named)
    lines = [
        f"# Settings for {', '.join(map(str, named[:3]))}{', ...' * (len(named) > 3)}, written by pyg-schnet init.",
        f"#   pyg-schnet fit --config {_shown(path)}     about {max(1, round(plan.seconds / 60))} minutes on two cores",
        "# Every line may be changed here, or on the command line: --data.num_train 500, --trainer.max_steps 20000.",
        "# A better model takes longer: raise max_steps and max_time, hidden_channels and num_filters to 128.",
        "seed_everything: 0",
        "model:",
        *_indented(task[:1], 2),
        "  init_args:",
        "    model:",
        "      class_path: pyg_schnet.SchNet",
        "      init_args:",
        *_indented(network, 8),
        *_indented(task[1:], 4),
        "data:",
        "  dataset:",
        "    class_path: pyg_schnet.datasets.Trajectory",
        "    init_args:",
        *_indented(_dataset(found, parts, table, format, target, distance), 6),
        *_indented(split, 2),
        f"  batch_size: {plan.batch_size}",
        "trainer:",
        f"  directory: {_run(name).as_posix()}",
        f"  max_steps: {plan.max_steps}  # the learning rate falls to zero at the last step",
        f'  max_time: "{plan.max_time}"  # days:hours:minutes:seconds; whichever comes first',
        f"  validate_every: {plan.validate_every}",
        "  gradient_clip_val: 10.0",
    ]
    return "\n".join(lines) + "\n"


def _target(found: Survey, table: PropertyTable | None, target: str | None) -> str | None:
    """The property to learn, ``None`` for the energy: what is asked for, else of the table, else the energy."""
    energy = found.labels.keys.get("energy")
    if target is None and (table is not None or energy is None):
        target = _only_property(found, table)
    if target is None:
        _check_energy(found)
    elif target == energy:
        target = None
    elif found.gathered.shapes.get(target) != "number":
        raise ValueError(f"--target must be a number of each structure, {_numbers(found) or 'none'}; got {target!r}")
    known = int(np.isfinite(found.energies if target is None else found.gathered.values(target)).sum())
    if known < _FEWEST:
        many, verb = ("", "is") if known == 1 else ("s", "are")
        raise ValueError(
            f"{known} structure{many} with a known {target or 'energy'} {verb} too few to train, validate and test on; "
            f"expected at least {_FEWEST}{_texts(found)}"
        )
    if (different := len(found) - found.duplicates) < _FEWEST:
        raise ValueError(
            f"only {different} of {len(found)} structures differ from one another, too few to train, validate and test "
            f"on; expected at least {_FEWEST}"
        )
    return target


def _which_tables(file: Path) -> str:
    """What is said of tables beside a file."""
    names = [one.name for one in _tables_beside(file)]
    return f" (beside the files: {', '.join(names[:5])}{', ...' * (len(names) > 5)})" if names else ""


def _texts(found: Survey) -> str:
    """What is said of fields with a number and its unit."""
    for name, value in found.gathered.all[0].fields.items():
        if isinstance(value, str) and _WITH_UNIT.fullmatch(value):
            return f"; {name!r} is a text, {value!r}: write the number alone, and name its unit with --energy_unit"
    return ""


def _only_property(found: Survey, table: PropertyTable | None) -> str | None:
    """The property that can be meant without being asked for, of the table if there is one."""
    columns = None if table is None else {name for row in table.rows.values() for name in row}
    forces = found.labels.keys.get("forces")
    if columns is None and forces is not None:
        raise ValueError(
            f"there are forces, {forces!r}, but no field has the name of an energy; the numbers are "
            f"{_numbers(found) or 'none'}: name the energies with --energy_key, or a property to learn with --target"
        )
    named = [*[one for one in [found.labels.keys.get("energy")] if one is not None], *found.properties]
    mine = [one for one in named if (columns is None or one in columns) and not is_bookkeeping(one)]
    if len(mine) > 1:
        raise ValueError(f"{', '.join(mine[:-1])} and {mine[-1]} could be learnt; name one of them with --target")
    return mine[0] if mine else None


def _check_energy(found: Survey) -> None:
    """Check that there are energies to learn, and that it is clear which."""
    if "energy" not in found.labels.keys:
        passed = f" but {', '.join(found.properties)}" if found.properties else ""
        raise ValueError(
            f"there is nothing to learn: no energy and no other number that varies{passed}; the fields are "
            f"{', '.join(sorted(found.gathered.shapes)) or 'none'}; name one with --energy_key or --target, or a table "
            f"of properties with --table{_which_tables(found.files[0])}{_texts(found)}"
        )
    if found.labels.unclear:
        raise ValueError(found.labels.unclear)
    if zeros := len(found.not_calculated):
        raise ValueError(
            f"the energy of {zeros:,} structure{'s' * (zeros > 1)} is exactly 0 and that of others of their "
            "composition is not: they were not calculated, or did not converge; leave them out, or write nan, which "
            "adds nothing to the loss"
        )


def _numbers(found: Survey) -> str:
    return ", ".join(name for name, shape in found.gathered.shapes.items() if shape == "number")


def _has_forces(found: Survey) -> bool:
    return "forces" in found.labels.keys and math.isfinite(found.force_square)


def _stress_label(found: Survey) -> str | None:
    """What stresses are learnt from, if any structure has one."""
    return next((label for label in ("stress", "virial") if label in found.labels.keys), None)


def _learns(found: Survey, target: str | None) -> str:
    """What is learnt, in words."""
    keys = found.labels.keys
    if target is not None:
        return f"{target!r}" + (", not the forces" if _has_forces(found) else "")
    labels = ["energy"]
    if _has_forces(found):
        labels += ["forces", *[label for label in [_stress_label(found)] if label is not None]]
    return ", ".join(f"{label} {keys[label]!r}" for label in labels)


def _potential(found: Survey, forces: bool) -> list[str]:
    """Settings of the task, where energies are learnt."""
    one = found.compositions == 1
    unit = found.units["energy"].unit
    lines = ["class_path: pyg_schnet.training.PotentialTask"]
    if forces:
        weight = recipe.rho(found)
        lines.append(f"rho: {weight.value}  # weight of the energies beside the forces; {weight.why}")
        if _stress_label(found) is not None:
            stress = recipe.rho_stress(found)
            lines.append(f"rho_stress: {stress.value}  # weight of the stresses; {stress.why}")
    else:
        lines.append("forces: false  # there are none to learn from")
    lines.append(f"references: {'mean' if one else 'fit'}  # {_REFERENCES[one]}")
    lines += [f"learning_rate: {'5.0e-3' if one and forces else '2.0e-3'}", "schedule: cosine", "warmup_steps: 100"]
    return [*lines, f"energy_unit: {unit if unit in {'kcal/mol', 'kJ/mol'} else 'meV'}  # of errors in reports"]


_REFERENCES = {
    True: "one composition: mean and spread of the energies",
    False: "an energy of each element by least squares; the network learns the rest",
}


#: Why signs are turned.
_TURNED = {
    "forces": "the file has gradients of the energy",
    "stress": "the file has not ASE's sign",
}


def _property(target: str, unit: str, intensive: recipe.Choice) -> list[str]:
    """Settings of the task, where a property is learnt."""
    return [
        "class_path: pyg_schnet.training.PropertyTask",
        f"targets: [{_quoted(target)}]{'  # ' + unit if unit else ''}",
        "loss: absolute",
        f"references: {'mean' if intensive.value else 'fit'}",
        "learning_rate: 2.0e-3",
        "schedule: cosine",
        "warmup_steps: 100",
    ]


def _network(distance: recipe.Choice, blocks: int) -> list[str]:
    """Settings of the network."""
    return [
        "hidden_channels: 64",
        "num_filters: 64",
        f"num_interactions: {blocks}",
        f"cutoff: {distance.value}  # Angstrom; {distance.why}",
        f"num_gaussians: {round(10 * distance.value)}  # ten in each Angstrom",
        "cutoff_function: polynomial",
        "activate_last: true",
    ]


def _readout(found: Survey, target: str, intensive: recipe.Choice) -> list[str]:
    """Settings of the network that a property needs besides."""
    lines = [f"readout: {'mean' if intensive.value else 'add'}  # {target}: {intensive.why}"]
    if found.periodic:
        lines.append("normalization: smooth  # by the number of neighbours")
    return lines


def _dataset(
    found: Survey,
    parts: dict[str, list[Path]],
    table: str | None,
    format: str | None,
    target: str | None,
    distance: Any,
) -> list[str]:
    """Settings of the data."""
    from pyg_schnet.datasets import Trajectory  # noqa: PLC0415  takes seconds

    own, lines = inspect.signature(Trajectory).parameters, []
    for name, files in parts.items():
        if files:
            lines += _listed("path" if name == "train" else name, files)
    if table is not None:
        lines.append(f"table: {_quoted(Path(table).expanduser().absolute())}")
    for label in ("energy", "forces", "stress", "virial"):
        key = found.labels.keys.get(label)
        if key is not None and key != own[f"{label}_key"].default:
            lines.append(f"{label}_key: {_quoted(key)}")
        elif key is None and label in found.placeholders and label != "virial":
            lines.append(f"{label}_key: null  # {found.placeholders[label]}")
    for name in ("energy", "length"):
        unit = found.units[name]
        if ((name == "length" or "energy" in found.labels.keys) and target is None) or unit.unit not in {"eV", "Ang"}:
            lines.append(
                f"{name}_unit: {unit.unit}  # {'' if unit.sure else 'assumed, change it here if it is not: '}"
                f"{unit.why.removeprefix('assumed; ')}"
            )
    forces, quotient = found.units["forces"], f"{found.units['energy'].unit}/{found.units['length'].unit}"
    if "forces" in found.labels.keys and forces.unit != quotient:
        lines.append(f"forces_unit: {forces.unit}  # {'' if forces.sure else 'assumed: '}{forces.why}")
    turned = {name: sign for name, sign in found.signs.items() if sign != 1 and target is None}
    lines += [f"{name}_sign: {sign}  # {_TURNED[name]}" for name, sign in turned.items()]
    if (stress := found.units.get("stress")) is not None and target is None:
        lines.append(f"stress_unit: {stress.unit}  # {'' if stress.sure else 'assumed; '}{stress.why}")
    if found.periodic and math.isfinite(found.room) and found.room > distance.value and _stress_label(found) is None:
        lines.append(f"pbc: false  # images are {found.room:.1f} Ang apart, beyond the cutoff: the box changes nothing")
    if found.gathered.without_cell:
        lines.append("pbc: false  # there are periodic axes but no lattice vectors")
    return lines + ([] if format is None else [f"format: {format}"])


def _split(found: Survey, parts: dict[str, list[Path]]) -> tuple[list[str], int]:
    """Settings of the split, and how many structures there are to train."""
    size = found.gathered.total
    gap = found.near[1]
    if parts["test"] or parts["val"]:
        lines, train = ["split: files  # each part has files of its own"], found.parts["train"]
        if not parts["val"]:
            held = max(1, train // 10)
            lines += [f"num_val: {held}  # runs of frames of the files to train", f"gap: {gap}"]
            train -= held
        return lines, train
    key = found.group_key
    counts = np.array([*Counter(found.group_of).values()])
    if len(counts) >= 10 and counts.max() <= len(found) / 10:
        lines = [f"split: group  # {len(counts)} groups by {key or 'composition'}; none is in two parts"]
        lines += [f"group_key: {_quoted(key)}"] * (key is not None)
        return [*lines, "num_train: 0.75", "num_val: 0.1"], int(0.75 * size)
    if (runs := _runs(found)) is not None:
        of_each, blocks, left_out = runs
        why = "runs of frames"
        if left_out:
            why += f", {left_out} frames between parts left out: neighbours resemble each other"
        if left_out < gap:
            why += f"; they forget after {gap} frames, so many more frames would be better"
        val = 1 / of_each
        lines = [f"split: block  # {why}", f"num_train: {1 - 2 * val:g}", f"num_val: {val:g}", f"gap: {left_out}"]
        lines += [f"blocks: {blocks}"] * (blocks != 10)
        return lines, int((1 - 2 * val) * size) - (of_each - 2) * (blocks // of_each) * left_out
    held = max(1, size // 10)
    return ["split: random", f"num_train: {size - 2 * held}", f"num_val: {held}"], size - 2 * held


def _runs(found: Survey) -> tuple[int, int, int] | None:
    """How a trajectory, or one of a few compositions, is cut into runs of frames.

    Returns:
        Runs of each composition that is there often, runs in all, and frames to leave out between parts: as many as it
        takes to forget, but at most half of a run; ``None`` where there are too few frames or too many compositions.
    """
    size, gap = found.gathered.total, found.near[1]
    often = sum(count >= _OFTEN * len(found) for count in Counter(found.gathered.formulas).values())
    if not 1 <= often < 10:
        return None
    for of_each in _RUNS if gap else _RUNS[:1]:
        length = size // (of_each * often)
        if length >= _SHORTEST_RUN and (gap <= length // 2 or of_each == _RUNS[-1]):
            return of_each, of_each * often, min(gap, length // 2)
    return None


def _name(found: Survey, named: tuple[str, ...]) -> str:
    """Name of the folder of the run, one that no other run has."""
    first = Path(named[0])
    stem = first.name if first.is_dir() or not first.exists() else first.stem
    stem = _PART.sub("", stem) if len(found.parts) > 1 else stem
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "own"
    free = (
        one for number in itertools.count(1) if not _run(one := name if number == 1 else f"{name}-{number}").exists()
    )
    return next(free)


def _run(name: str) -> Path:
    """Folder of the run of a name."""
    return Path("results", name)


def _next(found: Survey, path: Path, text: str, parts: dict[str, list[Path]]) -> str:
    """What to do next."""
    run = next(line.split(":", 1)[1].strip() for line in text.splitlines() if line.strip().startswith("directory:"))
    first = (parts["test"] or parts["train"])[0]
    shown = _shown(first)
    lines = [
        f"\n{path} is written; next:",
        f"  pyg-schnet fit --config {_shown(path)}",
        f"  pyg-schnet test --config {run}/config.yaml",
    ]
    if (length := found.units["length"].unit) != "Ang":
        lines.append(f"md and predict take structures in Angstrom; these are in {length}: convert them before.")
    elif "PotentialTask" in text and "forces: false" not in text:
        lines.append(f"  pyg-schnet md {run} {shown} --index 0 --steps 2000 --temperature 300")
    else:
        inside = _shown(first.parent) if len(found.files) > 1 else shown
        lines.append(f"  pyg-schnet predict --config {run}/config.yaml --input {inside} --output predictions.csv")
    if any(not unit.sure for name, unit in found.units.items() if name == "energy" and "PotentialTask" in text):
        lines.append(f"The unit of energy is assumed to be {found.units['energy'].unit}; --energy_unit changes it.")
    return "\n".join(lines)


def _shown(path: Path) -> str:
    """A path as a shell takes it."""
    return shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


def _listed(name: str, files: list[Path]) -> list[str]:
    """A path, a folder where that is all of it, or a list of paths."""
    if len(files) == 1:
        return [f"{name}: {_quoted(files[0])}"]
    folders = {file.parent for file in files}
    if len(folders) == 1 and files_of(folder := folders.pop()) == files:
        return [f"{name}: {_quoted(folder)}"]
    return [f"{name}:", *(f"  - {_quoted(file)}" for file in files)]


def _quoted(value: object) -> str:
    text = str(value)
    plain = re.fullmatch(r"[A-Za-z/][A-Za-z0-9_./-]*", text) and text.lower() not in {
        "true",
        "false",
        "null",
        "yes",
        "no",
        "on",
        "off",
    }
    return text if plain else "'" + text.replace("'", "''") + "'"


def _indented(lines: list[str], spaces: int) -> list[str]:
    return [" " * spaces + line for line in lines]
