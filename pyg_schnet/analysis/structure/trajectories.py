"""Simulated matter frame by frame, from files or objects, never more than a frame in memory."""

import bz2
import gzip
import lzma
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch_geometric.data import Batch, Data
from tqdm import tqdm

from pyg_schnet.analysis.structure.snapshot import Snapshot, check_lattice, is_atoms, snapshot_of
from pyg_schnet.datasets.ase_files import read_structures

#: How compressed files are opened, by the ends of their names.
UNPACK: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


class Beads:
    """The trajectories of the beads of a path integral, of which the frames of equal number belong together.

    Distributions are averaged over the beads of each time, and errors do not take them for independent.

    Args:
        trajectories: One trajectory for each bead: files, or iterables of structures.

    Raises:
        TypeError: If one is no trajectory.
        ValueError: If there is none.

    Example:
        >>> import torch
        >>> one, two = [Data(z=torch.tensor([6, 6]), pos=d * torch.eye(3)[:2]) for d in (1.0, 1.1)]
        >>> [frame.pos[0, 0].round(2).item() for frame in snapshots(Beads([[one], [two]]))]
        [1.0, 1.1]
    """

    def __init__(self, trajectories: Sequence[Any]) -> None:
        if isinstance(trajectories, (str, Path)) or not isinstance(trajectories, Iterable):
            raise TypeError(f"expected a trajectory for each bead, got {type(trajectories).__name__}")
        self.trajectories = list(trajectories)
        if not self.trajectories:
            raise ValueError("expected the trajectory of at least one bead, got none")

    def __len__(self) -> int:
        return len(self.trajectories)

    def frames(self) -> Iterator[Any]:
        """The frames of all beads at the first time, then those at the second, and so on."""
        beads = [_frames(one) for one in self.trajectories]
        while True:
            step = [found for found in (next(bead, None) for bead in beads) if found is not None]
            if len(step) < len(beads):
                break
            yield from step
        if step:
            warnings.warn(
                f"the trajectories of {len(beads)} beads differ in length; what follows the end of the shortest is "
                "left out",
                stacklevel=2,
            )


def beads_of(trajectory: Any) -> int:
    """Number of beads of a trajectory, one if it is not of a path integral."""
    return len(trajectory) if isinstance(trajectory, Beads) else 1


def snapshots(
    trajectory: Any, what: str = "reading", progress: bool = True, single: bool = False
) -> Iterator[Snapshot]:
    """The frames of a trajectory, one after another.

    Velocities are ASE's, which keeps them as momenta; columns of other names are not taken for them, as their unit is
    not known. A file that breaks off, as that of a simulation that was stopped, is read up to its last whole frame,
    with a warning.

    Args:
        trajectory: A file that ASE reads, compressed or not, several of them that follow each other, or an iterable of
            ``ase.Atoms`` or ``Data`` (``z``, ``pos``; perhaps ``cell`` and ``pbc``, ``velocities`` in Angstrom/fs,
            ``masses`` or ``mass`` in u, ``time`` in fs); also a single structure; or :class:`Beads` of such.
        what: What the progress bar says.
        progress: True to show a progress bar.
        single: True if beads are refused.

    Yields:
        The frames, in float64.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If ASE is needed and not installed.
        TypeError: If something else is given.
        ValueError: If there is no frame, or one has no atoms, not finite numbers or a flat lattice.

    Example:
        >>> import torch
        >>> methane = Data(z=torch.tensor([6, 1, 1, 1, 1]), pos=torch.randn(5, 3))
        >>> [frame.pos.shape for frame in snapshots([methane, methane])]
        [(5, 3), (5, 3)]
    """
    beads = beads_of(trajectory)
    if single and isinstance(trajectory, Beads):
        raise TypeError(f"expected one trajectory, got {beads} beads; pass that of one bead, or of their centroid")
    count, lattice = 0, None
    frames = trajectory.frames() if isinstance(trajectory, Beads) else _frames(trajectory)
    with _bar(what, _length(trajectory), progress) as bar:
        for frame in frames:
            name = f"frame {count}" if beads == 1 else f"frame {count // beads} of bead {count % beads}"
            snapshot = snapshot_of(frame, name)
            shape = snapshot.cell.tobytes() + snapshot.pbc.tobytes()
            if shape != lattice:
                check_lattice(snapshot, name)
                lattice = shape
            yield snapshot
            count += 1
            bar.update()
    if count == 0:
        raise ValueError("the trajectory has no frames; expected at least one")


def _bar(what: str, total: int | None, progress: bool) -> tqdm:
    return tqdm(None, what, total, unit="frame", disable=not progress, leave=False, delay=0.5)


def _length(trajectory: Any) -> int | None:
    """Number of frames, where that is known beforehand."""
    if isinstance(trajectory, (str, Path, Data, Snapshot)) or is_atoms(trajectory):
        return None
    if isinstance(trajectory, Beads):
        first = _length(trajectory.trajectories[0])
        return None if first is None else first * len(trajectory)
    if isinstance(trajectory, (list, tuple)) and any(isinstance(one, (str, Path)) for one in trajectory):
        return None
    try:
        return len(trajectory)
    except TypeError:
        return None


def _frames(trajectory: Any) -> Iterator[Any]:
    """Structures of any kind from whatever holds them."""
    if isinstance(trajectory, (str, Path)):
        yield from _of_file(Path(trajectory))
    elif isinstance(trajectory, Batch):
        yield from trajectory.to_data_list()
    elif isinstance(trajectory, (Data, Snapshot)) or is_atoms(trajectory):
        yield trajectory
    elif isinstance(trajectory, Iterable) and not isinstance(trajectory, (Tensor, np.ndarray, dict, bytes)):
        for one in trajectory:
            if isinstance(one, (str, Path)):
                yield from _of_file(Path(one))
            elif isinstance(one, Batch):
                yield from one.to_data_list()
            else:
                yield one
    else:
        raise TypeError(
            f"expected a trajectory (a file that ASE reads, or an iterable of ase.Atoms or Data), got "
            f"{type(trajectory).__name__}"
        )


def _of_file(path: Path) -> Iterator[Any]:
    """Structures of a file; one that breaks off counts up to there."""
    path = path.expanduser()
    if not path.exists():
        raise FileNotFoundError(f"there is no trajectory {path}; expected a file that ASE reads")
    if path.suffix not in UNPACK:
        yield from _up_to_the_end(path, path, None)
        return
    with tempfile.TemporaryDirectory() as folder:  # in compressed files ASE goes back to the beginning for each frame
        unpacked = Path(folder) / path.stem
        trouble = _unpack(path, unpacked)
        yield from _up_to_the_end(unpacked, path, trouble)


def _up_to_the_end(path: Path, shown: Path, trouble: str | None) -> Iterator[Any]:
    """Structures of a file, and a warning if not all can be read, or there was trouble before."""
    count = 0
    try:
        for read in read_structures(path):
            yield read.atoms
            count += 1
    except ValueError as error:
        trouble = trouble or str(error).replace(str(path), str(shown))
        if count == 0:
            raise ValueError(trouble) from None
    if trouble:
        warnings.warn(f"{trouble}; the {count} frames before are used", stacklevel=2)


def _unpack(path: Path, target: Path) -> str | None:
    """Unpack a file as far as that goes; what is wrong if that is not to its end."""
    with target.open("wb") as stream, UNPACK[path.suffix](path, "rb") as source:
        try:
            while piece := source.read1(1 << 16):
                stream.write(piece)
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            return f"{path} cannot be unpacked to its end ({type(error).__name__}: {error})"
    return None
