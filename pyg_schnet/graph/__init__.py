"""Neighbours: who interacts with whom."""

from pyg_schnet.graph.neighbors import Graph, check_cutoff, radius_graph, within_cutoff
from pyg_schnet.graph.structure import check_structures, may_inspect
from pyg_schnet.graph.verlet import VerletList

__all__ = ["Graph", "VerletList", "check_cutoff", "check_structures", "may_inspect", "radius_graph", "within_cutoff"]
