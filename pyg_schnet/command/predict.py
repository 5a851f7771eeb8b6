"""Predictions for a file or a part of the data, written beside what is known."""

import glob
import itertools
import json
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data, Dataset
from tqdm import tqdm

from pyg_schnet.command.lengths import check_scale
from pyg_schnet.command.pieces import Pieces, is_marked, mark
from pyg_schnet.command.predictor import POTENTIAL_UNITS, Predictor, Trained, batches
from pyg_schnet.command.shards import Shard
from pyg_schnet.command.structures import with_charge
from pyg_schnet.command.writers import Row, Writer, writer_for
from pyg_schnet.datasets import as_dataset
from pyg_schnet.datasets.crystal import is_shared
from pyg_schnet.datasets.sequence import name_of
from pyg_schnet.datasets.targets import find_target
from pyg_schnet.training import TrainingTask
from pyg_schnet.units import conversion

#: Structures of a piece of the predictions, and seconds that one may take.
PIECE, SECONDS = 20_000, 60.0
#: Version of the pieces; those of another one are not gone on with.
FORMAT = 2


class _Structure(NamedTuple):
    """A structure to predict: its number, ASE's object for it when asked for, what is known of it, and its file."""

    number: int
    data: Data
    atoms: Callable[[], Any]
    known: Callable[[], dict[str, Any]]
    file: str = ""


def predict_file(
    task: TrainingTask,
    trained: Trained,
    source: Path,
    path: Path,
    overwrite: bool = False,
    strict: bool = False,
    shard: Shard | None = None,
) -> Path:
    """Predict the structures of files that ASE reads, a portion at a time, and write them with what was predicted.

    Neither the structures nor the predictions have to fit into memory. What was interrupted goes on behind the last
    piece of the predictions that is on the disk, when it is asked for again.

    Crystals with sites occupied in part are left out, as they are in training, and so are those of several files that
    cannot be read; structures keep their numbers.

    Args:
        task: The task the model was trained for.
        trained: The model or committee.
        source: A file, a folder or a pattern (:func:`~pyg_schnet.datasets.own_files.files_of`), with or without labels.
        path: File to write, see :func:`~pyg_schnet.command.writers.writer_for`; it appears when it is whole.
        overwrite: True to replace a file that is there.
        strict: True to refuse elements that the model was never trained on, and structures that seem not to be in
            Angstrom.
        shard: Share of the structures; its file has a name of its own. One that is there is left as it is.

    Returns:
        The path of the file.

    Raises:
        FileNotFoundError: If there is no such file to read.
        FileExistsError: If there is one to write, and it is not to be replaced.
        ImportError: If ASE is missing.
        ValueError: If a structure cannot be read or predicted, with its number, or none is left; no file is written
            then.

    Warns:
        UserWarning: If something is left out, or the structures seem not to be in Angstrom.
    """
    from pyg_schnet.datasets.ase_files import units_of  # noqa: PLC0415
    from pyg_schnet.datasets.own_files import (  # noqa: PLC0415
        check_lengths,
        count_all,
        files_of,
        passed_over,
        structures_or_damage,
    )
    from pyg_schnet.simulation.structures import atoms_to_data  # noqa: PLC0415

    if not source.exists() and not glob.has_magic(str(source)):
        raise FileNotFoundError(f"there is no file {source} with structures to predict")
    files = files_of(source)
    check_lengths(files)
    if names := [file.name for file in passed_over(source)]:
        print(f"not read in {source}: {', '.join(names[:5])}{', ...' * (len(names) > 5)}", flush=True)
    if path.exists() and any(path.samefile(file) for file in files):
        raise ValueError(f"the predictions would replace the structures they are for; name another file than {source}")
    predictor, shard = Predictor(task, trained, strict), shard or Shard()
    counted = cache(partial(count_all, files, with_damage=True))  # which may be to look through all of them

    left_out = _LeftOut([], [])
    factor = cache(lambda file: conversion(units_of(file).get("energy", "eV"), "eV"))

    def structures(start: int, stop: int | None) -> Iterator[_Structure]:
        place, skipped = 0, start
        if start:  # in which file that is
            counts = counted()
            while place < len(files) - 1 and skipped >= counts[place]:
                skipped -= counts[place]
                place += 1
        reads = structures_or_damage(files, show=False, start=(place, skipped))
        some = itertools.islice(reads, None if stop is None else stop - start)
        for place, (file, number, read) in enumerate(some, start):
            name = f"{file if len(files) > 1 else source}, structure {number}"
            if isinstance(read, ValueError):
                left_out.damaged.append(read)
            elif is_shared(read.of_structure.get("occupancy")):
                left_out.partly_occupied.append(file.name if len(files) > 1 else name)
            else:
                with _named(name):
                    data = atoms_to_data(with_charge(read), predictor.dtype)
                known = partial(_numbers, read, factor(file))
                yield _Structure(place, data, partial(_same, read.atoms), known, file.name * (len(files) > 1))

    def look(portion: list[_Structure]) -> None:
        check_scale(predictor.model.training_sets, [one.atoms() for one in portion], str(source), strict)

    identity = {"files": [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files]}
    total = sum(counted()) if shard.of > 1 else None
    return _written(_Job(predictor, structures, str(source), shard, total, identity, left_out, look), path, overwrite)


def predict_part(
    task: TrainingTask,
    dataset: Dataset,
    trained: Trained,
    path: Path,
    overwrite: bool = False,
    strict: bool = False,
    shard: Shard | None = None,
) -> Path:
    """Predict structures of a dataset, labelled or not.

    Args:
        task: The task the model was trained for.
        dataset: The structures.
        trained: The model or committee.
        path: File to write, see :func:`~pyg_schnet.command.writers.writer_for`; it appears when it is whole.
        overwrite: True to replace a file that is there.
        strict: True to refuse elements that the model was never trained on.
        shard: Share of the structures; its file has a name of its own. One that is there is left as it is.

    Returns:
        The path of the file.

    Raises:
        FileExistsError: If there is a file already, and it is not to be replaced.
        ValueError: If a structure cannot be predicted, with its number; no file is written then.
    """
    predictor = Predictor(task, trained, strict)

    def structures(start: int, stop: int | None) -> Iterator[_Structure]:
        for number in range(start, len(dataset) if stop is None else stop):
            data = dataset[number]
            yield _Structure(number, data, partial(_atoms_of, data), partial(_labels, dataset, predictor.names, data))

    what, identity = type(dataset).__name__, {"dataset": name_of(as_dataset(dataset))}
    return _written(
        _Job(predictor, structures, what, shard or Shard(), len(dataset), identity, _LeftOut([], [])), path, overwrite
    )


class _LeftOut(NamedTuple):
    """What is not predicted: why files cannot be read, and names of crystals with sites occupied in part."""

    damaged: list[ValueError]
    partly_occupied: list[str]

    def __str__(self) -> str:
        parts = []
        if self.damaged:
            more = f", and {len(self.damaged) - 3:,} more" if len(self.damaged) > 3 else ""
            parts.append(f"{_many(len(self.damaged), 'file')}: {'; '.join(map(str, self.damaged[:3]))}{more}")
        if names := self.partly_occupied:
            few = ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")
            parts.append(f"{_many(len(names), 'crystal')} with sites occupied in part: {few}")
        return "; ".join(parts)


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' if count > 1 else ''}"


class _Job(NamedTuple):
    """What is predicted.

    Attributes:
        predictor: Who predicts.
        structures: Gives the structures from one number to another.
        what: What they are called in errors.
        shard: Share of the structures.
        total: Number of all structures, ``None`` if it is not known.
        source: What tells the structures from others.
        left_out: What is not predicted; structures fill it while they are read.
        look: Looks at the first structures before they are predicted.
    """

    predictor: Predictor
    structures: Callable[[int, int | None], Iterator[_Structure]]
    what: str
    shard: Shard
    total: int | None
    source: dict[str, Any]
    left_out: _LeftOut
    look: Callable[[list[_Structure]], None] = lambda portion: None

    def identity(self, path: Path) -> str:
        """What tells these predictions from others."""
        about = [self.predictor.identity, self.source, self.total, self.shard[:2], path.suffix]
        return json.dumps([FORMAT, *about])


def _written(job: _Job, path: Path, overwrite: bool) -> Path:
    make, path = writer_for(path), job.shard.path(path)
    identity, is_shard = job.identity(path), job.shard.of > 1
    if path.exists() and not overwrite:
        if is_shard and is_marked(path, identity):
            print(f"shard {job.shard.number}/{job.shard.of} is there already, nothing to do", flush=True)
            return path
        of_others = ", of another model or other structures" if is_shard else ""
        raise FileExistsError(
            f"{path} is there already{of_others}; choose another --output, or replace it with --overwrite true"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    places = None if job.total is None else job.shard.places(job.total)
    first, stop = (0, None) if places is None else (places.start, places.stop)
    if is_shard and not places:
        raise ValueError(f"{job.what} has {job.total} structures, too few for {job.shard.of} shards; ask for fewer")
    pieces = Pieces(path, identity, first)
    number = pieces.done
    if number > first:
        print(f"going on behind {number - first:,} structures that were predicted before ...", flush=True)
    structures = job.structures(number, stop) if stop is None or number < stop else iter(())
    portions = _looked_at(batches(structures, lambda one: one.data.z.numel()), job.look)
    total = None if places is None else len(places)
    with tqdm(None, "predicting", total, initial=number - first, unit="structure", leave=False) as bar:
        while (portion := next(portions, None)) is not None:
            with pieces.next() as part, make(part, job.predictor.units, job.predictor.is_total) as writer:
                begun, end = time.monotonic(), number + PIECE
                while portion is not None:
                    number = _write(job, writer, portion)
                    bar.update(len(portion))
                    is_full = number >= end or time.monotonic() - begun > SECONDS
                    portion = None if is_full else next(portions, None)
            pieces.keep(number)
    left_out = str(job.left_out)
    if number == first:
        raise ValueError(f"no structure of {job.what} is left to predict; left out are {left_out or 'none'}")
    pieces.finish()
    if left_out:
        warnings.warn(f"left out are {left_out}", stacklevel=3)
    if is_shard:
        mark(path, identity)
    return path


def _looked_at(portions: Iterator[list[_Structure]], look: Callable[[list[_Structure]], None]) -> Iterator[Any]:
    """Portions, the first of which is looked at."""
    for place, portion in enumerate(portions):
        if place == 0:
            look(portion)
        yield portion


def _write(job: _Job, writer: Writer, portion: list[_Structure]) -> int:
    """Predict and write a portion.

    Returns:
        Number of the structure behind it.
    """
    for one, predicted in zip(portion, _predicted(job.predictor, portion, job.what), strict=True):
        known = {name: value for name, value in one.known().items() if _fits(value, predicted.get(name))}
        writer.write(Row(one.number, one.data, one.atoms, known, predicted, one.file))
    return portion[-1].number + 1


def _predicted(predictor: Predictor, portion: list[_Structure], what: str) -> list[dict[str, Any]]:
    """Predictions of a portion; if they fail, of each by itself, to say which one it is."""
    try:
        return predictor.each([one.data for one in portion])
    except (ValueError, TypeError):
        found = []
        for one in portion:
            with _named(f"{what}, structure {one.number}"):
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
    """True if what a file knows is of a target and has its shape."""
    return predicted is not None and np.shape(known) == np.shape(predicted)


def _numbers(read: Any, factor: float) -> dict[str, Any]:
    """Those fields of a structure in a file that are numbers, stresses as matrices, energies times a factor."""
    found: dict[str, Any] = {}
    for name, value in read.fields().items():
        try:
            array = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError):
            continue
        if name == "stress" and array.shape == (6,):
            array = array[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3)
        found[name] = array * (factor if name in POTENTIAL_UNITS else 1.0)
    return found
