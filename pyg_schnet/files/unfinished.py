"""Folders of work that is done piece by piece, which say what it is: who goes on must not mix it with other work."""

import hashlib
import shutil
from pathlib import Path

from pyg_schnet.files.whole import replacing

_NAME = "identity.txt"


def stamp_of(identity: str) -> str:
    """A short text that stands for a long one.

    Args:
        identity: What tells some work from other work.

    Returns:
        Its sha256.
    """
    return hashlib.sha256(identity.encode()).hexdigest()


def remove_others(folder: Path, identity: str) -> None:
    """Remove a folder if it is of other work.

    Args:
        folder: The folder, which need not be there.
        identity: What tells this work from others.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp(), "work")
        >>> claim(folder, "mine")
        >>> remove_others(folder, "mine")
        >>> folder.exists(), remove_others(folder, "another's"), folder.exists()
        (True, None, False)
    """
    about = folder / _NAME
    if folder.is_dir() and not (about.is_file() and about.read_text(encoding="utf-8") == stamp_of(identity)):
        shutil.rmtree(folder)


def claim(folder: Path, identity: str) -> None:
    """Make a folder, unless it is there, and say in it what work it is of.

    Args:
        folder: The folder.
        identity: What tells this work from others.

    Raises:
        OSError: If it cannot be written.
    """
    about = folder / _NAME
    if not about.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(about) as part:
            part.write_text(stamp_of(identity), encoding="utf-8")
