"""Structures whose keys differ, in one batch: what one lacks is filled with what its absence means.

PyG takes the keys of a batch from its first structure: a molecule before a crystal would drop the lattice of the
crystal without a word, whose energy would be that of a cluster. Nothing of the lost key survives in the batch, so this
has to be seen where the batch is made: importing :mod:`pyg_schnet` puts :func:`completed` before PyG's ``collate`` (in
``Batch.from_data_list``, every ``DataLoader``, ``InMemoryDataset.collate``). Structures of equal keys, dtypes and
layouts, and everything that is not ``Data`` with ``z`` and ``pos``, are collated by PyG as they are.
"""

import copy
import copyreg
import functools
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data, batch, in_memory_dataset
from torch_geometric.loader.dataloader import Collater

#: Names of the net charge of a structure in units of the elementary charge, and of its multiplicity 2 S + 1.
CHARGES, MULTIPLICITIES = ("charge", "total_charge"), ("multiplicity", "spin_multiplicity")
#: What a structure without the key has: no lattice, open axes, labels that are not known, a weight of one, a graph of
#: unknown reach, no net charge, the multiplicity 0 of what is not said, the number 0 of none. Values of structures have
#: a row for each, those of atoms a row for each atom.
OF_STRUCTURES: dict[str, float | bool] = {
    "cell": 0.0,
    "pbc": False,
    "edge_cutoff": torch.inf,
    "config_weight": 1.0,
    "config_energy_weight": 1.0,
    "config_forces_weight": 1.0,
    "config_stress_weight": 1.0,
    "gdb": 0,
    "subset": 0,
    **dict.fromkeys((*CHARGES, *MULTIPLICITIES), 0),
} | dict.fromkeys(
    ("energy", "free_energy", "formation_energy", "stress", "virial", "dipole", "magmom", "polarizability", "y"),
    torch.nan,
)
OF_ATOMS: dict[str, float | bool] = {"atom_weight": 1.0} | dict.fromkeys(("forces", "charges", "magmoms"), torch.nan)
#: Shape that each structure has; a row for the structure is added where it is missing.
LAYOUT = {"cell": (3, 3), "pbc": (3,)}


def completed(structures: Sequence[Any], left_out: Collection[str] = (), labels: Collection[str] = ()) -> Sequence[Any]:
    """The same structures with the same keys, dtypes and layouts, so that they can be collated.

    A key that some lack is filled with what absence means: no lattice (zeros), open axes, NaN for labels, one for
    weights, ``None`` for strings. ``cell`` [3, 3] and ``pbc`` [3] become [1, 3, 3] and [1, 3]; where floating-point
    types differ the wider one is taken.

    Args:
        structures: What is to be collated; other things than ``Data`` with ``z`` and ``pos`` are not touched.
        left_out: Keys that will not be collated.
        labels: Further keys that are labels, NaN where they are not known.

    Returns:
        ``structures`` themselves if there is nothing to do; else copies of those that change, which share all other
        tensors.

    Raises:
        ValueError: If a key that some lack cannot be filled, such as ``edge_index``; with the key and the structures.

    Example:
        >>> water = Data(z=torch.tensor([8, 1, 1]), pos=torch.zeros(3, 3))
        >>> iron = Data(z=torch.tensor([26]), pos=torch.zeros(1, 3), cell=torch.eye(3), pbc=torch.ones(3).bool())
        >>> completed([water, iron])[0].pbc, completed([water, iron])[1].cell.shape
        (tensor([[False, False, False]]), torch.Size([1, 3, 3]))
    """
    if not all(isinstance(one, Data) for one in structures):
        return structures
    stores = [one._store._mapping for one in structures]  # Data's own methods are slow where thousands are asked
    if not all("z" in store and "pos" in store for store in stores):
        return structures
    if _alike(stores) and not any(_needs_row(key, stores[0].get(key), structures[0]) for key in LAYOUT):
        return structures
    made: list[Any] = [copy.copy(one) for one in structures]
    stores = [one._store._mapping for one in made]
    for key in LAYOUT:
        for one, store in zip(made, stores, strict=True):
            if _needs_row(key, store.get(key), one):
                store[key] = store[key].unsqueeze(0)
    keys = dict.fromkeys(key for store in stores for key in store)
    for key in keys.keys() - set(left_out) - {"num_nodes", "batch", "ptr"}:
        _complete(key, made, labels)
    if "num_nodes" in keys:
        for one in made:
            one.num_nodes = one.num_nodes
    return made


def _alike(stores: list[dict[str, Any]]) -> bool:
    """True if keys, dtypes and numbers of dimensions are those of the first."""
    keys = stores[0].keys()
    if any(store.keys() != keys for store in stores):
        return False
    for key, first in stores[0].items():
        if isinstance(first, Tensor):
            dtype, dim = first.dtype, first.dim()
            for store in stores:
                value = store[key]
                if not isinstance(value, Tensor) or value.dtype != dtype or value.dim() != dim:
                    return False
        elif any(type(store[key]) is not type(first) for store in stores):
            return False
    return True


def _needs_row(key: str, value: Any, structure: Data) -> bool:
    """True if the value has the shape of one structure without the row of the batch, which PyG will not give it."""
    alone = isinstance(value, Tensor) and value.shape == LAYOUT[key] and not isinstance(structure, Batch)
    return alone and not _is_stacked(key, value, structure)


def _is_stacked(key: str, value: Any, structure: Data) -> bool:
    """True if PyG gives the value a row of its own, as a subclass of ``Data`` may ask for."""
    return structure.__cat_dim__(key, value) is None


def _complete(key: str, structures: list[Data], labels: Collection[str]) -> None:
    stores = [one._store._mapping for one in structures]
    having = [number for number, store in enumerate(stores) if key in store]
    if len(having) < len(stores):
        _fill(key, structures, having, labels)
    values = [store[key] for store in stores]
    if key in {*OF_STRUCTURES, *OF_ATOMS, *labels}:  # numbers of Python are as good as tensors
        values = [_as_tensor(value) for value in values]
    if not all(isinstance(value, Tensor) for value in values):
        return
    kinds = {value.dtype for value in values}
    if len(kinds) > 1 and torch.bool not in kinds:
        widest = functools.reduce(torch.promote_types, kinds)
        values = [value.to(widest) for value in values]
    if key in {*OF_STRUCTURES, *labels} and len({value.dim() for value in values}) > 1:  # [] or [1, 1] beside [1]
        values = [value.reshape(-1) if value.numel() == 1 else value for value in values]
    if key in {*OF_STRUCTURES, *OF_ATOMS} and len({value.shape[1:] for value in values}) > 1:
        other = next(number for number, value in enumerate(values) if value.shape[1:] != values[0].shape[1:])
        raise ValueError(
            f"`{key}` has the shape {list(values[0].shape)} in structure 0 and {list(values[other].shape)} in structure"
            f" {other} of a batch; expected the same of all, but for the number of atoms"
        )
    for store, value in zip(stores, values, strict=True):
        store[key] = value


def _as_tensor(value: Any) -> Any:
    """A number of Python as PyG would collate it."""
    return torch.tensor([value]) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _fill(key: str, structures: list[Data], having: list[int], labels: Collection[str]) -> None:
    """Give a key to the structures that lack it."""
    lacking = sorted(set(range(len(structures))) - set(having))
    examples = [_as_tensor(structures[number]._store._mapping[key]) for number in having]
    if all(isinstance(value, str) or value is None for value in examples):
        for number in lacking:
            structures[number]._store._mapping[key] = None
        return
    value = {**dict.fromkeys(labels, torch.nan), **OF_STRUCTURES, **OF_ATOMS}.get(key)
    example = examples[0]
    if value is not None and isinstance(example, Tensor) and _is_stacked(key, example, structures[having[0]]):
        _check_lattices(key, structures, lacking)
        for number in lacking:
            one = structures[number]
            one._store._mapping[key] = one.pos.new_full(example.shape, value, dtype=example.dtype)
        return
    if value is None or not isinstance(example, Tensor) or (math.isnan(value) and not example.is_floating_point()):
        kind = None if value is None or isinstance(example, Tensor) else type(example).__name__
        raise _cannot_fill(key, having, lacking, kind)
    sizes = [value.size(0) if isinstance(value, Tensor) and value.dim() else 1 for value in examples]
    of_atoms = sizes == [structures[number].pos.size(0) for number in having]
    of_structures = sizes == [_count(structures[number]) for number in having]
    if not (of_atoms or of_structures):
        raise _cannot_fill(key, having, lacking)
    of_atoms = of_atoms and (key in OF_ATOMS or not of_structures)
    _check_lattices(key, structures, lacking)
    for number in lacking:
        one = structures[number]
        rows = one.pos.size(0) if of_atoms else _count(one)
        shape = (rows, *example.shape[1:]) if example.dim() else ()
        one._store._mapping[key] = one.pos.new_full(shape, value, dtype=example.dtype)


def _count(structure: Data) -> int:
    return structure.num_graphs if isinstance(structure, Batch) else 1


def _check_lattices(key: str, structures: list[Data], lacking: list[int]) -> None:
    """A lattice without periodic axes, or these without a lattice, is refused alone and must be in a batch."""
    other = {"cell": "pbc", "pbc": "cell"}.get(key)
    for number in lacking:
        there = None if other is None else structures[number]._store._mapping.get(other)
        if isinstance(there, Tensor) and bool((there != 0).any()):
            raise ValueError(
                f"structure {number} of a batch has `{other}` but no `{key}`, which others have; "
                "expected lattice vectors `cell` [1, 3, 3] and periodic axes `pbc` [1, 3] together"
            )


def _cannot_fill(key: str, having: list[int], lacking: list[int], kind: str | None = None) -> ValueError:
    remedy = "give it to all structures or to none; labels may be NaN where they are not known"
    if kind is not None:
        remedy = f"make it a tensor, it is a {kind}"
    if key.startswith("edge_"):
        remedy = "give all structures a graph, for example by RadiusGraph, or none"
    return ValueError(
        f"structures of a batch differ in their keys: `{key}` is in {_few(having)} but not in {_few(lacking)}, and "
        f"nothing can stand for it; {remedy}"
    )


def _few(numbers: Iterable[int]) -> str:
    first, count = list(numbers)[:3], len(list(numbers))
    return f"structure{'s' if count > 1 else ''} {', '.join(map(str, first))}{', ...' if count > 3 else ''}"


def _completing(collate: Callable[..., Any]) -> Callable[..., Any]:
    """PyG's function with structures completed before."""

    @functools.wraps(collate)
    def completing(cls: Any, data_list: Any, *args: Any, **options: Any) -> Any:
        structures = data_list if isinstance(data_list, (list, tuple)) else list(data_list)
        left_out = options.get("exclude_keys", args[3] if len(args) > 3 else None) or ()
        return collate(cls, completed(structures, left_out) if structures else structures, *args, **options)

    completing.completes_keys = True  # type: ignore[attr-defined]
    return completing


def install() -> None:
    """Put :func:`completed` before PyG's ``collate``, once however often it is called.

    Example:
        >>> install()
        >>> install()
        >>> batch.collate is in_memory_dataset.collate
        True
    """
    if not hasattr(batch.collate, "completes_keys"):
        batch.collate = in_memory_dataset.collate = _completing(batch.collate)
        copyreg.pickle(Collater, _travelling)


def _travelling(collater: Collater) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A worker of PyG's ``DataLoader`` that begins without this package imports it with what it is to do."""
    return _arrived, (vars(collater),)


def _arrived(attributes: dict[str, Any]) -> Collater:
    collater = Collater.__new__(Collater)
    vars(collater).update(attributes)
    return collater
