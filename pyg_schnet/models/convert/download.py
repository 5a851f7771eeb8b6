"""Published files of weights: from a local mirror, from the cache, or from the internet, with their sha256."""

import os
from collections.abc import Iterable
from pathlib import Path

import pooch

#: Environment variable that names a folder with files, searched before anything is downloaded.
MIRROR_VARIABLE = "PYG_SCHNET_DATA"


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
    """Where downloads are kept.

    Args:
        root: A folder of the user's choice, ``None`` for the cache of the system.

    Returns:
        The folder.
    """
    return Path(pooch.os_cache("pyg_schnet") if root is None else root).expanduser()


def check_sha256(path: Path, sha256: str) -> None:
    """Check that a file is the published one.

    Args:
        path: The file.
        sha256: Its published sha256.

    Raises:
        ValueError: If it is another one.
    """
    found = pooch.file_hash(str(path), alg="sha256")
    if found != sha256:
        raise ValueError(f"{path} is not the published file: expected sha256 {sha256}, got {found}; fetch it again")


def download(url: str, path: Path, sha256: str | None) -> None:
    """Put a published file in place, unless it is already there.

    Args:
        url: Its address.
        path: Where to put it.
        sha256: Its sha256; ``None`` if none is known.

    Raises:
        OSError: If it cannot be fetched.
        ValueError: If what came is another file.
    """
    known = None if sha256 is None else f"sha256:{sha256}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pooch.retrieve(url, known_hash=known, fname=path.name, path=path.parent)
    except OSError as error:  # requests' errors are OSErrors
        raise OSError(
            f"could not download {path.name} ({error}); fetch {url} by hand and pass its folder as `source`, or name a "
            f"folder that holds it in the environment variable {MIRROR_VARIABLE}"
        ) from None
    except ValueError:  # pooch has deleted what came
        raise ValueError(f"{url} did not give the published file with sha256 {sha256}; try again later") from None
