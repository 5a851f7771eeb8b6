"""The raw layout of QM9: one text record for each molecule in a tar.bz2, a list of doubtful molecules, and free atoms.

A record of n atoms has n + 5 lines: n; ``gdb <id>`` and 15 properties; symbol, x, y, z and charge of each atom;
harmonic frequencies; two SMILES; two InChI. Exponents may be written ``6.8*^-6``.
"""

import bz2
import io
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: The 15 properties of a record, in its order. Units: GHz, D, a0^3, Hartree, a0^2, Hartree, cal/(mol K).
PROPERTIES = ("A", "B", "C", "mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "U0", "U", "H", "G", "Cv")
ELEMENTS: dict[str, int] = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}
#: Columns of the table of free atoms, Hartree and cal/(mol K).
REFERENCES = ("zpve", "U0", "U", "H", "G", "Cv")
_BLOCK = 512  # bytes: a tar archive is made of such blocks
_LARGEST = 1 << 24  # bytes: no record is near that, and a damaged size must not ask for all memory


@dataclass
class Records:
    """Molecules in the order of their ids, in the units of the file.

    Attributes:
        ids: GDB numbers [M] int64, ascending.
        atoms: Number of atoms of each [M] int64.
        z: Atomic numbers of all atoms [N] int64.
        pos: Positions [N, 3] float64 in Angstrom.
        properties: Properties [M, 15] float64, in the order of :data:`PROPERTIES`.
    """

    ids: NDArray[np.int64]
    atoms: NDArray[np.int64]
    z: NDArray[np.int64]
    pos: NDArray[np.float64]
    properties: NDArray[np.float64]

    def keep(self, kept: NDArray[np.bool_]) -> "Records":
        """Only some molecules.

        Args:
            kept: True for each that is kept [M].

        Returns:
            Those molecules, in the same order.
        """
        of_atoms = np.repeat(kept, self.atoms)
        return Records(self.ids[kept], self.atoms[kept], self.z[of_atoms], self.pos[of_atoms], self.properties[kept])


class RecordParser:
    r"""Collects records into flat arrays, without a Python object for each molecule.

    Example:
        >>> parser = RecordParser()
        >>> properties = "\t".join(["0."] * 15)
        >>> parser.add(f"1\ngdb 7\t{properties}\t\nH\t0.\t1.5*^-3\t2.\t0.\n0.\nC\tC\nInChI=\tInChI=\n")
        7
        >>> parser.finish().pos.tolist()
        [[0.0, 0.0015, 2.0]]
    """

    def __init__(self) -> None:
        self._ids, self._atoms = array("q"), array("q")
        self._z, self._pos, self._properties = bytearray(), array("d"), array("d")

    def add(self, text: str) -> int:
        """Parse one record.

        Args:
            text: The record.

        Returns:
            Its GDB number.

        Raises:
            ValueError: If it is not as the layout demands, with what is wrong.
        """
        if "*^" in text:
            text = text.replace("*^", "e")
        lines = text.split("\n")
        count = int(lines[0])
        if count < 1 or len(lines) < count + 5:
            raise ValueError(f"expected a count of atoms and n + 5 lines, got n = {count} and {len(lines)} lines")
        head, table = lines[1].split(), "\t".join(lines[2 : 2 + count]).split()
        if len(head) != 17 or head[0] != "gdb":
            raise ValueError(f"expected `gdb`, an id and 15 properties, got {lines[1][:60]!r}")
        if len(table) != 5 * count:
            raise ValueError(f"expected element, x, y, z and charge of {count} atoms, got {len(table)} words")
        try:
            z = bytes([ELEMENTS[symbol] for symbol in table[::5]])
        except KeyError as error:
            raise ValueError(f"expected the elements {', '.join(ELEMENTS)}, got {error}") from None
        number = int(head[1])
        flat = [0.0] * (3 * count)
        flat[::3], flat[1::3], flat[2::3] = map(float, table[1::5]), map(float, table[2::5]), map(float, table[3::5])
        values = [*map(float, head[2:])]
        self._pos.extend(flat)
        self._properties.extend(values)
        self._z += z
        self._ids.append(number)
        self._atoms.append(count)
        return number

    def finish(self) -> Records:
        """All records.

        Returns:
            The molecules, ordered by their ids.

        Raises:
            ValueError: If there is none, an id occurs twice, or values are not finite.
        """
        ids, atoms = np.array(self._ids, dtype=np.int64), np.array(self._atoms, dtype=np.int64)
        z, pos = np.frombuffer(bytes(self._z), dtype=np.uint8).astype(np.int64), np.array(self._pos).reshape(-1, 3)
        properties = np.array(self._properties).reshape(-1, len(PROPERTIES))
        if not len(ids):
            raise ValueError("it holds no record; expected members like dsgdb9nsd_000001.xyz")
        order = np.argsort(ids, kind="stable")
        twice = ids[order][1:][np.diff(ids[order]) == 0]
        if len(twice):
            raise ValueError(f"{len(twice)} molecules occur twice, the first is gdb {twice[0]}; remove one of them")
        starts = np.cumsum(atoms) - atoms
        bad = ~np.isfinite(properties).all(1) | ~np.logical_and.reduceat(np.isfinite(pos).all(1), starts)
        if bad.any():
            raise ValueError(f"{int(bad.sum())} records have NaN or infinite values, the first is gdb {ids[bad][0]}")
        if (np.diff(order) == 1).all():
            return Records(ids, atoms, z, pos, properties)
        within = np.arange(int(atoms.sum())) - np.repeat(np.cumsum(atoms[order]) - atoms[order], atoms[order])
        of_atoms = np.repeat(starts[order], atoms[order]) + within
        return Records(ids[order], atoms[order], z[of_atoms], pos[of_atoms], properties[order])


def read_records(path: Path) -> Records:
    """Read an archive of records.

    Args:
        path: The tar.bz2.

    Returns:
        Its molecules in the order of their ids, whatever the order in the archive.

    Raises:
        ValueError: If the archive is damaged, a record is not as the layout demands, or an id occurs twice.
    """
    parser = RecordParser()
    name = ""
    try:
        for name, content in _members(path):
            number = parser.add(content.decode("ascii"))
            digits = name.removesuffix(".xyz").rpartition("_")[2]
            if digits.isdecimal() and int(digits) != number:
                raise ValueError(f"it is the record of gdb {number}")
        name = ""
        return parser.finish()
    except (EOFError, OSError, ValueError, OverflowError) as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        where = f"{path}, after or in {name}" if name else f"{path}"
        raise ValueError(f"{where}: {error}; fetch or copy the archive again") from None


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each record; tarfile needs longer for a member than its parsing takes."""
    with bz2.open(path) as packed, io.BufferedReader(packed, 1 << 20) as stream:
        while True:
            header = stream.read(_BLOCK)
            if len(header) < _BLOCK:
                raise ValueError("the archive is cut off, its end mark is missing")
            if not any(header):
                while stream.read(1 << 20):  # to the end, where the checksum of the compression is verified
                    pass
                return
            stated = int(header[148:156].strip(b"\0 ") or b"0", 8)
            if stated != sum(header) - sum(header[148:156]) + 8 * ord(" "):
                raise ValueError("this is no tar archive, or it is damaged: a header has a wrong checksum")
            size = int(header[124:136].strip(b"\0 ") or b"0", 8)
            if not 0 <= size <= _LARGEST:
                raise ValueError(f"a member of {size} bytes is no record of a molecule")
            content = stream.read(size)
            if len(content) < size:
                raise ValueError("the archive is cut off within a record")
            stream.read(-size % _BLOCK)
            name = header[:100].rstrip(b"\0").decode("ascii").rpartition("/")[2]
            if header[156:157] in {b"0", b"\0"} and name.endswith(".xyz") and not name.startswith("."):
                yield name, content


def read_uncharacterized(path: Path) -> NDArray[np.int64]:
    """Ids of the molecules that failed the consistency check.

    Args:
        path: ``uncharacterized.txt``, whose rows begin with a 1-based GDB number.

    Returns:
        The ids, sorted [K].

    Raises:
        ValueError: If the table is not there or cut off, or an id occurs twice.
    """
    lines = _lines(path)
    bars = [number for number, line in enumerate(lines) if line.startswith("====")]
    if len(bars) != 3:
        raise ValueError(f"{path} is not the list of uncharacterized molecules, or it is cut off; fetch it again")
    words = [line.split() for line in lines[bars[1] + 1 : bars[2]]]
    if not all(row and row[0].isdecimal() and len(row[0]) < 10 for row in words):
        raise ValueError(f"{path} is damaged: a row does not begin with the number of a molecule; fetch it again")
    ids = np.array(sorted(int(row[0]) for row in words), dtype=np.int64)
    if len(np.unique(ids)) != len(ids):
        raise ValueError(f"{path} is damaged: a molecule is listed twice; fetch it again")
    return ids


def read_atomref(path: Path) -> dict[str, dict[str, float]]:
    """Properties of free atoms.

    Args:
        path: ``atomref.txt``.

    Returns:
        For each of :data:`REFERENCES`, the values by element symbol, in Hartree and cal/(mol K).

    Raises:
        ValueError: If an element or a value is missing or not finite.
    """
    rows = {words[0]: words[1:] for words in map(str.split, _lines(path)) if words and words[0] in ELEMENTS}
    try:
        values = {symbol: [float(word) for word in rows[symbol]] for symbol in ELEMENTS}
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} is damaged: no number or no row for {error}; fetch it again") from None
    if any(len(row) != len(REFERENCES) or not np.isfinite(row).all() for row in values.values()):
        raise ValueError(f"{path} is damaged: expected {len(REFERENCES)} finite values for each element")
    return {name: {symbol: row[column] for symbol, row in values.items()} for column, name in enumerate(REFERENCES)}


def _lines(path: Path) -> list[str]:
    return path.read_bytes().decode("ascii", errors="replace").splitlines()
