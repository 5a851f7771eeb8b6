"""Two ways to move structures: compiled loops for many steps, and step by step with any potential."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from pyg_schnet.fast.dynamics import CompiledMotion, Trouble
from pyg_schnet.fast.random_numbers import normal_vectors
from pyg_schnet.models import CommitteePotential, Potential
from pyg_schnet.simulation.stepping import SKIN, SteppedPotential
from pyg_schnet.simulation.systems import System
from pyg_schnet.sizes import SIZES
from pyg_schnet.units import ACCELERATION, BOLTZMANN

#: No atom moves farther in a step, in Angstrom; hydrogen at 300 K moves by some 0.02 in one of 0.5 fs.
LONGEST_MOVE = 0.5


class State(NamedTuple):
    """Where structures are.

    Attributes:
        positions: In Angstrom [N, 3].
        velocities: In Angstrom/fs [N, 3].
        forces: In eV/Angstrom [N, 3].
        energies: Potential energies in eV [B].
    """

    positions: ndarray
    velocities: ndarray
    forces: ndarray
    energies: ndarray


class Motion(NamedTuple):
    """How structures move.

    Attributes:
        timestep: In fs.
        temperature: That of the thermostat in K; ``None`` without one.
        friction: In 1/fs.
        seed: Seed of the random numbers.
    """

    timestep: float
    temperature: float | None
    friction: float
    seed: int

    @property
    def decay(self) -> float:
        """What the thermostat leaves of the velocities in a step."""
        return float(np.exp(-self.friction * self.timestep)) if self.temperature is not None else 1.0

    def noise(self, masses: ndarray) -> ndarray:
        """What the thermostat adds to velocities in a step, times normal numbers, in Angstrom/fs [N]."""
        spread = np.sqrt(BOLTZMANN * (self.temperature or 0.0) * ACCELERATION / masses)
        return np.sqrt(1.0 - self.decay**2) * spread


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

    Large and periodic structures on a CPU are evaluated one after the other, with a skin list each, all others in one
    batch.

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
        largest = int(np.diff(system.first).max())
        alone = one.device.type == "cpu" and (system.pbc.any() or largest > SIZES.max_atoms)
        self._stepped = [SteppedPotential(potential) for _ in system.parts] if alone or system.count == 1 else []
        #: Where each structure was when its pairs were searched, [N, 3] in Angstrom.
        self.reference: ndarray | None = None
        self._like = one.dtype, one.device

    def advance(self, state: State, first: int, steps: int) -> tuple[State, Trouble | None]:
        """Some steps, or with none, energies and forces.

        Args:
            state: Where structures are; it stays as it is.
            first: Number of the first step.
            steps: How many.

        Returns:
            The new state; and what ended it too early, if something did.
        """
        positions, velocities, forces, energies = (np.array(part, np.float64) for part in state)
        system, (timestep, *_), decay = self.system, self.motion, self.motion.decay
        kick = 0.5 * timestep * (ACCELERATION / system.masses)[:, None]
        noise = self.motion.noise(system.masses)[:, None]
        if not steps:
            forces, energies = self._evaluated(positions)
        for number in range(1, steps + 1):
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
                forces, energies = self._evaluated(positions)
                velocities += kick * forces
                trouble = self._trouble(forces.sum(1) + energies[system.batch], np.inf, number)
            if trouble is not None:
                return State(positions, velocities, forces, energies), trouble
        found = State(positions, velocities, forces, energies)
        return found, None if steps else self._trouble(forces.sum(1) + energies[system.batch], np.inf, 1)

    @property
    def lists(self) -> list[tuple[int, int, int]]:
        """How much the skin list of each structure has been of use."""
        return [stepped.use_of_list for stepped in self._stepped]

    def search_at(self, reference: ndarray, lists: list[tuple[int, int, int]]) -> None:
        """Have pairs searched where they were searched before, so that what follows is the same to the last bit.

        Args:
            reference: Positions in Angstrom [N, 3].
            lists: What :attr:`lists` was then.
        """
        self.reference = None
        self._evaluated(reference)
        for stepped, use in zip(self._stepped, lists, strict=True):
            stepped.use_of_list = use

    def _trouble(self, values: ndarray, most: float, step: int) -> Trouble | None:
        """The first atom whose number is too large or none at all [N]."""
        wrong = ~(np.isfinite(values) & (values <= most))
        if not wrong.any():
            return None
        atom = int(wrong.argmax())
        reason = "too fast" if np.isfinite(values[atom]) else "not finite"
        return Trouble(step, int(self.system.batch[atom]), reason)

    def _evaluated(self, positions: ndarray) -> tuple[ndarray, ndarray]:
        """Forces in eV/Angstrom [N, 3] and energies in eV [B]."""
        if self._stepped:
            every = [self._of_one(number, positions) for number in range(self.system.count)]
            forces, energies = (np.concatenate(parts) for parts in zip(*every, strict=True))
        else:
            forces, energies = self._of_all(positions)
        return self.unit * forces, self.unit * energies

    def _of_one(self, number: int, positions: ndarray) -> tuple[ndarray, ndarray]:
        stepped, part, system = self._stepped[number], self.system.parts[number], self.system
        rebuilds = _rebuilds(stepped)
        place = positions[part], system.cell[number], system.pbc[number]
        out = stepped(self._z[part], *place, stress=False, virials=False)
        if _rebuilds(stepped) != rebuilds:
            self.reference = positions.copy() if self.reference is None else self.reference
            self.reference[part] = positions[part]
        return _array(out["forces"]), _array(out["energy"])

    def _of_all(self, positions: ndarray) -> tuple[ndarray, ndarray]:
        dtype, device = self._like
        system, periodic = self.system, {}
        shift = np.rint(np.add.reduceat(positions, system.first[:-1]) / np.diff(system.first)[:, None])
        shift[system.pbc.any(1)] = 0.0  # a lattice is anywhere
        if system.pbc.any():
            cell, pbc = torch.from_numpy(system.cell).to(device, dtype), torch.from_numpy(system.pbc).to(device)
            periodic = {"cell": cell, "pbc": pbc}
        pos = torch.from_numpy(positions - shift[system.batch]).to(device, dtype)
        out = self.potential(self._z, pos, self._batch, batch_size=system.count, **periodic)
        return _array(out["forces"]), _array(out["energy"])


def _rebuilds(stepped: SteppedPotential) -> int:
    return 0 if stepped.neighbors is None else stepped.neighbors.rebuilds


def _array(tensor: Tensor) -> ndarray:
    array: ndarray = tensor.detach().cpu().double().numpy()
    return array


#: What moves structures: the state, the number of the first step and how many in, the new state and trouble out.
Advance = Callable[[State, int, int], tuple[State, Trouble | None]]
