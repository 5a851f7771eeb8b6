"""Neighbours: who interacts with whom."""

from pyg_schnet.graph.neighbors import Graph, check_cutoff, radius_graph
from pyg_schnet.graph.structure import check_structures, may_inspect

__all__ = ["Graph", "check_cutoff", "check_structures", "may_inspect", "radius_graph"]
