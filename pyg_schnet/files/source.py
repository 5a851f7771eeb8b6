"""Where files come from: the package itself, a local mirror, the cache, or the internet."""

import os
from collections.abc import Iterable
from pathlib import Path

import platformdirs

from pyg_schnet.files.download import MIRROR_VARIABLE, RemoteFile, check_again, download
from pyg_schnet.files.whole import writing

__all__ = [
    "MIRROR_VARIABLE",
    "RemoteFile",
    "cache_folder",
    "find_in_mirror",
    "first_with",
    "mirror_of",
    "provide",
    "writing",
]


def find_in_mirror(
    filename: str, source: str | Path | None, subfolder: str, alternatives: tuple[str, ...] = ()
) -> Path | None:
    """Look a raw file up in a local mirror.

    Args:
        filename: Name of the file.
        source: The file itself or a folder that holds it; ``None`` for the folder that the environment variable
            ``PYG_SCHNET_DATA`` names, if it is set.
        subfolder: Folder inside the mirror where the file may also lie.
        alternatives: Other paths in the mirror, and in its subfolder, that are looked up when there is no ``filename``.

    Returns:
        The file, or ``None`` if no mirror was named or the one of the environment variable does not have it.

    Raises:
        FileNotFoundError: If ``source`` was given and the file is not there.
    """
    named = source if source is not None else os.environ.get(MIRROR_VARIABLE)
    if not named:
        return None
    folder = Path(named).expanduser()
    if source is not None and folder.is_file():
        return folder
    for name in (filename, *alternatives):
        for candidate in (folder / name, folder / subfolder / name):
            if candidate.is_file():
                return candidate
    if source is None:
        return None
    if not folder.exists():
        raise FileNotFoundError(f"there is no `source` {folder}; give {filename} or a folder that holds it")
    raise FileNotFoundError(
        f"`source` {folder} has no {filename}, neither there nor in its folder {subfolder}; give the file itself"
    )


def provide(file: RemoteFile, folder: Path, source: str | Path | None, subfolder: str) -> Path:
    """A raw file where it is: bundled, in a mirror, downloaded before, or downloaded now with a progress bar.

    Args:
        file: The file.
        folder: Where downloads go.
        source: Local mirror, see :func:`find_in_mirror`.
        subfolder: Folder inside a mirror.

    Returns:
        The path of the file; files of a mirror are read where they are.

    Raises:
        FileNotFoundError: If ``source`` does not have the file.
        ValueError: If a file downloaded before is not what it was.
        OSError: If no address gave it, with the way to place it by hand.
    """
    if file.bundled is not None:
        return file.bundled
    local = find_in_mirror(file.name, source, subfolder, file.alternatives)
    if local is not None:
        return local
    destination = folder / file.name
    if destination.is_file():
        check_again(file, destination)
        return destination
    return download(file, folder)


def mirror_of(source: str | Path | None) -> Path | None:
    """The local mirror to look into.

    Args:
        source: A file or folder; ``None`` for the folder that the environment variable ``PYG_SCHNET_DATA`` names.

    Returns:
        The file or folder, ``None`` if there is no mirror.

    Raises:
        FileNotFoundError: If ``source`` does not exist.
    """
    if source is None:
        named = os.environ.get(MIRROR_VARIABLE)
        return Path(named).expanduser() if named else None
    mirror = Path(source).expanduser()
    if not mirror.exists():
        raise FileNotFoundError(f"there is no `source` {mirror}")
    return mirror


def first_with(folders: Iterable[Path], filename: str) -> Path | None:
    """The first folder that holds a file.

    Args:
        folders: Folders in the order of preference.
        filename: Path of the file inside.

    Returns:
        The folder, or ``None`` if none holds it.
    """
    return next((folder for folder in folders if (folder / filename).is_file()), None)


def cache_folder(root: str | Path | None) -> Path:
    """Where downloads are kept that belong to no dataset.

    Args:
        root: A folder of the user's choice, ``None`` for the cache of the system.

    Returns:
        The folder.
    """
    return Path(platformdirs.user_cache_dir("pyg_schnet") if root is None else root).expanduser()
