"""Further fields of a file: kept as tensors and strings under names that a ``Data`` can take."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.data import Data

from pyg_schnet.batching import OF_ATOMS, OF_STRUCTURES
from pyg_schnet.datasets.ase_files import is_bare
from pyg_schnet.datasets.rounding import LARGEST

#: Keys of a structure, which no field of a file can take.
TAKEN = {"z", "pos", "cell", "pbc", "batch", "ptr", "num_nodes", "face", "edge_index", "edge_shift", "edge_cutoff"}
#: Properties of ``Data`` that may be set and mean nothing to a batch.
_FREE = {"y", "time"}
#: PyG raises keys with these words by numbers of atoms when it makes a batch.
_RAISED = {"index": "idx", "batch": "bat"}


class Field(NamedTuple):
    """What one structure has of a field.

    Attributes:
        value: Numbers or a string.
        of_atoms: True if there is a row for each atom; ``None`` if the file does not tell.
    """

    value: Any
    of_atoms: bool | None


class Kept(NamedTuple):
    """Fields of all structures.

    Attributes:
        values: By name, a tensor [N, ...] of the atoms, a tensor [B, ...] of the structures, or a list of strings.
        of_atoms: Those with a row for each atom.
        renamed: New names by those in the file, where they differ.
        dropped: Why a field is not kept, by its name in the file.
    """

    values: dict[str, Any]
    of_atoms: set[str]
    renamed: dict[str, str]
    dropped: dict[str, str]


def possible_name(name: str, taken: Iterable[str] = ()) -> str:
    """The name of a field in a ``Data``.

    It is the name itself, unless ``Data`` could not take it or PyG would change the values when it makes a batch:
    "index" becomes "idx" and "batch" becomes "bat", underscores in front are left out, and names that are taken (keys
    of a structure such as ``z``, attributes and methods of ``Data`` such as ``size``) get an underscore behind.

    Args:
        name: The name in the file.
        taken: Further names that are taken.

    Returns:
        The name to use.

    Example:
        >>> [possible_name(name) for name in ("homo", "size", "my_index", "_note", "z")]
        ['homo', 'size_', 'my_idx', 'note', 'z_']
    """
    for word, other in _RAISED.items():
        name = re.sub(word, other, name, flags=re.IGNORECASE)
    name = name.lstrip("_") or "field"
    taken = {*TAKEN, *taken}
    while name in taken or (hasattr(Data, name) and name not in _FREE):
        name += "_"
    return name


def collate_fields(structures: Sequence[dict[str, Field]], sizes: Sequence[int], taken: Iterable[str]) -> Kept:
    """Fields of all structures as tensors and lists.

    Numbers of structures are float64 [B], vectors and tensors float32 [B, ...], those of atoms float32 [N, ...], or
    float64 for whole numbers that float32 would round; NaN where a structure lacks them, as are values that float32
    cannot hold. Strings are lists, with ``None`` where a structure lacks one. Weights are one where they are lacking.

    Args:
        structures: Fields by name, of each structure.
        sizes: Numbers of atoms.
        taken: Names that are taken by labels.

    Returns:
        What is kept, and why the rest is not.

    Raises:
        ValueError: If a weight is negative, not finite or no single number.

    Example:
        >>> fields = [{"gap": Field(0.5, False)}, {"gap": Field(1, False), "size": Field("big", False)}]
        >>> collate_fields(fields, [1, 2], ())[0]
        {'gap': tensor([0.5000, 1.0000], dtype=torch.float64), 'size_': [None, 'big']}
    """
    kept = Kept({}, set(), {}, {})
    names = dict.fromkeys(name for fields in structures for name in fields)
    for name in sorted(names, key=lambda name: possible_name(name, taken) != name):  # first those that keep their name
        column = [fields.get(name) for fields in structures]
        new = possible_name(name, {*taken, *kept.values})
        reason = _collate_one(new, column, sizes, kept)
        if reason is not None:
            kept.dropped[name] = reason
        elif new != name:
            kept.renamed[name] = new
    return kept


def _collate_one(name: str, column: list[Field | None], sizes: Sequence[int], kept: Kept) -> str | None:
    """Keep one field, or say why not."""
    if any(field is not None and not isinstance(field.value, (bool, np.bool_)) for field in column):
        column = [None if field is None or is_bare(field.value) else field for field in column]
    there = [field for field in column if field is not None]
    arrays = [None if field is None else _numbers(field.value) for field in column]
    numbers = [array for array in arrays if array is not None]
    strings = sum(isinstance(field.value, str) for field in there)
    if strings and strings + sum(array.ndim == 0 for array in numbers) == len(there):
        # a name in one structure may look like a number in another
        kept.values[name] = [None if field is None else str(field.value) for field in column]
        return None
    reason = _why_not(there, numbers)
    if reason is not None:
        return reason
    of_atoms = _is_of_atoms(name, there, numbers)
    if of_atoms is None:
        return "of atoms in some structures, of the whole in others"
    rows = [size if of_atoms else 1 for size in sizes]
    whole = [None if array is None else array if of_atoms else array[None] for array in arrays]
    shapes = {array.shape[1:] for array in whole if array is not None}
    if len(shapes) > 1 or any(array is not None and len(array) != n for array, n in zip(whole, rows, strict=True)):
        return "of different shapes"
    (shape,) = shapes
    lacking = {**OF_STRUCTURES, **OF_ATOMS}.get(name, np.nan)
    joined = np.concatenate(
        [np.full((n, *shape), lacking) if array is None else array for array, n in zip(whole, rows, strict=True)],
        dtype=np.float64,
    )
    if name == "atom_weight" or re.fullmatch(r"config_(\w+_)?weight", name):
        _check_weights(name, joined, of_atoms, shape)
    whole_numbers = all(array.dtype.kind in "biu" for array in numbers)
    if (of_atoms or shape) and not (whole_numbers and np.nanmax(np.abs(joined), initial=0) > 2**24):  # as float32 holds
        joined = np.where(np.abs(joined) <= LARGEST, joined, np.nan).astype(np.float32)
    kept.values[name] = torch.from_numpy(joined)
    if of_atoms:
        kept.of_atoms.add(name)
    return None


def _why_not(fields: list[Field], numbers: list[NDArray]) -> str | None:
    """Why a field cannot be a tensor."""
    if len(numbers) < len(fields):
        return "neither numbers nor strings"
    if any(array.dtype.kind in "iu" and np.abs(array.astype(float)).max(initial=0) > 2**53 for array in numbers):
        return "whole numbers too large for float64"
    return None


def _numbers(value: Any) -> NDArray | None:
    try:
        array = np.asarray(value)
    except ValueError:  # lists of different lengths
        return None
    return array if array.dtype.kind in "biuf" else None


def _is_of_atoms(name: str, fields: list[Field], arrays: list[NDArray]) -> bool | None:
    """True if a field has a row for each atom; ``None`` if that differs between structures."""
    told = {field.of_atoms for field in fields} - {None}
    if name in OF_ATOMS and all(array.ndim for array in arrays):
        return True
    if len(told) == 2:
        return None
    if told:
        return bool(told.pop())
    vectors = all(array.shape == (3,) for array in arrays)  # of three atoms each, or rather one vector
    return name in OF_ATOMS or not vectors


def _check_weights(name: str, weights: NDArray, of_atoms: bool, shape: tuple[int, ...]) -> None:
    if of_atoms != (name == "atom_weight") or shape:
        expected = "one number for each atom" if name == "atom_weight" else "one number for each structure"
        raise ValueError(f"the field {name!r} is a weight of the loss and must be {expected}")
    if not (np.isfinite(weights) & (weights >= 0)).all():
        bad = float(weights[~(np.isfinite(weights) & (weights >= 0))].flat[0])
        raise ValueError(f"the field {name!r} is a weight of the loss and must be finite and not negative, got {bad}")
