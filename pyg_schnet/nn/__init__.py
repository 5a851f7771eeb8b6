"""Layers: parameters around :mod:`pyg_schnet.ops`, each usable alone in any PyG model."""

from pyg_schnet.nn.activation import ShiftedSoftplus
from pyg_schnet.nn.basis import BesselBasis, GaussianSmearing
from pyg_schnet.nn.cfconv import CFConv
from pyg_schnet.nn.cutoff import CosineCutoff, MollifierCutoff, NoCutoff, PolynomialCutoff
from pyg_schnet.nn.embedding import AtomEmbedding
from pyg_schnet.nn.filter import FilterNetwork
from pyg_schnet.nn.interaction import InteractionBlock
from pyg_schnet.nn.moments import DipoleMoment, Polarizability, SpatialExtent
from pyg_schnet.nn.normalization import NeighborNormalization
from pyg_schnet.nn.readout import Atomwise, FeatureReadout, Readout, make_readout
from pyg_schnet.nn.reference import Reference
from pyg_schnet.nn.repulsion import ZBLRepulsion
from pyg_schnet.nn.tensor_layer import TensorLayer

__all__ = [
    "AtomEmbedding",
    "Atomwise",
    "BesselBasis",
    "CFConv",
    "CosineCutoff",
    "DipoleMoment",
    "FeatureReadout",
    "FilterNetwork",
    "GaussianSmearing",
    "InteractionBlock",
    "MollifierCutoff",
    "NeighborNormalization",
    "NoCutoff",
    "Polarizability",
    "PolynomialCutoff",
    "Readout",
    "Reference",
    "ShiftedSoftplus",
    "SpatialExtent",
    "TensorLayer",
    "ZBLRepulsion",
    "make_readout",
]
