"""Files of trajectories that grow frame by frame and can be read up to the last one, whatever happens to the process.

Extended xyz (``.xyz``, ``.extxyz``), ASE's trajectories (``.traj``) and HDF5 (``.h5``, ``.hdf5``, with h5py). Where
several structures move at once, each step has a frame of each, one behind the other: of B structures,
``ase.io.read(path, "3::B")`` is the trajectory of number 3. HDF5 has one array over all atoms, ``cell`` of the
structures as they began, and ``cells`` of each frame under pressure.
"""

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pyg_schnet.files import replacing
from pyg_schnet.simulation.engines import State
from pyg_schnet.simulation.systems import System
from pyg_schnet.units import ACCELERATION, SYMBOLS

#: Velocities in Angstrom/fs times this and the mass in u are ASE's momenta.
_MOMENTUM = ACCELERATION**-0.5


class Written(NamedTuple):
    """How far a file has been written.

    Attributes:
        frames: Number of frames.
        step: Step of the last one.
        size: Bytes.
    """

    frames: int = 0
    step: int = -1
    size: int = 0


class TrajectoryFile(ABC):
    """A file that frames are added to.

    Args:
        path: The file.
        system: What moves.
        moving_cells: True if cells are others from frame to frame.
    """

    def __init__(self, path: Path, system: System, moving_cells: bool = False) -> None:
        self.path, self.system, self.moving_cells = path, system, moving_cells

    def write(self, written: Written, step: int, time: float, state: State) -> Written:
        """Add a frame of all structures.

        Args:
            written: What is there.
            step: Number of the step.
            time: In fs.
            state: Where structures are.

        Returns:
            What is there now.

        Raises:
            OSError: If it cannot be written.
        """
        self._add(step, time, state)
        return Written(written.frames + 1, step, self.path.stat().st_size)

    @abstractmethod
    def _add(self, step: int, time: float, state: State) -> None:
        """Add a frame, and leave nothing of it in memory."""

    @abstractmethod
    def cut(self, written: Written) -> None:
        """Remove what came later.

        Args:
            written: What is to stay.

        Raises:
            ValueError: If the file has less.
        """

    def _check_length(self, found: int, frames: int) -> None:
        if found < frames:
            raise ValueError(
                f"{self.path} has {found} frames, but {frames} were written when the run was interrupted; name another "
                "trajectory"
            )


class _ExtendedXYZ(TrajectoryFile):
    """Text; what a kill leaves of a frame begins with an empty line, at which readers stop."""

    def _add(self, step: int, time: float, state: State) -> None:
        system, first = self.system, self.system.first
        momenta = _MOMENTUM * system.masses[:, None] * state.velocities
        columns = [state.positions, momenta, state.forces, *([system.masses[:, None]] if system.isotopes else [])]
        rows = np.concatenate(columns, axis=1)
        line = "%-2s" + " %16.8f" * 9 + (" %12.6f" if system.isotopes else "") + "\n"
        text = []
        for number in range(system.count):
            atoms = range(first[number], first[number + 1])
            text += [f"{len(atoms)}\n", self._comment(number, step, time, state)]
            text += [line % (SYMBOLS[system.numbers[atom]], *rows[atom]) for atom in atoms]
        first_line, content = text[0].encode(), "".join(text[1:]).encode()
        with self.path.open("r+b" if self.path.exists() else "xb", buffering=0) as file:
            start = file.seek(0, os.SEEK_END)
            blank = b" " * (len(first_line) - 1) + b"\n"  # where readers stop, until all behind it is there
            for place, piece in ((start, blank + content), (start, first_line)):
                file.seek(place)
                rest = memoryview(piece)
                while rest:
                    rest = rest[file.write(rest) :]

    def _comment(self, number: int, step: int, time: float, state: State) -> str:
        cell, pbc = state.cells[number], self.system.pbc[number]
        lattice = f'Lattice="{" ".join(f"{value:.10g}" for value in cell.reshape(-1))}" ' if cell.any() else ""
        columns = "species:S:1:pos:R:3:momenta:R:3:forces:R:3" + (":masses:R:1" if self.system.isotopes else "")
        structure = f" structure={number}" if self.system.count > 1 else ""
        axes = " ".join("FT"[int(axis)] for axis in pbc)
        return (
            f"{lattice}Properties={columns} energy={state.energies[number]:.9f}{structure} step={step} "
            f'time_fs={time:.10g} pbc="{axes}"\n'
        )

    def cut(self, written: Written) -> None:
        size = self.path.stat().st_size
        if size < written.size:
            raise ValueError(
                f"{self.path} is shorter than it was when the run was interrupted; name another trajectory"
            )
        with self.path.open("r+b") as file:
            file.truncate(written.size)


class _Traj(TrajectoryFile):
    """ASE's own format."""

    def _add(self, step: int, time: float, state: State) -> None:
        from ase.io.trajectory import Trajectory  # noqa: PLC0415

        with Trajectory(str(self.path), "a") as file:
            for number in range(self.system.count):
                file.write(self._atoms(number, step, time, state))

    def _atoms(self, number: int, step: int, time: float, state: State) -> Any:
        from ase import Atoms  # noqa: PLC0415
        from ase.calculators.singlepoint import SinglePointCalculator  # noqa: PLC0415

        system = self.system
        part = system.parts[number]
        atoms = Atoms(
            system.numbers[part],
            state.positions[part],
            momenta=_MOMENTUM * system.masses[part, None] * state.velocities[part],
            masses=system.masses[part] if system.isotopes else None,
            cell=state.cells[number],
            pbc=system.pbc[number],
        )
        atoms.info = {"step": step, "time_fs": time} | ({"structure": number} if system.count > 1 else {})
        atoms.calc = SinglePointCalculator(
            atoms, energy=float(state.energies[number]), forces=state.forces[part].copy()
        )
        return atoms

    def cut(self, written: Written) -> None:
        from ase.io.trajectory import Trajectory  # noqa: PLC0415

        wanted = written.frames * self.system.count
        with Trajectory(str(self.path), "r") as old:
            self._check_length(len(old) // self.system.count, written.frames)
            if len(old) == wanted:
                return
            with replacing(self.path) as part, Trajectory(str(part), "w") as new:
                for number in range(wanted):
                    new.write(old[number])


class _HDF5(TrajectoryFile):
    """Arrays that grow; the file is closed after each frame."""

    def _add(self, step: int, time: float, state: State) -> None:
        with _h5py().File(self.path, "a") as file:
            if "step" not in file:
                self._begin(file)
            values = state._asdict() | {"time": time, "step": step}
            for name in self._growing:
                array = file[name]
                array.resize(len(array) + 1, axis=0)
                array[-1] = values[name]

    def _begin(self, file: Any) -> None:
        system = self.system
        fixed = {"numbers": system.numbers, "batch": system.batch, "masses": system.masses}
        for name, value in (fixed | {"cell": system.cell, "pbc": system.pbc}).items():
            file[name] = value
        atoms, units = len(system.numbers), {"positions": "Ang", "velocities": "Ang/fs", "forces": "eV/Ang"}
        shapes = dict.fromkeys(units, (atoms, 3)) | {"energies": (system.count,), "time": (), "step": ()}
        if self.moving_cells:
            shapes, units = shapes | {"cells": (system.count, 3, 3)}, units | {"cells": "Ang"}
        for name, shape in shapes.items():
            kind = np.int64 if name == "step" else np.float64
            array = file.create_dataset(name, (0, *shape), kind, maxshape=(None, *shape), chunks=(16, *shape))
            array.attrs["unit"] = (units | {"energies": "eV", "time": "fs", "step": ""})[name]

    @property
    def _growing(self) -> list[str]:
        """Names of the arrays that grow, the last one that of the step."""
        moving = ["cells"] if self.moving_cells else []
        return ["positions", "velocities", "forces", "energies", *moving, "time", "step"]

    def cut(self, written: Written) -> None:
        with _h5py().File(self.path, "r+") as file:
            self._check_length(min(len(file[name]) for name in self._growing), written.frames)
            for name in self._growing:
                file[name].resize(written.frames, axis=0)


def _h5py() -> Any:
    try:
        import h5py  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(
            'trajectories in HDF5 need h5py; install it with pip install "pyg_schnet[md]", or choose a name that ends '
            "in .extxyz"
        ) from error
    return h5py


_FORMATS: dict[str, type[TrajectoryFile]] = {
    ".xyz": _ExtendedXYZ,
    ".extxyz": _ExtendedXYZ,
    ".traj": _Traj,
    ".h5": _HDF5,
    ".hdf5": _HDF5,
}


def trajectory_file(path: Path, system: System, moving_cells: bool = False) -> TrajectoryFile:
    """The file of a trajectory, by the end of its name.

    Args:
        path: The file.
        system: What moves.
        moving_cells: True if cells are others from frame to frame.

    Returns:
        The file; nothing is written yet.

    Raises:
        FileNotFoundError: If there is no such folder.
        ImportError: If the format needs a package that is missing.
        ValueError: If the name tells no format.
    """
    if path.suffix.lower() not in _FORMATS:
        raise ValueError(f"the name of a trajectory must end in one of {', '.join(_FORMATS)}, got {path.name!r}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} for the trajectory {path.name}; create it first")
    kind = _FORMATS[path.suffix.lower()]
    if kind is _HDF5:
        _h5py()
    if kind is _Traj:
        try:
            import ase.io.trajectory  # noqa: F401, PLC0415
        except ImportError as error:
            raise ImportError(
                'trajectories of ASE need it; install it with pip install "pyg_schnet[md]", or choose a name that ends '
                "in .extxyz"
            ) from error
    return kind(path, system, moving_cells)
