"""Weights from elsewhere and back: PyG, SchNetPack, the authors' TensorFlow code, published models."""

from pyg_schnet.convert.pretrained import from_pretrained
from pyg_schnet.convert.pyg import InteractionGraph, from_pyg, to_pyg
from pyg_schnet.convert.schnetpack import from_schnetpack
from pyg_schnet.convert.tensorflow import from_tensorflow
from pyg_schnet.convert.to_schnetpack import SchNetPackState, to_schnetpack

__all__ = [
    "InteractionGraph",
    "SchNetPackState",
    "from_pretrained",
    "from_pyg",
    "from_schnetpack",
    "from_tensorflow",
    "to_pyg",
    "to_schnetpack",
]
