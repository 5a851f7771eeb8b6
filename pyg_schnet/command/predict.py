"""Predictions for a file or a part of the data, written beside what is known."""

import glob
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data, Dataset
from tqdm import tqdm

from pyg_schnet.command.predictor import Predictor, Trained, batches
from pyg_schnet.command.writers import Row, writer_for
from pyg_schnet.datasets.targets import find_target
from pyg_schnet.files import replacing
from pyg_schnet.training import TrainingTask


class _Structure(NamedTuple):
    """A structure to predict, ASE's object for it when that is asked for, what is known of it, and its file."""

    data: Data
    atoms: Callable[[], Any]
    known: Callable[[], dict[str, Any]]
    file: str = ""


def predict_file(
    task: TrainingTask, trained: Trained, source: Path, path: Path, overwrite: bool = False, strict: bool = False
) -> Path:
    """Predict the structures of files that ASE reads, a portion at a time, and write them with what was predicted.

    Args:
        task: The task the model was trained for.
        trained: The model or committee.
        source: A file, a folder or a pattern (:func:`~pyg_schnet.datasets.own_files.files_of`), with or without labels.
        path: File to write, see :func:`~pyg_schnet.command.writers.writer_for`; it appears when it is whole.
        overwrite: True to replace a file that is there.
        strict: True to refuse elements that the model was never trained on.

    Returns:
        The path.

    Raises:
        FileNotFoundError: If there is no such file to read.
        FileExistsError: If there is one to write, and it is not to be replaced.
        ImportError: If ASE is missing.
        ValueError: If a structure cannot be read or predicted, with its number; nothing is written then.
    """
    from pyg_schnet.datasets.own_files import files_of, structures_of  # noqa: PLC0415
    from pyg_schnet.simulation.structures import atoms_to_data  # noqa: PLC0415

    if not source.exists() and not glob.has_magic(str(source)):
        raise FileNotFoundError(f"there is no file {source} with structures to predict")
    files = files_of(source)
    if path.exists() and any(path.samefile(file) for file in files):
        raise ValueError(f"the predictions would replace the structures they are for; name another file than {source}")
    predictor = Predictor(task, trained, strict)

    def structures() -> Iterator[_Structure]:
        for file, number, read in structures_of(files, show=False):
            with _named(f"{file if len(files) > 1 else source}, structure {number}"):
                data = atoms_to_data(read.atoms, predictor.dtype)
            yield _Structure(data, partial(_same, read.atoms), partial(_numbers, read), file.name * (len(files) > 1))

    return _written(predictor, structures(), str(source), path, overwrite)


def predict_part(
    task: TrainingTask,
    dataset: Dataset,
    trained: Trained,
    path: Path,
    overwrite: bool = False,
    strict: bool = False,
) -> Path:
    """Predict structures of a dataset, labelled or not.

    Args:
        task: The task the model was trained for.
        dataset: The structures.
        trained: The model or committee.
        path: File to write, see :func:`~pyg_schnet.command.writers.writer_for`; it appears when it is whole.
        overwrite: True to replace a file that is there.
        strict: True to refuse elements that the model was never trained on.

    Returns:
        The path.

    Raises:
        FileExistsError: If there is a file already, and it is not to be replaced.
        ValueError: If a structure cannot be predicted, with its number; nothing is written then.
    """
    predictor = Predictor(task, trained, strict)

    def structures() -> Iterator[_Structure]:
        for number in range(len(dataset)):
            data = dataset[number]
            yield _Structure(data, partial(_atoms_of, data), partial(_labels, dataset, predictor.names, data))

    return _written(predictor, structures(), type(dataset).__name__, path, overwrite, len(dataset))


def _written(
    predictor: Predictor,
    structures: Iterator[_Structure],
    what: str,
    path: Path,
    overwrite: bool,
    total: int | None = None,
) -> Path:
    make = writer_for(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} is there already; choose another --output, or replace it with --overwrite true")
    path.parent.mkdir(parents=True, exist_ok=True)
    number = 0
    with (
        replacing(path) as part,
        make(part, predictor.units, predictor.is_total) as writer,
        tqdm(None, "predicting", total, unit="structure", leave=False) as bar,
    ):
        for portion in batches(structures, lambda one: one.data.z.numel()):
            for one, predicted in zip(portion, _predicted(predictor, portion, what, number), strict=True):
                known = {name: value for name, value in one.known().items() if _fits(value, predicted.get(name))}
                writer.write(Row(number, one.data, one.atoms, known, predicted, one.file))
                number += 1
            bar.update(len(portion))
    return path


def _predicted(predictor: Predictor, portion: list[_Structure], what: str, first: int) -> list[dict[str, Any]]:
    """Predictions of a portion; if they fail, of each by itself, to say which one it is."""
    try:
        return predictor.each([one.data for one in portion])
    except (ValueError, TypeError):
        found = []
        for place, one in enumerate(portion):
            with _named(f"{what}, structure {first + place}"):
                found += predictor.each([one.data])
        return found


class _named:  # noqa: N801  reads as a function
    """Says which structure an error is about."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, (ValueError, TypeError)):
            raise ValueError(f"{self.name} cannot be predicted: {error}") from None


def _atoms_of(data: Data) -> Any:
    from pyg_schnet.simulation.structures import data_to_atoms  # noqa: PLC0415  needs ASE

    return data_to_atoms(data)


def _labels(dataset: Any, names: list[str], data: Data) -> dict[str, Any]:
    """Labels of a structure of a dataset, as far as it has them."""
    labels: dict[str, Any] = {}
    for name in names:
        try:
            value: Any = find_target(dataset, name).values(data) if name not in {"forces", "stress"} else data.get(name)
        except ValueError:
            continue
        if isinstance(value, Tensor) and not bool(torch.isnan(value).all()):
            array = value.double().numpy()
            labels[name] = array if name == "forces" else np.squeeze(array)
    return labels


def _same(atoms: Any) -> Any:
    return atoms


def _fits(known: Any, predicted: Any) -> bool:
    """True if what a file calls by the name of a target has its shape."""
    return np.shape(known) == np.shape(predicted)


def _numbers(read: Any) -> dict[str, Any]:
    """Those fields of a structure in a file that are numbers, stresses as matrices."""
    found: dict[str, Any] = {}
    for name, value in read.fields().items():
        try:
            array = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError):
            continue
        if name == "stress" and array.shape == (6,):
            array = array[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3)
        found[name] = array
    return found
