"""One frame of simulated matter, from ASE's atoms or PyG's data."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.analysis.vibrations.masses import atomic_masses
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


def is_atoms(frame: Any) -> bool:
    """True if it is ASE's ``Atoms``, without importing ASE."""
    return all(hasattr(frame, name) for name in ("get_positions", "get_atomic_numbers", "get_velocities"))


def snapshot_of(frame: Any, name: str) -> Snapshot:
    """A frame from whatever holds it.

    Args:
        frame: ``ase.Atoms``, ``Data``, or a :class:`Snapshot`.
        name: What to call it in messages.

    Returns:
        The frame, in float64.

    Raises:
        TypeError: If it is something else.
        ValueError: If it lacks something, has no atoms, or numbers that are not finite.
    """
    if isinstance(frame, Snapshot):
        snapshot = frame
    elif isinstance(frame, Data):
        snapshot = _of_data(frame, name)
    elif is_atoms(frame):
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
    atomwise = [data.get("velocities"), data.get("masses", data.get("mass"))]
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


def check_lattice(snapshot: Snapshot, name: str) -> None:
    """Raise a ValueError if the periodic lattice vectors of a frame span no volume."""
    cell, pbc = torch.from_numpy(snapshot.cell), torch.from_numpy(snapshot.pbc)
    try:
        lattice_of(cell.unsqueeze(0), pbc.unsqueeze(0), 1, cell.device)
    except ValueError:
        raise ValueError(
            f"{name} is periodic along {snapshot.pbc.tolist()} but its lattice vectors span no volume, "
            f"{snapshot.cell.tolist()}; give it a cell, or pass it without periodic axes"
        ) from None


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
        ValueError: If there is not one positive mass for each atom.
    """
    told = None if snapshot.masses is None else torch.from_numpy(snapshot.masses)
    return atomic_masses(Data(z=torch.from_numpy(snapshot.z)), told).numpy()
