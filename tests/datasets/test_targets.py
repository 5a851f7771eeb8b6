"""Targets by name: columns of ``y``, keys of their own, and what is said when there is none."""

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data, InMemoryDataset

from pyg_schnet.datasets import MD17, QM9, MaterialsProject
from pyg_schnet.datasets.qm9 import TARGET_UNITS
from pyg_schnet.datasets.targets import Target, find_target


class Plain(InMemoryDataset):
    """A dataset of PyG's own kind, without names of columns or units."""

    def __init__(self, structures):
        super().__init__(None)
        self.data, self.slices = self.collate(structures)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def qm9(folder):
    return QM9(folder, "bundled", log=False)


def test_columns_of_qm9(qm9):
    batch = Batch.from_data_list([qm9[3], qm9[50]])
    for column, (name, unit) in enumerate(TARGET_UNITS.items()):
        target = find_target(qm9, name)
        assert target == Target(name, "y", column, unit)
        assert torch.equal(target.values(batch), batch.y[:, column])
    assert find_target(qm9, "U0").values(qm9[3]).tolist() == qm9[3].y[0, [7]].tolist()
    assert find_target(qm9[torch.arange(5)], "U0") == find_target(qm9, "U0")


def test_qm9_with_one_target(folder, qm9):
    one = QM9(folder, "bundled", target="U0", log=False)
    assert find_target(one, "U0") == Target("U0", "y", 0, "eV")
    assert find_target(one, "U0").values(one[3]).tolist() == qm9[3].y[0, [7]].tolist()
    with pytest.raises(ValueError, match="was opened with the target 'U0' only; open it with 'gap' or with all"):
        find_target(one, "gap")


def test_keys_of_their_own(folder):
    crystals = MaterialsProject(folder, "bundled", log=False)
    assert find_target(crystals, "formation_energy") == Target("formation_energy", "formation_energy", None, "eV/atom")
    frames = MD17(folder, "ethanol_xtb", log=False)
    target = find_target(frames, "energy")
    assert target == Target("energy", "energy", None, "eV")
    assert torch.equal(target.values(frames[7]), frames[7].energy)


@pytest.mark.parametrize("shape", [(1,), (1, 1), ()])
def test_any_dataset(shape):
    """One number for each structure, however it is kept; no unit where none is known."""
    structures = [Data(z=torch.tensor([1]), pos=torch.zeros(1, 3), gap=torch.full(shape, float(k))) for k in range(3)]
    target = find_target(Plain(structures), "gap")
    assert target == Target("gap", "gap", None, "")
    assert target.values(Batch.from_data_list(structures)).tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("U00", "QM9 has no target 'U00', it has mu, alpha, .*, C, gdb; did you mean 'U0'"),
        ("u0", "did you mean 'U0'"),
        ("U0_atoms", "did you mean 'U0_atom'"),
        ("y", "QM9 has no target 'y'"),
        ("pos", "QM9 has no target 'pos'"),
        ("nothing of the kind", "C, gdb$"),
    ],
)
def test_unknown_target(qm9, name, message):
    with pytest.raises(ValueError, match=message):
        find_target(qm9, name)


def test_values_that_are_not_one_a_structure(qm9):
    batch = Batch.from_data_list([qm9[0], qm9[9]])
    with pytest.raises(ValueError, match=r"`pos` must have one value for each of the 2 structures, .*, got \[\d+, 3\]"):
        Target("pos", "pos", None, "").values(batch)
    with pytest.raises(ValueError, match="the data have no `charge`; they have batch, gdb, pos, ptr, y, z"):
        Target("charge", "charge", None, "").values(batch)


def test_an_array_is_named():
    structures = [Data(z=torch.tensor([1]), pos=torch.zeros(1, 3), gap=np.ones(1))]
    with pytest.raises(ValueError, match="the target 'gap' is a ndarray, expected a tensor or number"):
        find_target(structures, "gap")
