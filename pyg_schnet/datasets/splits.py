"""Splits into training, validation and test sets: drawn, checked, stored with the results."""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

from pyg_schnet.datasets.sequence import as_dataset, name_of
from pyg_schnet.files import replacing

#: Key of the part that the file of a structure is for, where parts have files of their own.
PART = "part_of_split"


class Split(dict[str, Tensor]):
    """Positions of training, validation and test examples; they cannot overlap.

    Args:
        parts: Positions by part, usually ``train``, ``val`` and ``test``.
        size: Number of examples there are; ``None`` if it is not known.
        **made: How the split was made, plain values; stored with it.

    Raises:
        ValueError: If parts overlap, a position occurs twice or lies outside.

    Example:
        >>> Split({"train": torch.tensor([0, 1]), "val": torch.tensor([1])})
        Traceback (most recent call last):
        ValueError: the parts 'train' and 'val' of the split overlap in 1 example; every example may be in one part only
    """

    def __init__(self, parts: Mapping[str, Tensor], size: int | None = None, **made: Any) -> None:
        super().__init__({name: torch.as_tensor(part) for name, part in parts.items()})
        self.made = made
        for name, part in self.items():
            if part.dim() != 1 or (part.numel() and (part.is_floating_point() or part.dtype == torch.bool)):
                raise ValueError(
                    f"part {name!r} must be positions [..] of integers, got {part.dtype}{list(part.shape)}"
                )
            self[name] = part.long()
        _check_disjoint(self)
        for name, part in self.items():
            if part.numel() and (int(part.min()) < 0 or (size is not None and int(part.max()) >= size)):
                most = "" if size is None else f" and {size - 1}"
                raise ValueError(
                    f"part {name!r} has positions from {int(part.min())} to {int(part.max())}, "
                    f"expected them {'at least 0' if size is None else 'between 0' + most}; "
                    "is the split of another dataset?"
                )


def _check_disjoint(parts: Mapping[str, Tensor]) -> None:
    """Sorted once; only where something occurs twice is it looked for."""
    together = torch.cat([torch.empty(0, dtype=torch.long), *parts.values()])
    if together.unique().numel() == together.numel():
        return
    names = list(parts)
    for place, name in enumerate(names):
        twice = parts[name].numel() - parts[name].unique().numel()
        if twice:
            raise ValueError(f"part {name!r} of the split has {_examples(twice)} twice; expected each once")
        for other in names[place + 1 :]:
            common = int(torch.isin(parts[name], parts[other]).sum())
            if common:
                raise ValueError(
                    f"the parts {name!r} and {other!r} of the split overlap in {_examples(common)}; "
                    "every example may be in one part only"
                )


def _examples(count: int) -> str:
    return f"{count} example{'s' if count > 1 else ''}"


def _size_of(size: Any) -> int:
    """Number of examples, of a number or of whatever holds structures."""
    return int(size) if isinstance(size, (int, np.integer)) else len(size)


def random_split(size: int | Any, num_train: int, num_val: int, seed: int = 0) -> Split:
    """Split at random as in the paper: so many to train, so many to validate, the rest to test.

    Args:
        size: Number of examples, or the examples.
        num_train: Number of training examples.
        num_val: Number of validation examples, used for early stopping.
        seed: The same seed gives the same split.

    Returns:
        Sorted positions [..] of ``train``, ``val`` and ``test``, which do not overlap.

    Raises:
        ValueError: If there are not enough examples.

    Example:
        >>> {name: len(part) for name, part in random_split(100, 80, 5).items()}
        {'train': 80, 'val': 5, 'test': 15}
    """
    size = _size_of(size)
    if num_train < 1 or num_val < 0 or num_train + num_val > size:
        raise ValueError(
            f"expected at least 1 training and 0 validation examples, together at most {size}; "
            f"got {num_train} and {num_val}"
        )
    parts = _shuffled(size, seed).split([num_train, num_val, size - num_train - num_val])
    named = {name: part.sort().values for name, part in zip(("train", "val", "test"), parts, strict=True)}
    return Split(named, size, method="random_split", seed=seed)


def _shuffled(size: int, seed: int) -> Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))


class PaperSplit(NamedTuple):
    """Numbers of training and validation examples in J. Chem. Phys. 148, 241722 (2018); the rest is for tests."""

    num_train: int
    num_val: int


#: By dataset, smallest training set first: sections III.A (QM9), III.B (Materials Project) and III.C (MD17).
PAPER_SPLITS: dict[str, tuple[PaperSplit, ...]] = {
    "QM9": (PaperSplit(110_000, 10_000),),
    "MaterialsProject": (PaperSplit(60_000, 4_500),),
    "MD17": (PaperSplit(1_000, 1_000), PaperSplit(50_000, 1_000)),
}


def paper_split(dataset: Any, size: int | None = None, seed: int = 0, *, num_train: int | None = None) -> Split:
    """The random split of a dataset with the numbers of the paper.

    QM9: 110,000 to train and 10,000 to validate; Materials Project: 60,000 and 4,500; MD17: 1,000 or 50,000 and 1,000;
    the rest to test. The paper gives numbers, not which examples; ISO17's split is published with its data.

    Args:
        dataset: The dataset or a subset of it, or ``"QM9"``, ``"MaterialsProject"`` or ``"MD17"``.
        size: Number of examples; needed beside a name.
        seed: The same seed gives the same split.
        num_train: Which of the training sets of the paper (MD17); the smallest by default.

    Returns:
        Sorted positions of ``train``, ``val`` and ``test``.

    Raises:
        ValueError: If the paper has no such split or the dataset is too small for it.

    Example:
        >>> {name: len(part) for name, part in paper_split("QM9", 130_831).items()}
        {'train': 110000, 'val': 10000, 'test': 10831}
    """
    whole = dataset
    while isinstance(whole, Subset):
        whole = whole.dataset
    name = whole if isinstance(whole, str) else type(whole).__name__
    known = {key.lower(): key for key in PAPER_SPLITS}
    key = known.get(name.lower().replace("_", "").replace(" ", ""))
    if key is None:
        raise ValueError(f"the paper has no random split of {name!r}; expected one of {', '.join(PAPER_SPLITS)}")
    if not isinstance(dataset, str):
        size = len(dataset)
    elif size is None:
        raise ValueError(f"`size` is needed beside the name {name!r}: how many examples are to be split?")
    sizes = {one.num_train: one for one in PAPER_SPLITS[key]}
    if num_train is not None and num_train not in sizes:
        raise ValueError(f"the paper trains on {' or '.join(map(str, sizes))} examples of {key}, got {num_train}")
    chosen = sizes[num_train or min(sizes)]
    if size <= sum(chosen):
        raise ValueError(
            f"the split of the paper takes {chosen.num_train} examples of {key} to train, {chosen.num_val} to validate "
            f"and the rest to test, but there are {size}; use random_split with smaller numbers"
        )
    split = random_split(size, chosen.num_train, chosen.num_val, seed)
    split.made |= {"method": "paper_split", "of": key}
    return split


def block_split(
    size: int | Any,
    num_train: int,
    num_val: int,
    *,
    gap: int,
    num_test: int | None = None,
    blocks: int = 10,
    seed: int = 0,
) -> Split:
    """Split a trajectory so that no frame of one part is near one of another.

    Neighbouring frames are nearly equal: drawn at random, the test set has a twin of each of its frames in the training
    set. Here the trajectory is cut into ``blocks`` runs of frames; each run belongs to one part, and ``gap`` frames
    between runs of different parts are left out. Frames of a part are drawn at random within its runs.

    Args:
        size: Number of frames, or the frames, in order of time.
        num_train: Number of training frames.
        num_val: Number of validation frames.
        gap: Frames left out between parts; take the time after which the trajectory forgets.
        num_test: Number of test frames; ``None`` for all frames of the runs that the other parts do not need.
        blocks: Number of runs.
        seed: The same seed gives the same split.

    Returns:
        Sorted positions of ``train``, ``val`` and ``test``; frames of different parts are more than ``gap`` apart.

    Raises:
        ValueError: If there are not enough frames.

    Example:
        >>> split = block_split(1000, 400, 100, gap=10)
        >>> int((split["train"][:, None] - split["test"]).abs().min()) > 10
        True
    """
    size = _size_of(size)
    if min(num_train, num_val, 1 if num_test is None else num_test) < 1 or gap < 0 or blocks < 3:
        raise ValueError(
            "expected at least 1 example in each part, `gap` at least 0 and 3 `blocks` or more; "
            f"got {num_train}, {num_val} and {num_test}, {gap} and {blocks}"
        )
    wanted = {"train": num_train, "val": num_val, "test": num_test or 1}
    usable = size // blocks - gap  # of a run at worst
    needed = {name: -(-count // max(usable, 1)) for name, count in wanted.items()}
    if usable < 1 or sum(needed.values()) > blocks:
        raise ValueError(
            f"{size} frames in {blocks} blocks with gaps of {gap} frames have {max(usable, 0)} in each block, too few "
            f"for parts of {num_train}, {num_val} and {num_test or 'at least 1'} that share no block; "
            "use a smaller `gap`, smaller parts or another number of `blocks`"
        )
    needed["test" if num_test is None else "train"] += blocks - sum(needed.values())
    names = [name for name, count in needed.items() for _ in range(count)]
    owner = [names[place] for place in _shuffled(blocks, seed).tolist()]
    edges = [size * place // blocks for place in range(blocks + 1)]
    runs: dict[str, list[Tensor]] = {name: [] for name in wanted}
    for place, name in enumerate(owner):
        last = place + 1 == blocks or owner[place + 1] == name
        runs[name].append(torch.arange(edges[place], edges[place + 1] - (0 if last else gap)))
    frames = {name: torch.cat(parts) for name, parts in runs.items()}
    if num_test is None:
        wanted["test"] = len(frames["test"])
    parts = {
        name: frames[name][_shuffled(len(frames[name]), seed)[:count]].sort().values for name, count in wanted.items()
    }
    return Split(parts, size, method="block_split", seed=seed, gap=gap, blocks=blocks)


def k_fold(size: int | Any, folds: int, num_val: int = 0, seed: int = 0) -> list[Split]:
    """Splits for cross-validation: each example is in the test set once.

    Args:
        size: Number of examples, or the examples.
        folds: Number of splits.
        num_val: Validation examples of each, taken from those that are not for tests.
        seed: The same seed gives the same splits.

    Returns:
        A split for each fold.

    Raises:
        ValueError: If there are not enough examples.

    Example:
        >>> [len(split["test"]) for split in k_fold(10, folds=3)]
        [4, 3, 3]
    """
    size = _size_of(size)
    if not 2 <= folds <= size or num_val < 0 or size - -(-size // folds) - num_val < 1:
        raise ValueError(
            f"expected between 2 and {size} folds and at least 1 example to train, got {folds} folds "
            f"and {num_val} validation examples of {size}"
        )
    parts = _shuffled(size, seed).tensor_split(folds)
    splits = []
    for fold, test in enumerate(parts):
        rest = torch.cat([part for place, part in enumerate(parts) if place != fold])
        named = {"train": rest[num_val:], "val": rest[:num_val], "test": test}
        ordered = {name: part.sort().values for name, part in named.items()}
        splits.append(Split(ordered, size, method="k_fold", seed=seed, fold=fold, folds=folds))
    return splits


def save_split(path: str | Path, split: Mapping[str, Tensor], dataset: Any) -> Path:
    """Store a split with the results, and whose it is.

    The npz file has the positions of each part and, under ``about``, the name and size of the dataset, how the split
    was made (seed included) and a checksum of it all.

    Args:
        path: The file; it is whole or absent.
        split: The split.
        dataset: Its dataset, or whatever :func:`~pyg_schnet.datasets.as_dataset` takes.

    Returns:
        The path.

    Raises:
        ValueError: If parts overlap or the dataset is too small for them.
    """
    dataset = as_dataset(dataset)
    path, size = Path(path), len(dataset)
    made = split.made if isinstance(split, Split) else {}
    checked = Split(split, size)
    about = {"dataset": name_of(dataset), "size": size, "made": made}
    text = json.dumps(about | {"sha256": _checksum(checked, about)})
    arrays: dict[str, Any] = {name: part.numpy() for name, part in checked.items()}
    with replacing(path) as part_file, part_file.open("wb") as file:
        np.savez_compressed(file, about=np.array(text), **arrays)
    return path


def load_split(path: str | Path, dataset: Any = None) -> Split:
    """Read a split that :func:`save_split` stored.

    Args:
        path: The file.
        dataset: The dataset it is to be used with; a split of another one is refused.

    Returns:
        The split.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, parts overlap, or the split is of another dataset.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays.pop("about")))
        stored, size, made = about.pop("sha256"), about["size"], dict(about["made"])
        parts = {name: torch.from_numpy(array) for name, array in arrays.items()}
        damaged = stored != _checksum(parts, about)
    except (ValueError, EOFError, KeyError, TypeError, AttributeError, NotImplementedError) as error:
        raise _unreadable(path, error) from None
    except (zipfile.BadZipFile, zlib.error, RuntimeError, OverflowError) as error:
        raise _unreadable(path, error) from None
    if damaged:
        raise ValueError(f"{path} is damaged: its positions do not have the checksum stored with them; restore a copy")
    try:
        split = Split(parts, size, **made)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    dataset = None if dataset is None else as_dataset(dataset)
    if dataset is not None and (about["dataset"], size) != (name_of(dataset), len(dataset)):
        raise ValueError(
            f"{path} splits the {size} examples of {about['dataset']}, "
            f"got the {len(dataset)} of {name_of(dataset)}; give the dataset it was made for"
        )
    return split


def _unreadable(path: Path, error: Exception) -> ValueError:
    reason = (str(error).splitlines() or [""])[0] or type(error).__name__
    return ValueError(f"{path} is not a split written by save_split ({reason}); write it again or restore a copy")


def _checksum(parts: Mapping[str, Tensor], about: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(parts):
        digest.update(name.encode() + parts[name].long().numpy().astype("<i8").tobytes())
    return digest.hexdigest()
