"""Where raw files come from: the package itself, a local mirror, or the internet."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

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
        bundled: Path of a file that comes with the package or belongs to the user; nothing is searched then.
        md5: Another checksum of the whole file, ``None`` if it is not known.
        alternatives: Other paths inside a mirror that do as well, for example of a file unpacked from the archive.
    """

    name: str
    urls: tuple[str, ...] = ()
    sha256: str | None = None
    size: int | None = None
    bundled: Path | None = None
    md5: str | None = None
    alternatives: tuple[str, ...] = ()


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
    from pyg_schnet.datasets.download import check_again, download  # noqa: PLC0415  it needs the classes above

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


@contextmanager
def writing(folder: Path, remedy: str = "nothing half-written is left behind") -> Iterator[None]:
    """Say in one sentence why nothing can be written.

    Args:
        folder: Where it is written.
        remedy: What to know about what was written so far.

    Raises:
        OSError: With the error number of the cause.

    Example:
        >>> with writing(Path("data")):
        ...     raise OSError(errno.ENOSPC, "No space left on device")
        Traceback (most recent call last):
            ...
        OSError: [Errno 28] no space left in data; free some and run again, nothing half-written is left behind
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            message = f"no space left in {folder}; free some and run again, {remedy}"
        elif error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
            message = f"{folder} cannot be written to; make it writable or choose another `root`"
        elif error.errno in {errno.ENOTDIR, errno.EEXIST}:
            message = f"{folder} cannot be a folder because a file is in its way; choose another `root`"
        else:
            raise
        raise OSError(error.errno, message) from None
