"""Data of a run as settings describe them: every option reaches what it is for."""

import itertools

import pytest
import torch

from pyg_schnet.command.data import structures
from pyg_schnet.datasets import MD17


class Published(MD17):
    """Frames whose authors published splits."""

    def official_split(self, number=1):
        return {"train": torch.arange(number, number + 40), "test": torch.arange(100, 190)}


@pytest.fixture(scope="module")
def dataset(root):
    return Published(root, "ethanol_xtb", log=False)


def lists(split):
    return {name: part.tolist() for name, part in split.items()}


@pytest.mark.parametrize("gap", [0, 3, 20])
def test_gap_of_a_block_split(dataset, gap):
    split = structures(dataset, "block", 100, 100, gap=gap).split
    owner = {frame: name for name, part in lists(split).items() for frame in part}
    frames = sorted(owner)
    apart = [after - frame for frame, after in itertools.pairwise(frames) if owner[frame] != owner[after]]
    assert gap < min(apart) <= max(1, 2 * gap)


@pytest.mark.parametrize(("name", "first"), [("official", 1), ("official-1", 1), ("official-3", 3)])
def test_number_of_an_official_split(dataset, name, first):
    split = lists(structures(dataset, name, num_val=30).split)
    assert split["train"] == list(range(first, first + 40))
    assert split["test"] == list(range(100, 190))
    assert len(split["val"]) == 30
    assert not set(split["val"]) & {*split["train"], *split["test"]}  # drawn from what is in no part


def test_numbers_and_seeds_of_splits(dataset):
    """The seed of the split and that of the order of examples are two."""
    one, other = (structures(dataset, "random", 64, 32, 48, split_seed=seed, batch_size=16) for seed in (0, 1))
    assert {name: len(part) for name, part in lists(one.split).items()} == {"train": 64, "val": 32, "test": 48}
    assert all(lists(one.split)[name] != lists(other.split)[name] for name in ("train", "val", "test"))
    again = structures(dataset, "random", 64, 32, 48, batch_size=16, seed=1)
    assert lists(again.split) == lists(one.split)
    assert again.examples_of(0, 0).tolist() != one.examples_of(0, 0).tolist()
    few = [lists(structures(dataset, "official", 8, 8, 8, split_seed=seed).split) for seed in (0, 1)]
    assert [[len(part) for part in split.values()] for split in few] == [[8, 8, 8]] * 2
    assert all(few[0][name] != few[1][name] for name in ("train", "val", "test"))
