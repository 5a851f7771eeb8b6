"""What print(dataset) says."""

import torch
from torch_geometric.data import Data, InMemoryDataset

from pyg_schnet.datasets import MD17
from pyg_schnet.datasets.summary import describe, summary


class InMemory(InMemoryDataset):
    def __init__(self, structures):
        super().__init__(None)
        self.data, self.slices = self.collate(structures)


def test_bundled_trajectory(tmp_path):
    dataset = MD17(tmp_path, "ethanol_xtb", log=False)
    lines = str(dataset).splitlines()
    assert lines[0] == "MD17 ethanol_xtb: 2,000 structures of 9 atoms; elements H C O"
    assert [line.split() for line in lines[1:5]] == [
        ["z", "[9]", "int64"],
        ["pos", "[9,", "3]", "float32", "Ang"],
        ["energy", "[1]", "float64", "eV"],
        ["forces", "[9,", "3]", "float32", "eV/Ang"],
    ]
    assert repr(dataset) == "MD17(ethanol_xtb, 2,000 structures, energy [eV], forces [eV/Ang])"
    # z, pos, forces, energy, and where the structures begin: of atoms and of energies, at most one of each key
    tensors = 18000 * 8 + 2 * 54000 * 4 + 2000 * 8
    assert tensors + 2 * 2001 * 8 <= describe(dataset)["bytes"] <= tensors + 4 * 2001 * 8
    assert "licence: " in str(dataset)
    assert "citation: " in str(dataset)


def test_subset(tmp_path):
    subset = MD17(tmp_path, "ethanol_xtb", log=False)[[3, 1, 1]]
    assert str(subset).startswith("MD17 ethanol_xtb: 3 structures (a subset of 2,000) of 9 atoms")
    assert "shared by all subsets" in str(subset)
    assert repr(subset).startswith("MD17(ethanol_xtb, 3 structures")


def test_mixture():
    """Elements and sizes of a subset are its own."""
    made = [
        Data(z=torch.full((n,), n), pos=torch.rand(n, 3), cell=torch.eye(3)[None], name="a", y=torch.rand(1, 19))
        for n in (1, 6, 8)
    ]
    whole = InMemory(made)
    assert summary(whole).splitlines()[0] == "InMemory: 3 structures of 1 to 8 atoms; elements H C O"
    about = describe(whole[1:])
    assert (about["atoms"], about["elements"], about["structures"]) == ([6, 8], [6, 8], 2)
    assert about["keys"]["pos"]["shape"] == ["n", 3]
    assert about["keys"]["cell"]["shape"] == [1, 3, 3]
    assert about["keys"]["y"]["shape"] == [1, 19]
    assert about["keys"]["name"]["dtype"] == "str"
    assert "0 structures (a subset of 3)" in summary(whole[:0])


def test_single_and_without_atoms():
    assert summary(InMemory([Data(z=torch.tensor([1, 8]), pos=torch.rand(2, 3))])).startswith(
        "InMemory: 1 structures of 2 atoms; elements H O"
    )
    assert "elements none" in summary(InMemory([Data(x=torch.rand(2, 3)), Data(x=torch.rand(1, 3))]))
