"""Data of a run as a file of settings describes them."""

import glob
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Dataset

from pyg_schnet.datasets import Split, block_split, load_split, paper_split, random_split
from pyg_schnet.datasets.group_split import group_split, groups_of
from pyg_schnet.datasets.held_out import training_on_atoms, without_copies
from pyg_schnet.training import SplitDataModule
from pyg_schnet.training.say import say

#: Settings that may be paths.
_PATHS = {"root", "path", "val", "test", "table", "source", "split"}
#: Ways to split; anything else is the path of a file written by ``save_split``.
SPLITS = (
    "random",
    "paper",
    "block",
    "group",
    "files",
    "official",
    "official-1",
    "official-2",
    "official-3",
    "official-4",
    "official-5",
)
#: Those that are made here; the others were published, or are known from a run.
_DRAWN = {"random", "block", "group", "files"}


def structures(
    dataset: Dataset,
    split: str = "random",
    num_train: int | float | None = None,
    num_val: int | float | None = None,
    num_test: int | float | None = None,
    split_seed: int = 0,
    gap: int = 0,
    blocks: int = 10,
    group_key: str | None = None,
    batch_size: int = 32,
    seed: int = 0,
    device: str | None = None,
    tests: dict[str, Dataset] | None = None,
) -> SplitDataModule:
    """Structures and how they are split.

    Args:
        dataset: The dataset, by class and arguments.
        split: ``"random"``; ``"paper"`` with the numbers of the paper; ``"block"`` for parts of a trajectory without
            neighbouring frames; ``"group"`` for whole molecules or materials in one part; ``"files"`` for the files
            that the dataset has for each part (``path``, ``val``, ``test``); ``"official"`` or ``"official-2"`` for
            what the authors of revised MD17 and ISO17 published; or the path of a ``split.npz``.
        num_train: Number of training examples; a number between 0 and 1 is a share of all examples.
        num_val: Number or share of validation examples. Beside official splits without validation they are drawn from
            what is in no part, beside files without validation in runs of frames from those to train.
        num_test: Number or share of test examples, drawn from the rest; ``None`` for all of it.
        split_seed: Seed of the split; the same for all members of a committee.
        gap: Frames left out between the parts of a block split.
        blocks: Number of runs of frames that a block split cuts the trajectory into.
        group_key: Key of the data with the molecule or material that a structure belongs to, for a group split; groups
            are of one composition without it.
        batch_size: Examples in a mini-batch, over all processes.
        seed: Seed of the order of the training examples.
        device: Where batches are assembled, for example ``"cuda"``.
        tests: Further datasets to test on, by name.

    Splits other than published and stored ones hold out no copies of structures to train with, and no single atoms of
    one's own files, which are all trained with; a line says how many there were.

    Returns:
        The data module of the run; ``None`` where no data are needed.

    Raises:
        ValueError: If there is no such split, or there are not enough examples.
    """
    if dataset is None:  # the command line leaves it out, and does without what it gets here
        return None  # type: ignore[return-value]
    numbers = [_number(one, name, len(dataset)) for one, name in ((num_train, "train"), (num_val, "val"))]
    tested = _number(num_test, "test", len(dataset))
    if split == "block":
        parts = _blocks(len(dataset), (num_train, num_val), numbers, gap, blocks, split_seed)
    elif split == "group":
        parts = group_split(groups_of(dataset, group_key), *_both(split, numbers, len(dataset)), seed=split_seed)
    elif split == "files":
        parts = _files(dataset, numbers, gap, blocks, split_seed)
    else:
        parts = _split(dataset, split, numbers, split_seed)
    if split in _DRAWN:
        parts = _held_out(dataset, parts)
    if tested is not None:
        parts = _fewer_tests(parts, tested, split_seed)
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
    is_path = isinstance(path, str) and (
        name == "root" or bool(glob.glob(str(Path(path).expanduser()), recursive=True))
    )
    return str(Path(path).expanduser().absolute()) if is_path else path


def _number(given: float | None, name: str, size: int) -> int | None:
    """A number of examples, of a number or a share."""
    if given is None or (given >= 1 and given == int(given)):
        return None if given is None else int(given)
    if not 0 <= given < 1:
        raise ValueError(f"`num_{name}` must be a number of examples, or a share of them below 1, got {given}")
    return int(given * size + 1e-9)


def _both(split: str, numbers: list[int | None], size: int) -> tuple[int, int]:
    """Numbers of training and validation examples, as they must be there."""
    num_train, num_val = numbers
    if num_train is None or num_val is None:
        raise ValueError(
            f"split={split!r} needs numbers of training and validation examples: set `num_train` and `num_val`"
        )
    if num_train + num_val > size:
        raise ValueError(
            f"there are {size} examples, fewer than the {num_train} to train and {num_val} to validate "
            "that are asked for; lower `num_train` or `num_val`"
        )
    return num_train, num_val


def _split(dataset: Dataset, split: str, numbers: list[int | None], seed: int) -> Split:
    num_train, num_val = numbers
    if split == "paper":
        return paper_split(dataset, seed=seed, num_train=num_train)
    if split.startswith("official"):
        return _official(dataset, split, num_train, num_val, seed)
    if split not in SPLITS:
        if not Path(split).is_file():
            raise ValueError(f"unknown split {split!r}; expected one of {', '.join(SPLITS)} or the path of a split.npz")
        return load_split(split, dataset)
    return random_split(len(dataset), *_both(split, numbers, len(dataset)), seed)


def _held_out(dataset: Any, parts: Split) -> Split:
    """Without copies of structures to train with, and single atoms, among those to validate and to test on."""
    report = getattr(dataset, "report", None)
    if report is None:
        return parts
    if report.get("duplicates"):
        parts, copies = without_copies(parts, dataset)
        if copies:
            say(f"{copies:,} structures are left out: they are copies of others in another part of the split")
    parts, atoms = training_on_atoms(parts, dataset)
    if atoms:
        say(f"{atoms:,} single atoms are trained with, not held out: they say where energies of the elements begin")
    return parts


def _blocks(size: int, given: tuple[Any, Any], numbers: list[int | None], gap: int, blocks: int, seed: int) -> Split:
    """Runs of frames; a share is one of the runs, less the frames between them that are left out."""
    num_train, num_val = _both("block", numbers, size)
    if any(0 < one < 1 for one in given) and (usable := size // blocks - gap) > 0:
        shares = [one if one >= 1 else max(1, round(one * blocks)) * usable for one in given]
        num_train, num_val = map(int, shares)
    return block_split(size, num_train, num_val, gap=gap, blocks=blocks, seed=seed)


def _files(dataset: Any, numbers: list[int | None], gap: int, blocks: int, seed: int) -> Split:
    """Parts that have files of their own; without one to validate on, runs of the frames to train are taken."""
    if not hasattr(dataset, "file_split"):
        raise ValueError(f"{type(dataset).__name__} has no files for each part; choose another split, such as 'random'")
    parts, (num_train, num_val) = dict(dataset.file_split()), numbers
    train = parts["train"]
    if "val" in parts:
        parts |= {} if num_val is None else {"val": _drawn(parts["val"], num_val, "validation", seed)}
        parts |= {} if num_train is None else {"train": _drawn(train, num_train, "training", seed)}
    else:
        if num_val is None:
            raise ValueError(
                "there is no file to validate on (`val`); set `num_val` to take as many from those to train"
            )
        place = torch.arange(len(train))
        run = place * blocks // max(len(train), 1)
        inside = (place + gap < len(train)) & (run == run[(place + gap).clamp(max=len(train) - 1)])
        inside |= run == blocks - 1  # behind the last run there is nothing to keep away from
        left = len(train[inside]) - num_val if num_train is None else num_train
        within = _runs(run[inside], left, num_val, num_train is None, seed)
        parts |= {name: train[inside][within[name]] for name in ("train", "val")}
    return Split(parts, len(dataset), method="files", seed=seed)


def _runs(run: Tensor, num_train: int, num_val: int, all_of_the_rest: bool, seed: int) -> Split:
    """Whole runs to train and to validate on."""
    if all_of_the_rest:  # whole runs to validate on leave fewer to train
        named = group_split(run, 1, num_val, seed=seed)
        rest = torch.isin(run, run[named["val"]], invert=True).nonzero().flatten()
        return Split({"train": rest, "val": named["val"]}, len(run))
    return group_split(run, num_train, num_val, seed=seed)


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
