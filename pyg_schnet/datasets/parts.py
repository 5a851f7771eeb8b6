"""Work on much data in parts, which are on the disk whole or not at all: what is killed goes on behind the last one."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyg_schnet.files import replacing
from pyg_schnet.files.unfinished import claim, remove_others

#: Name of the facts among the arrays of a part.
_FACTS = "facts.json"


class Part(NamedTuple):
    """Some of the data.

    Attributes:
        arrays: Numbers by name.
        facts: What JSON can hold; ``complete`` is true in the last part.
    """

    arrays: dict[str, NDArray]
    facts: dict[str, Any]


class Parts:
    """The parts of some work, in a folder that is there from the second one on.

    A single part stays in memory. Parts that another work has left in the folder are removed.

    Args:
        folder: Where the parts are.
        identity: What tells this work from others.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp(), "parts")
        >>> parts = Parts(folder, "squares")
        >>> parts.add(Part({"n": np.array([1, 4])}, {"complete": False}))
        >>> [part.arrays["n"].tolist() for part in Parts(folder, "squares")], len(Parts(folder, "cubes"))
        ([[1, 4]], 0)
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder, self.identity = folder, identity
        self._only: Part | None = None
        remove_others(folder, identity)
        #: Facts of the parts there are.
        self.facts = [_read(path, arrays=False).facts for path in self._paths()]

    def __len__(self) -> int:
        return len(self.facts)

    def __iter__(self) -> Iterator[Part]:
        if self._only is not None:
            yield self._only
            return
        for path in self._paths():
            yield _read(path)

    @property
    def complete(self) -> bool:
        """True if the last part is there."""
        return bool(self.facts) and self.facts[-1]["complete"]

    @property
    def in_memory(self) -> bool:
        """True if there is but one part, which was never written."""
        return self._only is not None

    def add(self, part: Part) -> None:
        """Add the next part.

        Args:
            part: The part.

        Raises:
            OSError: If it cannot be written.
        """
        if part.facts["complete"] and not self.facts:
            self._only = part
        else:
            claim(self.folder, self.identity)
            with replacing(self.folder / f"{len(self.facts):06d}.npz") as written, written.open("wb") as stream:
                text = np.frombuffer(json.dumps(part.facts).encode(), dtype=np.uint8)
                np.savez(stream, **{_FACTS: text}, **part.arrays)  # type: ignore[arg-type]
        self.facts.append(part.facts)

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.npz"))


def _read(path: Path, arrays: bool = True) -> Part:
    with np.load(path, allow_pickle=False) as file:
        facts = json.loads(file[_FACTS].tobytes())
        return Part({name: file[name] for name in file.files if name != _FACTS} if arrays else {}, facts)
