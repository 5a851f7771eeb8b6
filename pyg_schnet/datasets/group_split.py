"""Splits by groups: all structures of a molecule, a material or a calculation are in one part."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyg_schnet.datasets.sequence import in_memory
from pyg_schnet.datasets.splits import Split

#: Orders of the groups that are tried until no part is empty that could have structures.
_TRIES = 100


def group_split(
    groups: Sequence[Any] | np.ndarray | Tensor,
    num_train: int,
    num_val: int,
    num_test: int | None = None,
    seed: int = 0,
) -> Split:
    """Split by groups: no group has structures in two parts.

    Structures of one molecule resemble each other: drawn at random, the errors of a test are those on molecules that
    are known. Here groups are drawn at random, first those to validate on, then those to test on; the structures of
    each part are drawn within its groups. Where an order of the groups leaves too few for a part, or none to test on,
    others are tried.

    Args:
        groups: The group of each structure: names or numbers [M].
        num_train: Number of training structures.
        num_val: Number of validation structures.
        num_test: Number of test structures; ``None`` for all structures of the groups that the others do not need.
        seed: The same seed gives the same split.

    Returns:
        Sorted positions of ``train``, ``val`` and ``test``.

    Raises:
        ValueError: If there are not enough groups.

    Example:
        >>> split = group_split(["a", "b", "c", "d"] * 5, 10, 4)
        >>> {name: len(part) for name, part in split.items()}, sorted({int(i) % 4 for i in split["test"]})
        ({'train': 10, 'val': 4, 'test': 5}, [2])
    """
    labels = np.asarray(groups if not isinstance(groups, Tensor) else groups.numpy())
    names, group_of, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if num_train < 1 or num_val < 0 or (num_test or 0) < 0:
        raise ValueError(f"expected at least 1 training example and none less than 0, got {num_train} and {num_val}")
    generator = torch.Generator().manual_seed(seed)
    wanted_of = {"val": num_val, "train": num_train, "test": num_test}
    to_test = num_test is None and num_train + num_val < len(labels)  # there should be something left
    found: dict[str, list[int]] | None = None
    for _ in range(_TRIES):  # a large group may come where a small one does
        drawn_groups = _groups_of_parts(torch.randperm(len(names), generator=generator).tolist(), sizes, wanted_of)
        found = found if drawn_groups is None else drawn_groups
        if drawn_groups is not None and (drawn_groups["test"] or not to_test):
            break
    if found is None:
        raise ValueError(
            f"{len(labels)} structures of {len(names)} groups are too few for {num_train} to train, {num_val} to "
            f"validate and {num_test or 0} to test without a group in two parts; ask for fewer, or split at random"
        )
    parts: dict[str, Tensor] = {}
    for name, wanted in wanted_of.items():
        members = torch.from_numpy(np.flatnonzero(np.isin(group_of, found[name])))
        drawn = torch.randperm(len(members), generator=generator)[: len(members) if wanted is None else wanted]
        parts[name] = members[drawn].sort().values
    ordered = {name: parts[name] for name in ("train", "val", "test")}
    return Split(ordered, len(labels), method="group_split", seed=seed, groups=len(names))


def _groups_of_parts(
    order: list[int], sizes: np.ndarray, wanted_of: dict[str, int | None]
) -> dict[str, list[int]] | None:
    """Groups of each part, taken in order; ``None`` if they are too few."""
    parts: dict[str, list[int]] = {}
    for name, wanted in wanted_of.items():
        taken, count = list[int](), 0
        while order and (wanted is None or count < wanted):
            taken.append(order.pop(0))
            count += sizes[taken[-1]]
        if wanted is not None and count < wanted:
            return None
        parts[name] = taken
    return parts


def groups_of(dataset: Any, key: str | None = None) -> list[str]:
    """The group of each structure of a dataset.

    Args:
        dataset: The structures.
        key: Key with the name or number of the group; ``None`` for groups of one composition.

    Returns:
        A word for each structure.

    Raises:
        ValueError: If there is no such key, or it is no word or number of the structure.

    Example:
        >>> from torch_geometric.data import Data
        >>> water = Data(z=torch.tensor([8, 1, 1]), pos=torch.zeros(3, 3), molecule="water")
        >>> groups_of([water, water], "molecule"), groups_of([water])
        (['water', 'water'], ['1x2 8x1'])
    """
    dataset = in_memory(dataset)
    found = []
    for position in range(len(dataset)):
        data = dataset[position]
        if key is None:
            numbers, counts = np.unique(data.z.numpy(), return_counts=True)
            found.append(" ".join(f"{number}x{count}" for number, count in zip(numbers, counts, strict=True)))
            continue
        value = data.get(key)
        if value is None and position == 0 and key not in {one for part in dataset for one in part.to_dict()}:
            raise ValueError(f"the data have no `{key}` to group by; they have {', '.join(sorted(data.keys()))}")
        if isinstance(value, Tensor) and value.numel() != 1:
            raise ValueError(f"`{key}` must be a word or a number of each structure, got {list(value.shape)}")
        found.append(str(value.item() if isinstance(value, Tensor) else value))
    return found
