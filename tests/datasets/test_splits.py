"""Splits do not overlap, are complete and repeatable."""

import pytest
import torch

from pyg_schnet.datasets import random_split


def test_partition():
    split = random_split(50, num_train=30, num_val=5, seed=3)
    assert {name: len(part) for name, part in split.items()} == {"train": 30, "val": 5, "test": 15}
    assert torch.cat(list(split.values())).sort().values.tolist() == list(range(50))


def test_seed():
    first, same, other = (random_split(50, 30, 5, seed)["train"] for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("num_train", "num_val"), [(0, 5), (46, 5), (10, -1)])
def test_impossible_sizes(num_train, num_val):
    with pytest.raises(ValueError, match=f"together at most 50; got {num_train} and {num_val}"):
        random_split(50, num_train, num_val)
