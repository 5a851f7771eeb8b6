"""Properties of structures in a table beside their files, as materials data are handed around."""

import csv
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pyg_schnet.datasets.endings import without_ending

#: Headings of the column that says which file a row is of; otherwise it is the first one.
_KEYS = ("id", "file", "filename", "file_name", "cif", "cif_id", "material_id", "mp_id", "mpid", "structure", "name")
#: Words for a value that is not known.
_UNKNOWN = {"", "-", "na", "n/a", "nan", "none", "null"}
#: A number with a decimal comma, as programs write it in many countries, with semicolons between the columns.
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")
_UNIT = re.compile(r"^(.+?)\s*[\[(]([^\])]*)[\])]$")


class PropertyTable(NamedTuple):
    """A table of properties.

    Attributes:
        path: Where it is.
        key: Heading of the column that says which file a row is of.
        units: Units of the columns as far as headings tell, by name.
        rows: Values by name, for each key; those that are not known are left out.
    """

    path: Path
    key: str
    units: dict[str, str]
    rows: dict[str, dict[str, Any]]

    def row_of(self, file: Path) -> dict[str, Any] | None:
        """The row of a file.

        Args:
            file: The file with the structure.

        Returns:
            Its values by name, the key included; ``None`` if the table has none.
        """
        return self.rows.get(without_ending(file.name))

    def without_file(self, files: Iterable[Path]) -> list[str]:
        """What rows are of that have no file.

        Args:
            files: The files with structures.

        Returns:
            Names, as far as the table has them, without endings.
        """
        there = {without_ending(file.name) for file in files}
        return [name for name in self.rows if name not in there]


def read_table(path: str | Path) -> PropertyTable:
    r"""Read a table of properties (csv): a line for each file with a structure.

    The first line has the names of the columns, perhaps with units, ``gap [eV]`` or ``gap (eV)``; without such a line
    (two columns, as ``id_prop.csv`` has them) the values are called ``property``. A column called ``id``, ``file``,
    ``material_id`` or the like names the files, with or without their endings; otherwise the first one does, or, where
    it has a word twice, the first one of words that are all different. Columns may be
    separated by commas, semicolons or tabs; where it is not commas, numbers may have decimal commas. Columns with
    numbers only are numbers, all others are strings; empty cells, ``nan`` and infinite numbers are not known.

    Args:
        path: The table.

    Returns:
        Its values.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no table, a line has another number of columns, or two lines are of the same file.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "table.csv")
        >>> _ = path.write_text("id,gap [eV]\nmp-1.cif,0.5\nmp-2,\n")
        >>> table = read_table(path)
        >>> table.row_of(Path("folder/mp-1.cif")), table.units
        ({'id': 'mp-1.cif', 'gap': 0.5}, {'gap': 'eV'})
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no table {path} of properties")
    head, lines = _head_and_lines(path)
    named = [_UNIT.match(name) for name in head]
    units = {match[1].strip(): match[2].strip() for match in named if match and match[2].strip()}
    names = [name if match is None else match[1].strip() for name, match in zip(head, named, strict=True)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{path} has two columns called {twice!r}; give each a name of its own")
    place = next((place for place, name in enumerate(names) if name.lower().replace("-", "_") in _KEYS), None)
    place = _column_of_files([line for _, line in lines]) if place is None else place
    columns = []
    for number, name in enumerate(names):
        try:
            columns.append(_values([line[number] for _, line in lines], number == place))
        except ValueError as error:
            raise ValueError(f"{path}: the column {name!r} {error}") from None
    rows: dict[str, dict[str, Any]] = {}
    for (number, line), values in zip(lines, zip(*columns, strict=True), strict=True):
        key = without_ending(line[place])
        if key in rows:
            raise ValueError(f"{path}, line {number}: {line[place]!r} has a line already; leave one of them out")
        rows[key] = {name: value for name, value in zip(names, values, strict=True) if value is not None}
    return PropertyTable(path, names[place], units, rows)


def _column_of_files(lines: list[list[str]]) -> int:
    """Number of the column that names the files, where no heading says it."""
    columns = list(zip(*lines, strict=True))
    different = [len({without_ending(cell) for cell in column}) == len(column) for column in columns]
    words = [place for place, column in enumerate(columns) if different[place] and not any(map(_is_number, column))]
    return 0 if different[0] else next(iter(words), 0)


def _head_and_lines(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Names of the columns, and the cells of each line with its number."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no table in UTF-8 ({error}); save it as comma-separated text") from None
    first = text.lstrip().split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(text.splitlines(), delimiter=separator)
    lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader if any(map(str.strip, line))]
    if not lines or len(lines[0][1]) < 2:
        raise ValueError(f"{path} is no table of properties; expected a column with names of files and one with values")
    head = lines[0][1]
    if any(map(_is_number, head[1:])):  # values, no names
        head = ["id", *(["property"] if len(head) == 2 else [f"property_{n}" for n in range(1, len(head))])]
    else:
        lines = lines[1:]
    for number, line in lines:
        if len(line) != len(head):
            raise ValueError(f"{path}, line {number}: expected {len(head)} columns, got {len(line)}")
    if not lines:
        raise ValueError(f"{path} has names of columns but no line with values")
    return head, lines


def _values(cells: list[str], is_key: bool) -> list[Any]:
    if is_key:
        return cells
    known = [None if cell.lower() in _UNKNOWN else cell for cell in cells]
    if not all(_is_number(cell) for cell in known if cell is not None):
        return known
    comma = next((cell for cell in known if cell is not None and "," in cell), None)
    point = next((cell for cell in known if cell is not None and "." in cell), None)
    if comma is not None and point is not None:
        raise ValueError(f"has {comma!r} and {point!r}; expected decimal commas or decimal points in all lines")
    numbers = [math.nan if cell is None else float(cell.replace(",", ".")) for cell in known]
    return [number if math.isfinite(number) else None for number in numbers]


def _is_number(cell: str) -> bool:
    if _DECIMAL_COMMA.fullmatch(cell):
        return True
    try:
        float(cell)
    except ValueError:
        return False
    return True
