"""Extended xyz a block of structures at a time, so that files may be larger than the memory.

ASE looks through the whole of a file for the places of its structures before it reads the first one. Here a file is cut
between structures, and ASE reads one block after another: the same structures, in memory that does not grow.
"""

import io
import itertools
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

#: Structures and bytes of a block.
_STRUCTURES, _BYTES = 256, 1 << 24
#: A structure of more atoms is damage; what follows it would be taken for its atoms.
_MOST_ATOMS = 50_000_000


def can_be_cut(path: Path, format: str | None = None) -> bool:
    """True if a file is extended xyz whose lines end as they do today.

    Args:
        path: The file.
        format: ASE's name of the format; ``None`` to let ASE look.

    Returns:
        True or False; False also for compressed files, which ASE unpacks, and for empty ones.
    """
    from ase.io.formats import UnknownFileTypeError, filetype, get_compression  # noqa: PLC0415  an extra

    try:
        if get_compression(str(path))[1] is not None or (format or filetype(str(path))) != "extxyz":
            return False
    except UnknownFileTypeError:  # an empty file; reading it gives the error message
        return False
    with path.open("rb") as stream:
        return b"\r" not in stream.readline(1 << 16).removesuffix(b"\r\n")


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

    with path.open("rb") as stream:
        frames = _frames(stream)
        _skip(frames, start)
        for block in _blocks(frames):
            yield from read_xyz(io.StringIO(block.decode()), slice(None))


def count_frames(path: Path) -> int:
    """Number of structures of a file, of which nothing but numbers of atoms is read.

    Args:
        path: The file.

    Returns:
        The number.

    Raises:
        ValueError: If a structure does not begin with its number of atoms.
    """
    with path.open("rb") as stream:
        return sum(1 for _ in _frames(stream))


def guess_number(path: Path) -> int:
    """About how many structures a file holds, by the length of the first ones.

    Args:
        path: The file.

    Returns:
        A number; 0 if it is not known.
    """
    with path.open("rb") as stream:
        few = [sum(map(len, lines)) for lines in itertools.islice(_frames(stream), 200)]
    return round(path.stat().st_size * len(few) / sum(few)) if few else 0


def _frames(stream: IO[bytes]) -> Iterator[list[bytes]]:
    """Lines of each structure; to ASE a blank line ends the file, and lattice vectors may stand behind the atoms."""
    line = stream.readline()
    while line.strip():
        try:
            atoms = int(line)
        except ValueError:
            raise ValueError(
                f"expected a number of atoms, got {line.decode(errors='replace').strip()[:40]!r}"
            ) from None
        if atoms > _MOST_ATOMS:
            raise ValueError(f"expected a number of atoms, got {atoms}")
        lines = [line, *itertools.islice(stream, max(atoms, 0) + 1)]
        line = stream.readline()
        while line.lstrip().startswith(b"VEC"):
            lines.append(line)
            line = stream.readline()
        yield lines


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
