"""SchNet as a PyTorch Geometric extension.

The layers compose with any PyG model; :class:`SchNet` is put together from them, :class:`Potential` gives its energies
and forces. Data are in ``pyg_schnet.datasets``, training in ``pyg_schnet.training``, dynamics in
``pyg_schnet.simulation``.
"""

from pyg_schnet import batching
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

batching.install()
whole.install()

__version__ = "0.1.0"

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
