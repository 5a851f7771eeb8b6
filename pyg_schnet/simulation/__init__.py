"""Dynamics with a trained model; its names are imported when they are asked for, as most need ASE (extra ``md``)."""

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pyg_schnet import former_names

if TYPE_CHECKING:
    from pyg_schnet.simulation.ase import SchNetCalculator
    from pyg_schnet.simulation.dynamics import Dynamics, DynamicsError
    from pyg_schnet.simulation.exporting import export
    from pyg_schnet.simulation.recorded import RecordedPotential
    from pyg_schnet.simulation.structures import atoms_to_data, data_to_atoms

__all__ = [
    "Dynamics",
    "DynamicsError",
    "RecordedPotential",
    "SchNetCalculator",
    "atoms_to_data",
    "data_to_atoms",
    "export",
]

_HOMES = {
    "Dynamics": "dynamics",
    "DynamicsError": "dynamics",
    "RecordedPotential": "recorded",
    "SchNetCalculator": "ase",
    "atoms_to_data": "structures",
    "data_to_atoms": "structures",
    "export": "exporting",
}
#: What is of use without ASE.
_WITHOUT_ASE = ("Dynamics", "DynamicsError", "RecordedPotential", "export")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *(_HOMES if find_spec("ase") is not None else _WITHOUT_ASE)})


former_names.attach(__name__)
