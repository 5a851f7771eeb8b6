"""Whatever holds structures as a dataset: lists, subsets, several datasets after each other."""

import copy
import hashlib
from collections.abc import Iterable, Mapping
from types import NoneType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Subset
from torch_geometric.data import Batch, Data, Dataset, InMemoryDataset
from torch_geometric.data.collate import collate
from torch_geometric.data.data import BaseData
from torch_geometric.data.separate import separate

from pyg_schnet.batching import completed
from pyg_schnet.datasets.strings import Strings

#: What datasets say of their columns of ``y``.
_COLUMNS = ("targets", "target_units", "target_name")


def as_dataset(structures: Any) -> Dataset:
    """Structures as a dataset of PyG: with a length, subsets by ``dataset[indices]``, and ``units``.

    Every function of this package that takes a dataset takes whatever is taken here.

    - A dataset of PyG is returned as it is.
    - Of torch's ``Subset``, nested ones included, the structures meant are selected.
    - A list, a tuple, a generator or a ``Batch`` of ``Data`` is copied into tensors; what is done to the list later is
      not seen, nor does the list see what is done to the dataset.
    - So is torch's ``ConcatDataset``, unless a part of it has a ``transform``, which is applied at each access. Parts
      with different keys are completed: labels that are not known are NaN, structures without a lattice are open.
    - Any other object with ``len`` and positions is asked for each structure at each access.

    Args:
        structures: The structures.

    Returns:
        A dataset of PyG with ``units``, a dictionary (perhaps empty).

    Raises:
        TypeError: If these are no structures.
        ValueError: If keys differ and cannot be completed, or parts have different units.

    Example:
        >>> from torch.utils.data import Subset
        >>> atoms = [Data(z=torch.tensor([n]), pos=torch.zeros(1, 3)) for n in (1, 2, 3)]
        >>> [int(data.z) for data in as_dataset(Subset(atoms, [2, 0]))]
        [3, 1]
        >>> as_dataset(atoms)[torch.tensor([1])][0].z
        tensor([2])
    """
    if isinstance(structures, Dataset):
        return structures
    if isinstance(structures, Subset) and type(structures).__getitem__ is Subset.__getitem__:
        return as_dataset(structures.dataset)[torch.as_tensor(list(structures.indices), dtype=torch.long)]
    if isinstance(structures, ConcatDataset):
        return _joined([as_dataset(part) for part in structures.datasets])
    if isinstance(structures, BaseData):
        structures = structures.to_data_list() if isinstance(structures, Batch) else [structures]
    _check_many(structures)
    if isinstance(structures, (list, tuple)) or not hasattr(structures, "__getitem__"):
        return _listed(list(structures))
    return Accessed(structures)


def _check_many(structures: Any) -> None:
    """Refuse what does not hold structures."""
    many = isinstance(structures, Iterable) or (hasattr(structures, "__getitem__") and hasattr(structures, "__len__"))
    if isinstance(structures, (str, bytes, Mapping, Tensor, DataLoader)) or not many:
        other = " its dataset," if isinstance(structures, DataLoader) else ""
        raise TypeError(
            f"expected a dataset of Data, got {type(structures).__name__}; pass{other} a dataset or a list of Data"
        )


def in_memory(structures: Any) -> InMemoryDataset:
    """Structures as collated tensors.

    Args:
        structures: Whatever :func:`as_dataset` takes.

    Returns:
        A dataset whose tensors can be looked at as a whole.

    Raises:
        TypeError: If these are no structures of the class ``Data``.

    Example:
        >>> in_memory([Data(z=torch.tensor([n]), pos=torch.zeros(1, 3)) for n in (1, 2)]).z
        tensor([1, 2])
    """
    dataset = as_dataset(structures)
    if isinstance(dataset, InMemoryDataset):
        return dataset
    listed = _listed(list(dataset))
    if not isinstance(listed, Structures):
        raise TypeError("expected structures with `z` and `pos` of plain tensors, numbers and strings")
    return listed


def sizes_of(structures: Any) -> Tensor:
    """Numbers of atoms of the structures.

    Args:
        structures: Whatever :func:`in_memory` takes.

    Returns:
        Numbers [M].

    Raises:
        TypeError: If these are no structures of the class ``Data``.

    Example:
        >>> sizes_of([Data(z=torch.ones(n, dtype=torch.long), pos=torch.zeros(n, 3)) for n in (3, 1)])
        tensor([3, 1])
    """
    dataset = in_memory(structures)
    counts = (dataset.slices["z"] if dataset.slices else torch.tensor([0, len(dataset._data.z)])).diff()
    return counts if dataset._indices is None else counts[torch.as_tensor(list(dataset._indices), dtype=torch.long)]


def _listed(structures: list[Any]) -> Dataset:
    for one in structures:
        if not isinstance(one, BaseData):
            remedy = (
                "; convert them by pyg_schnet.simulation.ase.atoms_to_data" if type(one).__name__ == "Atoms" else ""
            )
            raise TypeError(
                f"expected a dataset of Data, got {type(one).__name__} in a {type(structures).__name__}{remedy}"
            )
    plain = bool(structures) and all(type(one) is Data and _is_plain(one) for one in structures)
    # others than structures are collated by PyG, in its own way where keys differ
    return Structures(structures) if plain else Accessed(structures)


def _is_plain(data: Data) -> bool:
    """True if this is a structure whose values can be collated into one tensor or list each, and cut out again."""
    values = data.to_dict().values()
    tensors = [one for one in values if not isinstance(one, (int, float, str))]
    strided = all(type(one) is Tensor and one.layout == torch.strided and not one.is_nested for one in tensors)
    return "z" in data and "pos" in data and strided


def _joined(parts: list[Dataset]) -> Dataset:
    """Datasets after each other."""
    facts = _facts_in_common(parts)
    in_memory = all(isinstance(part, InMemoryDataset) and part.transform is None for part in parts)
    if in_memory and all(type(part._data) is Data for part in parts):
        return Structures([data for part in parts for data in part], **facts)
    return Accessed(ConcatDataset(parts), **facts)


def _facts_in_common(parts: list[Any]) -> dict[str, Any]:
    """Units and columns of all parts; refuses those that contradict each other."""
    units: dict[str, str] = {}
    for part in parts:
        for key, unit in getattr(part, "units", {}).items():
            if units.setdefault(key, unit) != unit:
                raise ValueError(
                    f"`{key}` is in {units[key]} in one dataset and in {unit} in another; convert one of them"
                )
    labels = [*units, *(label for part in parts for label in getattr(part, "labels", ()))]
    columns = [{name: getattr(part, name, None) for name in _COLUMNS} for part in parts]
    with_columns = [one for one in columns if one["targets"]]
    if any(one != with_columns[0] for one in with_columns):
        raise ValueError("the columns of `y` differ between the datasets; open them with the same target")
    return {"units": units, "labels": labels, "columns": with_columns[0] if with_columns else {}}


class _Held(Dataset):
    """What datasets made of other things have in common."""

    def __init__(
        self,
        units: Mapping[str, str] | None = None,
        labels: Iterable[str] = (),
        columns: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        #: Units by key of the structures, as far as they are known.
        self.units = dict(units or {})
        #: Keys that are labels, NaN where they are not known.
        self.labels = list(labels)
        for name, value in (columns or {}).items():
            setattr(self, name, value)


class Structures(_Held, InMemoryDataset):
    """Structures of a list as collated tensors.

    Args:
        structures: The structures; all of the class ``Data``.
        units: Units by key.
        labels: Keys that are labels.
        columns: Names and units of the columns of ``y``.

    Raises:
        ValueError: If keys differ and cannot be completed.
    """

    def __init__(
        self,
        structures: list[Data],
        units: Mapping[str, str] | None = None,
        labels: Iterable[str] = (),
        columns: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(units, labels, columns)
        alike = completed(structures, labels=self.labels)
        # PyG's own method stores a single structure in another way than several
        self._data, self.slices, _ = collate(Data, list(alike), increment=False, add_batch=False)

    def get(self, idx: int) -> Data:
        """A copy of one structure."""
        return cut_out(self._data, self.slices, idx)

    def checksum(self) -> str:
        """What tells these structures from others: elements and positions."""
        digest = hashlib.sha256()
        for key in ("z", "pos"):
            digest.update(self._data[key].detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]


class Accessed(_Held):
    """Structures of any sequence, asked for one by one.

    Args:
        structures: Has a length and gives a ``Data`` for each position.
        units: Units by key.
        labels: Keys that are labels.
        columns: Names and units of the columns of ``y``.
    """

    def __init__(
        self,
        structures: Any,
        units: Mapping[str, str] | None = None,
        labels: Iterable[str] = (),
        columns: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(units, labels, columns)
        self.structures = structures

    def len(self) -> int:
        """Number of structures."""
        return len(self.structures)

    def get(self, idx: int) -> Any:
        """A copy of one structure.

        Raises:
            TypeError: If the sequence gives something else.
        """
        data = self.structures[idx]
        if not isinstance(data, BaseData):
            raise TypeError(f"expected a dataset of Data, got {type(data).__name__}")
        return data.clone()


def cut_out(data: Data, slices: Mapping[str, Any] | None, idx: int) -> Data:
    """A structure out of collated tensors, as a copy: what is done to it does not change what is stored.

    Args:
        data: All structures.
        slices: Where each begins, by key; ``None`` for a single structure, as PyG stores it.
        idx: Position of the structure.

    Returns:
        The structure.
    """
    if slices is None:
        return data.clone()
    store, ranges = data._store._mapping, dict[int, tuple[int, int]]()
    values: dict[str, Any] = {}
    for key, starts in slices.items():
        value = store.get(key)
        if isinstance(value, (list, Strings)) and isinstance(word := value[idx], (str, NoneType)):
            if word is not None:
                values[key] = word
            continue
        if type(value) is not Tensor or type(starts) is not Tensor or value.layout != torch.strided or value.is_nested:
            break
        if id(starts) not in ranges:  # looking at them takes longer than cutting
            ranges[id(starts)] = int(starts[idx]), int(starts[idx + 1])
        first, end = ranges[id(starts)]
        values[key] = value.narrow(data.__cat_dim__(key, value) or 0, first, end - first).clone()
    else:
        one = Data()
        one._store._mapping.update(values)
        if hasattr(data._store, "_num_nodes"):
            one.num_nodes = data._store._num_nodes[idx]
        return one
    # in PyG's way, for lists and dictionaries
    return copy.deepcopy(separate(cls=Data, batch=data, idx=idx, slice_dict=slices, decrement=False))


def name_of(dataset: Any) -> str:
    """What decides which structures a dataset holds, in which order; not what is done to them.

    Args:
        dataset: A dataset of PyG.

    Returns:
        Class, folder and options, with checksums of what has no name.

    Example:
        >>> name_of(as_dataset([Data(z=torch.tensor([1]), pos=torch.zeros(1, 3))]))
        'Structures/21fc3f955c14'
    """
    if isinstance(dataset, Accessed) and isinstance(dataset.structures, ConcatDataset):
        return " + ".join(map(name_of, dataset.structures.datasets))
    inside = dataset.checksum() if isinstance(dataset, Structures) else getattr(dataset, "folder", None)
    name = "/".join([type(dataset).__name__, *filter(None, [inside])])
    options = {key: value for key, value in getattr(dataset, "options", {}).items() if value is not None}
    name += "".join(f" {key}={value}" for key, value in sorted(options.items()))
    indices = getattr(dataset, "_indices", None)
    if indices is not None:
        raw = np.asarray(list(indices), dtype="<i8").tobytes()
        name += f" subset {hashlib.sha256(raw).hexdigest()[:12]}"
    return name
