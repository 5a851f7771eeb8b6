"""Neighbours: who interacts with whom."""

from pyg_schnet import former_names
from pyg_schnet.graph.edges import Graph
from pyg_schnet.graph.neighbors import check_cutoff, radius_graph, within_cutoff
from pyg_schnet.graph.pairs import few_pairs, neighbor_pairs, opposite_edges
from pyg_schnet.graph.structure import can_inspect, check_structures, hidden_values, values_hidden
from pyg_schnet.graph.vectors import Edges
from pyg_schnet.graph.verlet import VerletList

__all__ = [
    "Edges",
    "Graph",
    "VerletList",
    "can_inspect",
    "check_cutoff",
    "check_structures",
    "few_pairs",
    "hidden_values",
    "neighbor_pairs",
    "opposite_edges",
    "radius_graph",
    "values_hidden",
    "within_cutoff",
]

former_names.attach(__name__)
