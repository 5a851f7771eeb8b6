"""Files of predictions, by the suffix of their name.

Every prediction is called ``predicted_<name>``, the spread of a committee ``predicted_<name>_std``. Files of structures
(``xyz``, ``extxyz``, ``traj``, ``db``) hold the structures with all that they came with, labels under their own names,
and the predictions beside them. Tables (``csv``, ``json``, ``npz``) hold the predictions and, as ``true_<name>``, what
is known of the same targets.
"""

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from torch_geometric.data import Data

from pyg_schnet.command.npz import write_npz
from pyg_schnet.units import SYMBOLS

#: What comes before the name of what is predicted, and before what is known of it in tables.
PREFIX, KNOWN = "predicted_", "true_"


class Row(NamedTuple):
    """A structure and what is written of it.

    Attributes:
        number: Its place in the file or dataset.
        data: The structure.
        atoms: Gives ASE's object for it.
        known: Known values of the targets by name.
        predicted: Predicted values by name, numbers or arrays.
        file: Name of its file, if there are several.
    """

    number: int
    data: Data
    atoms: Callable[[], Any]
    known: dict[str, Any]
    predicted: dict[str, Any]
    file: str = ""


class Writer(AbstractContextManager["Writer"]):
    """Writes one structure after another into a file.

    Args:
        path: Where to write.
        units: Units by name of what is predicted.
        is_total: True if energies and their derivatives are what ASE means by them.
    """

    def __init__(self, path: Path, units: dict[str, str], is_total: bool) -> None:
        self.path, self.units, self.is_total = path, units, is_total

    def write(self, row: Row) -> None:
        """Add a structure.

        Args:
            row: The structure with its predictions.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `write(row)`")

    def close(self) -> None:
        """Finish the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self.close()

    def _with_predictions(self, row: Row, arrays: bool = True) -> Any:
        """A copy of the structure, its results as they were, the predictions in ``info`` and ``arrays``.

        A structure without any result gets the predicted energy, forces and stress as its results, too.
        """
        from ase.calculators.singlepoint import SinglePointCalculator  # noqa: PLC0415
        from ase.stress import full_3x3_to_voigt_6_stress  # noqa: PLC0415

        atoms = row.atoms()
        results = {} if atoms.calc is None else dict(atoms.calc.results)
        atoms = atoms.copy()
        found = {
            name: full_3x3_to_voigt_6_stress(value) if name.startswith("stress") else value
            for name, value in row.predicted.items()
        }
        for name, value in found.items():
            of_atoms = arrays and name.startswith("forces")
            (atoms.arrays if of_atoms else atoms.info)[PREFIX + name] = value
        if row.file:
            atoms.info.setdefault("file", row.file)
        units = {name: unit for name, unit in self.units.items() if unit and name in found}
        if units:
            atoms.info[f"{PREFIX}units"] = ", ".join(f"{name} in {unit}" for name, unit in units.items())
        taken = {"energy", "forces", "stress"} & {*atoms.info, *atoms.arrays}
        if self.is_total and not results and not taken:
            results = {name: value for name, value in found.items() if not name.endswith("_std")}
        if results:
            atoms.calc = SinglePointCalculator(atoms)
            atoms.calc.results = results  # as they are, also those that ASE has no name for
        return atoms


class ExtendedXYZ(Writer):
    """Extended xyz: numbers of structures in the comment, those of atoms in columns."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._file = self.path.open("w", encoding="utf-8")

    def write(self, row: Row) -> None:
        """Add a structure."""
        from ase.io.extxyz import write_xyz  # noqa: PLC0415

        atoms = self._with_predictions(row)
        if atoms.calc is not None:  # ASE refuses results beside fields of the same name
            fields = {*atoms.info, *atoms.arrays}
            atoms.calc.results = {name: value for name, value in atoms.calc.results.items() if name not in fields}
        for name, array in list(atoms.arrays.items()):
            if array.ndim > 2:  # a column has no more dimensions
                atoms.arrays[name] = array.reshape(len(array), -1)
        write_xyz(self._file, atoms)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._file.close()


class Trajectory(Writer):
    """A trajectory of ASE; it keeps no arrays of others than its own, so that all predictions are in ``info``."""

    def __init__(self, *arguments: Any) -> None:
        from ase.io.trajectory import TrajectoryWriter  # noqa: PLC0415

        super().__init__(*arguments)
        self._file = TrajectoryWriter(str(self.path), "w")

    def write(self, row: Row) -> None:
        """Add a structure."""
        self._file.write(self._with_predictions(row, arrays=False))

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._file.close()


class Database(Writer):
    """A database of ASE: predicted numbers are key-value pairs, to be searched for, arrays are data."""

    def __init__(self, *arguments: Any) -> None:
        from ase.db import connect  # noqa: PLC0415

        super().__init__(*arguments)
        self._database = connect(str(self.path), type="db", use_lock_file=False)
        self._database.__enter__()

    def write(self, row: Row) -> None:
        """Add a structure."""
        atoms = self._with_predictions(row, arrays=False)
        pairs: dict[str, Any] = {}
        data: dict[str, Any] = {}
        own = {name: array for name, array in atoms.arrays.items() if name not in {"numbers", "positions"}}
        for name, value in (own | atoms.info).items():
            plain = value.item() if isinstance(value, np.generic) else value
            (pairs if _is_pair(name, plain) else data)[str(name)] = plain
        self._database.write(atoms, key_value_pairs=pairs, data=data)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._database.__exit__(kind, error, trace)


def _is_pair(name: Any, value: Any) -> bool:
    """True if a database of ASE takes a field as key-value pair: no word of its own, no text that is a number."""
    from ase.db.core import check  # noqa: PLC0415

    if isinstance(value, str) and not value:
        return False
    try:
        check({name: value})
    except (ValueError, TypeError, AttributeError):
        return False
    return isinstance(value, (bool, int, float, str))


class Table(Writer):
    """Numbers of all structures; kept until the end."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.rows: list[dict[str, Any]] = []

    def write(self, row: Row) -> None:
        """Add a structure."""
        values = {"structure": row.number, "formula": _formula(row.data), "atoms": row.data.z.numel()}
        values |= {"file": row.file} if row.file else {}
        values |= {PREFIX + name: value for name, value in row.predicted.items()}
        self.rows.append(values | {KNOWN + name: value for name, value in row.known.items()})

    def names(self) -> list[str]:
        """All columns, in the order of their first use."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def unit(self, column: str) -> str:
        """Unit of a column, empty if it has none or it is not known."""
        return self.units.get(column.removeprefix(PREFIX).removeprefix(KNOWN).removesuffix("_std"), "")


class Comma(Table):
    """One line for each structure, units in the head; without what each atom or axis has its own numbers for."""

    def close(self) -> None:
        """Write the table."""
        columns = [name for name in self.names() if all(np.ndim(row[name]) == 0 for row in self.rows if name in row)]
        with self.path.open("w", encoding="utf-8", newline="") as file:
            lines = csv.writer(file)
            lines.writerow([f"{name} [{self.unit(name)}]" if self.unit(name) else name for name in columns])
            lines.writerows([_number(row.get(name, "")) for name in columns] for row in self.rows)


class Json(Table):
    """Units and a list of structures."""

    def close(self) -> None:
        """Write the table."""
        units = {name: self.unit(name) for name in self.names() if self.unit(name)}
        rows = [{name: _listed(value) for name, value in row.items()} for row in self.rows]
        self.path.write_text(json.dumps({"units": units, "structures": rows}), encoding="utf-8")


class Arrays(Table):
    """Arrays of numpy: forces of all atoms one after another, ``atoms`` of each structure; NaN where there is none.

    Predictions are there under the bare names of the targets, too.
    """

    def close(self) -> None:
        """Write the arrays."""
        sizes = [row["atoms"] for row in self.rows]
        arrays: dict[str, Any] = {name: self._array(name, sizes) for name in self.names()}
        arrays |= {name.removeprefix(PREFIX): array for name, array in arrays.items() if name.startswith(PREFIX)}
        arrays["units"] = np.array(json.dumps({name: self.unit(name) for name in arrays if self.unit(name)}))
        write_npz(self.path, [(name, partial(_alone, array)) for name, array in arrays.items()])

    def _array(self, name: str, sizes: list[int]) -> Any:
        values = [row.get(name) for row in self.rows]
        if name.removeprefix(PREFIX).removeprefix(KNOWN).startswith("forces"):
            pairs = zip(values, sizes, strict=True)
            return np.concatenate([np.full((size, 3), np.nan) if one is None else one for one, size in pairs])
        shape = next(np.shape(value) for value in values if value is not None)
        return np.array([np.full(shape, np.nan) if value is None else value for value in values])


_WRITERS: dict[str, type[Writer]] = {
    ".xyz": ExtendedXYZ,
    ".extxyz": ExtendedXYZ,
    ".traj": Trajectory,
    ".db": Database,
    ".csv": Comma,
    ".json": Json,
    ".npz": Arrays,
}


def writer_for(path: Path) -> type[Writer]:
    """Who writes a file.

    Args:
        path: The file.

    Returns:
        The class of the writer.

    Raises:
        ValueError: If the suffix is none of those with a place for predictions.

    Example:
        >>> writer_for(Path("predictions.csv")).__name__
        'Comma'
    """
    if path.suffix.lower() not in _WRITERS:
        raise ValueError(
            f"`output` must end with one of {', '.join(_WRITERS)}, which have a place for predictions, got {path.name}"
        )
    return _WRITERS[path.suffix.lower()]


def _alone(array: Any) -> Iterator[Any]:
    return iter([np.asarray(array)])


def _formula(data: Data) -> str:
    numbers, counts = np.unique(data.z.numpy(), return_counts=True)
    symbols = [SYMBOLS[n] if 0 < n < len(SYMBOLS) else "X" for n in numbers]
    return "".join(f"{symbol}{count if count > 1 else ''}" for symbol, count in zip(symbols, counts, strict=True))


def _number(value: Any) -> Any:
    """Digits enough to read the same number again."""
    return repr(float(value)) if isinstance(value, (float, np.floating, np.ndarray)) else value


def _listed(value: Any) -> Any:
    value = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value
