"""Molecular dynamics of many structures at once, without another package in between.

Where all structures are open, small and moved by a frozen SchNet on a CPU, integrator, neighbours and network are
compiled loops that do many steps in a call; all else goes step by step, with the same equations and random numbers.
"""

import time as clock
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy import ndarray
from torch import nn
from tqdm import tqdm

from pyg_schnet.fast.dynamics import CompiledMotion
from pyg_schnet.simulation.barostat import BAROSTATS, LARGEST_STRAIN
from pyg_schnet.simulation.engines import LONGEST_MOVE, Motion, State, SteppedMotion, compiled_motion
from pyg_schnet.simulation.fragments import Fragments
from pyg_schnet.simulation.prepared import check_numbers, checked_dtype, energy_unit_of, own_potential, potential_of
from pyg_schnet.simulation.restart import Restart, fingerprint, read_restart, write_restart
from pyg_schnet.simulation.systems import (
    System,
    checked_velocities,
    drawn_velocities,
    system_of,
    without_rigid_motion,
)
from pyg_schnet.simulation.trajectory_files import TrajectoryFile, Written, trajectory_file
from pyg_schnet.units import ENERGY

#: Seconds between two checkpoints, and of a call of compiled loops, after which a run can be interrupted.
_CHECKPOINT_SECONDS, _CALL_SECONDS = 30.0, 0.3


class DynamicsError(FloatingPointError):
    """Dynamics that cannot go on: numbers that are not finite, atoms that are too fast, fragments that fly apart.

    Attributes:
        step: The step at which it was noticed.
        structure: Number of the structure.
    """

    def __init__(self, message: str, step: int, structure: int) -> None:
        super().__init__(message)
        self.step, self.structure = step, structure


class Record(NamedTuple):
    """Energies along a run, at its beginning and every ``interval`` steps.

    Attributes:
        step: Numbers of the steps [M].
        time: In fs [M].
        potential: Potential energies in eV [M, B].
        kinetic: Kinetic energies in eV [M, B].
        volume: Volumes of the cells in Angstrom^3, zero where there are none [M, B].
    """

    step: ndarray
    time: ndarray
    potential: ndarray
    kinetic: ndarray
    volume: ndarray

    @property
    def total(self) -> ndarray:
        """Total energies in eV [M, B]."""
        return self.potential + self.kinetic


class Dynamics:
    r"""Molecular dynamics of one or many structures, at constant energy, temperature or pressure.

    Without a thermostat, velocity Verlet. With one, Langevin dynamics by the steps B A O A B, which sample positions
    best: half a kick by the forces, half a drift, the thermostat, half a drift, half a kick with the new forces.

    .. math::
        \dot v = \frac{F}{m} - \gamma v + \sqrt{\frac{2 \gamma k_B T}{m}}\, \eta, \qquad
        v \leftarrow e^{-\gamma \Delta t} v + \sqrt{(1 - e^{-2 \gamma \Delta t}) \frac{k_B T}{m}}\, \xi

    Leimkuhler and Matthews, Appl. Math. Res. Express 2013, 34. The random numbers of a step follow from the seed, the
    number of the step, of the structure and of the atom alone. So a run that was interrupted goes on as if it had not
    been, and a replica moves in the same way whatever else is there, up to rounding.

    With a pressure, cells move, too: every fifth step begins with a small random strain of cell and positions whose
    drift is the difference between the pressure inside and that asked for (stochastic cell rescaling, see
    :func:`~pyg_schnet.simulation.barostat.strains`). Volumes and, with ``barostat="full"``, shapes are then distributed
    as they are at constant pressure; ``pressure_time`` and ``bulk_modulus`` only decide how fast they change. Liquids
    and gases have no shape to return to: keep theirs with ``"isotropic"``.

    Structures move each by itself. On a CPU in float32 a copy of the model is frozen (see
    ``frozen``); open structures of up to 256 atoms then move in compiled loops, many steps in a call, and threads share
    the structures. Periodic structures, committees, other models and GPUs go step by step. Positions and velocities are
    float64 in any case.

    A run ends at its last good frame, with :class:`DynamicsError`, if energies or forces are not finite, an atom
    moves by more than 0.5 Angstrom in a step, a cell is strained by more than 10 % at once, or parts of an open
    structure are more than 5 Angstrom farther from each other than they were at the beginning.

    Args:
        model: A model of energies, a :class:`~pyg_schnet.Potential`, a committee or its potential; or what
            :func:`pyg_schnet.load` reads; or the name of a trained model.
        structures: A ``Data`` or ``Batch`` of PyG, ASE's ``Atoms``, or a list of them. ``mass`` and ``velocities`` (in
            u and Angstrom/fs) of a ``Data``, masses and momenta of ``Atoms`` are used.
        timestep: In fs.
        temperature: In K, of the thermostat and of velocities at the beginning; ``None`` for constant energy.
        friction: In 1/fs. With 0 there is no thermostat, and velocities are drawn at the temperature, without any that
            move or turn a structure as a whole.
        seed: Seed of all random numbers.
        velocities: At the beginning, in Angstrom/fs [N, 3]; ``None`` for those of the structures if all have some and
            ``replicas`` is 1, else drawn if there is a temperature, else zero.
        replicas: How many copies of each structure, each with random numbers of its own.
        pressure: In GPa, negative to pull (1 bar is 0.0001); ``None`` for cells that stay as they are. It needs a
            thermostat, structures that are periodic along all axes, and a model that knows the stress of all elements
            of its cell, as those of distances do.
        barostat: ``"isotropic"`` to change volumes alone, ``"full"`` for all lengths and angles of cells.
        pressure_time: Time in which pressures relax, in fs; much longer than a step.
        bulk_modulus: What the structures resist a pressure with, in GPa; a guess within a factor of ten will do. Water
            has 2, salt 25, iron 170.
        device: Where to evaluate.
        dtype: Floating-point type of the model; ``None`` for its own.
        energy_unit: Unit of the model's energies; ``None`` for what the model says, eV if it says nothing.
        frozen: True if filters are read from tables; ``None`` for: in float32 on a CPU, and if the model is frozen.
        strict: True if elements and charges that no training example had are refused instead of warned of.

    Raises:
        TypeError: If something is of the wrong kind.
        ValueError: If something has an impossible value, the model predicts no energy or cannot be frozen, or a
            structure is impossible or has constraints.

    Example:
        >>> from torch_geometric.data import Data
        >>> from pyg_schnet import SchNet
        >>> pos = torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
        >>> water = Data(z=torch.tensor([8, 1, 1]), pos=pos, mass=torch.tensor([16.0, 1.0, 1.0]))
        >>> dynamics = Dynamics(SchNet(16, 16, 1), water, temperature=300, replicas=4)
        >>> record = dynamics.run(20, interval=10)
        >>> record.time.tolist(), record.potential.shape, dynamics.positions.shape
        ([0.0, 5.0, 10.0], (3, 4), (12, 3))
    """

    def __init__(
        self,
        model: nn.Module | str | Path,
        structures: Any,
        *,
        timestep: float = 0.5,
        temperature: float | None = None,
        friction: float = 0.01,
        seed: int = 0,
        velocities: Any = None,
        replicas: int = 1,
        pressure: float | None = None,
        barostat: str = BAROSTATS[0],
        pressure_time: float = 1000.0,
        bulk_modulus: float = 20.0,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        energy_unit: str | None = None,
        frozen: bool | None = None,
        strict: bool = False,
    ) -> None:
        timestep = _number("timestep", timestep, "in fs, for example 0.5")
        friction = _number("friction", friction, "in 1/fs, for example 0.01", zero=True)
        if temperature is not None:
            temperature = _number("temperature", temperature, "in K, for example 300, or None", zero=True)
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
            raise TypeError(f"`seed` must be a whole number, got {type(seed).__name__}")
        system, positions, own = system_of(structures, replicas)
        if velocities is not None:
            start = checked_velocities(velocities, system)
        elif own is not None and replicas == 1:
            start = own
        elif temperature is None:
            start = np.zeros_like(positions)
        else:
            start = drawn_velocities(system, temperature, int(seed))
            if friction == 0:
                start = without_rigid_motion(system, positions, start)
        thermostat = temperature if friction > 0 else None
        motion = Motion(timestep, thermostat, friction, int(seed))
        if pressure is not None:
            motion = _under_pressure(motion, system, pressure, barostat, pressure_time, bulk_modulus)
        elif barostat != BAROSTATS[0]:
            raise ValueError(
                f"`barostat` {barostat!r} needs a `pressure` in GPa, for example 0 (1 bar is 0.0001), got none"
            )
        self._set_up(model, system, motion, device, dtype, energy_unit, frozen, strict)
        nowhere = np.zeros_like(positions), np.zeros(system.count), system.cell, np.zeros_like(system.cell)
        self._state = State(positions, start, *nowhere)
        self._advance(0)

    @classmethod
    def resume(
        cls,
        model: nn.Module | str | Path,
        checkpoint: str | Path,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        energy_unit: str | None = None,
        frozen: bool | None = None,
        strict: bool = False,
    ) -> Self:
        """Dynamics that were interrupted, or are to go on, from where :meth:`run` or :meth:`save` left them.

        All steps that follow are the same, to the last bit, as if they had not been interrupted, on the same machine.

        Args:
            model: The model, as before.
            checkpoint: The file.
            device: Where to evaluate.
            dtype: As before.
            energy_unit: As before.
            frozen: As before.
            strict: True if elements and charges that no training example had are refused instead of warned of.

        Returns:
            The dynamics.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is none, or was written with another model.
        """
        path = Path(checkpoint)
        found = read_restart(path)
        dynamics = cls.__new__(cls)
        dynamics._set_up(model, found.system, found.motion, device, dtype, energy_unit, frozen, strict)
        if dynamics._fingerprint != found.model:
            raise ValueError(
                f"{path} was written with another model, or with another `dtype`, `frozen` or `energy_unit`; pass what "
                "was passed then"
            )
        dynamics._state, dynamics.step, dynamics._inherited = found.state, found.step, found.written
        dynamics._own = {path.resolve()}
        if found.reference is not None and isinstance(dynamics._engine, SteppedMotion):
            dynamics._engine.search_at(found.reference, found.reference_cells, found.lists)
        return dynamics

    def _set_up(
        self,
        model: Any,
        system: System,
        motion: Motion,
        device: str | torch.device,
        dtype: torch.dtype | None,
        energy_unit: str | None,
        frozen: bool | None,
        strict: bool,
    ) -> None:
        given = potential_of(model)
        unit = ENERGY[energy_unit_of(given, energy_unit)]
        self.potential = own_potential(given, device, checked_dtype(dtype), frozen)
        atoms = torch.from_numpy(system.numbers), torch.from_numpy(system.batch)
        check_numbers(self.potential, *atoms, strict, system.said)
        self.system, self.motion, self.step = system, motion, 0
        compiled = compiled_motion(self.potential, unit, system, motion)
        self._engine: CompiledMotion | SteppedMotion = compiled or SteppedMotion(self.potential, unit, system, motion)
        self._fingerprint = fingerprint(self.potential.model, unit)
        #: How far each trajectory is written: by its full path, and by its name alone from before a restart.
        self._written, self._inherited = dict[Path, Written](), dict[str, Written]()
        self._own: set[Path] = set()
        self._fragments: Fragments | None = None
        self._seconds = 0.0

    @property
    def way(self) -> str:
        """``"compiled"`` if loops do many steps at a time, else ``"stepped"``."""
        return "compiled" if isinstance(self._engine, CompiledMotion) else "stepped"

    @property
    def positions(self) -> ndarray:
        """Positions in Angstrom [N, 3] float64; never wrapped into a cell."""
        return self._state.positions.copy()

    @property
    def velocities(self) -> ndarray:
        """Velocities in Angstrom/fs [N, 3] float64."""
        return self._state.velocities.copy()

    @property
    def forces(self) -> ndarray:
        """Forces in eV/Angstrom [N, 3] float64."""
        return self._state.forces.copy()

    @property
    def energies(self) -> ndarray:
        """Potential energies of the structures in eV [B] float64."""
        return self._state.energies.copy()

    @property
    def cells(self) -> ndarray:
        """Lattice vectors of the structures as rows in Angstrom, zero where there are none [B, 3, 3] float64."""
        return self._state.cells.copy()

    @property
    def volumes(self) -> ndarray:
        """Volumes of the cells in Angstrom^3, zero where there are none [B] float64."""
        volumes: ndarray = np.abs(np.linalg.det(self._state.cells))
        return volumes

    @property
    def kinetic_energies(self) -> ndarray:
        """Kinetic energies of the structures in eV [B]."""
        return self.system.kinetic_energies(self._state.velocities)

    @property
    def temperature(self) -> ndarray:
        """Temperatures of the structures in K [B], with three degrees of freedom for each atom, as ASE has them."""
        return self.system.temperatures(self._state.velocities)

    @property
    def time(self) -> float:
        """Time in fs."""
        return self.step * self.motion.timestep

    def run(
        self,
        steps: int,
        *,
        interval: int = 100,
        trajectory: str | Path | None = None,
        checkpoint: str | Path | None = None,
        progress: bool | None = None,
    ) -> Record:
        """Move on by some steps.

        An interruption (``KeyboardInterrupt``) leaves the dynamics at a step that is whole, and so the files; another
        call goes on from there.

        Args:
            steps: How many.
            interval: Steps between two frames; those of steps 0, ``interval``, 2 ``interval``, ... are kept.
            trajectory: File for frames, see :mod:`pyg_schnet.simulation.trajectory_files`; frames are added to one
                that these dynamics have written.
            checkpoint: File for :meth:`resume`, written at the beginning, every half minute, and at any end.
            progress: True to show a bar; ``None`` for: on a terminal.

        Returns:
            Energies of the frames, that at the beginning included.

        Raises:
            DynamicsError: If the dynamics cannot go on; they are at the last good frame then.
            FileExistsError: If a file is there that these dynamics have not written.
            FileNotFoundError: If there is no folder for a file.
            ImportError: If the format of the trajectory needs a package that is missing.
            ValueError: If a number is impossible or the name of the trajectory tells no format.
        """
        for name, value, least in (("steps", steps, 0), ("interval", interval, 1)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
                raise ValueError(f"`{name}` must be a whole number from {least}, got {value!r}")
        restart = None if checkpoint is None else self._checked_checkpoint(Path(checkpoint))
        file = None if trajectory is None else self._opened(Path(trajectory))
        frames: list[tuple[int, ndarray, ndarray, ndarray]] = [self._frame()]
        self._keep(file, int(interval))
        if restart is not None:
            self._save(restart)  # a run that is killed early can go on, too
        saved = clock.monotonic()
        try:
            for done in self._chunks(int(steps), int(interval), progress):
                self._advance(done)
                if self.step % interval == 0:
                    frames.append(self._frame())
                    self._keep(file, int(interval))
                if restart is not None and clock.monotonic() - saved > _CHECKPOINT_SECONDS:
                    self._save(restart)
                    saved = clock.monotonic()
        finally:
            if restart is not None:
                self._save(restart)
        step, *columns = zip(*frames, strict=True)
        return Record(np.array(step), np.array(step) * self.motion.timestep, *map(np.stack, columns))

    def save(self, checkpoint: str | Path) -> None:
        """Write a file for :meth:`resume`.

        Args:
            checkpoint: The file.

        Raises:
            FileExistsError: If there is one that these dynamics have not written.
            OSError: If it cannot be written.
        """
        self._save(self._checked_checkpoint(Path(checkpoint)))

    def _chunks(self, steps: int, interval: int, progress: bool | None) -> Iterator[int]:
        """Numbers of steps that are done at a time: up to the next frame, and for a fraction of a second."""
        hidden = None if progress is None else not progress
        left, most = steps, 16
        with tqdm(None, "dynamics", steps, unit="step", leave=False, disable=hidden, mininterval=0.5) as bar:
            while left:
                number = min(left, interval - self.step % interval, most)
                start = clock.perf_counter()
                yield number
                left -= number
                bar.update(number)
                each = (clock.perf_counter() - start) / number
                most = max(1, min(int(_CALL_SECONDS / max(each, 1e-9)), 4 * most))

    def _advance(self, steps: int) -> None:
        """Go on, or raise and stay here."""
        if self._fragments is None:
            self._fragments = Fragments(self.system, self._state.positions)
        new, trouble = self._engine.advance(self._state, self.step, steps)
        where = "" if self.system.count == 1 else f" of structure {trouble.structure}" if trouble else ""
        if trouble is not None:
            step = self.step + trouble.step if steps else self.step
            what = {
                "too fast": f"an atom{where} moved by more than {LONGEST_MOVE:g} Angstrom",
                "too much strain": f"the cell{where} was strained by more than {LARGEST_STRAIN:.0%}",
                "not finite": f"the energy or a force{where} is not finite",
            }[trouble.reason]
            raise DynamicsError(f"{what} at step {step}; {self._remedy()}", step, trouble.structure)
        state = State(*new, *self._state[len(new) :])  # compiled loops leave cells alone
        apart = self._fragments.apart(state.positions)
        if apart is not None:
            where = "a structure" if self.system.count == 1 else f"structure {apart}"
            step = self.step + steps
            raise DynamicsError(f"parts of {where} have flown apart by step {step}; {self._remedy()}", step, apart)
        self._state = state
        self.step += steps

    def _remedy(self) -> str:
        slower = "" if self.motion.pressure is None else "a longer pressure_time or a larger bulk_modulus, "
        return (
            f"the last good step is {self.step}: take a shorter timestep, {slower}relax the structure first, or look "
            "at the model there"
        )

    def _frame(self) -> tuple[int, ndarray, ndarray, ndarray]:
        return self.step, self.energies, self.kinetic_energies, self.volumes

    def _keep(self, file: TrajectoryFile | None, interval: int) -> None:
        """Write this frame, unless it is none or there already."""
        if file is None or self.step % interval:
            return
        path = file.path.resolve()
        written = self._written.get(path, Written())
        if self.step > written.step:
            self._written[path] = file.write(written, self.step, self.time, self._state)

    def _opened(self, path: Path) -> TrajectoryFile:
        """The file of a trajectory, as long as it was when it was last written for these dynamics."""
        file = trajectory_file(path, self.system, self.motion.pressure is not None)
        whole = path.resolve()
        if whole not in self._written and path.name in self._inherited:
            self._written[whole] = self._inherited.pop(path.name)
        written = self._written.get(whole)
        if path.exists() and written is None:
            raise FileExistsError(f"{path} is there already, of other dynamics; name another trajectory, or remove it")
        if written is not None and path.exists():
            file.cut(written)
        elif written is not None:
            self._written.pop(whole)  # it was moved away: a new one begins here
        return file

    def _checked_checkpoint(self, path: Path) -> Path:
        if path.exists() and path.resolve() not in self._own:
            raise FileExistsError(
                f"{path} is there already, of other dynamics; resume them, or name another checkpoint"
            )
        if not path.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {path.parent} for the checkpoint {path.name}; create it first")
        return path

    def _save(self, path: Path) -> None:
        engine = self._engine
        held: tuple[Any, ...] = (None, self.system.cell, [])
        if isinstance(engine, SteppedMotion):
            held = engine.reference, engine.reference_cells, engine.lists
        written = self._inherited | {path.name: one for path, one in self._written.items()}
        what = self.system, self._state, self.motion, self.step, self._fingerprint, written, *held
        write_restart(path, Restart(*what))
        self._own.add(path.resolve())


def _under_pressure(
    motion: Motion, system: System, pressure: Any, barostat: str, pressure_time: Any, bulk_modulus: Any
) -> Motion:
    """The same motion with a barostat."""
    if isinstance(pressure, bool) or not isinstance(pressure, (int, float, np.integer, np.floating)):
        raise TypeError(f"`pressure` must be a number in GPa, for example 0, or None; got {pressure!r}")
    if not np.isfinite(pressure):
        raise ValueError(f"`pressure` must be finite, in GPa, for example 0; got {pressure!r}")
    if barostat not in BAROSTATS:
        raise ValueError(f"`barostat` must be one of {', '.join(map(repr, BAROSTATS))}, got {barostat!r}")
    if motion.temperature is None:
        raise ValueError(
            "a `pressure` needs a thermostat, too: give a `temperature` and a `friction` above 0, or leave `pressure` "
            "out"
        )
    for number, (cell, pbc) in enumerate(zip(system.cell, system.pbc, strict=True)):
        if not pbc.all() or abs(np.linalg.det(cell)) == 0:
            axes = ", ".join("periodic" if axis else "open" for axis in pbc)
            raise ValueError(
                f"structure {number} has no volume that a pressure could change: its axes are {axes}; make all three "
                "periodic with a cell, or leave `pressure` out"
            )
    return motion._replace(
        pressure=float(pressure),
        barostat=barostat,
        pressure_time=_number("pressure_time", pressure_time, "in fs, for example 1000"),
        bulk_modulus=_number("bulk_modulus", bulk_modulus, "in GPa, for example 20"),
    )


def _number(name: str, value: Any, expected: str, zero: bool = False) -> float:
    """A positive number."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"`{name}` must be a number {expected}, got {value!r}")
    if not (np.isfinite(value) and (value > 0 or (zero and value == 0))):
        kind = "finite and not negative" if zero else "finite and positive"
        raise ValueError(f"`{name}` must be {kind}, {expected}; got {value!r}")
    return float(value)
