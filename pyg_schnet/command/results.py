"""What a trained model is worth: reports of its errors."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch_geometric.data import Dataset

from pyg_schnet.analysis import Report, TargetErrors, evaluate
from pyg_schnet.models import AtomisticModel, Committee, load, read_header
from pyg_schnet.models.model_folder import FILE
from pyg_schnet.models.places import place_of
from pyg_schnet.models.published import PUBLISHED
from pyg_schnet.training import PotentialTask, TrainingTask
from pyg_schnet.units import FORCE

Trained = AtomisticModel | Committee


def holds_trained(folder: Path) -> bool:
    """True if a folder holds a trained model or the members of a committee."""
    return (folder / FILE).is_file() or any(folder.glob(f"member_*/{FILE}"))


def load_trained(directory: Path, weights: str | None = None, read: Callable[[str], Trained] = load) -> Trained:
    """The model of a run, or the committee.

    Args:
        directory: Folder of the run.
        weights: Whatever :func:`pyg_schnet.load` reads, instead.
        read: What reads it.

    Returns:
        What was trained.

    Raises:
        FileNotFoundError: If nothing was trained there.
        ValueError: If a file is damaged.
    """
    if weights is not None:
        return read(weights)
    try:
        return load(directory)
    except FileNotFoundError as error:
        if any(directory.glob("member_*")):  # which says what its members lack
            raise
        raise FileNotFoundError(
            f"{directory} holds no trained model; train one with `pyg-schnet fit`, or name its file (weights)"
        ) from error


def write_report(
    task: TrainingTask,
    data: Any,
    part: str,
    trained: Trained,
    folder: Path,
    unit: str | None,
    steps: dict[str, Any],
) -> Path:
    """Evaluate a trained model and write numbers, tables and figures.

    Args:
        task: The task it was trained for.
        data: The data module.
        part: Which examples.
        trained: The model or committee.
        folder: Where to write.
        unit: Unit of energies; ``None`` for that of the task, and as the data say for scalar properties.
        steps: Facts of training, see :func:`facts_of_training`.

    Returns:
        The folder.
    """
    dataset = data.part(part)
    targets = None if isinstance(task, PotentialTask) else task.names
    members: list[Any] = list(trained.members) if isinstance(trained, Committee) else [trained]
    single = [evaluate(member, dataset, targets) for member in members]
    errors = [_mean(of_all) for of_all in zip(*single, strict=True)]
    if targets is None:
        unit = unit or str(task.hparams["energy_unit"])
        errors = _with_energy_per_atom(errors, members[0])
    if unit is not None:
        errors = [one.converted(_energy_in(one, unit)) for one in errors]
    facts = _facts(task, data, part, dataset) | steps | _spread(single)
    Report(f"{facts['dataset']} {facts.get('molecule', '')}: {part}".replace(" :", ":"), facts, errors).write(folder)
    return folder


def _mean(of_members: tuple[TargetErrors, ...]) -> TargetErrors:
    if len(of_members) == 1:
        return of_members[0]
    alone = [one.references for one in of_members if one.references is not None]
    references = np.mean(alone, axis=0) if alone else None
    return replace(
        of_members[0], predicted=np.mean([one.predicted for one in of_members], axis=0), references=references
    )


def _with_energy_per_atom(errors: list[TargetErrors], model: Any) -> list[TargetErrors]:
    """The energy per atom behind the energy, where that is a sum over atoms."""
    found = []
    for one in errors:
        found.append(one)
        if one.name == "energy" and one.atoms is not None and model.config["readout"] != "mean":
            found.append(one.per_atom())
    return found


def _spread(single: list[list[TargetErrors]]) -> dict[str, Any]:
    """How far members of a committee differ, and how their own errors are."""
    if len(single) == 1:
        return {}
    facts: dict[str, Any] = {"members": len(single)}
    for of_all in zip(*single, strict=True):
        spread = np.std([one.predicted for one in of_all], axis=0, ddof=1)
        facts[f"{of_all[0].name}_mean_spread [{of_all[0].unit}]"] = float(spread.mean())
        facts[f"{of_all[0].name}_mae_of_members [{of_all[0].unit}]"] = [one.metrics()["mae"] for one in of_all]
    return facts


def _energy_in(target: TargetErrors, unit: str) -> str:
    if target.name == "forces" or target.unit in FORCE:
        return f"{unit}/Ang"
    if target.unit.endswith("/atom"):
        return f"{unit}/atom"
    return unit if target.name != "stress" else target.unit


def _facts(task: TrainingTask, data: Any, part: str, dataset: Dataset) -> dict[str, Any]:
    facts: dict[str, Any] = {"dataset": type(data.dataset).__name__}
    for name in ("molecule", "name"):
        if isinstance(getattr(data.dataset, name, None), str):
            facts[name] = getattr(data.dataset, name)
    facts |= {"part": part, "structures": len(dataset), "num_train": len(data.split["train"])}
    if isinstance(task, PotentialTask):
        facts["trained_on"] = "energy and forces" if task.hparams["forces"] else "energy"
        if task.hparams["forces"] and task.hparams["rho"] == 0:
            facts["trained_on"] = "forces"
    return facts | {"split": data.split.made}


def facts_of_training(directory: Path, weights: str | None = None) -> dict[str, Any]:
    """Steps, time and seed from the header of a model file.

    Args:
        directory: Folder of the run.
        weights: What was named instead: a path, a name or an address.

    Returns:
        Facts by name; none for a committee, a checkpoint or a model that was not trained here.
    """
    if weights is not None and weights in PUBLISHED and not Path(weights).exists():
        return {}
    path = directory if weights is None else place_of(weights)
    path = path / FILE if path.is_dir() else path
    if not path.is_file() or path.suffix == ".ckpt":
        return {}
    training = read_header(path).get("training", {})
    return {name: training[name] for name in ("steps", "best_step", "seconds", "seed") if name in training}
