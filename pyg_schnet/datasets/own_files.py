"""Files with a user's own structures, as a path, a folder or a pattern names them."""

import glob
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from pyg_schnet.datasets.ase_files import Read, count_structures, guess_number, read_structures, units_of
from pyg_schnet.datasets.endings import ENDINGS
from pyg_schnet.datasets.npz_structures import SPELLINGS
from pyg_schnet.datasets.property_table import PropertyTable
from pyg_schnet.units import ENERGY

#: A path, or several.
Paths = str | Path | Sequence[str | Path]


def files_of(paths: Paths, endings: Iterable[str] = ENDINGS) -> list[Path]:
    """The files that paths, folders and patterns name.

    Args:
        paths: Any number of files; folders, of which all files directly inside with one of ``endings`` are taken; and
            patterns such as ``"runs/**/*.xyz"``, in which ``**`` stands for any folders.
        endings: What names of files in a folder may end in, capitals do not matter.

    Returns:
        Absolute paths in the order given, those of a folder or a pattern by name; each once.

    Raises:
        FileNotFoundError: If there is no such file, or a folder or a pattern has none.
        TypeError: If something is no path.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("b.cif", "a.CIF", "notes.txt"):
        ...     (folder / name).touch()
        >>> [path.name for path in files_of(folder)]
        ['a.CIF', 'b.cif']
    """
    endings = tuple(endings)
    found: dict[Path, None] = {}
    for one in [paths] if isinstance(paths, (str, Path)) else list(paths):
        if not isinstance(one, (str, Path)):
            raise TypeError(f"`path` must be a file or several, got {type(one).__name__}; write structures to a file")
        found |= dict.fromkeys(path.absolute() for path in _files(Path(one).expanduser(), endings))
    if not found:
        raise FileNotFoundError("expected one file or more with structures, found no name")
    return list(found)


def _files(path: Path, endings: tuple[str, ...]) -> list[Path]:
    if path.is_file():
        return [path.resolve()]
    if path.is_dir():
        inside = [one for one in _inside(path) if one.name.lower().endswith(endings)]
        if not inside:
            plain = ", ".join(one for one in endings if one.count(".") == 1)
            raise FileNotFoundError(
                f"the folder {path} has no file with structures; expected names that end in {plain}, or "
                'name the files by a pattern, for example "folder/*.out"'
            )
        return inside
    if glob.has_magic(str(path)):
        matching = sorted(Path(one) for one in glob.glob(str(path), recursive=True))
        matching = [one for one in matching if one.is_file()]
        if matching:
            return matching
        raise FileNotFoundError(f"no file matches {path}; check the pattern and the folder it is looked up from")
    raise FileNotFoundError(f"expected one file or more with structures, found no {path}")


def _inside(folder: Path) -> list[Path]:
    return sorted(one for one in folder.iterdir() if one.is_file() and not one.name.startswith("."))


def passed_over(paths: Paths, table: str | Path | None = None) -> list[Path]:
    """Files in folders that :func:`files_of` does not take, but for hidden ones.

    Args:
        paths: As :func:`files_of` takes them.
        table: Table of properties, which is read, too.

    Returns:
        The files, by name.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("a.xyz", "b.xyz.gz", "notes.txt"):
        ...     (folder / name).touch()
        >>> [path.name for path in passed_over(folder)]
        ['notes.txt']
    """
    some = [Path(one).expanduser() for one in ([paths] if isinstance(paths, (str, Path)) else paths)]
    inside = dict.fromkeys(file for one in some if one.is_dir() for file in _inside(one))
    others = [file for file in inside if not file.name.lower().endswith(ENDINGS)]
    return [file for file in others if table is None or not file.samefile(Path(table).expanduser())]


def structures_of(
    files: Sequence[Path],
    table: PropertyTable | None = None,
    format: str | None = None,
    show: bool = True,
    start: Sequence[int] = (0, 0),
) -> Iterator[tuple[Path, int, Read]]:
    """Read all structures of files one after another, with a progress bar if that takes its time.

    Args:
        files: The files.
        table: Table of properties; the line of a file is added to the fields of its structures.
        format: ASE's name of the format, if the names of the files do not tell.
        show: True to show a progress bar.
        start: Which file to begin with, and how many of its structures to skip.

    Yields:
        The file, the number of the structure inside from 0, and the structure with its fields.

    Raises:
        ImportError: If ASE is not installed.
        ValueError: If a file is damaged or holds no structures, with all such files behind it; or the table has no line
            for any of the files, or one for two of them.
    """
    for path, number, read in structures_or_damage(files, table, format, show, start):
        if isinstance(read, ValueError):
            raise ValueError(_damage(path, read, files[files.index(path) + 1 :], format))
        yield path, number, read


def _damage(path: Path, error: ValueError, others: Sequence[Path], format: str | None) -> str:
    """What is said of a file that cannot be read, and of those behind it that cannot be read either."""
    damaged = [file for file in others if isinstance(_begin(file, format), ValueError)]
    if not damaged:
        return f"{error}; mend this file or leave it out"
    names = ", ".join([path.name, *(file.name for file in damaged[:9])]) + ", ..." * (len(damaged) > 9)
    return f"{len(damaged) + 1:,} files cannot be read, {names}; mend them or leave them out. Of the first one: {error}"


def _begin(path: Path, format: str | None) -> Read | ValueError | None:
    """The first structure of a file, or why there is none."""
    try:
        return next(read_structures(path, format), None)
    except ValueError as error:
        return error


def structures_or_damage(
    files: Sequence[Path],
    table: PropertyTable | None = None,
    format: str | None = None,
    show: bool = True,
    start: Sequence[int] = (0, 0),
) -> Iterator[tuple[Path, int, Read | ValueError]]:
    """Read all structures of files; one of several files that cannot be read at all yields the reason in their place.

    Args:
        files: The files.
        table: Table of properties; the line of a file is added to the fields of its structures.
        format: ASE's name of the format, if the names of the files do not tell.
        show: True to show a progress bar.
        start: Which file to begin with, and how many of its structures to skip.

    Yields:
        The file, the number of the structure inside from 0, and the structure with its fields.

    Raises:
        ImportError: If ASE is not installed.
        ValueError: If a file is damaged or holds no structures, or the table has no line for any of the files, or one
            for two of them.
    """
    if table is not None and not any(table.row_of(path) for path in files):
        raise ValueError(
            f"{table.path} has no line for any of the {len(files):,} files, the first of which is {files[0].name}; its "
            f"column {table.key!r} has {', '.join([*table.rows][:3])}, ...: expected names of files, with or without "
            "their endings"
        )
    if table is not None:
        of_line: dict[int, Path] = {}
        for path in files:
            if (row := table.row_of(path)) is not None and (other := of_line.setdefault(id(row), path)) != path:
                raise ValueError(
                    f"{table.path} has one line for both {other} and {path}; give the files names of their own"
                )
    first, skipped = start
    many = len(files) > 1
    total = len(files) if many else guess_number(files[0], format) or None if show else None
    before = first if many else skipped
    with tqdm(None, "reading", total, delay=2, initial=before, disable=not show, leave=False) as bar:
        for path in files[first:]:
            row = None if table is None else table.row_of(path)
            number = skipped
            try:
                for read in read_structures(path, format, skipped):
                    yield path, number, read if row is None else read._replace(of_structure=row | read.of_structure)
                    number += 1
                    bar.update(not many)
            except ValueError as error:
                if not many or number or not _is_unreadable(path, format):
                    raise
                yield path, 0, error
            skipped = 0
            bar.update(many)


def _is_unreadable(path: Path, format: str | None) -> bool:
    """True if not even the structures of a file can be counted."""
    try:
        count_structures(path, format)
    except ValueError:
        return True
    return False


def count_all(files: Sequence[Path], format: str | None = None, with_damage: bool = False) -> list[int]:
    """Number of structures of each file; formats that cannot be counted otherwise are read.

    Args:
        files: The files.
        format: ASE's name of the format, if the names of the files do not tell.
        with_damage: True to count what :func:`structures_or_damage` yields, of a file that cannot be read the reason.

    Returns:
        The numbers.

    Raises:
        ImportError: If ASE, or what a format needs, is not installed.
        ValueError: If a file is damaged or holds no structures.
    """
    counts = []
    for file in tqdm(files, "counting", delay=2, leave=False):
        try:
            counts.append(count_structures(file, format))
        except ValueError:
            if not with_damage or len(files) < 2:
                raise
            counts.append(1)
    return counts


def told_unit(
    quantity: str, files: Sequence[Path], table: PropertyTable | None = None, key: str | None = None
) -> str | None:
    """The unit that files say themselves, or a table of properties in the name of a column.

    Args:
        quantity: ``"energy"``, ``"length"`` or ``"forces"``.
        files: The files; npz files may say it, databases of SchNetPack and the layouts of HDF5 files do, words of some
            programs in xyz files tell.
        table: Table of properties.
        key: Name of the energies or forces.

    Returns:
        The unit, ``None`` if nothing tells.

    Raises:
        ValueError: If the files contradict each other, or the unit of the table is none of energy.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> path = Path(tempfile.mkdtemp(), "water.npz")
        >>> np.savez(path, E=np.zeros(1), e_unit="kcal/mol")
        >>> told_unit("energy", [path]), told_unit("length", [path])
        ('kcal/mol', None)
    """
    if quantity == "energy" and table is not None and (unit := table.units.get(key or "")):
        if (known := SPELLINGS.get(unit.lower())) not in ENERGY:
            raise ValueError(
                f"{table.path} has {key!r} in {unit!r}, which is no unit of energy; convert it to one of "
                f"{', '.join(ENERGY)}, or say with `energy_unit` what it is"
            )
        return known
    found: dict[str | None, Path] = {}
    for file in files:
        found.setdefault(units_of(file, {quantity: key}).get(quantity), file)
    if len(found) > 1:
        said = " and ".join(f"{file.name} in {unit or 'a unit that it does not say'}" for unit, file in found.items())
        raise ValueError(f"the files have the {quantity} in different units, {said}; convert them to the same one")
    return next(iter(found))


def check_lengths(files: Sequence[Path]) -> None:
    """Refuse files that say themselves that they are not in Angstrom, where structures are taken as they are.

    Args:
        files: The files.

    Raises:
        ValueError: If one says so.
    """
    for file in files:
        if (unit := told_unit("length", [file])) not in {None, "Ang"}:
            raise ValueError(f"{file} says that its lengths are in {unit}, expected Angstrom; convert them")
