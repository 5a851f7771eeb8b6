"""Simulated matter frame by frame, from files, ASE's atoms or PyG's data, never more than a frame in memory."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Batch, Data
from tqdm import tqdm

from pyg_schnet.datasets.ase_files import read_structures
from pyg_schnet.graph.lattice import lattice_of

#: Names under which files tell the time of a frame in fs.
TIMES = ("time_fs", "time", "Time")


class Snapshot(NamedTuple):
    """One frame of a trajectory.

    Attributes:
        z: Atomic numbers [n] int64.
        pos: Positions in Angstrom [n, 3] float64.
        cell: Lattice vectors as rows in Angstrom [3, 3].
        pbc: Periodic axes [3] bool.
        velocities: In Angstrom/fs [n, 3], ``None`` if they are not known.
        masses: In u [n], ``None`` if they are not told.
        time: In fs, ``None`` if it is not told.
    """

    z: NDArray
    pos: NDArray
    cell: NDArray
    pbc: NDArray
    velocities: NDArray | None = None
    masses: NDArray | None = None
    time: float | None = None


class Beads:
    """The trajectories of the beads of a path integral, of which the frames of equal number belong together.

    Distributions are averaged over the beads of each time, and errors do not take them for independent.

    Args:
        trajectories: One trajectory for each bead: files, or iterables of structures.

    Raises:
        TypeError: If one is no trajectory.
        ValueError: If there is none.

    Example:
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
            ``masses`` in u, ``time`` in fs); also a single structure; or :class:`Beads` of such.
        what: What the progress bar says.
        progress: Whether to show a progress bar.
        single: Whether beads are refused.

    Yields:
        The frames, in float64.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If ASE is needed and not installed.
        TypeError: If something else is given.
        ValueError: If there is no frame, or one has no atoms, not finite numbers or a flat lattice.

    Example:
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
            snapshot = _snapshot(frame, name)
            shape = snapshot.cell.tobytes() + snapshot.pbc.tobytes()
            if shape != lattice:
                _check_lattice(snapshot, name)
                lattice = shape
            yield snapshot
            count += 1
            bar.update()
    if count == 0:
        raise ValueError("the trajectory has no frames; expected at least one")


def same_atoms(first: Snapshot, other: Snapshot, number: int) -> None:
    """Raise a ValueError if a frame does not have the atoms of the first one."""
    if not np.array_equal(first.z, other.z):
        found = f"{len(other.z)} atoms" if len(first.z) != len(other.z) else "other elements or another order of them"
        raise ValueError(
            f"frame {number} has {found}, but motion is that of the same atoms in all frames (the first one has "
            f"{len(first.z)}); pass frames that have them in the same order"
        )
    if not np.array_equal(first.pbc, other.pbc):
        raise ValueError(f"frame {number} has the periodic axes {other.pbc}, the first one {first.pbc}")


def masses_of(snapshot: Snapshot) -> NDArray:
    """Masses of the atoms of a frame.

    Args:
        snapshot: The frame.

    Returns:
        The masses that it tells, or those of the elements, in u [n].

    Raises:
        ImportError: If it tells none and ASE, which knows those of the elements, is not installed.
    """
    if snapshot.masses is not None:
        return snapshot.masses
    try:
        from ase.data import atomic_masses  # noqa: PLC0415  an extra
    except ImportError as error:
        raise ImportError(
            'masses of the elements need ASE; install it with pip install "pyg_schnet[md]", or give each frame `masses`'
        ) from error
    return atomic_masses[snapshot.z]


def _bar(what: str, total: int | None, progress: bool) -> tqdm:
    return tqdm(None, what, total, unit="frame", disable=not progress, leave=False, delay=0.5)


def _length(trajectory: Any) -> int | None:
    """Number of frames, where that is known beforehand."""
    if isinstance(trajectory, (str, Path, Data, Snapshot)) or _is_atoms(trajectory):
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


def _is_atoms(frame: Any) -> bool:
    """Whether it is ASE's ``Atoms``, without importing ASE."""
    return all(hasattr(frame, name) for name in ("get_positions", "get_atomic_numbers", "get_velocities"))


def _frames(trajectory: Any) -> Iterator[Any]:
    """Structures of any kind from whatever holds them."""
    if isinstance(trajectory, (str, Path)):
        yield from _of_file(Path(trajectory))
    elif isinstance(trajectory, Batch):
        yield from trajectory.to_data_list()
    elif isinstance(trajectory, (Data, Snapshot)) or _is_atoms(trajectory):
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
    count = 0
    structures = read_structures(path)
    while True:
        try:
            read = next(structures)
        except StopIteration:
            return
        except ValueError as error:
            if count == 0:
                raise
            warnings.warn(f"{error}; the {count} before are used", stacklevel=2)
            return
        yield read.atoms
        count += 1


def _snapshot(frame: Any, name: str) -> Snapshot:
    if isinstance(frame, Snapshot):
        snapshot = frame
    elif isinstance(frame, Data):
        snapshot = _of_data(frame, name)
    elif _is_atoms(frame):
        snapshot = _of_atoms(frame, name)
    else:
        raise TypeError(f"{name}: expected ase.Atoms or Data, got {type(frame).__name__}")
    if len(snapshot.z) == 0:
        raise ValueError(f"{name} has no atoms; leave it out")
    if not np.isfinite(snapshot.pos).all():
        atom = int((~np.isfinite(snapshot.pos)).any(axis=1).argmax())
        raise ValueError(
            f"{name}: the position of atom {atom} is not finite, {snapshot.pos[atom].tolist()}; leave out what "
            "follows the failure of the simulation"
        )
    if snapshot.velocities is not None and not np.isfinite(snapshot.velocities).all():
        raise ValueError(f"{name} has velocities that are not finite; leave it out")
    return snapshot


def _of_atoms(atoms: Any, name: str) -> Snapshot:
    from ase import units  # noqa: PLC0415  an extra, which is there if its atoms are

    if "positionsatomic_unit" in atoms.info:  # what ASE makes of positions{atomic_unit}
        raise ValueError(
            f"{name} has positions in atomic units, i-PI's default, which ASE takes for Angstrom; let i-PI write "
            "positions{angstrom}"
        )
    velocities = atoms.get_velocities() * units.fs if atoms.has("momenta") else None
    return Snapshot(
        atoms.numbers.astype(np.int64),
        atoms.positions.astype(np.float64),
        np.array(atoms.cell.array, dtype=np.float64),
        np.array(atoms.pbc, dtype=bool),
        velocities,
        atoms.get_masses(),
        _time(atoms.info),
    )


def _of_data(data: Data, name: str) -> Snapshot:
    z, pos = data.get("z"), data.get("pos")
    if not isinstance(z, Tensor) or not isinstance(pos, Tensor):
        raise ValueError(f"{name} lacks `z` or `pos`; expected Data with atomic numbers and positions")
    if z.dim() != 1 or pos.shape != (z.size(0), 3) or z.is_floating_point():
        raise ValueError(
            f"{name}: expected integers `z` [n] and `pos` [n, 3], got {z.dtype} {list(z.shape)} and {list(pos.shape)}"
        )
    cell, pbc = data.get("cell"), data.get("pbc")
    if pbc is not None and bool(pbc.any()) and cell is None:
        raise ValueError(f"{name}: `pbc` names periodic axes but `cell` is missing")
    if cell is not None and pbc is None:
        raise ValueError(f"{name}: `cell` is given but `pbc` is missing; pass the periodic axes [1, 3]")
    atomwise = [data.get(key) for key in ("velocities", "masses")]
    for key, value, shape in zip(("velocities", "masses"), atomwise, (pos.shape, z.shape), strict=True):
        if value is not None and value.shape != shape:
            raise ValueError(f"{name}: expected `{key}` {list(shape)}, got {list(value.shape)}")
    velocities, masses = (None if value is None else _array(value) for value in atomwise)
    time = data.get("time")
    return Snapshot(
        z.detach().cpu().numpy().astype(np.int64),
        _array(pos),
        np.zeros((3, 3)) if cell is None else _array(cell).reshape(3, 3),
        np.zeros(3, dtype=bool) if pbc is None else pbc.detach().cpu().numpy().astype(bool).reshape(3),
        velocities,
        masses,
        None if time is None else float(time),
    )


def _array(tensor: Tensor) -> NDArray:
    return tensor.detach().cpu().double().numpy()


def _time(info: dict[str, Any]) -> float | None:
    """The time of a frame in fs, if its comment tells; some programs put a comma after it."""
    for name in TIMES:
        if name in info and not isinstance(info[name], (bool, np.bool_)):
            value = info[name]
            try:
                return float(value.rstrip(",") if isinstance(value, str) else value)
            except (TypeError, ValueError):
                return None
    return None


def _check_lattice(snapshot: Snapshot, name: str) -> None:
    cell, pbc = torch.from_numpy(snapshot.cell), torch.from_numpy(snapshot.pbc)
    try:
        lattice_of(cell.unsqueeze(0), pbc.unsqueeze(0), 1, cell.device)
    except ValueError:
        raise ValueError(
            f"{name} is periodic along {snapshot.pbc.tolist()} but its lattice vectors span no volume, "
            f"{snapshot.cell.tolist()}; give it a cell, or pass it without periodic axes"
        ) from None
