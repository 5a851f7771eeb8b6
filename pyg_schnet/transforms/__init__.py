"""PyG transforms."""

from pyg_schnet.transforms.radius_graph import RadiusGraph

__all__ = ["RadiusGraph"]
