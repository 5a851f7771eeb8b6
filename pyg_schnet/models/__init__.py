"""Models: SchNet and what is made of it."""

from pyg_schnet import former_names
from pyg_schnet.fast.tabulated import TabulatedFilters
from pyg_schnet.models.accuracy import TableAccuracy, table_accuracy
from pyg_schnet.models.atomistic import AtomisticModel
from pyg_schnet.models.card import Card
from pyg_schnet.models.checkpoint import read_header, save
from pyg_schnet.models.committee import Committee, CommitteePotential
from pyg_schnet.models.dtnn import DTNN
from pyg_schnet.models.enn_s2s import EnnS2S
from pyg_schnet.models.potential import Potential
from pyg_schnet.models.properties import properties
from pyg_schnet.models.registry import BundledModel, bundled_model, bundled_models
from pyg_schnet.models.resolve import load
from pyg_schnet.models.schnet import SchNet

TabulatedFilters.network = SchNet

__all__ = [
    "DTNN",
    "AtomisticModel",
    "BundledModel",
    "Card",
    "Committee",
    "CommitteePotential",
    "EnnS2S",
    "Potential",
    "SchNet",
    "TableAccuracy",
    "bundled_model",
    "bundled_models",
    "load",
    "properties",
    "read_header",
    "save",
    "table_accuracy",
]

former_names.attach(__name__)
