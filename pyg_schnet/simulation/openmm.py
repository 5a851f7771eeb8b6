"""SchNet as a force of OpenMM (extra ``openmm``)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from pyg_schnet.simulation.replicas import ReplicaPotential
from pyg_schnet.units import ENERGY

try:
    import openmm

    openmm.PythonForce  # noqa: B018  of 8.5 and later
except (ImportError, AttributeError) as error:
    raise ImportError('the force needs OpenMM 8.6; install it with pip install "pyg_schnet[openmm]"') from error

#: One nanometre in Angstrom.
_NANOMETRE = 10.0


class SchNetForce:
    """What a ``PythonForce`` calls; it can be pickled, and with it systems of OpenMM can be serialised.

    Args:
        potential: The potential of the atoms.
    """

    def __init__(self, potential: ReplicaPotential) -> None:
        self.potential = potential

    def __call__(self, state: Any) -> tuple[float, ndarray]:
        """Evaluate a state.

        Args:
            state: Positions of the atoms and, if they are periodic, the box.

        Returns:
            Energy in kJ/mol and forces in kJ/mol/nm [n, 3].

        Raises:
            ValueError: If the state is an impossible one.
        """
        positions = _NANOMETRE * state.getPositions(asNumpy=True)._value
        cell = None
        if self.potential.pbc.any():
            cell = _NANOMETRE * np.array(state.getPeriodicBoxVectors(asNumpy=True)._value)[None]
        found = self.potential(positions[None], cell)
        unit = ENERGY["kJ/mol"]
        return float(found.energy[0]) / unit, found.forces[0] * (_NANOMETRE / unit)


def schnet_force(
    model: Any, numbers: Any, periodic: bool = False, particles: Sequence[int] | None = None, **options: Any
) -> "openmm.PythonForce":
    """A force of OpenMM, for ``system.addForce``.

    Args:
        model: What :class:`~pyg_schnet.simulation.ase.SchNetCalculator` takes: a model of energies, a committee, a
            potential of either, a file, a folder or the name of a trained model.
        numbers: Atomic numbers of the atoms it acts on, in their order [n].
        periodic: True if they interact with their images in the box of the system.
        particles: Which particles of the system these atoms are; ``None`` for all of them.
        **options: Of :class:`~pyg_schnet.simulation.replicas.ReplicaPotential`: ``device``, ``dtype``,
            ``energy_unit``, ``frozen``, ``strict``.

    Returns:
        The force.

    Raises:
        TypeError: If ``model`` is none of these, or there is no such option.
        ValueError: If it has no energy to simulate, there is no such element, or the numbers of atoms differ.
    """
    if particles is not None and len(particles) != len(numbers):
        raise ValueError(
            f"`particles` must name one particle for each of the {len(numbers)} atoms, got {len(particles)}"
        )
    force = openmm.PythonForce(SchNetForce(ReplicaPotential(model, numbers, periodic, **options)))
    force.setUsesPeriodicBoundaryConditions(bool(periodic))
    if particles is not None:
        force.setParticles([int(one) for one in particles])
    return force
