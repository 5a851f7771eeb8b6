"""Neighbours: who interacts with whom."""

from pyg_schnet.graph.neighbors import Graph, radius_graph
from pyg_schnet.graph.structure import check_structures

__all__ = ["Graph", "check_structures", "radius_graph"]
