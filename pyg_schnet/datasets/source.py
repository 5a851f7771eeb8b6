"""Where raw files come from: a local mirror, or the internet."""

import os
from dataclasses import dataclass
from pathlib import Path

import pooch

#: Environment variable that names a folder with raw files, searched before anything is downloaded.
MIRROR_VARIABLE = "PYG_SCHNET_DATA"


@dataclass(frozen=True)
class RemoteFile:
    """A raw file and where it can be had.

    Attributes:
        name: Name of the file, in mirrors and in the folder of downloads.
        urls: Addresses, tried in order; none for a bundled file.
        sha256: Checksum of the whole file, ``None`` if it is not known.
        size: Size in bytes, ``None`` if it is not known.
        bundled: Path of a file that comes with the package; nothing is searched then.
    """

    name: str
    urls: tuple[str, ...] = ()
    sha256: str | None = None
    size: int | None = None
    bundled: Path | None = None


def find_in_mirror(filename: str, source: str | Path | None, subfolder: str) -> Path | None:
    """Look a raw file up in a local mirror.

    Args:
        filename: Name of the file.
        source: The file itself or a folder that holds it; ``None`` for the folder that the environment variable
            ``PYG_SCHNET_DATA`` names, if it is set.
        subfolder: Folder inside the mirror where the file may also lie.

    Returns:
        The file, or ``None`` if no mirror was named or the one of the environment variable does not have it.

    Raises:
        FileNotFoundError: If ``source`` was given and the file is not there.
    """
    folder = source if source is not None else os.environ.get(MIRROR_VARIABLE)
    if not folder:
        return None
    folder = Path(folder).expanduser()
    if source is not None and folder.is_file():
        return folder
    for candidate in (folder / filename, folder / subfolder / filename):
        if candidate.is_file():
            return candidate
    if source is None:
        return None
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
        OSError: If no address gave it, with the way to place it by hand.
    """
    if file.bundled is not None:
        return file.bundled
    local = find_in_mirror(file.name, source, subfolder)
    if local is not None:
        return local
    destination = folder / file.name
    if destination.is_file():
        return destination
    reasons = []
    for url in file.urls:
        try:
            known = None if file.sha256 is None else f"sha256:{file.sha256}"
            pooch.retrieve(url, known_hash=known, fname=file.name, path=folder, progressbar=True)
            return destination
        except (OSError, ValueError) as error:  # requests' errors are OSErrors
            reasons.append(f"{url}: {error}")
    raise OSError(
        f"could not download {file.name} ({'; '.join(reasons)}); fetch it by hand and pass `source=<file>`, "
        f"or name a folder that holds it in the environment variable {MIRROR_VARIABLE}"
    )
