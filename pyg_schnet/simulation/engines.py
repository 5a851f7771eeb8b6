"""Two ways to move structures: compiled loops for many steps, and step by step with any potential."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from pyg_schnet.fast.dynamics import CompiledMotion, Trouble
from pyg_schnet.fast.random_numbers import normal_vectors
from pyg_schnet.graph.centre import centred
from pyg_schnet.models import CommitteePotential, Potential
from pyg_schnet.simulation.barostat import BAROSTATS, LARGEST_STRAIN, STEPS_PER_MOVE, strains, stretches
from pyg_schnet.simulation.gpu_steps import GpuSteps
from pyg_schnet.simulation.prepared import asked
from pyg_schnet.simulation.stepping import SKIN, SteppedPotential
from pyg_schnet.simulation.systems import System
from pyg_schnet.sizes import SIZES
from pyg_schnet.units import ACCELERATION, BOLTZMANN, STRESS

#: No atom moves farther in a step, in Angstrom; hydrogen at 300 K moves by some 0.02 in one of 0.5 fs.
LONGEST_MOVE = 0.5


class State(NamedTuple):
    """Where structures are.

    Attributes:
        positions: In Angstrom [N, 3].
        velocities: In Angstrom/fs [N, 3].
        forces: In eV/Angstrom [N, 3].
        energies: Potential energies in eV [B].
        cells: Lattice vectors as rows in Angstrom, zero where there are none [B, 3, 3].
        virials: Minus the derivatives of the energies with respect to a strain, in eV, under pressure; else zero
            [B, 3, 3].
    """

    positions: ndarray
    velocities: ndarray
    forces: ndarray
    energies: ndarray
    cells: ndarray
    virials: ndarray


class Motion(NamedTuple):
    """How structures move.

    Attributes:
        timestep: In fs.
        temperature: That of the thermostat in K; ``None`` without one.
        friction: In 1/fs.
        seed: Seed of the random numbers.
        pressure: That of the barostat in GPa; ``None`` for cells that stay as they are.
        barostat: What of a cell may change, one of :data:`~pyg_schnet.simulation.barostat.BAROSTATS`.
        pressure_time: Time in which pressures relax, in fs.
        bulk_modulus: What the structures resist a pressure with, in GPa.
    """

    timestep: float
    temperature: float | None
    friction: float
    seed: int
    pressure: float | None = None
    barostat: str = BAROSTATS[0]
    pressure_time: float = 1000.0
    bulk_modulus: float = 20.0

    @property
    def decay(self) -> float:
        """What the thermostat leaves of the velocities in a step."""
        return float(np.exp(-self.friction * self.timestep)) if self.temperature is not None else 1.0

    def noise(self, masses: ndarray) -> ndarray:
        """What the thermostat adds to velocities in a step, times normal numbers, in Angstrom/fs [N]."""
        spread = np.sqrt(BOLTZMANN * (self.temperature or 0.0) * ACCELERATION / masses)
        return np.sqrt(1.0 - self.decay**2) * spread

    def strains(self, state: State, atoms: ndarray, step: int) -> ndarray:
        """Strains of a move of the cells, of structures with so many atoms [B], at a step; see :func:`strains`."""
        gigapascal = STRESS["GPa"]
        return strains(
            state.virials,
            np.abs(np.linalg.det(state.cells)),
            atoms,
            temperature=self.temperature or 0.0,
            pressure=gigapascal * (self.pressure or 0.0),
            barostat=self.barostat,
            rate=STEPS_PER_MOVE * self.timestep / (self.pressure_time * gigapascal * self.bulk_modulus),
            seed=self.seed,
            step=step,
        )


def compiled_motion(
    potential: Potential | CommitteePotential, unit: float, system: System, motion: Motion
) -> CompiledMotion | None:
    """The compiled loops, if they know how to move these structures.

    Args:
        potential: The potential.
        unit: Unit of its energies in eV.
        system: The structures.
        motion: How they move.

    Returns:
        The loops; ``None`` unless all structures are open and small and the potential is that of a frozen SchNet with
        the papers' layers on a CPU.
    """
    if type(potential) is not Potential or system.pbc.any():
        return None
    loops = CompiledMotion(
        model=potential.model,
        numbers=system.numbers,
        batch=system.batch,
        within=system.within,
        unit=unit,
        timestep=motion.timestep,
        decay=motion.decay,
        acceleration=ACCELERATION / system.masses,
        noise=motion.noise(system.masses),
        seed=motion.seed,
        longest=LONGEST_MOVE,
        skin=SKIN,
    )
    return loops if loops.suits() else None


class SteppedMotion:
    """Any structures with any potential, step by step.

    A single structure and, of a frozen model on a CPU, large ones are evaluated one after the other, with a skin list
    each where that pays, all others in one batch.

    Args:
        potential: The potential.
        unit: Unit of its energies in eV.
        system: The structures.
        motion: How they move.
    """

    def __init__(self, potential: Any, unit: float, system: System, motion: Motion) -> None:
        self.potential, self.unit, self.system, self.motion = potential, unit, system, motion
        one = SteppedPotential(potential)
        self._z = torch.from_numpy(system.numbers).to(one.device)
        self._batch = torch.from_numpy(system.batch).to(one.device)
        # small crystals take less time together without lists than one after the other with them, large ones as long
        alone = one.neighbors is not None and int(np.diff(system.first).max()) > SIZES.max_atoms
        self._stepped = [SteppedPotential(potential) for _ in system.parts] if alone or system.count == 1 else []
        #: Where each structure was when its pairs were searched, [N, 3], and its cell [B, 3, 3], both in Angstrom.
        self.reference: ndarray | None = None
        self.reference_cells = system.cell.copy()
        self._like, self._gpu = (one.dtype, one.device), GpuSteps(potential)

    def advance(self, state: State, first: int, steps: int) -> tuple[State, Trouble | None]:
        """Some steps, or with none, energies and forces.

        Args:
            state: Where structures are; it stays as it is.
            first: Number of the first step.
            steps: How many.

        Returns:
            The new state; and what ended it too early, if something did.
        """
        positions, velocities, forces, energies, cells, virials = (np.array(part, np.float64) for part in state)
        system, (timestep, *_), decay = self.system, self.motion, self.motion.decay
        kick = 0.5 * timestep * (ACCELERATION / system.masses)[:, None]
        noise = self.motion.noise(system.masses)[:, None]
        if not steps:
            forces, energies, virials = self._evaluated(positions, cells)
        for number in range(1, steps + 1):
            if self.motion.pressure is not None and (first + number - 1) % STEPS_PER_MOVE == 0:
                here = State(positions, velocities, forces, energies, cells, virials)
                positions, cells, structure = self._stretched(here, first + number - 1)
                if structure is not None:
                    return here, Trouble(number, structure, "too much strain")
            before = positions
            with np.errstate(all="ignore"):  # what is not finite is said below
                velocities += kick * forces
                if decay < 1.0:
                    positions = positions + 0.5 * timestep * velocities
                    random = normal_vectors(self.motion.seed, first + number - 1, system.batch, system.within)
                    velocities = decay * velocities + noise * random
                    positions = positions + 0.5 * timestep * velocities
                else:
                    positions = positions + timestep * velocities
                moved = np.square(positions - before).sum(1)
            trouble = self._trouble(moved, LONGEST_MOVE**2, number)
            if trouble is None:
                forces, energies, virials = self._evaluated(positions, cells)
                velocities += kick * forces
                trouble = self._trouble(forces.sum(1) + energies[system.batch], np.inf, number)
            if trouble is not None:
                return State(positions, velocities, forces, energies, cells, virials), trouble
        found = State(positions, velocities, forces, energies, cells, virials)
        return found, None if steps else self._trouble(forces.sum(1) + energies[system.batch], np.inf, 1)

    @property
    def lists(self) -> list[tuple[int, int, int]]:
        """How much the skin list of each structure has been of use."""
        return [stepped.use_of_list for stepped in self._stepped]

    def search_at(self, reference: ndarray, cells: ndarray, lists: list[tuple[int, int, int]]) -> None:
        """Have pairs searched where they were searched before, so that what follows is the same to the last bit.

        Args:
            reference: Positions in Angstrom [N, 3].
            cells: Lattice vectors in Angstrom [B, 3, 3].
            lists: What :attr:`lists` was then.
        """
        self.reference = None
        self._evaluated(reference, cells)
        for stepped, use in zip(self._stepped, lists, strict=True):
            stepped.use_of_list = use

    def _stretched(self, state: State, step: int) -> tuple[ndarray, ndarray, int | None]:
        """Positions [N, 3] and cells [B, 3, 3] after a move of the cells; and a structure that it is too much for."""
        system, atoms = self.system, np.diff(self.system.first)
        strain = self.motion.strains(state, atoms, step)
        wrong = ~(np.abs(strain).max((1, 2)) <= LARGEST_STRAIN)  # what is not a number, too
        if wrong.any():
            return state.positions, state.cells, int(wrong.argmax())
        stretch = stretches(strain)
        centre = (np.add.reduceat(state.positions, system.first[:-1]) / atoms[:, None])[system.batch]
        moved = centre + np.einsum("na,nab->nb", state.positions - centre, stretch[system.batch])
        return moved, state.cells @ stretch, None

    def _trouble(self, values: ndarray, most: float, step: int) -> Trouble | None:
        """The first atom whose number is too large or none at all [N]."""
        wrong = ~(np.isfinite(values) & (values <= most))
        if not wrong.any():
            return None
        atom = int(wrong.argmax())
        reason = "too fast" if np.isfinite(values[atom]) else "not finite"
        return Trouble(step, int(self.system.batch[atom]), reason)

    def _evaluated(self, positions: ndarray, cells: ndarray) -> tuple[ndarray, ndarray, ndarray]:
        """Forces in eV/Angstrom [N, 3], energies in eV [B], and virials in eV, zero without a pressure [B, 3, 3]."""
        if self._stepped:
            every = [self._of_one(number, positions, cells) for number in range(self.system.count)]
            forces, energies, shares = (np.concatenate(parts) for parts in zip(*every, strict=True))
        else:
            forces, energies, shares = self._of_all(positions, cells)
        virials = np.zeros_like(cells)
        if self.motion.pressure is not None:
            virials = self.unit * np.add.reduceat(shares, self.system.first[:-1])
        return self.unit * forces, self.unit * energies, virials

    def _of_one(self, number: int, positions: ndarray, cells: ndarray) -> tuple[ndarray, ndarray, ndarray]:
        stepped, part, system = self._stepped[number], self.system.parts[number], self.system
        rebuilds = _rebuilds(stepped)
        place = positions[part], cells[number], system.pbc[number]
        out = stepped(self._z[part], *place, stress=False, virials=self.motion.pressure is not None)
        if _rebuilds(stepped) != rebuilds:
            self.reference = positions.copy() if self.reference is None else self.reference
            self.reference[part], self.reference_cells[number] = positions[part], cells[number]
        return self._arrays(out)

    def _of_all(self, positions: ndarray, cells: ndarray) -> tuple[ndarray, ndarray, ndarray]:
        dtype, device = self._like
        system, periodic = self.system, {}
        shift = np.rint(np.add.reduceat(positions, system.first[:-1]) / np.diff(system.first)[:, None])
        near = positions - shift[system.batch]
        if system.pbc.any():
            for number in np.flatnonzero(system.pbc.any(1)):
                part = system.parts[number]
                near[part] = centred(positions[part], cells[number], system.pbc[number])
            cell, pbc = torch.from_numpy(cells).to(device, dtype), torch.from_numpy(system.pbc).to(device)
            periodic = {"cell": cell, "pbc": pbc}
        under = self.motion.pressure is not None
        given = cells if periodic else None
        played = self._gpu(self._z, near, given, system.pbc, self._batch, virials=under)
        if played is not None:
            return self._arrays(played)
        pos = torch.from_numpy(near).to(device, dtype)
        more = {"virials": True} if self.motion.pressure is not None else {}
        out = asked(self.potential, self._z, pos, self._batch, batch_size=system.count, **periodic, **more)
        return self._arrays(out)

    def _arrays(self, out: dict[str, Tensor]) -> tuple[ndarray, ndarray, ndarray]:
        """Forces, energies and, under pressure, virials of the atoms, in the model's unit."""
        if self.motion.pressure is None:
            return _array(out["forces"]), _array(out["energy"]), np.empty(0)
        if "virials" not in out:
            raise ValueError(
                f"{type(self.potential).__name__} returns no virials, which a barostat needs; have it return them or "
                "leave out `pressure`"
            )
        return _array(out["forces"]), _array(out["energy"]), _array(out["virials"])


def _rebuilds(stepped: SteppedPotential) -> int:
    return stepped.rebuilds


def _array(tensor: Tensor) -> ndarray:
    array: ndarray = tensor.detach().cpu().double().numpy()
    return array


#: What moves structures: the state, the number of the first step and how many in, the new state and trouble out.
Advance = Callable[[State, int, int], tuple[State, Trouble | None]]
