"""Data of a run as a file of settings describes them."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Dataset

from pyg_schnet.datasets import Split, block_split, load_split, paper_split, random_split
from pyg_schnet.training import SplitDataModule

#: Settings that may be paths.
_PATHS = {"root", "path", "source", "split"}
#: Ways to split; anything else is the path of a file written by ``save_split``.
SPLITS = ("random", "paper", "block", "official", "official-1", "official-2", "official-3", "official-4", "official-5")


def structures(
    dataset: Dataset,
    split: str = "random",
    num_train: int | None = None,
    num_val: int | None = None,
    num_test: int | None = None,
    split_seed: int = 0,
    gap: int = 0,
    batch_size: int = 32,
    seed: int = 0,
    device: str | None = None,
    tests: dict[str, Dataset] | None = None,
) -> SplitDataModule:
    """Structures and how they are split.

    Args:
        dataset: The dataset, by class and arguments.
        split: ``"random"``; ``"paper"`` with the numbers of the paper; ``"block"`` for parts of a trajectory without
            neighbouring frames; ``"official"`` or ``"official-2"`` for what the authors of revised MD17 and ISO17
            published; or the path of a ``split.npz``.
        num_train: Number of training examples.
        num_val: Number of validation examples. Beside official splits without validation they are drawn from what is
            in no part.
        num_test: Number of test examples, drawn from the rest; ``None`` for all of it.
        split_seed: Seed of the split; the same for all members of a committee.
        gap: Frames left out between the parts of a block split.
        batch_size: Examples in a mini-batch, over all processes.
        seed: Seed of the order of the training examples.
        device: Where batches are assembled, for example ``"cuda"``.
        tests: Further datasets to test on, by name.

    Returns:
        The data module of the run; ``None`` where no data are needed.

    Raises:
        ValueError: If there is no such split, or there are not enough examples.
    """
    if dataset is None:  # the command line leaves it out, and does without what it gets here
        return None  # type: ignore[return-value]
    parts = _split(dataset, split, num_train, num_val, split_seed, gap)
    if num_test is not None:
        parts = _fewer_tests(parts, num_test, split_seed)
    return SplitDataModule(dataset, parts, batch_size, seed, device, tests)


def with_absolute_paths(settings: Any) -> Any:
    """Settings of data that mean the same from every folder.

    Args:
        settings: Settings, or a part of them.

    Returns:
        The same with absolute paths of datasets, their files and splits.
    """
    if isinstance(settings, list):
        return [with_absolute_paths(one) for one in settings]
    if not isinstance(settings, dict):
        return settings
    found = {name: with_absolute_paths(value) for name, value in settings.items()}
    for name in _PATHS & found.keys():
        given = found[name]
        every = [_absolute(one, name) for one in (given if isinstance(given, list) else [given])]
        found[name] = every if isinstance(given, list) else every[0]
    return found


def _absolute(path: Any, name: str) -> Any:
    is_path = isinstance(path, str) and (name == "root" or Path(path).expanduser().exists())
    return str(Path(path).expanduser().absolute()) if is_path else path


def _split(dataset: Dataset, split: str, num_train: int | None, num_val: int | None, seed: int, gap: int) -> Split:
    if split == "paper":
        return paper_split(dataset, seed=seed, num_train=num_train)
    if split.startswith("official"):
        return _official(dataset, split, num_train, num_val, seed)
    if split not in SPLITS:
        if not Path(split).is_file():
            raise ValueError(f"unknown split {split!r}; expected one of {', '.join(SPLITS)} or the path of a split.npz")
        return load_split(split, dataset)
    if num_train is None or num_val is None:
        raise ValueError(
            f"split={split!r} needs numbers of training and validation examples: set `num_train` and `num_val`"
        )
    if num_train + num_val > len(dataset):
        raise ValueError(
            f"there are {len(dataset)} examples, fewer than the {num_train} to train and {num_val} to validate "
            "that are asked for; lower `num_train` or `num_val`"
        )
    if split == "block":
        return block_split(len(dataset), num_train, num_val, gap=gap, seed=seed)
    return random_split(len(dataset), num_train, num_val, seed)


def _official(dataset: Dataset, split: str, num_train: int | None, num_val: int | None, seed: int) -> Split:
    if not hasattr(dataset, "official_split"):
        raise ValueError(f"{type(dataset).__name__} has no official split; choose 'random'")
    number = split.removeprefix("official").removeprefix("-")
    if number and not number.isdigit():
        raise ValueError(f"unknown split {split!r}; expected 'official' or, for the second one, 'official-2'")
    parts = dict(dataset.official_split(int(number)) if number else dataset.official_split())
    if num_train is not None and num_train != len(parts["train"]):
        parts["train"] = _drawn(parts["train"], num_train, "training", seed)
    if "val" not in parts:
        taken = torch.zeros(len(dataset), dtype=torch.bool)
        taken[torch.cat(list(parts.values()))] = True
        parts["val"] = _drawn((~taken).nonzero().flatten(), num_val or 1000, "validation", seed)
    elif num_val is not None:
        parts["val"] = _drawn(parts["val"], num_val, "validation", seed)
    return Split(parts, len(dataset), method=split, seed=seed)


def _drawn(positions: Tensor, number: int, kind: str, seed: int) -> Tensor:
    if number > len(positions):
        raise ValueError(f"there are {len(positions)} examples for the {kind} set, fewer than the {number} asked for")
    order = torch.randperm(len(positions), generator=torch.Generator().manual_seed(seed))
    return positions[order[:number]].sort().values


def _fewer_tests(parts: Split, num_test: int, seed: int) -> Split:
    rest = parts.get("test", torch.empty(0, dtype=torch.long))
    drawn = {"test": _drawn(rest, num_test, "test", seed)}
    return Split(dict(parts) | drawn, **(parts.made | {"num_test": num_test}))
