"""Extended xyz a block of structures at a time, so that files may be larger than the memory.

ASE looks through the whole of a file for the places of its structures before it reads the first one, and takes a blank
line for the end of the file. Here a file is cut between structures, and ASE reads one block after another: the same
structures, in memory that does not grow.
"""

import io
import itertools
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyg_schnet.datasets.comment_lines import fields_of, program_of, with_exponents

#: Structures and bytes of a block.
_STRUCTURES, _BYTES = 256, 1 << 24
#: A structure of more atoms is damage; what follows it would be taken for its atoms.
_MOST_ATOMS = 50_000_000
#: What some editors write in front of a text.
_MARK = b"\xef\xbb\xbf"


def can_be_cut(path: Path, format: str | None = None) -> bool:
    """True if a file is extended xyz, compressed or not, also where the ending of its name means nothing to ASE.

    Args:
        path: The file.
        format: ASE's name of the format; ``None`` to let ASE look.

    Returns:
        True or False; False also for empty files.
    """
    from ase.io.formats import UnknownFileTypeError, filetype, ioformats  # noqa: PLC0415  an extra

    try:
        found = format or filetype(str(path))
        if format is None and found not in ioformats:  # which is no more than the ending of its name
            with _lines(path) as lines:
                return next(lines, b"").removeprefix(_MARK).strip().isdigit()
    except UnknownFileTypeError:  # an empty file; reading it gives the error message
        return False
    return found == "extxyz"


def read_blocks(path: Path, start: int = 0) -> Iterator[Any]:
    """ASE's structures of a file.

    Args:
        path: The file.
        start: Number of structures that are skipped.

    Yields:
        ``Atoms``.

    Raises:
        ValueError: If a structure does not begin with its number of atoms.
        OSError: From ASE, if a structure is damaged.
    """
    from ase.io.extxyz import read_xyz  # noqa: PLC0415

    with _lines(path) as lines:
        frames = _frames(lines)
        _skip(frames, start)
        for block in _blocks(frames):
            yield from read_xyz(io.StringIO(with_exponents(block.decode())), slice(None), fields_of)


def count_frames(path: Path) -> int:
    """Number of structures of a file, of which nothing but numbers of atoms is read.

    Args:
        path: The file.

    Returns:
        The number.

    Raises:
        ValueError: If a structure does not begin with its number of atoms.
    """
    with _lines(path) as lines:
        return sum(1 for _ in _frames(lines))


def guess_number(path: Path) -> int:
    """About how many structures a file holds, by the length of the first ones.

    Args:
        path: The file.

    Returns:
        A number; 0 if it is not known, as for compressed files.
    """
    if _compression(path) is not None:
        return 0
    with _lines(path) as lines:
        few = [sum(map(len, frame)) for frame in itertools.islice(_frames(lines), 200)]
    return round(path.stat().st_size * len(few) / sum(few)) if few else 0


def written_by(path: Path) -> str | None:
    """The program that wrote a file, as far as the line about its first structure tells.

    Args:
        path: The file.

    Returns:
        See :func:`~pyg_schnet.datasets.comment_lines.program_of`; ``None`` also for a damaged file.
    """
    try:
        with _lines(path) as lines:
            first = next(_frames(lines), [b"", b""])
    except (OSError, EOFError, ValueError):
        return None
    return program_of(first[1].decode(errors="replace").strip("\r\n")) if len(first) > 1 else None


def _compression(path: Path) -> str | None:
    from ase.io.formats import get_compression  # noqa: PLC0415

    return get_compression(str(path))[1]


@contextmanager
def _lines(path: Path) -> Iterator[Iterator[bytes]]:
    """Lines of a file, which may be compressed and may end in any way."""
    from ase.io.formats import open_with_compression  # noqa: PLC0415

    with open_with_compression(str(path), "rb") as stream:
        carriage_returns = b"\r" in stream.readline(1 << 16).removesuffix(b"\r\n")
        stream.seek(0)
        if carriage_returns:
            with io.TextIOWrapper(stream, encoding="utf-8") as text:
                yield (line.encode() for line in text)
        else:
            yield iter(stream)


def _frames(lines: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Lines of each structure; blank ones may stand between structures, and lattice vectors behind the atoms."""
    place, line, frame = 1, next(lines, b"").removeprefix(_MARK), list[bytes]()
    while line:
        if not line.strip():
            place, line = place + 1, next(lines, b"")
            continue
        frame = [line, *itertools.islice(lines, _atoms(line, place, frame) + 1)]
        line = next(lines, b"")
        while line.lstrip().startswith(b"VEC"):
            frame.append(line)
            line = next(lines, b"")
        place += len(frame)
        yield frame


def _atoms(line: bytes, place: int, before: list[bytes]) -> int:
    """The number of atoms that a structure begins with, behind another one."""
    try:
        atoms = int(line)
    except ValueError:
        atoms = -1
    if not 0 <= atoms <= _MOST_ATOMS:
        got = line.decode(errors="replace").strip()[:40]
        if b"".join(before[1:2]).startswith(b"gdb "):
            raise ValueError(
                f"line {place}: expected a number of atoms, got {got!r}; this is a molecule of QM9 as published, whose "
                "archive pyg_schnet.datasets.QM9 reads"
            )
        raise ValueError(
            f"line {place}: expected a number of atoms, got {got!r}; a structure is its number of atoms, a line about "
            "it and a line for each atom"
        )
    return atoms


def _skip(frames: Iterator[Any], number: int) -> None:
    deque(itertools.islice(frames, number), maxlen=0)


def _blocks(frames: Iterator[list[bytes]]) -> Iterator[bytes]:
    block: list[bytes] = []
    number = size = 0
    for lines in frames:
        block += lines
        number, size = number + 1, size + sum(map(len, lines))
        if number == _STRUCTURES or size > _BYTES:
            yield b"".join(block)
            block, number, size = [], 0, 0
    if block:
        yield b"".join(block)
