"""Molecules with energies and forces out of an ASE database, read with SQLite alone.

ASE's databases (``ase.db``) are SQLite files with one row for each structure. Reading the columns directly is several
times faster than building an ``Atoms`` for each row, and needs no other package. Versions 5 to 9 are read.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from pyg_schnet.datasets.rounding import NEAR
from pyg_schnet.graph.centre import centred

_MAGIC = b"SQLite format 3\0"
_VERSIONS = range(5, 10)
_DAMAGE = (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError, MemoryError)


class Molecules(NamedTuple):
    """The rows of a database, one after another.

    Attributes:
        ids: Numbers of the rows, from 1 on [M].
        sizes: Atoms of each molecule [M].
        z: Atomic numbers [N].
        positions: Positions in Angstrom, float32 [N, 3].
        energies: Energies in eV [M].
        forces: Forces in eV/Angstrom, float32 [N, 3].
    """

    ids: NDArray
    sizes: NDArray
    z: NDArray
    positions: NDArray
    energies: NDArray
    forces: NDArray


def is_sqlite(path: Path) -> bool:
    """True if a file is an SQLite database."""
    with path.open("rb") as stream:
        return stream.read(len(_MAGIC)) == _MAGIC


def read_molecules(path: Path, energy: str, forces: str) -> Molecules:
    """Read all rows of a database.

    Args:
        path: The database.
        energy: Name of the energy among the key-value pairs.
        forces: Name of the forces in the data.

    Returns:
        All molecules in the order of their ids.

    Raises:
        ValueError: If this is no ASE database, a row lacks one of the properties, or it is damaged.
    """
    if not is_sqlite(path):
        raise ValueError(f"{path} is no SQLite database; fetch or copy it again")
    try:
        # immutable: neither a lock nor a journal is written beside the file, whose folder may be read-only
        with closing(sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1", uri=True)) as connection:
            version = int(connection.execute("SELECT value FROM information WHERE name = 'version'").fetchone()[0])
            if version not in _VERSIONS:
                raise ValueError(f"its version is {version}, expected 5 to 9")
            with np.errstate(over="ignore"):  # what is too large for float32 is refused as infinite
                return _collected(connection, energy, forces)
    except (sqlite3.Error, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not readable as an ASE database: {error}") from None


def _collected(connection: sqlite3.Connection, energy: str, forces: str) -> Molecules:
    (rows,) = connection.execute("SELECT count(*) FROM systems").fetchone()
    if not rows:
        raise ValueError("it has no rows")
    ids, energies = np.empty(rows, dtype=np.int64), np.empty(rows)
    numbers, positions, pushes = [], [], []
    for at, (row, z, R, E, F) in enumerate(_rows(connection, energy, forces)):
        ids[at], energies[at] = row, E
        numbers.append(z)
        positions.append(R)
        pushes.append(F)
    sizes = np.array([len(z) for z in numbers])
    return Molecules(ids, sizes, np.concatenate(numbers), np.concatenate(positions), energies, np.concatenate(pushes))


def _rows(
    connection: sqlite3.Connection, energy: str, forces: str
) -> Iterator[tuple[int, NDArray, NDArray, float, NDArray]]:
    columns = "id, numbers, positions, key_value_pairs, data"
    for row, numbers, positions, pairs, data in connection.execute(f"SELECT {columns} FROM systems ORDER BY id"):
        try:
            z = np.frombuffer(numbers, dtype="<i4").astype(np.int64)
            R = centred(np.frombuffer(positions, dtype="<f8").reshape(len(z), 3), near=NEAR).astype(np.float32)
            E, F = _property(_decoded(pairs), energy), _array(_property(_decoded(data), forces), data)
            F = F.astype(np.float32).reshape(len(z), 3)
            E = float(E)
        except _MissingError as error:
            raise ValueError(f"row {row} lacks {error}") from None
        except _DAMAGE as error:
            raise ValueError(f"row {row} is damaged ({error})") from None
        if not (len(z) and z.min() > 0 and z.max() < 119):
            raise ValueError(f"row {row} has no atoms or impossible atomic numbers")
        if not (np.isfinite(E) and np.isfinite(R).all() and np.isfinite(F).all()):
            raise ValueError(f"row {row} has NaN or infinite positions, energy or forces")
        yield row, z, R, E, F


class _MissingError(Exception):
    """A property that a row does not have."""


def _property(properties: Any, name: str) -> Any:
    if name not in properties:
        there = ", ".join(map(repr, properties)) or "none"
        raise _MissingError(f"the property {name!r}; it has {there[:100]}")
    return properties[name]


def _decoded(stored: Any) -> Any:
    """JSON text, since version 9 bytes: position of the JSON text, arrays, JSON text."""
    if isinstance(stored, bytes):
        (begin,) = np.frombuffer(stored[:8], dtype="<i8").tolist()
        stored = stored[begin:]
    decoded = json.loads(stored)
    if not isinstance(decoded, dict):
        raise ValueError(f"expected a JSON object, got {stored[:40]!r}")
    return decoded


def _array(value: Any, stored: Any) -> NDArray:
    """Nested lists, or shape, type and either the numbers or where they begin."""
    if not isinstance(value, dict):
        return np.array(value, dtype=np.float64)
    shape, dtype, content = value["__ndarray__"]
    if isinstance(content, int):
        kind = np.dtype(dtype)
        if kind.kind not in "fiu":
            raise ValueError(f"expected an array of numbers, got one of {dtype}")
        count = int(np.prod(shape, dtype=np.float64))
        return np.frombuffer(stored, kind.newbyteorder("<"), count, content).astype(np.float64)
    return np.array(content, dtype=np.float64)
