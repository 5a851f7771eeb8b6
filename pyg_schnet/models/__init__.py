"""Models: SchNet and what is made of it."""

from pyg_schnet.models.checkpoint import load, read_header, save
from pyg_schnet.models.potential import Potential
from pyg_schnet.models.schnet import SchNet

__all__ = ["Potential", "SchNet", "load", "read_header", "save"]
