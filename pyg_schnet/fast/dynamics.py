"""Steps of dynamics of open structures in compiled loops, where there is nothing unusual about model or structures."""

import importlib
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from pyg_schnet.fast import convolution, ways
from pyg_schnet.fast.groups import products_of, shares_of
from pyg_schnet.fast.molecules import references_of
from pyg_schnet.fast.random_numbers import halves
from pyg_schnet.fast.repulsion import as_loops_know
from pyg_schnet.fast.shortcut import is_plain_network
from pyg_schnet.fast.weights import locate
from pyg_schnet.nn import Reference
from pyg_schnet.sizes import SIZES
from pyg_schnet.threads import share_out

#: Why steps ended too early, by the numbers of the loops.
REASONS = {1: "not finite", 2: "too fast"}


class Trouble(NamedTuple):
    """What ended steps too early.

    Attributes:
        step: After how many steps, from 1.
        structure: Number of the structure.
        reason: One of ``REASONS``.
    """

    step: int
    structure: int
    reason: str


@dataclass
class CompiledMotion:
    """Structures, and how they move.

    Attributes:
        model: A frozen SchNet.
        numbers: Atomic numbers [N] int64.
        batch: Structure of each atom, sorted [N] int64.
        within: Number of each atom within its structure [N] int64.
        unit: Unit of the model's energies in eV.
        timestep: Time of a step in fs.
        decay: What a thermostat leaves of the velocities in a step; 1 without one.
        acceleration: Acceleration by a unit of force, in Angstrom/fs^2 per eV/Angstrom [N].
        noise: What a thermostat adds to the velocities in a step, in Angstrom/fs [N].
        seed: Seed of the random numbers.
        longest: The longest move of an atom in a step, in Angstrom.
        skin: How much farther than the cutoff pairs are kept, in Angstrom.
    """

    model: Any
    numbers: ndarray
    batch: ndarray
    within: ndarray
    unit: float
    timestep: float
    decay: float
    acceleration: ndarray
    noise: ndarray
    seed: int
    longest: float
    skin: float
    _prepared: tuple[Any, ...] | None = field(default=None, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:  # a copy has weights of its own, elsewhere in memory
        return self.__dict__ | {"_prepared": None}

    def suits(self) -> bool:
        """True if loops know the model, and structures are small; they are open, which is not looked at."""
        model = self.model
        if not is_plain_network(model) or not getattr(model, "frozen", False) or convolution.cpu_loops() is None:
            return False
        if not ways.enabled("molecules") or model.embedding.weight.device.type != "cpu" or len(self.batch) == 0:
            return False
        located = locate(model)
        if located is None or located.convolutions[0].norm is not None or type(model.reference) is not Reference:
            return False
        if model.reference.how == "mean" or np.bincount(self.batch).max() > SIZES.max_atoms:
            return False
        return bool(self.numbers.min() > 0 and self.numbers.max() < located.network.embedding[1])

    def advance(
        self, state: tuple[ndarray, ...], first: int, steps: int
    ) -> tuple[tuple[ndarray, ndarray, ndarray, ndarray], Trouble | None]:
        """Some steps, or with none, energies and forces.

        Args:
            state: Positions in Angstrom, velocities in Angstrom/fs, forces in eV/Angstrom [N, 3] float64, which stay as
                they are, and energies; what follows is not looked at.
            first: Number of the first step.
            steps: How many.

        Returns:
            The new state, energies in eV with their references [B]; and what ended it too early, if something did.
        """
        located = locate(self.model)
        if located is None:
            raise RuntimeError("the model has been changed since its dynamics began; make them anew")
        if self._prepared is None or self._prepared[0] is not located:
            self._prepared = located, *self._looked_up(located)
        loops, atoms, motion, repulsion, references = self._prepared[1:]
        moved, number = tuple(np.array(part, np.float64) for part in state[:4]), len(atoms.first) - 1
        trouble, reach = np.zeros((number, 3), np.int64), (float(self.model.cutoff), self.skin)

        def work(begin: int, end: int) -> None:
            what = moved, trouble, atoms, motion, located.network, repulsion, reach
            loops.advance(*what, (first, steps), (begin, end))

        share_out(work, number, 1, products_of(located.network) * max(1, steps))
        energies = moved[3] + references
        failed = trouble[trouble[:, 0] > 0]
        found = None
        if len(failed):
            step, reason, structure = failed[failed[:, 0].argmin()].tolist()
            found = Trouble(step, structure, REASONS[reason])
        return (moved[0], moved[1], moved[2], energies), found

    def _looked_up(self, located: Any) -> tuple[Any, ...]:
        """What loops are told in each call, as long as the model is as it was; and references in eV [B]."""
        loops, nothing = importlib.import_module("pyg_schnet.fast.cpu.dynamics"), np.empty(0, np.int64)
        limits = located.loops.groups_of(self.batch, nothing, nothing, SIZES.atoms_per_group)[0]
        shares = self.unit * shares_of(self.model, self.batch)
        like = self.model.filter_tables.new_empty(0).numpy()
        atoms = loops.Atoms(self.numbers, self.batch, self.within, shares, limits, like)
        rules = self.timestep, self.decay, self.acceleration, self.noise, halves(self.seed), self.longest
        references = references_of(self.model, self.numbers, self.batch, int(self.batch[-1]) + 1)
        return loops, atoms, loops.Motion(*rules), as_loops_know(self.model, self.unit), self.unit * references
