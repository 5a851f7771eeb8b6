"""SchNet as a driver of i-PI (extra ``ipi``): this very file is what ``<pes_path>`` names.

.. code-block:: xml

    <ffdirect name="schnet" pbc="false">
      <pes> custom </pes> <pes_path> .../pyg_schnet/simulation/ipi.py </pes_path>
      <parameters> {template: molecule.xyz, model: model.safetensors} </parameters>
      <batch_size> 8 </batch_size>
    </ffdirect>

``python -m pyg_schnet.simulation.ipi`` prints where it is. With as many as there are beads in ``batch_size``, all beads
of a step are evaluated together. Over a socket, the same is ``pyg-schnet serve``, which needs no i-PI where it runs.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

import torch
from numpy import ndarray

if __name__ == "ipi":  # i-PI loads a file under the name that it has without .py, and that one is its own
    del sys.modules["ipi"]
    _package = importlib.import_module("ipi")
    for _name, _module in [*sys.modules.items()]:
        if _name.startswith("ipi.") and _name.count(".") == 1:
            setattr(_package, _name.removeprefix("ipi."), _module)

try:
    from ipi.pes.dummy import Dummy_driver
    from ipi.utils.units import unit_to_user
except ImportError as error:
    raise ImportError('the driver needs i-PI 3; install it with pip install "pyg_schnet[ipi]"') from error

from pyg_schnet.simulation.atomic_units import AtomicUnits, Result
from pyg_schnet.simulation.replicas import ReplicaPotential
from pyg_schnet.simulation.templates import read_template

__DRIVER_NAME__ = "schnet"
__DRIVER_CLASS__ = "SchNetDriver"


class SchNetDriver(Dummy_driver):
    """Energies, forces and virials for i-PI, of one structure or of many in a batch.

    Args:
        template: File with the structure, which ASE reads: elements in the order of the simulation, and whether it is
            periodic.
        model: Model file, folder of a run or of a committee, or the name of a trained model. The members of a
            committee give i-PI's ``ffcommittee`` their spread.
        device: Where to evaluate.
        dtype: ``float32`` or ``float64``; the model's own by default.
        energy_unit: Unit of the model's energies; what its file says by default, else eV.
        strict: True to refuse elements and charges that the model was never trained on, instead of a warning.
        verbose: What i-PI says to all drivers; nothing depends on it.
        **options: Others that i-PI adds to those of its input.

    Raises:
        FileNotFoundError: If there is no such template or model.
        TypeError: If there is no such option.
        ValueError: If something is wrong with the model or the structure.
    """

    def __init__(
        self,
        template: str,
        model: str,
        device: str = "cpu",
        dtype: str | None = None,
        energy_unit: str | None = None,
        strict: bool = False,
        verbose: bool = False,
        **options: Any,
    ) -> None:
        for option in options.keys() - {"verbosity"}:
            raise TypeError(
                f"the driver has no parameter {option!r}; expected template, model, device, dtype, energy_unit, strict"
            )
        numbers, pbc, said = read_template(Path(template))
        kind = {None: None, "float32": torch.float32, "float64": torch.float64}.get(dtype, dtype)
        rest: Any = {"device": device, "dtype": kind, "energy_unit": energy_unit, "strict": strict, "said": said}
        potential = ReplicaPotential(model, numbers, pbc, **rest)
        # i-PI's own figures, so that its output in eV and Angstrom is what the model said
        self._evaluate = AtomicUnits(
            potential, unit_to_user("length", "angstrom", 1.0), unit_to_user("energy", "electronvolt", 1.0)
        )
        super().__init__(verbose)

    def compute(self, cell: Any, pos: Any) -> Any:
        """Evaluate; called by i-PI.

        Args:
            cell: Lattice vectors as columns in Bohr [3, 3], or a list of them.
            pos: Positions in Bohr [n, 3], or a list of them.

        Returns:
            Energy, forces, virial and further text in atomic units, or a list of them.
        """
        return self._evaluate(cell, pos) if isinstance(cell, list) else self.compute_structure(cell, pos)

    def compute_structure(self, cell: ndarray, pos: ndarray) -> Result:
        """Evaluate one structure.

        Args:
            cell: Lattice vectors as columns in Bohr [3, 3].
            pos: Positions in Bohr [n, 3].

        Returns:
            Energy, forces [n, 3], virial [3, 3] and further text in atomic units.
        """
        return self._evaluate([cell], [pos])[0]


if __name__ == "__main__":
    sys.stdout.write(f"{Path(__file__).resolve()}\n")
