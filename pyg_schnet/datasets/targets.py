"""Scalar targets of a dataset by name: columns of ``y`` or attributes of their own."""

import difflib
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.datasets.sequence import as_dataset

#: Keys that describe a structure and are no targets.
STRUCTURE = {
    "z",
    "pos",
    "cell",
    "pbc",
    "batch",
    "ptr",
    "edge_index",
    "edge_shift",
    "edge_cutoff",
    "forces",
    "num_nodes",
}


class Target(NamedTuple):
    """Where one number of each structure is found.

    Attributes:
        name: Its name, for example ``"U0"`` or ``"formation_energy"``.
        key: Key of the data.
        column: Column of that key; ``None`` if it has one value for each structure.
        unit: Its unit, empty if the dataset does not say.
    """

    name: str
    key: str
    column: int | None
    unit: str

    def values(self, batch: Data) -> Tensor:
        """The target of each structure of a batch.

        Args:
            batch: Structures.

        Returns:
            Values [B] in the dtype of the data; NaN where they are not known.

        Raises:
            ValueError: If the batch does not have one value for each structure.
        """
        values, count = batch.get(self.key), getattr(batch, "num_graphs", 1)
        if values is None:
            raise ValueError(f"the data have no `{self.key}`; they have {', '.join(sorted(batch.keys()))}")
        values = torch.as_tensor(values)  # a number of Python in a single Data
        if self.column is not None:
            values = values.view(count, -1)[:, self.column]
        if values.numel() != count:
            raise ValueError(
                f"`{self.key}` must have one value for each of the {count} structures, [1] in each Data, "
                f"got {list(values.shape)}"
            )
        return values.reshape(count)


def check_key(key: str) -> None:
    """Refuse a key whose values PyG changes when it makes a batch.

    Args:
        key: Key of the data.

    Raises:
        ValueError: If its name says that it counts atoms or structures.

    Example:
        >>> check_key("gap")
    """
    if "index" in key or "batch" in key or key == "face":
        raise ValueError(
            f"`{key}` cannot be learnt: PyG adds numbers of atoms or structures to values of this name when it makes a "
            "batch; give it a name without 'index' and 'batch'"
        )


def find_target(dataset: Any, name: str) -> Target:
    """Find a target by its name.

    Args:
        dataset: A dataset, or whatever :func:`~pyg_schnet.datasets.as_dataset` takes; datasets of this package name
            the columns of ``y`` in ``targets`` and fields of files that have another name in the data in ``renamed``.
        name: Column of ``y`` or key of the data.

    Returns:
        Where it is found.

    Raises:
        ValueError: If the dataset has no such target, with what it has, or PyG would change its values.

    Example:
        >>> import tempfile
        >>> from pyg_schnet.datasets import QM9
        >>> find_target(QM9(tempfile.mkdtemp(), "bundled", log=False), "zpve")
        Target(name='zpve', key='y', column=6, unit='eV')
    """
    dataset = as_dataset(dataset)
    units, columns = getattr(dataset, "units", {}), getattr(dataset, "targets", {})
    if name in columns:
        chosen = getattr(dataset, "target_name", None)  # a dataset may have been opened with one of its targets
        if chosen is None:
            return Target(name, "y", columns[name], units.get(name, ""))
        if chosen == name:
            return Target(name, "y", 0, units.get(name, ""))
        raise ValueError(f"the dataset was opened with the target {chosen!r} only; open it with {name!r} or with all")
    keys = _keys_of_targets(dataset, name, {"y"} if columns else set())  # y is not one target but all
    key = getattr(dataset, "renamed", {}).get(name, name)
    if key in keys:
        check_key(key)
        return Target(name, key, None, units.get(key, ""))
    found = next((one.get(key) for one in dataset if one.get(key) is not None), None) if key not in STRUCTURE else None
    if found is not None and not isinstance(found, Tensor):
        raise ValueError(f"the target {name!r} is a {type(found).__name__}, expected a tensor or number in each Data")
    known = {other.lower(): other for other in [*columns, *keys]}
    close = difflib.get_close_matches(name.lower(), known, 1)
    nearest = f"; did you mean {known[close[0]]!r}?" if close else ""
    have = ", ".join(known.values()) or "none"
    raise ValueError(f"{type(dataset).__name__} has no target {name!r}, it has {have}{nearest}")


def _keys_of_targets(dataset: Any, name: str, others: set[str]) -> list[str]:
    """Keys that hold numbers and do not describe a structure; structures are looked at until ``name`` is found."""
    data = getattr(dataset, "_data", None)
    if data is not None:
        return _numbers(data, others)
    keys: dict[str, None] = {}
    for one in dataset:
        keys |= dict.fromkeys(_numbers(one, others))
        if name in keys:
            break
    return list(keys)


def _numbers(data: Data, others: set[str]) -> list[str]:
    values = data.to_dict()
    return [key for key in values if key not in STRUCTURE | others and isinstance(values[key], (Tensor, int, float))]
