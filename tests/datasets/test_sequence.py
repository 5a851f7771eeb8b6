"""Whatever holds structures is a dataset."""

import numpy as np
import pytest
import torch
import torch.utils.data
from torch.utils.data import ConcatDataset, Subset
from torch_geometric.data import Batch, Data, HeteroData, InMemoryDataset

from pyg_schnet.datasets import (
    ISO17,
    MD17,
    QM9,
    MaterialsProject,
    StructureLoader,
    as_dataset,
    block_split,
    k_fold,
    load_split,
    random_split,
    save_split,
)
from pyg_schnet.datasets.sequence import in_memory
from pyg_schnet.datasets.summary import describe
from pyg_schnet.datasets.targets import Target, find_target
from pyg_schnet.transforms import RadiusGraph


def structures(count=6):
    return [
        Data(z=torch.arange(1, n + 2), pos=n + torch.rand(n + 1, 3), energy=torch.tensor([float(n)]), name=f"s{n}")
        for n in range(count)
    ]


class Lazy:
    """Neither a list nor a dataset: a length and positions."""

    def __init__(self, held):
        self.held = held

    def __len__(self):
        return len(self.held)

    def __getitem__(self, position):
        return self.held[position]


class Own(Lazy, torch.utils.data.Dataset):
    """A dataset of torch."""


class Stored(InMemoryDataset):
    """A dataset of PyG."""

    def __init__(self, held):
        super().__init__(None)
        self._data, self.slices = self.collate(held)


def _array(held):
    made = np.empty(len(held), dtype=object)
    made[:] = held
    return made


WAYS = {
    "list": lambda held: held,
    "tuple": tuple,
    "generator": lambda held: (one for one in held),
    "batch": Batch.from_data_list,
    "sequence": Lazy,
    "torch": Own,
    "PyG": Stored,
    "Subset of a list": lambda held: Subset([*held[::-1], held[0]], range(len(held) - 1, -1, -1)),
    "nested Subset": lambda held: Subset(Subset(Stored(held[::-1]), [5, 4, 3, 2, 1, 0]), torch.arange(6)),
    "Subset with negative positions": lambda held: Subset(Stored(held), np.array([0, 1, 2, 3, 4, -1])),
    "ConcatDataset": lambda held: ConcatDataset([held[:2], Stored(held[2:5]), Own(held[5:])]),
    "Subset of ConcatDataset": lambda held: Subset(
        ConcatDataset([held[3:], Subset(held, [0, 1, 2])]), [3, 4, 5, 0, 1, 2]
    ),
    "array": _array,
}


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_hold_structures(way, tmp_path):
    held = structures()
    given = WAYS[way](held)
    dataset = as_dataset(given)
    assert as_dataset(dataset) is dataset
    assert len(dataset) == 6
    assert getattr(dataset, "units", {}) == {}
    for number, one in enumerate(held):
        assert torch.equal(dataset[number].pos, one.pos)
        assert dataset[number].name == one.name
    part = dataset[torch.tensor([4, 1])]
    assert [float(one.energy) for one in part] == [4.0, 1.0]
    assert [float(one.energy) for one in dataset[1:3]] == [1.0, 2.0]
    batches = list(StructureLoader(dataset, batch_size=4))
    assert [batch.num_graphs for batch in batches] == [4, 2]
    assert torch.equal(torch.cat([batch.pos for batch in batches]), torch.cat([one.pos for one in held]))
    assert find_target(dataset, "energy") == Target("energy", "energy", None, "")
    split = random_split(dataset, 3, 1)
    assert load_split(save_split(tmp_path / "split.npz", split, dataset), dataset)["train"].equal(split["train"])
    assert describe(in_memory(dataset))["structures"] == 6


@pytest.mark.parametrize(
    "way", [way for way in WAYS if way not in {"PyG", "nested Subset", "Subset with negative positions"}]
)
def test_what_is_done_to_a_structure_is_not_done_to_the_dataset(way):
    held = structures()
    dataset = as_dataset(WAYS[way](held))
    expected = dataset[5].pos.clone()
    one = dataset[5]
    one.pos += 1.0
    one.energy.zero_()
    for batch in StructureLoader(dataset, batch_size=1):
        batch.pos += 1.0
    assert torch.equal(dataset[5].pos, expected)
    assert float(dataset[5].energy) == 5.0
    assert torch.equal(held[5].pos, expected)


def test_lists_are_collated_once():
    assert StructureLoader(structures(), 2).why_slow is None
    assert StructureLoader(structures()[:1], 2).why_slow is None
    assert "InMemoryDataset" in StructureLoader(Lazy(structures()), 2).why_slow


def test_splits_take_datasets():
    held = structures()
    assert random_split(held, 3, 1)["train"].tolist() == random_split(6, 3, 1)["train"].tolist()
    assert random_split(np.int64(6), 3, 1)["val"].tolist() == random_split(6, 3, 1)["val"].tolist()
    assert [len(split["test"]) for split in k_fold(Subset(held, [0, 1, 2]), 3)] == [1, 1, 1]
    assert len(block_split(held * 10, 10, 10, gap=1)["train"]) == 10


def test_a_split_of_other_structures_is_refused(tmp_path):
    held = structures()
    path = save_split(tmp_path / "split.npz", random_split(held, 3, 1), held)
    other = structures()
    with pytest.raises(ValueError, match="give the dataset it was made for"):
        load_split(path, other)
    assert len(load_split(path, list(held))["train"]) == 3


def test_parts_keep_their_units(tmp_path):
    frames = MD17(tmp_path, "ethanol_xtb", log=False)[:4]
    whole = as_dataset(ConcatDataset([frames, Subset(frames, [1])]))
    assert whole.units == frames.units
    assert find_target(whole, "energy").unit == "eV"
    assert float(whole[4].energy) == float(frames[1].energy)
    assert StructureLoader(ConcatDataset([frames, frames]), 3).why_slow is None


def test_parts_in_different_units_are_refused():
    one, other = as_dataset(structures()), as_dataset(structures())
    one.units, other.units = {"energy": "eV"}, {"energy": "eV/atom"}
    with pytest.raises(ValueError, match="`energy` is in eV in one dataset and in eV/atom in another"):
        as_dataset(ConcatDataset([one, other]))


def test_datasets_of_different_kinds(tmp_path):
    parts = [
        MD17(tmp_path, "ethanol_xtb", log=False)[:2],
        QM9(tmp_path, "bundled", log=False)[:2],
        MaterialsProject(tmp_path, "bundled", log=False)[:2],
        ISO17(tmp_path, name="bundled", log=False)[:2],
    ]
    whole = as_dataset(ConcatDataset(parts))
    assert len(whole) == 8
    assert [bool(data.pbc.any()) for data in whole] == [False] * 4 + [True] * 2 + [False] * 2
    assert [bool(data.energy.isnan()) for data in whole] == [False] * 2 + [True] * 4 + [False] * 2
    target = find_target(whole, "U0")
    values = torch.cat([target.values(data) for data in whole])
    assert torch.equal(values[2:4], torch.cat([data.y[:, 7] for data in parts[1]]))
    assert values.isnan().tolist() == [True] * 2 + [False] * 2 + [True] * 4
    assert torch.equal(whole[4].cell, parts[2][0].cell)
    assert next(iter(StructureLoader(whole, 8))).material_id[3:5] == [None, parts[2][0].material_id]


def test_a_transform_of_a_part_is_applied_at_each_access():
    part = Stored(structures())
    part.transform = RadiusGraph(2.0)
    whole = as_dataset(ConcatDataset([part, part]))
    assert "edge_index" in whole[7]
    assert "edge_index" in next(iter(StructureLoader(whole, 12)))


def test_structures_with_different_keys():
    held = structures()
    held[2].cell, held[2].pbc = torch.eye(3)[None], torch.ones(1, 3, dtype=torch.bool)
    del held[4].energy
    dataset = as_dataset(held)
    assert dataset[4].energy.isnan().tolist() == [True]
    assert dataset[0].pbc.tolist() == [[False, False, False]]
    assert dataset[2].pbc.tolist() == [[True, True, True]]


def test_other_kinds_of_data_keep_their_kind():
    hetero = [HeteroData(atom={"x": torch.rand(n, 2)}) for n in (2, 3)]
    assert isinstance(as_dataset(hetero)[0], HeteroData)
    plain = [Data(x=torch.rand(n, 2)) for n in (2, 3)]
    assert next(iter(StructureLoader(plain, 2))).x.shape == (5, 2)


@pytest.mark.parametrize(
    ("given", "kind"),
    [(3, "int"), ("file.xyz", "str"), ({"a": 1}, "dict"), (torch.zeros(3), "Tensor"), ([1], "int"), (None, "NoneType")],
)
def test_what_holds_no_structures(given, kind):
    with pytest.raises(TypeError, match=f"expected a dataset of Data, got {kind}"):
        as_dataset(given)
    with pytest.raises(TypeError, match="got StructureLoader; pass its dataset"):
        as_dataset(StructureLoader(structures()))


def test_none_and_one():
    assert len(as_dataset([])) == 0
    assert list(StructureLoader([], 2)) == []
    assert len(as_dataset(structures()[0])) == 1
    with pytest.raises(ValueError, match="has no target 'energy', it has none"):
        find_target([], "energy")
