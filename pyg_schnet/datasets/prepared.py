"""Structures that pass a filter, after a transform, some at a time: for data that may not fit into memory."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.data.collate import collate

from pyg_schnet.batching import completed
from pyg_schnet.datasets.columns import Columns

#: Structures that are collated at a time.
_AT_ONCE = 5_000


def prepared_columns(
    structures: Iterator[Data],
    pre_filter: Callable[[Data], bool] | None,
    pre_transform: Callable[[Data], Data] | None,
    columns: Columns,
) -> tuple[Data, dict[str, Tensor]]:
    """Filter, transform and collate structures.

    Args:
        structures: The structures.
        pre_filter: Those for which it is false are left out.
        pre_transform: Applied to each of the rest.
        columns: Where to put them.

    Returns:
        One ``Data``, and where each structure begins by key.

    Raises:
        ValueError: If no structure is left, only some have a key, or a value is no tensor, number or string.
    """
    kept = (one for one in structures if pre_filter is None or pre_filter(one))
    made = kept if pre_transform is None else map(pre_transform, kept)
    keys: list[str] = []
    words: set[str] = set()
    ends: dict[str, int] = {}
    count = 0
    while some := list(itertools.islice(made, _AT_ONCE)):
        data, slices, _ = collate(Data, list(completed(some)), increment=False, add_batch=False)
        values = {key: value for key, value in data.to_dict().items() if key in slices}
        words |= {key for key, value in values.items() if isinstance(value, list)}
        keys += [key for key in values if key in words and key not in keys] if count else list(values)
        _check(values, set(keys) - words, words)
        for key in keys:
            if key in words:
                columns.extend(
                    key, ([None] * count if key not in ends else []) + list(values.get(key, [None] * len(some)))
                )
                ends[key] = count + len(some)
                continue
            begins = slices[key].numpy()
            columns.append(key, values[key].numpy(), data.__cat_dim__(key, values[key]) or 0)
            before = ends.get(key)
            columns.append(f"where {key} begins", begins if before is None else before + begins[1:])
            ends[key] = (before or 0) + int(begins[-1])
        count += len(some)
    if not count:
        raise ValueError("`pre_filter` leaves no structure")
    columns.append("of structures", np.arange(count + 1))
    where = columns.tensor("of structures")
    begins = {key: where if key in words else columns.tensor(f"where {key} begins") for key in keys}
    return Data(**{key: columns.strings(key) if key in words else columns.tensor(key) for key in keys}), begins


def _check(values: dict[str, Any], keys: set[str], words: set[str]) -> None:
    """Refuse what cannot be added to a file of numbers."""
    for key, value in values.items():
        plain = isinstance(value, Tensor) or (key in words and all(isinstance(one, (str, type(None))) for one in value))
        if not plain:
            raise ValueError(f"`{key}` is no tensor, number or string of all structures; make it one, or leave it out")
    if values.keys() - words != keys:
        some = min((values.keys() - words) ^ keys)
        raise ValueError(
            f"only some structures have `{some}` after `pre_transform`; give it to all, NaN where it is not known"
        )
