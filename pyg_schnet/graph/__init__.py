"""Neighbours: who interacts with whom."""

from pyg_schnet.graph.edges import Graph
from pyg_schnet.graph.neighbors import check_cutoff, radius_graph, within_cutoff
from pyg_schnet.graph.pairs import neighbor_pairs
from pyg_schnet.graph.structure import check_structures, may_inspect, unseen, values_unseen
from pyg_schnet.graph.vectors import Edges
from pyg_schnet.graph.verlet import VerletList

__all__ = [
    "Edges",
    "Graph",
    "VerletList",
    "check_cutoff",
    "check_structures",
    "may_inspect",
    "neighbor_pairs",
    "radius_graph",
    "unseen",
    "values_unseen",
    "within_cutoff",
]
