"""Files of predictions that are written a piece at a time: what is killed goes on behind the last piece."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyg_schnet.command.joining import join_files
from pyg_schnet.files import replacing
from pyg_schnet.files.unfinished import claim, remove_others, stamp_of

_NAME = re.compile(r"(\d+)-(\d+)")


class Pieces:
    """The pieces of a file, in a hidden folder beside it until all are there.

    Args:
        path: The file.
        identity: What tells these predictions from others; pieces of others are removed.
        first: Number of the first structure.
    """

    def __init__(self, path: Path, identity: str, first: int = 0) -> None:
        self.path, self.identity, self.first = path, identity, first
        self.folder = path.with_name(f".pieces-{path.name}")
        remove_others(self.folder, identity)

    @property
    def done(self) -> int:
        """Number of the first structure that is in no piece."""
        ends = [int(_NAME.fullmatch(one.stem)[2]) for one in self._files()]  # type: ignore[index]
        return max(ends, default=self.first)

    @contextmanager
    def next(self) -> Iterator[Path]:
        """Write the next piece.

        Yields:
            Where to write.

        Raises:
            OSError: If it cannot be written.
        """
        claim(self.folder, self.identity)
        try:
            with replacing(self.folder / f"next{self.path.suffix}") as part:
                yield part
        finally:
            if not self._files() and not (self.folder / f"next{self.path.suffix}").exists():
                shutil.rmtree(self.folder, ignore_errors=True)

    def keep(self, end: int) -> None:
        """Keep the piece that was just written.

        Args:
            end: Number of the structure behind its last one.
        """
        name = f"{self.done:012d}-{end:012d}{self.path.suffix}"
        (self.folder / f"next{self.path.suffix}").rename(self.folder / name)

    def finish(self) -> None:
        """Join the pieces into the file, and remove them.

        Raises:
            OSError: If it cannot be written.
        """
        with replacing(self.path) as part:
            join_files(self._files(), part)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _files(self) -> list[Path]:
        found = self.folder.glob(f"*{self.path.suffix}") if self.folder.is_dir() else ()
        return sorted(one for one in found if _NAME.fullmatch(one.stem))


def mark(path: Path, identity: str) -> None:
    """Note beside a file whose predictions it holds.

    Args:
        path: The file.
        identity: What tells these predictions from others.
    """
    with replacing(_mark_of(path)) as part:
        part.write_text(json.dumps({"made of": stamp_of(identity)}))


def is_marked(path: Path, identity: str) -> bool:
    """True if a file holds these predictions.

    Args:
        path: The file.
        identity: What tells these predictions from others.

    Returns:
        True or False; False also where nothing is noted.
    """
    try:
        noted = json.loads(_mark_of(path).read_text())["made of"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(noted == stamp_of(identity))


def _mark_of(path: Path) -> Path:
    return path.with_name(f".made-of-{path.name}.json")
