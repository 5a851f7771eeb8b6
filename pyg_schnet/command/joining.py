"""Files of predictions, one after another, as one file; a piece at a time is in memory."""

import csv
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pyg_schnet.command.npz import Column, write_npz
from pyg_schnet.command.writers import KNOWN, PREFIX


def join_files(files: Sequence[Path], path: Path) -> None:
    """Write what some files of predictions hold, in order, into one.

    Args:
        files: Files of the same kind, as ``predict`` writes them.
        path: File to write.

    Raises:
        ValueError: If its suffix is none of those with a place for predictions.
        OSError: If it cannot be written.
    """
    if path.suffix.lower() not in _JOINS:
        raise ValueError(f"expected a file that ends in one of {', '.join(_JOINS)}, got {path.name}")
    if len(files) == 1:
        shutil.copyfile(files[0], path)
        return
    _JOINS[path.suffix.lower()](files, path)


def _bytes(files: Sequence[Path], path: Path) -> None:
    with path.open("wb") as target:
        for file in files:
            with file.open("rb") as source:
                shutil.copyfileobj(source, target, 1 << 24)


def _comma(files: Sequence[Path], path: Path) -> None:
    columns: dict[str, None] = {}
    for file in files:
        with file.open(encoding="utf-8", newline="") as source:
            columns |= dict.fromkeys(next(csv.reader(source)))
    with path.open("w", encoding="utf-8", newline="") as target:
        lines = csv.writer(target)
        lines.writerow(columns)
        for file in files:
            with file.open(encoding="utf-8", newline="") as source:
                rows = csv.reader(source)
                places = {name: place for place, name in enumerate(next(rows))}
                wanted = [places.get(name) for name in columns]
                lines.writerows(["" if place is None else row[place] for place in wanted] for row in rows)


def _json(files: Sequence[Path], path: Path) -> None:
    units: dict[str, str] = {}
    for file in files:
        units |= json.loads(file.read_text(encoding="utf-8"))["units"]
    with path.open("w", encoding="utf-8") as target:
        target.write(f'{{"units": {json.dumps(units)}, "structures": [')
        comma = ""
        for file in files:
            for row in json.loads(file.read_text(encoding="utf-8"))["structures"]:
                target.write(comma + json.dumps(row))
                comma = ", "
        target.write("]}")


def _arrays(files: Sequence[Path], path: Path) -> None:
    """Column by column; compressed, as numpy does it."""
    names: dict[str, None] = {}
    units: dict[str, str] = {}
    for file in files:
        with np.load(file, allow_pickle=False) as arrays:
            bare = {name.removeprefix(PREFIX) for name in arrays.files if name.startswith(PREFIX)}
            names |= dict.fromkeys(name for name in arrays.files if name not in bare | {"units"})
            units |= json.loads(str(arrays["units"]))
    pairs = [(name, name) for name in names]
    pairs += [(name.removeprefix(PREFIX), name) for name in names if name.startswith(PREFIX)]
    ordered = {new: units[new] for new, _ in pairs if new in units}
    columns: list[Column] = [(new, partial(_column, files, name)) for new, name in pairs]
    write_npz(path, [*columns, ("units", lambda: iter([np.array(json.dumps(ordered))]))])


def _column(files: Sequence[Path], name: str) -> Iterator[Any]:
    """An array of each file; NaN where a file has none."""
    is_of_atoms = name.removeprefix(PREFIX).removeprefix(KNOWN).startswith("forces")
    shape: tuple[int, ...] | None = None
    for file in files:
        with np.load(file, allow_pickle=False) as arrays:
            if name in arrays.files:
                yield arrays[name]
                continue
            sizes = arrays["atoms"]
        if shape is None:
            shape = next(one.shape[1:] for one in map(_array(name), files) if one is not None)
        yield np.full((int(sizes.sum()) if is_of_atoms else len(sizes), *shape), np.nan)


def _array(name: str) -> Callable[[Path], Any]:
    def read(file: Path) -> Any:
        with np.load(file, allow_pickle=False) as arrays:
            return arrays[name] if name in arrays.files else None

    return read


def _trajectory(files: Sequence[Path], path: Path) -> None:
    from ase.io.trajectory import TrajectoryReader, TrajectoryWriter  # noqa: PLC0415

    with TrajectoryWriter(str(path), "w") as target:
        for file in files:
            with TrajectoryReader(str(file)) as source:
                for atoms in source:
                    target.write(atoms)


def _database(files: Sequence[Path], path: Path) -> None:
    from ase.db import connect  # noqa: PLC0415

    from pyg_schnet.datasets.ase_files import database_rows  # noqa: PLC0415

    with connect(str(path), type="db", use_lock_file=False) as target:
        for file in files:
            for row in database_rows(file):
                target.write(row, key_value_pairs=row.key_value_pairs, data=row.data)


_JOINS: dict[str, Callable[[Sequence[Path], Path], None]] = {
    ".xyz": _bytes,
    ".extxyz": _bytes,
    ".traj": _trajectory,
    ".db": _database,
    ".csv": _comma,
    ".json": _json,
    ".npz": _arrays,
}
