"""Datasets, ready for PyG."""

from pyg_schnet import former_names
from pyg_schnet.datasets.group_split import group_split
from pyg_schnet.datasets.iso17 import ISO17
from pyg_schnet.datasets.loader import StructureLoader
from pyg_schnet.datasets.materials_project import MaterialsProject
from pyg_schnet.datasets.md17 import MD17
from pyg_schnet.datasets.qm9 import QM9
from pyg_schnet.datasets.sequence import as_dataset
from pyg_schnet.datasets.smiles import from_smiles
from pyg_schnet.datasets.splits import Split, block_split, k_fold, load_split, paper_split, random_split, save_split
from pyg_schnet.datasets.survey import survey
from pyg_schnet.datasets.surveyed import Survey
from pyg_schnet.datasets.trajectory import Trajectory

__all__ = [
    "ISO17",
    "MD17",
    "QM9",
    "MaterialsProject",
    "Split",
    "StructureLoader",
    "Survey",
    "Trajectory",
    "as_dataset",
    "block_split",
    "from_smiles",
    "group_split",
    "k_fold",
    "load_split",
    "paper_split",
    "random_split",
    "save_split",
    "survey",
]

former_names.attach(__name__)
