"""Datasets, ready for PyG."""

from pyg_schnet.datasets.md17 import MD17
from pyg_schnet.datasets.smiles import from_smiles
from pyg_schnet.datasets.splits import random_split

__all__ = ["MD17", "from_smiles", "random_split"]
