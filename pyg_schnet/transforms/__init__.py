"""PyG transforms."""

from pyg_schnet.transforms.radius_graph import RadiusGraph
from pyg_schnet.transforms.random_rotate import RandomRotate

__all__ = ["RadiusGraph", "RandomRotate"]
