"""Elements of a large JSON array, one after another, out of a zip, gzip or plain file.

The Materials Project snapshots unpack to gigabytes; as Python objects all at once they would not fit everywhere.
"""

import gzip
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, cast

#: Characters read at once.
CHUNK = 1 << 22
#: No element and no head is longer; what looks like one is damage.
LONGEST = 1 << 28
_SPACE = re.compile(r"[\s,]*")
_DAMAGE = (ValueError, EOFError, RecursionError, RuntimeError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile)


def head_and_elements(path: Path, key: str) -> tuple[dict[str, Any] | None, Iterator[Any]]:
    """The elements of an array that is either the whole document or the last member of an object.

    Args:
        path: A JSON file, plain, gzip, or a zip archive that holds one.
        key: Name of the array if the document is an object.

    Returns:
        The other members of the object in front of the array (``None`` for a bare array) and the elements.

    Raises:
        ValueError: If the file is damaged, now or when the damaged element is reached.
    """
    elements = _elements(path, key)
    return next(elements), elements


def member(path: Path, name: str) -> Any:
    """A small JSON file inside a zip archive, ``None`` if there is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read(name)) if name in archive.namelist() else None
    except (*_DAMAGE, NotImplementedError) as error:
        raise _damaged(path, error) from None


def _elements(path: Path, key: str) -> Iterator[Any]:
    """First the head, then each element."""
    try:
        with ExitStack() as stack:
            text = io.TextIOWrapper(_opened(path, stack), encoding="utf-8")
            buffer, at, head = _begin(text, key)
            yield head
            yield from _decoded(text, buffer, at)
    except (*_DAMAGE, NotImplementedError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: BaseException) -> ValueError:
    reason = str(error)[:200] or type(error).__name__
    return ValueError(f"{path} is not readable as a JSON snapshot ({reason}); fetch or copy it again")


def _opened(path: Path, stack: ExitStack) -> IO[bytes]:
    file = stack.enter_context(path.open("rb"))
    begin = file.read(2)
    file.seek(0)
    if begin == b"PK":
        archive = stack.enter_context(zipfile.ZipFile(file))
        names = [name for name in archive.namelist() if name.endswith(".json") and not name.endswith("about.json")]
        if len(names) != 1:
            raise ValueError(f"expected a zip archive with one JSON file, got {len(names)}")
        return stack.enter_context(archive.open(names[0]))
    if begin == b"\x1f\x8b":
        return cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=file)))
    return file


def _begin(text: io.TextIOWrapper, key: str) -> tuple[str, int, dict[str, Any] | None]:
    """What was read, where the first element begins, and the head."""
    buffer, start = text.read(CHUNK), re.compile(rf'"{key}"\s*:\s*\[')
    if buffer.lstrip().startswith("["):
        return buffer, buffer.index("[") + 1, None
    if not buffer.lstrip().startswith("{"):
        raise ValueError(f"expected a JSON array or object, it begins with {buffer[:20]!r}")
    while (found := start.search(buffer)) is None:
        more = text.read(CHUNK)
        if not more or len(buffer) > LONGEST:
            raise ValueError(f"expected an object with the array {key!r}, it has none")
        buffer += more
    return buffer, found.end(), json.loads(buffer[: found.end()] + "]}")


def _decoded(text: io.TextIOWrapper, buffer: str, at: int) -> Iterator[Any]:
    decode, size = json.JSONDecoder().raw_decode, CHUNK
    while True:
        at = _SPACE.match(buffer, at).end()  # type: ignore[union-attr]
        if at < len(buffer) and buffer[at] == "]":
            return
        try:
            element, at = decode(buffer, at)
        except ValueError:  # incomplete, or damaged: more text will tell
            more = text.read(size)
            if not more or len(buffer) - at > LONGEST:
                raise
            buffer, at, size = buffer[at:] + more, 0, min(2 * size, LONGEST)
        else:
            size = CHUNK
            yield element
