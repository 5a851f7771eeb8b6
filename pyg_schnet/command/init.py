"""``pyg-schnet init``: from files of one's own to settings that train on them."""

import inspect
import itertools
import math
import re
import shlex
from pathlib import Path
from typing import Any

from pyg_schnet.command import recipe
from pyg_schnet.command.own_split import split_of
from pyg_schnet.command.to_learn import has_forces, learns, stress_label, tables_beside, target_of
from pyg_schnet.command.yaml_words import quoted
from pyg_schnet.datasets.own_files import files_of, passed_over
from pyg_schnet.datasets.property_table import PropertyTable, read_table
from pyg_schnet.datasets.survey import survey
from pyg_schnet.datasets.survey_table import WIDTH, in_words
from pyg_schnet.datasets.surveyed import Survey
from pyg_schnet.files import replacing

#: Names of files that say which part of a split they are for.
_PART = re.compile(r"(?:^|[_\-. ])(train|training|val|valid|validation|test|testing)(?:[_\-. ]|$)", re.IGNORECASE)


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
    target = target_of(found, properties, target)
    text = _settings(found, parts, table, properties, target, format, path, files)
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
    print(f"{'learns':{WIDTH}} {learns(found, target)}")
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
        beside = tables_beside(first) if first.suffix.lower() == ".cif" else []
        table = str(beside[0]) if len(beside) == 1 else None
    if not val and not test:
        named = {file: _PART.search(file.stem) for file in parts["train"]}
        words = {file: match[1].lower() for file, match in named.items() if match}
        by_part = {part: [file for file, word in words.items() if word.startswith(part)] for part in parts}
        if by_part["train"] and sum(map(len, by_part.values())) == len(named):
            parts = by_part
    return parts, table


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
    split, num_train = split_of(found, parts)
    forces = target is None and has_forces(found)
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


def _potential(found: Survey, forces: bool) -> list[str]:
    """Settings of the task, where energies are learnt."""
    one = found.compositions == 1
    unit = found.units["energy"].unit
    lines = ["class_path: pyg_schnet.training.PotentialTask"]
    if forces:
        weight = recipe.rho(found)
        lines.append(f"rho: {weight.value}  # weight of the energies beside the forces; {weight.why}")
        if stress_label(found) is not None:
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
        f"targets: [{quoted(target)}]{'  # ' + unit if unit else ''}",
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
        lines.append(f"table: {quoted(Path(table).expanduser().absolute())}")
    for label in ("energy", "forces", "stress", "virial"):
        key = found.labels.keys.get(label)
        if key is not None and key != own[f"{label}_key"].default:
            lines.append(f"{label}_key: {quoted(key)}")
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
    if found.periodic and math.isfinite(found.room) and found.room > distance.value and stress_label(found) is None:
        lines.append(f"pbc: false  # images are {found.room:.1f} Ang apart, beyond the cutoff: the box changes nothing")
    if found.gathered.without_cell:
        lines.append("pbc: false  # there are periodic axes but no lattice vectors")
    return lines + ([] if format is None else [f"format: {format}"])


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
        return [f"{name}: {quoted(files[0])}"]
    folders = {file.parent for file in files}
    if len(folders) == 1 and files_of(folder := folders.pop()) == files:
        return [f"{name}: {quoted(folder)}"]
    return [f"{name}:", *(f"  - {quoted(file)}" for file in files)]


def _indented(lines: list[str], spaces: int) -> list[str]:
    return [" " * spaces + line for line in lines]
