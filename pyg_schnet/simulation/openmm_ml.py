"""``MLPotential("schnet", model=...)`` of OpenMM-ML, which finds this by an entry point (extra ``openmm``)."""

from collections.abc import Iterable
from typing import Any

from pyg_schnet.simulation.openmm import schnet_force

try:
    from openmmml.mlpotential import MLPotentialImpl, MLPotentialImplFactory
except ImportError as error:
    raise ImportError('MLPotential needs OpenMM-ML; install it with pip install "pyg_schnet[openmm]"') from error


class SchNetPotentialImpl(MLPotentialImpl):
    """What puts the force into systems.

    Args:
        model: What :func:`~pyg_schnet.simulation.openmm.schnet_force` takes.
        **options: Its options.
    """

    def __init__(self, model: Any, **options: Any) -> None:
        self.model, self.options = model, options

    def addForces(  # noqa: N802  OpenMM-ML's name
        self, topology: Any, system: Any, atoms: Iterable[int] | None, forceGroup: int, **args: Any
    ) -> None:
        """Add the force to a system; called by OpenMM-ML.

        Args:
            topology: Elements of all atoms, and the box if there is one.
            system: The system.
            atoms: Which atoms it acts on; ``None`` for all of them.
            forceGroup: Group of the force.
            **args: Options that replace those of the potential.

        Raises:
            ValueError: If an atom has no element, or the model does not know it.
        """
        every = list(topology.atoms())
        chosen = every if atoms is None else [every[number] for number in atoms]
        for atom in chosen:
            if atom.element is None:
                raise ValueError(
                    f"particle {atom.index} ({atom.name}) has no element, which SchNet needs; leave it out of `atoms`"
                )
        numbers = [atom.element.atomic_number for atom in chosen]
        periodic = topology.getPeriodicBoxVectors() is not None
        particles = None if atoms is None else [atom.index for atom in chosen]
        known = {name: value for name, value in args.items() if name in {"device", "dtype", "energy_unit", "frozen"}}
        force = schnet_force(self.model, numbers, periodic, particles, **self.options | known)
        force.setForceGroup(forceGroup)
        system.addForce(force)

    def getMLLongRange(self) -> bool:  # noqa: N802  OpenMM-ML's name
        """Nothing reaches farther than the cutoff."""
        return False


class SchNetPotentialImplFactory(MLPotentialImplFactory):
    """What OpenMM-ML calls for ``MLPotential("schnet", model=...)``."""

    def createImpl(self, name: str, **args: Any) -> SchNetPotentialImpl:  # noqa: N802  OpenMM-ML's name
        """A potential.

        Args:
            name: The name it was asked for by.
            **args: ``model`` and the options of :class:`SchNetPotentialImpl`.

        Returns:
            The potential.

        Raises:
            TypeError: If there is no model.
        """
        if "model" not in args:
            raise TypeError(f'MLPotential("{name}") needs a model: MLPotential("{name}", model="model.safetensors")')
        return SchNetPotentialImpl(**args)
