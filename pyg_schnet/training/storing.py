"""Checkpoints that no interruption destroys: whole files, the one before kept, damage noticed, one run in a folder."""

import io
import os
import pickle
import shutil
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from lightning.pytorch.plugins.io import TorchCheckpointIO

from pyg_schnet.files import replacing
from pyg_schnet.training.say import say

#: File that a process holds as long as its run goes on.
LOCK = ".lock"


def previous(path: Path) -> Path:
    """Where the checkpoint before is kept.

    Args:
        path: A checkpoint.

    Returns:
        The path beside it.

    Example:
        >>> previous(Path("run/last.ckpt")).name
        'last-previous.ckpt'
    """
    return path.with_name(f"{path.stem}-previous{path.suffix}")


class WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints beside their place, down to the disk, and only then puts them there.

    Lightning writes them into the temporary folder; where that is on another file system, it then copies them over the
    only state from which a run can go on.

    Args:
        directory: Folder of the run; of its own checkpoints the ones before are kept, see :func:`previous`.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.kept = [directory.resolve() / f"{name}.ckpt" for name in ("best", "last")]

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: Its contents.
            path: Where to.
            storage_options: Not used.

        Raises:
            OSError: If it cannot be written; what was there before stays.
        """
        if "://" in str(path):  # somewhere else, by a callback of the user
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path, contents = Path(path), io.BytesIO()
        torch.save(checkpoint, contents)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as part:
                part.write_bytes(contents.getbuffer())
                if path.resolve() in self.kept and path.exists():
                    _copy(path, previous(path))
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error
            said = OSError(
                f"{path} could not be written ({reason}); what was stored before is whole: make room or choose another "
                "disk, then resume the run"
            )
            said.errno = error.errno
            raise said from error


def _copy(path: Path, other: Path) -> None:
    """Give a file a second name, in a single step."""
    with replacing(other) as part:
        part.unlink(missing_ok=True)
        try:
            os.link(path, part)
        except OSError:  # a file system without such names
            shutil.copyfile(path, part)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a training checkpoint; nothing in it is executed.

    Args:
        path: The file.

    Returns:
        Its contents.

    Raises:
        ValueError: If the file is damaged or contains more than plain data.
    """
    try:
        _check_sums(path)
        with warnings.catch_warnings(action="ignore"):
            contents: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError, KeyError, ValueError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} is not a readable checkpoint ({reason}); remove it to start the run again, or restore a copy"
        ) from None
    return contents


def _check_sums(path: Path) -> None:
    """Look at the checksums of a file of torch, which torch itself leaves out."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"damaged inside: {damaged} does not have its checksum")


def last_state(directory: Path) -> tuple[Path | None, int]:
    """From where a run goes on: its last regular validation, or the one before if that file is damaged.

    Args:
        directory: Folder of the run.

    Returns:
        The checkpoint and its step; ``None`` and 0 for a new run.

    Raises:
        ValueError: If both are damaged.
    """
    last = directory / "last.ckpt"
    before = previous(last)
    if not last.exists() and not before.exists():
        return None, 0
    try:
        return last, read_checkpoint(last)["global_step"]
    except (ValueError, FileNotFoundError) as error:
        try:
            step = read_checkpoint(before)["global_step"]
        except (ValueError, FileNotFoundError):
            raise error from None
        reason = str(error).split("; remove it")[0] if last.exists() else f"{last} is gone"
        say(f"{reason}; the run goes on from the one before, {before.name}, of step {step}")
        _copy(before, last)
        return last, step


@contextmanager
def only_run_in(directory: Path) -> Iterator[None]:
    """Hold a folder as long as a run goes on in it; the lock of a process that has died holds nothing.

    Args:
        directory: The folder, which is made.

    Yields:
        Nothing.

    Raises:
        BlockingIOError: If another run holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BlockingIOError(
            f"another run is at work in {directory}; wait for its end or choose another directory"
        ) from None
    except (NotImplementedError, OSError):  # a file system without locks
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):
            (directory / LOCK).unlink(missing_ok=True)
        lock.release()
