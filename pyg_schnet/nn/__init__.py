"""Layers: parameters around :mod:`pyg_schnet.ops`, each usable alone in any PyG model."""

from pyg_schnet.nn.activation import ShiftedSoftplus
from pyg_schnet.nn.basis import GaussianSmearing
from pyg_schnet.nn.cfconv import CFConv
from pyg_schnet.nn.cutoff import CosineCutoff, NoCutoff
from pyg_schnet.nn.embedding import AtomEmbedding
from pyg_schnet.nn.filter import FilterNetwork
from pyg_schnet.nn.interaction import InteractionBlock
from pyg_schnet.nn.normalization import NeighborNormalization
from pyg_schnet.nn.readout import Atomwise, Readout
from pyg_schnet.nn.reference import Reference

__all__ = [
    "AtomEmbedding",
    "Atomwise",
    "CFConv",
    "CosineCutoff",
    "FilterNetwork",
    "GaussianSmearing",
    "InteractionBlock",
    "NeighborNormalization",
    "NoCutoff",
    "Readout",
    "Reference",
    "ShiftedSoftplus",
]
