"""Splits do not overlap, are complete and repeatable; stored ones are those of their dataset."""

import json

import numpy as np
import pytest
import torch

from pyg_schnet.datasets import (
    MD17,
    Split,
    block_split,
    k_fold,
    load_split,
    paper_split,
    random_split,
    save_split,
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return MD17(tmp_path_factory.mktemp("md17"), "ethanol_xtb", log=False)


def sizes(split):
    return {name: len(part) for name, part in split.items()}


def test_partition():
    split = random_split(50, num_train=30, num_val=5, seed=3)
    assert sizes(split) == {"train": 30, "val": 5, "test": 15}
    assert torch.cat(list(split.values())).sort().values.tolist() == list(range(50))


def test_seed():
    first, same, other = (random_split(50, 30, 5, seed)["train"] for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("num_train", "num_val"), [(0, 5), (46, 5), (10, -1)])
def test_impossible_sizes(num_train, num_val):
    with pytest.raises(ValueError, match=f"together at most 50; got {num_train} and {num_val}"):
        random_split(50, num_train, num_val)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train": [0, 1], "val": [1, 2]}, "'train' and 'val' of the split overlap in 1 example; every example"),
        ({"train": [0, 1, 1]}, "'train' of the split has 1 example twice"),
        ({"train": [0, 10]}, "positions from 0 to 10, expected them between 0 and 9"),
        ({"train": [-1, 3]}, "positions from -1 to 3"),
        ({"train": [0.5]}, "must be positions"),
        ({"train": [True, False]}, "must be positions"),
        ({"train": [[1, 2]]}, "must be positions"),
    ],
    ids=str,
)
def test_impossible_splits(parts, message):
    with pytest.raises(ValueError, match=message):
        Split({name: torch.tensor(part) for name, part in parts.items()}, size=10)


@pytest.mark.parametrize(
    ("name", "size", "num_train", "expected"),
    [
        ("QM9", 130_831, None, (110_000, 10_000, 10_831)),
        ("materials_project", 69_640, None, (60_000, 4_500, 5_140)),
        ("md17", 3_000, None, (1_000, 1_000, 1_000)),
        ("MD17", 555_092, 50_000, (50_000, 1_000, 504_092)),
    ],
)
def test_splits_of_the_paper(name, size, num_train, expected):
    """J. Chem. Phys. 148, 241722 (2018), sections III.A to III.C."""
    split = paper_split(name, size, seed=1, num_train=num_train)
    assert tuple(sizes(split).values()) == expected
    assert torch.equal(split["val"], random_split(size, expected[0], expected[1], seed=1)["val"])


def test_split_of_the_paper_for_a_dataset(dataset):
    with pytest.raises(ValueError, match="takes 1000 examples of MD17 to train, 1000 .* but there are 2000"):
        paper_split(dataset)

    class QM9(list):
        pass

    with pytest.raises(ValueError, match="takes 110000 examples of QM9"):
        paper_split(QM9([1, 2, 3]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"dataset": "iso17", "size": 10**6},
            "no random split of 'iso17'; expected one of QM9, MaterialsProject, MD17",
        ),
        ({"dataset": "QM9"}, "`size` is needed"),
        ({"dataset": "MD17", "size": 10**5, "num_train": 2000}, "trains on 1000 or 50000 examples of MD17, got 2000"),
        ({"dataset": "QM9", "size": 12_783}, "takes 110000 .* but there are 12783; use random_split"),
    ],
    ids=str,
)
def test_splits_the_paper_has_not(arguments, message):
    with pytest.raises(ValueError, match=message):
        paper_split(**arguments)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("size", "gap", "blocks"), [(1000, 0, 10), (1000, 20, 10), (997, 40, 12), (400, 5, 40)])
def test_blocks_are_apart(size, gap, blocks, seed):
    split = block_split(size, size // 4, size // 10, gap=gap, blocks=blocks, seed=seed)
    assert sizes(split)["train"] == size // 4
    owner = torch.full((size,), -1)
    for number, part in enumerate(split.values()):
        owner[part] = number
    used = (owner >= 0).nonzero().flatten()
    changes = owner[used].diff() != 0
    assert int(used.diff()[changes].min()) > gap
    assert torch.equal(
        split["test"], block_split(size, size // 4, size // 10, gap=gap, blocks=blocks, seed=seed)["test"]
    )


def test_seeds_of_blocks():
    """Which runs belong to which part, and which frames are drawn of them."""
    splits = [block_split(1000, 30, 30, gap=10, num_test=30, seed=seed) for seed in range(6)]
    for name in ("train", "val", "test"):
        assert len({tuple((split[name] // 100).unique().tolist()) for split in splits}) > 1
        # 30 of the 90 frames of a run or more: neither the first of them nor always the same
        assert len({tuple((split[name] % 100).tolist()) for split in splits}) == len(splits)
        assert all(int(split[name].diff().max()) > 1 for split in splits)
    assert all(len((split["train"] // 100).unique()) > 1 for split in splits)  # of all runs that are free


def test_blocks_against_leakage():
    """On a random walk the nearest training frame tells a random test frame, not one of a block split."""
    walk = torch.randn(5000, generator=torch.Generator().manual_seed(0)).cumsum(0)

    def error(split):
        train, test = walk[split["train"]], walk[split["test"]]
        nearest = (split["test"][:, None] - split["train"]).abs().argmin(1)
        return float((train[nearest] - test).abs().mean())

    blocked = block_split(5000, 1000, 200, gap=100, num_test=500)
    # a step has size 1 and random neighbours are some 2 steps away; blocks are 100 and more: a tenth is far below
    assert error(random_split(5000, 1000, 200)) < 0.3 * error(blocked)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_train": 900, "num_val": 50, "gap": 10}, "too few for parts of 900, 50 and at least 1"),
        ({"num_train": 10, "num_val": 5, "gap": 100}, "have 0 in each block"),
        ({"num_train": 10, "num_val": 0, "gap": 1}, "at least 1 example in each part"),
        ({"num_train": 10, "num_val": 5, "gap": -1}, "`gap` at least 0"),
        ({"num_train": 10, "num_val": 5, "gap": 1, "blocks": 2}, "3 `blocks` or more"),
    ],
    ids=str,
)
def test_impossible_blocks(arguments, message):
    with pytest.raises(ValueError, match=message):
        block_split(1000, **arguments)


def test_folds():
    splits = k_fold(103, folds=5, num_val=10, seed=2)
    assert torch.cat([split["test"] for split in splits]).sort().values.tolist() == list(range(103))
    for split in splits:
        assert torch.cat(list(split.values())).sort().values.tolist() == list(range(103))
        assert len(split["val"]) == 10


@pytest.mark.parametrize(("size", "folds", "num_val"), [(10, 1, 0), (3, 4, 0), (10, 2, 5), (10, 2, -1)])
def test_impossible_folds(size, folds, num_val):
    with pytest.raises(ValueError, match=f"got {folds} folds and {num_val} validation examples of {size}"):
        k_fold(size, folds, num_val)


def test_stored_with_the_results(dataset, tmp_path):
    split = random_split(2000, 1000, 500, seed=4)
    loaded = load_split(save_split(tmp_path / "split.npz", split, dataset), dataset)
    assert loaded.made == {"method": "random_split", "seed": 4}
    assert loaded.keys() == split.keys()
    assert all(torch.equal(loaded[name], split[name]) for name in split)
    with np.load(tmp_path / "split.npz") as file:  # plain arrays, for other programs
        assert json.loads(str(file["about"]))["dataset"] == "MD17/ethanol_xtb"
        assert len(file["train"]) == 1000


def test_split_of_another_dataset_is_refused(dataset, tmp_path):
    path = save_split(tmp_path / "split.npz", random_split(100, 50, 10), dataset[:100])
    assert sizes(load_split(path, dataset[:100])) == {"train": 50, "val": 10, "test": 40}
    for other in (dataset, dataset[100:200]):
        with pytest.raises(ValueError, match="splits the 100 examples of MD17/ethanol_xtb subset .*, got the"):
            load_split(path, other)


def test_split_that_does_not_fit_is_not_stored(dataset, tmp_path):
    with pytest.raises(ValueError, match="is the split of another dataset"):
        save_split(tmp_path / "split.npz", random_split(3000, 50, 10), dataset)
    assert not list(tmp_path.iterdir())


def test_changed_positions_are_noticed(dataset, tmp_path):
    path = save_split(tmp_path / "split.npz", random_split(2000, 1000, 500), dataset)
    with np.load(path) as file:
        arrays = dict(file)
    arrays["val"] = arrays["val"].copy()
    arrays["val"][0] = arrays["train"][0]
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="do not have the checksum stored with them"):
        load_split(path)


@pytest.mark.parametrize(("one", "other"), [("test", "train"), ("train", "val")])
def test_examples_that_moved_to_the_next_part_are_noticed(dataset, tmp_path, one, other):
    """All positions in the order they had, with another border between two parts; and two parts with their names."""
    path = save_split(tmp_path / "split.npz", random_split(2000, 900, 900), dataset)
    with np.load(path) as file:
        stored = dict(file)
    moved = {one: stored[one][:-1], other: np.concatenate([stored[one][-1:], stored[other]])}
    for arrays in (moved, {one: stored[other], other: stored[one]}):
        np.savez(path, **(stored | arrays))
        with pytest.raises(ValueError, match="do not have the checksum stored with them"):
            load_split(path)


def test_damaged_files(dataset, tmp_path):
    """Truncated anywhere or with any byte flipped, a file is refused in a sentence or gives the very same split."""
    path = save_split(tmp_path / "split.npz", random_split(2000, 100, 50), dataset)
    content, split = path.read_bytes(), load_split(path)
    rng = np.random.default_rng(0)
    damaged = [content[:end] for end in rng.integers(len(content), size=60)] + [b"", b"PK", b"\x93NUMPY"]
    for place in rng.integers(len(content), size=150):
        flipped = bytearray(content)
        flipped[place] ^= int(rng.integers(1, 256))
        damaged.append(bytes(flipped))
    refused = 0
    for one in damaged:
        path.write_bytes(one)
        try:
            loaded = load_split(path)
        except ValueError as error:
            refused += str(path) in str(error)
        else:
            assert all(torch.equal(loaded[name], split[name]) for name in split)
    assert refused > 100  # the flipped bytes that remain lie between the arrays
    np.savez(path, train=np.arange(3))  # of another program
    with pytest.raises(ValueError, match="is not a split written by save_split"):
        load_split(path)
