"""Dynamics with a trained model."""

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyg_schnet.simulation.ase import SchNetCalculator, atoms_to_data

__all__ = ["SchNetCalculator", "atoms_to_data"]


def __getattr__(name: str) -> Any:
    """What needs an extra is imported when it is first asked for."""
    if name in __all__:
        return getattr(importlib.import_module("pyg_schnet.simulation.ase"), name)
    raise AttributeError(f"module 'pyg_schnet.simulation' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *(__all__ if find_spec("ase") is not None else ())})
