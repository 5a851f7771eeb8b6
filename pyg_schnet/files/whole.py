"""Files that are there whole or not at all."""

import contextlib
import errno
import os
import secrets
import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"
_DAY = 86400.0
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Write a file under a hidden name of its own, from which it takes the right one when it is complete.

    If writing fails or is interrupted, what was there before stays. Any number of processes may write the same file:
    readers see that of one of them, whole. It is on the disk before it takes its name, with the permissions of the file
    that it replaces, or else those that the umask leaves. A symbolic link stays one, and what it leads to is replaced.
    What killed writers left behind, ``.part-...``, the next one removes. A device or pipe is written itself.

    Args:
        path: The file.

    Yields:
        Where to write; the suffix is the same, by which some libraries go.

    Raises:
        FileNotFoundError: If there is no such folder, or nothing was written.
        IsADirectoryError: If ``path`` is a folder.
        OSError: If the folder cannot be written to, or there is no space left.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "numbers.txt"
        >>> with replacing(file) as part:
        ...     _ = part.write_text("1 2 3")
        >>> file.read_text(), part.exists()
        ('1 2 3', False)
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, f"{path} is a folder; expected the name of a file")
    if path.exists() and not path.is_file():
        yield path
        return
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, f"there is no folder {target.parent} to write {target.name} into; create it first"
        )
    _remove_stale(target)
    part = target.with_name(f".part-{_HOST}-{os.getpid()}-{secrets.token_hex(4)}-{_short(target.name)}")
    mode = _mode_of(target, part)
    try:
        yield part
        _sync(part)
        _permit(part, mode)
        part.replace(target)
    except Exception as error:
        if _is_full(error):
            raise OSError(
                errno.ENOSPC, f"there is no space left for {path}; free some and write it again, what was there stays"
            ) from error
        raise
    finally:
        part.unlink(missing_ok=True)


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


def _mode_of(target: Path, part: Path) -> int:
    """Permissions of the file to be replaced, or those that a new one gets here."""
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        mode = part.stat().st_mode
    except OSError as error:
        if error.errno in _FULL:
            raise OSError(error.errno, f"there is no space left for {target}; free some and write it again") from None
        raise OSError(
            error.errno, f"{target.name} cannot be written into {target.parent} ({os.strerror(error.errno or 0)})"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    with contextlib.suppress(OSError):
        mode = target.stat().st_mode
    return mode & 0o7777


def _permit(part: Path, mode: int) -> None:
    """Give a file its permissions."""
    if part.stat().st_mode & 0o7777 != mode:
        with contextlib.suppress(PermissionError):  # of file systems that have none
            part.chmod(mode)


def _sync(part: Path) -> None:
    """Wait until the disk has it, where the file system allows to ask."""
    number = os.open(part, os.O_RDWR)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES}:
            raise
    finally:
        os.close(number)


def _remove_stale(target: Path) -> None:
    """Remove what writers of a file left behind that are no more."""
    name = _short(target.name)
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if entry.name.startswith(".part-") and entry.name.endswith(name) and _is_stale(entry, name):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


def _is_stale(entry: os.DirEntry[str], name: str) -> bool:
    words = entry.name.removesuffix(name).split("-")  # ".part", host, process, random, ""
    named = len(words) == 5 and words[2].isdecimal()
    if not named and entry.name != f".part-{name}":
        return False
    if named and words[1] == _HOST and os.name == "posix":
        return not _is_alive(int(words[2]))
    return time.time() - entry.stat().st_mtime > _DAY  # of another machine, or of a version that named no process


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _short(name: str) -> str:
    """The name, or something in its place if file systems would refuse it with more before it."""
    return name if len(name.encode()) <= 180 else f"{zlib.crc32(name.encode()):08x}{Path(name).suffix[-20:]}"


def _is_full(error: Exception) -> bool:
    """True if a disk has no space left, as the libraries that write say it."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    text = str(error)
    return "o space left" in text or "file write failed" in text
