"""Structures and all their fields from any file that ASE reads (extra ``md``), and from larger ones (``large``)."""

import itertools
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pyg_schnet.datasets import extxyz_blocks
from pyg_schnet.datasets.ase_db import is_sqlite
from pyg_schnet.datasets.cif import read_cif
from pyg_schnet.datasets.hdf5_structures import count_conformations, hdf5_frames, hdf5_units, is_hdf5
from pyg_schnet.datasets.lmdb_structures import count_rows, is_lmdb, lmdb_rows
from pyg_schnet.datasets.npz_structures import npz_frames, npz_units
from pyg_schnet.datasets.parquet_structures import count_table_rows, parquet_frames
from pyg_schnet.datasets.told_units import spelt

#: Results of ASE's calculators with a row for each atom; all others are of the whole structure.
RESULTS_OF_ATOMS = {"forces", "stresses", "charges", "magmoms", "energies"}
#: Rows of a database that are fetched at a time.
_ROWS = 500
#: What pymatgen's structures have in json.
_PYMATGEN = re.compile(rb'"(?:lattice|species)"\s*:')
#: What to do where labels of atoms stand for symbols.
_LABELS = "write elements alone, and labels of atoms into a column of their own"
#: Names of columns with one component of the forces.
_COMPONENT = re.compile(r"(?:f|forces?)_?([xyz])", re.IGNORECASE)
#: Arrays of ASE's atoms that are the structure itself.
_STRUCTURE = {"numbers", "positions"}


class Read(NamedTuple):
    """A structure of a file.

    Attributes:
        atoms: ASE's ``Atoms``.
        of_atoms: Fields with a row for each atom, by name.
        of_structure: Fields of the whole structure.
        of_either: Fields of which the file does not tell.
    """

    atoms: Any
    of_atoms: dict[str, Any]
    of_structure: dict[str, Any]
    of_either: dict[str, Any]

    def fields(self) -> dict[str, Any]:
        """All fields by name; where two share one, what the user wrote goes before what ASE made."""
        return self.of_atoms | self.of_structure | self.of_either


@contextmanager
def heavy_hydrogen() -> Iterator[None]:
    """Inside, ASE knows the symbols D and T; to a potential deuterium and tritium are hydrogen.

    Example:
        >>> from ase import Atoms
        >>> with heavy_hydrogen():
        ...     Atoms(["D", "O", "T"]).numbers.tolist()
        [1, 8, 1]
    """
    from ase.data import atomic_numbers  # noqa: PLC0415  an extra

    added = [symbol for symbol in ("D", "T") if symbol not in atomic_numbers]
    atomic_numbers.update(dict.fromkeys(added, 1))
    try:
        yield
    finally:
        for symbol in added:
            del atomic_numbers[symbol]


def read_structures(path: Path, format: str | None = None, start: int = 0) -> Iterator[Read]:
    """Read the structures of a file one after another.

    Args:
        path: Extended xyz, an ASE database (SQLite or LMDB, ``aselmdb``), HDF5
            (:mod:`~pyg_schnet.datasets.hdf5_structures`), Parquet (:mod:`~pyg_schnet.datasets.parquet_structures`), an
            npz file (:func:`~pyg_schnet.datasets.npz_structures.npz_frames`), or anything else that ASE reads. All but
            npz files, and some of ASE's formats, may be larger than the memory.
        format: ASE's name of the format, if the name of the file does not tell.
        start: Number of structures that are skipped, without reading more of them than where they end.

    Yields:
        Each structure with its fields: results of a calculator, arrays, ``info``, key-value pairs and data.

    Raises:
        ImportError: If ASE, or what the format needs, is not installed.
        ValueError: If the file is damaged or holds no structures.
    """
    _need_ase()
    count = start
    try:
        with heavy_hydrogen():
            for read in _structures(path, kind_of(path, format), format, start):
                yield read
                count += 1
    except (PermissionError, GeneratorExit, ImportError):
        raise
    except Exception as error:  # a damaged file fails in many ways
        raise ValueError(f"{path} cannot be read after {count} structures ({_reason(path, error)})") from None
    if count == 0:
        raise ValueError(f"{path} holds no structures")


def _reason(path: Path, error: Exception) -> str:
    """Why a file cannot be read, and what to do where that is known."""
    from ase.data import atomic_numbers  # noqa: PLC0415
    from ase.io.formats import UnknownFileTypeError  # noqa: PLC0415

    said = f"{type(error).__name__}: {error}"
    if path.suffix.lower() == ".json" and _PYMATGEN.search(path.read_bytes()[:100_000]):
        return (
            "these are structures of pymatgen, expected those of ASE: write each to a CIF (structure.to(filename)), "
            "their properties to a table (csv) beside them, and name the folder"
        )
    if isinstance(error, UnknownFileTypeError) and path.suffix.lower() in {".csv", ".tsv", ".smi", ".smiles"}:
        return (
            f"{said}; it has no structures: name the files with the structures, and this as the table; where it has "
            "SMILES, pyg_schnet.datasets.from_smiles makes structures of them to write to a file"
        )
    if isinstance(error, UnknownFileTypeError) and path.stat().st_size:
        return f"{said}; no format of ASE has such names: name the format with `format`, on the command line --format"
    if isinstance(error, KeyError) and re.match(r"[A-Z]", name := str(next(iter(error.args), ""))):
        is_label = name not in atomic_numbers and {name[:2], name[:1]} & atomic_numbers.keys()
        return f"expected symbols of elements, got {name!r}; {_LABELS}" if is_label else said
    return said


def count_structures(path: Path, format: str | None = None) -> int:
    """Number of structures of a file; of the large formats no more is read than that takes.

    Args:
        path: The file.
        format: ASE's name of the format, if the name of the file does not tell.

    Returns:
        The number.

    Raises:
        ImportError: If ASE, or what the format needs, is not installed.
        ValueError: If the file is damaged or holds no structures.
    """
    _need_ase()
    kind = kind_of(path, format)
    if kind in {"npz", "cif", "other"}:
        return sum(1 for _ in read_structures(path, format))
    try:
        count = _count_rows(path) if kind == "db" else _COUNTS[kind](path)
    except (PermissionError, ImportError):
        raise
    except Exception as error:  # as above
        raise ValueError(f"{path} cannot be read ({_reason(path, error)})") from None
    if count == 0:
        raise ValueError(f"{path} holds no structures")
    return count


def guess_number(path: Path, format: str | None = None) -> int:
    """About how many structures a file holds, where that is seen at once; 0 where it is not, or the file is damaged.

    Args:
        path: The file.
        format: ASE's name of the format, if the name of the file does not tell.

    Returns:
        The number.
    """
    try:
        kind = kind_of(path, format)
        if kind == "extxyz":
            return extxyz_blocks.guess_number(path)
        return 0 if kind in {"npz", "cif", "other"} else count_structures(path, format)
    except (OSError, ValueError, ImportError):
        return 0


def kind_of(path: Path, format: str | None = None) -> str:
    """How a file is read.

    Args:
        path: The file.
        format: ASE's name of the format, if the name of the file does not tell.

    Returns:
        ``"db"``, ``"lmdb"``, ``"hdf5"``, ``"parquet"``, ``"npz"``, ``"cif"``, ``"extxyz"``, or ``"other"`` for what is
        left to ASE.
    """
    with path.open("rb") as stream:
        begins = stream.read(15)
    if format == "db" or (format is None and begins == b"SQLite format 3"):
        return "lmdb" if is_lmdb(path) else "db"
    if format is None:
        if is_lmdb(path):
            return "lmdb"
        if is_hdf5(path) and path.suffix.lower() in {".h5", ".hdf5"}:
            return "hdf5"
        if begins[:4] == b"PAR1":
            return "parquet"
        if path.suffix.lower() in {".npz", ".cif"}:
            return path.suffix.lower()[1:]
    return "extxyz" if extxyz_blocks.can_be_cut(path, format) else "other"


def units_of(path: Path, keys: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Units that a file, or its layout, says itself.

    Args:
        path: The file.
        keys: Names of ``energy`` and ``forces`` in the file, if they are others.

    Returns:
        ``energy``, ``length`` and ``forces``, as far as they are told.

    Raises:
        ImportError: If what the format needs is not installed.
        ValueError: If the file is damaged.
    """
    if path.suffix.lower() == ".npz":
        return npz_units(path)
    if path.suffix.lower() in {".h5", ".hdf5"} and is_hdf5(path):
        try:
            return hdf5_units(path)
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(f"{path} cannot be read: {error}") from None
    if is_sqlite(path):
        return _database_units(path, keys or {})
    return {} if written_by(path) is None else {"energy": "Ha"}


def _database_units(path: Path, keys: Mapping[str, str | None]) -> dict[str, str]:
    """Units in the metadata of a database, as SchNetPack writes them."""
    import ase.db  # noqa: PLC0415

    try:
        with ase.db.connect(str(path), type="db", use_lock_file=False) as database:
            said = database.metadata
    except Exception:  # damage, of which reading it tells more
        return {}
    units = said.get("_property_unit_dict")
    units = units if isinstance(units, dict) else {}
    words = {name: units.get(keys.get(name) or name) for name in ("energy", "forces")}
    words["length"] = said.get("_distance_unit")
    known = {name: spelt(word, name) for name, word in words.items() if isinstance(word, str)}
    return {name: unit for name, unit in known.items() if unit is not None}


def written_by(path: Path) -> str | None:
    """The program that wrote an xyz file, if it is one that writes total energies in Hartree.

    Args:
        path: The file.

    Returns:
        Its name, ``None`` if that is not known.
    """
    about = path.stat()
    return _written_by(path, (about.st_size, about.st_mtime_ns))


@lru_cache(1 << 17)  # asked again for each kind of unit
def _written_by(path: Path, stamp: tuple[int, int]) -> str | None:
    return extxyz_blocks.written_by(path) if kind_of(path) == "extxyz" else None


#: Who counts the structures of a file by its kind.
_COUNTS = {
    "lmdb": count_rows,
    "hdf5": count_conformations,
    "parquet": count_table_rows,
    "extxyz": extxyz_blocks.count_frames,
}


def _need_ase() -> None:
    try:
        import ase.db  # noqa: PLC0415
        import ase.io  # noqa: F401, PLC0415
    except ImportError as error:
        raise ImportError('Trajectory needs ASE; install it with pip install "pyg_schnet[md]"') from error


def _structures(path: Path, kind: str, format: str | None, start: int) -> Iterator[Read]:
    if kind in {"db", "lmdb"}:
        for row in database_rows(path, start) if kind == "db" else lmdb_rows(path, start):
            yield _sorted(row.toatoms(), row.key_value_pairs, dict(row.data))
    elif kind in {"hdf5", "parquet"}:
        for read in hdf5_frames(path, start) if kind == "hdf5" else parquet_frames(path, start):
            yield Read(*read)
    elif kind == "npz":
        for atoms, of_atoms, of_structure in itertools.islice(npz_frames(path), start, None):
            yield Read(atoms, of_atoms, of_structure, {})
    elif kind == "cif":
        yield from itertools.islice(_crystals(path, format), start, None)
    else:
        for atoms in _ase_frames(path, kind, format, start):
            yield _sorted(atoms, atoms.info, {})


def _ase_frames(path: Path, kind: str, format: str | None, start: int) -> Iterator[Any]:
    import ase.io  # noqa: PLC0415

    if kind == "extxyz":
        return extxyz_blocks.read_blocks(path, start)
    return ase.io.iread(str(path), index=f"{start}:", format=format, do_not_split_by_at_sign=True)


def database_rows(path: Path, start: int = 0) -> Iterator[Any]:
    """Rows of an ASE database (SQLite) in the order of their numbers, of which only some are in memory.

    Args:
        path: The file.
        start: Number of rows that are skipped.

    Yields:
        ASE's ``AtomsRow``.
    """
    import ase.db  # noqa: PLC0415

    with ase.db.connect(str(path), type="db", use_lock_file=False) as database:
        rows = list(database.select(limit=_ROWS, offset=start, sort="id"))
        while rows:  # a few at a time: ASE fetches all that it is asked for
            yield from rows
            rows = list(database.select(f"id>{rows[-1].id}", limit=_ROWS, sort="id"))


def _count_rows(path: Path) -> int:
    import ase.db  # noqa: PLC0415

    with ase.db.connect(str(path), type="db", use_lock_file=False) as database:
        return len(database)


def _crystals(path: Path, format: str | None) -> Iterator[Read]:
    """The crystals of a CIF: a single one is read some times as fast as ASE does, what that refuses is left to ASE."""
    from ase import Atoms  # noqa: PLC0415

    text = path.read_text(encoding="utf-8", errors="replace")
    if not text.strip():
        raise ValueError("it is empty")
    reason = None
    if len(re.findall(r"^data_", text, re.MULTILINE | re.IGNORECASE)) < 2:
        try:
            crystal = read_cif(text)
        except ValueError as error:  # sites occupied in part, a space group without operations, or damage
            reason = error
        else:
            atoms = Atoms(crystal.numbers, cell=crystal.cell, scaled_positions=crystal.fractional, pbc=True)
            yield Read(atoms, {}, {}, {})
            return
    try:
        found = [_sorted(atoms, atoms.info, {}) for atoms in _ase_frames(path, "cif", format, 0)]
    except Exception:
        found = []
        if reason is None:
            raise
    if not found and reason is not None:
        raise reason
    yield from found


def _sorted(atoms: Any, info: dict[str, Any], data: dict[str, Any]) -> Read:
    results = {} if atoms.calc is None else atoms.calc.results
    of_atoms = {key: value for key, value in results.items() if key in RESULTS_OF_ATOMS}
    of_atoms |= _with_forces({key: value for key, value in atoms.arrays.items() if key not in _STRUCTURE})
    of_structure = {key: value for key, value in results.items() if key not in RESULTS_OF_ATOMS} | info
    either = {}
    for key, value in data.items():  # of a database, where arrays of atoms and of structures lie side by side
        shape = np.shape(value) if isinstance(value, (np.ndarray, list, tuple)) else ()
        if key in RESULTS_OF_ATOMS and shape[:1] == (len(atoms),):
            of_atoms[key] = value
        elif shape[:1] == (len(atoms),):
            either[key] = value
        else:
            of_structure[key] = value
    parts = (of_atoms, of_structure, either)
    return Read(atoms, *({str(key): value for key, value in part.items() if not _is_none(value)} for part in parts))


def _with_forces(arrays: dict[str, Any]) -> dict[str, Any]:
    """Arrays of atoms, in which columns with the components of forces are put together."""
    found = {match[1].lower(): name for name in arrays if (match := _COMPONENT.fullmatch(name))}
    if len(found) < 3 or "forces" in arrays or any(np.ndim(arrays[name]) != 1 for name in found.values()):
        return arrays
    others = {name: value for name, value in arrays.items() if name not in found.values()}
    return others | {"forces": np.stack([arrays[found[axis]] for axis in "xyz"], axis=1)}


def _is_none(value: Any) -> bool:
    """True if there is no value, or the word that some programs write for none."""
    return value is None or (isinstance(value, str) and value == "None")


def is_bare(value: Any) -> bool:
    """True if a field may be a word without a value, as extended xyz has it for ``None``; ASE reads it as true.

    Args:
        value: What ASE read.

    Returns:
        True if it is ``True``.

    Example:
        >>> is_bare(True), is_bare(1.0)
        (True, False)
    """
    return isinstance(value, (bool, np.bool_)) and bool(value)
