"""Replicas in the atomic units of i-PI: what its drivers and its sockets ask for."""

import json
from collections.abc import Sequence

import numpy as np
from numpy import ndarray

from pyg_schnet.simulation.replicas import Evaluation, ReplicaPotential
from pyg_schnet.units import BOHR, HARTREE

#: What i-PI calls a result: energy, forces [n, 3], virial [3, 3], all in atomic units, and further text.
Result = tuple[float, ndarray, ndarray, str]


class AtomicUnits:
    """A potential in atomic units.

    Of a committee, the text that comes with each result holds energies, forces and virials of the members, from which
    i-PI's ``ffcommittee`` with ``<parse_json> True </parse_json>`` makes their spread.

    Args:
        potential: The potential of the structure.
        length: One Bohr radius in Angstrom.
        energy: One Hartree in eV.
    """

    def __init__(self, potential: ReplicaPotential, length: float = BOHR, energy: float = HARTREE) -> None:
        self.potential, self.length, self.energy = potential, length, energy

    def __call__(self, cells: Sequence[ndarray], positions: Sequence[ndarray]) -> list[Result]:
        """Results of replicas, all of them at once.

        Args:
            cells: Lattice vectors of each replica as columns in Bohr [3, 3].
            positions: Positions of each replica in Bohr [n, 3].

        Returns:
            A result for each replica, in Hartree and Hartree/Bohr.

        Raises:
            ValueError: If shapes do not fit, or positions or cells are impossible.
        """
        rows = self.length * np.swapaxes(np.stack(list(cells)), 1, 2)
        every = self.potential.of_members(self.length * np.stack(list(positions)), rows)
        every = [self._atomic(one) for one in every]
        mean = Evaluation(*(np.mean(part, axis=0) for part in zip(*every, strict=True)))
        texts = [_text(every, replica) if len(every) > 1 else "" for replica in range(len(mean.energy))]
        return [(float(energy), *rest) for energy, *rest in zip(*mean, texts, strict=True)]

    def _atomic(self, one: Evaluation) -> Evaluation:
        return Evaluation(one.energy / self.energy, one.forces * (self.length / self.energy), one.virial / self.energy)


def _text(every: list[Evaluation], replica: int) -> str:
    """The members, by the names that i-PI has for them."""
    names = {"committee_pot": "energy", "committee_force": "forces", "committee_virial": "virial"}
    return json.dumps(
        {
            name: [
                np.ravel(getattr(one, part)[replica]).tolist() if part != "energy" else float(one.energy[replica])
                for one in every
            ]
            for name, part in names.items()
        }
    )
