"""Structures and all their fields from any file that ASE reads (extra ``md``)."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pyg_schnet.datasets.cif import read_cif
from pyg_schnet.datasets.npz_structures import npz_frames

#: Results of ASE's calculators with a row for each atom; all others are of the whole structure.
RESULTS_OF_ATOMS = {"forces", "stresses", "charges", "magmoms", "energies"}
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


def read_structures(path: Path, format: str | None = None) -> Iterator[Read]:
    """Read the structures of a file one after another.

    Args:
        path: Extended xyz, an ASE database, an npz file (:func:`~pyg_schnet.datasets.npz_structures.npz_frames`), or
            anything else that ASE reads.
        format: ASE's name of the format, if the name of the file does not tell.

    Yields:
        Each structure with its fields: results of a calculator, arrays, ``info``, key-value pairs and data.

    Raises:
        ImportError: If ASE is not installed.
        ValueError: If the file is damaged or holds no structures.
    """
    try:
        import ase.db  # noqa: PLC0415
        import ase.io  # noqa: PLC0415
    except ImportError as error:
        raise ImportError('Trajectory needs ASE; install it with pip install "pyg_schnet[md]"') from error
    count = 0
    try:
        with heavy_hydrogen():
            with path.open("rb") as stream:
                is_database = format == "db" or (format is None and stream.read(15) == b"SQLite format 3")
            if is_database:
                with ase.db.connect(str(path), type="db", use_lock_file=False) as database:
                    for row in database.select():
                        atoms = row.toatoms()
                        yield _sorted(atoms, row.key_value_pairs, dict(row.data))
                        count += 1
            elif format is None and path.suffix.lower() == ".npz":
                for atoms, of_atoms, of_structure in npz_frames(path):
                    yield Read(atoms, of_atoms, of_structure, {})
                    count += 1
            elif format is None and path.suffix.lower() == ".cif" and (atoms := _crystal(path)) is not None:
                yield Read(atoms, {}, {}, {})
                count += 1
            else:
                for atoms in ase.io.iread(str(path), index=":", format=format, do_not_split_by_at_sign=True):
                    yield _sorted(atoms, atoms.info, {})
                    count += 1
    except (PermissionError, GeneratorExit):
        raise
    except Exception as error:  # a damaged file fails in many ways
        raise ValueError(f"{path} cannot be read after {count} structures ({type(error).__name__}: {error})") from None
    if count == 0:
        raise ValueError(f"{path} holds no structures")


def _crystal(path: Path) -> Any:
    """The crystal of a CIF, read some times as fast as ASE does; ``None`` if that is left to ASE."""
    from ase import Atoms  # noqa: PLC0415

    text = path.read_text(encoding="utf-8", errors="replace")
    if len(re.findall(r"^data_", text, re.MULTILINE | re.IGNORECASE)) > 1:
        return None
    try:
        crystal = read_cif(text)
    except ValueError:  # sites occupied in part, a space group without operations
        return None
    return Atoms(crystal.numbers, cell=crystal.cell, scaled_positions=crystal.fractional, pbc=True)


def _sorted(atoms: Any, info: dict[str, Any], data: dict[str, Any]) -> Read:
    results = {} if atoms.calc is None else atoms.calc.results
    of_atoms = {key: value for key, value in results.items() if key in RESULTS_OF_ATOMS}
    of_atoms |= {key: value for key, value in atoms.arrays.items() if key not in _STRUCTURE}
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
