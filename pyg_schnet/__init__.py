"""SchNet as a PyTorch Geometric extension.

The layers compose with any PyG model; :class:`SchNet` is put together from them, :class:`Potential` gives its energies
and forces. Data are in ``pyg_schnet.datasets``, weights from and to other packages in ``pyg_schnet.convert``, training
in ``pyg_schnet.training``, dynamics in ``pyg_schnet.simulation``; these rooms are imported when they are first asked
for.
"""

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pyg_schnet import batching, former_names
from pyg_schnet.graph import Graph, radius_graph
from pyg_schnet.models import Potential, SchNet, load, save
from pyg_schnet.nn import (
    CFConv,
    CosineCutoff,
    FilterNetwork,
    GaussianSmearing,
    InteractionBlock,
    ShiftedSoftplus,
)
from pyg_schnet.transforms import whole

former_names.install()
batching.install()
whole.install()

if TYPE_CHECKING:
    from pyg_schnet import analysis, convert, datasets, simulation, training, transforms  # noqa: F401
    from pyg_schnet.simulation.exporting import export  # noqa: F401

__version__ = "0.3.0"

__all__ = [
    "CFConv",
    "CosineCutoff",
    "FilterNetwork",
    "GaussianSmearing",
    "Graph",
    "InteractionBlock",
    "Potential",
    "SchNet",
    "ShiftedSoftplus",
    "load",
    "radius_graph",
    "save",
]

#: Rooms that are imported when they are first asked for, with the package that they need.
_ROOMS = {"analysis": "", "convert": "", "datasets": "", "simulation": "", "training": "lightning", "transforms": ""}
#: Functions that are imported when they are first asked for, with the module of each.
_FUNCTIONS = {"export": "pyg_schnet.simulation.exporting"}


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"pyg_schnet.{name}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    raise AttributeError(f"module 'pyg_schnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    there = (room for room, package in _ROOMS.items() if not package or find_spec(package) is not None)
    return sorted({*globals(), *there, *_FUNCTIONS})
