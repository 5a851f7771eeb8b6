"""From a SMILES string to atoms in space (extra ``chem``)."""

from typing import Any

import torch
from torch_geometric.data import Data
from torch_geometric.utils import from_rdmol


def from_smiles(smiles: str, seed: int = 0, optimize: bool = True) -> Data:
    """A molecule with all hydrogens in three dimensions, by RDKit's distance geometry (ETKDGv3).

    Args:
        smiles: The molecule.
        seed: Seed of the conformer; the same seed gives the same conformer.
        optimize: True to relax the conformer in the MMFF94 force field (UFF where that has no parameters).

    Returns:
        ``z`` [N], ``pos`` [N, 3] in Angstrom, ``smiles``, the net ``charge`` [1] and the ``multiplicity`` [1] (one
        more than there are radical electrons), both int64, and PyG's features of atoms and bonds: ``x`` [N, 9],
        ``edge_index`` [2, bonds], ``edge_attr`` [bonds, 3] (type, stereo, conjugation). The models of this package
        search their own neighbours and do not look at the bonds.

    Raises:
        ImportError: If RDKit is not installed.
        TypeError: If ``smiles`` is no string.
        ValueError: If it is no valid molecule, or no conformer is found.

    Example:
        >>> ethanol = from_smiles("CCO")
        >>> ethanol.z.tolist(), ethanol.pos.shape
        ([6, 6, 8, 1, 1, 1, 1, 1, 1], torch.Size([9, 3]))
    """
    try:
        from rdkit import Chem, RDLogger  # noqa: PLC0415
        from rdkit.Chem import rdDistGeom, rdForceFieldHelpers  # noqa: PLC0415
    except ImportError as error:
        raise ImportError('from_smiles needs RDKit; install it with pip install "pyg_schnet[chem]"') from error
    if not isinstance(smiles, str):
        raise TypeError(f"`smiles` must be a string, got {type(smiles).__name__}")
    with _quiet(RDLogger):
        molecule = Chem.MolFromSmiles(smiles)
        if molecule is None or molecule.GetNumAtoms() == 0 or any(a.GetAtomicNum() == 0 for a in molecule.GetAtoms()):
            raise ValueError(f"`smiles` must be a valid molecule such as 'CCO', got {smiles!r}")
        if (fragments := len(Chem.GetMolFrags(molecule))) > 1:
            raise ValueError(f"`smiles` must be one molecule, got {smiles!r} with {fragments}; build each by itself")
        molecule = Chem.AddHs(molecule)
        options: Any = rdDistGeom.ETKDGv3()
        options.randomSeed = seed
        if rdDistGeom.EmbedMolecule(molecule, options) == -1:
            options.useRandomCoords = True  # for cages and large rings, as RDKit recommends
            if rdDistGeom.EmbedMolecule(molecule, options) == -1:
                raise ValueError(f"found no conformer of {smiles!r}; try another `seed`")
        if optimize:
            _relax(molecule, rdForceFieldHelpers)
    data = from_rdmol(molecule)
    data.smiles = smiles
    data.charge = torch.tensor([Chem.GetFormalCharge(molecule)])
    data.multiplicity = torch.tensor([1 + sum(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms())])
    data.z = torch.tensor([atom.GetAtomicNum() for atom in molecule.GetAtoms()])
    pos = molecule.GetConformer().GetPositions()
    data.pos = torch.as_tensor(pos, dtype=torch.get_default_dtype())
    return data


def _relax(molecule: Any, fields: Any) -> None:
    if molecule.GetNumAtoms() == 1:
        return
    if fields.MMFFHasAllMoleculeParams(molecule):
        fields.MMFFOptimizeMolecule(molecule, maxIters=2000)
    elif fields.UFFHasAllMoleculeParams(molecule):
        fields.UFFOptimizeMolecule(molecule, maxIters=2000)


class _quiet:  # noqa: N801
    """No messages of RDKit's parser: what is wrong is said once, by us."""

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def __enter__(self) -> None:
        self.logger.DisableLog("rdApp.*")

    def __exit__(self, *_: Any) -> None:
        self.logger.EnableLog("rdApp.error")
        self.logger.EnableLog("rdApp.warning")
