"""Where raw files come from: a local mirror, or the internet."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pooch

#: Environment variable that names a folder with raw files, searched before anything is downloaded.
MIRROR_VARIABLE = "PYG_SCHNET_DATA"


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


def provide(filename: str, destination: Path, urls: Sequence[str], source: str | Path | None, subfolder: str) -> None:
    """Put a raw file in place: copied from a mirror, else downloaded with a progress bar.

    Args:
        filename: Name of the file in a mirror.
        destination: Where to put it; written in one step.
        urls: Addresses, tried in order.
        source: Local mirror, see :func:`find_in_mirror`.
        subfolder: Folder inside a mirror.

    Raises:
        FileNotFoundError: If ``source`` does not have the file.
        OSError: If no address gave it, with the way to place it by hand.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    local = find_in_mirror(filename, source, subfolder)
    if local is not None:
        part = destination.with_name(destination.name + ".part")
        shutil.copyfile(local, part)
        part.replace(destination)
        return
    reasons = []
    for url in urls:
        try:
            pooch.retrieve(url, known_hash=None, fname=destination.name, path=destination.parent, progressbar=True)
            return
        except (OSError, ValueError) as error:  # requests' errors are OSErrors
            reasons.append(f"{url}: {error}")
    raise OSError(
        f"could not download {filename} ({'; '.join(reasons)}); fetch it by hand and pass `source=<file>`, "
        f"or name a folder that holds it in the environment variable {MIRROR_VARIABLE}"
    )
