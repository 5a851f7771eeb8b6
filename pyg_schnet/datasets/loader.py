"""Mini-batches by indexing collated tensors, without a Python object for each structure."""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.utils.data
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset
from torch_geometric.data import Batch, Data, Dataset, InMemoryDataset
from torch_geometric.data.storage import N_KEYS

from pyg_schnet.batching import LAYOUT
from pyg_schnet.datasets.base import StructureDataset
from pyg_schnet.datasets.sequence import Structures, as_dataset
from pyg_schnet.datasets.strings import Strings

#: Keys by which PyG knows that a Data has nodes.
_TELL_NODES = {"num_nodes", "x", "pos", "batch", "adj", "adj_t", "edge_index", "face"}


class StructureLoader(torch.utils.data.DataLoader):
    """Mini-batches as those of PyG's ``DataLoader``, an order of magnitude faster.

    PyG cuts a ``Data`` out of the collated tensors for each structure and joins them again; here the rows of all
    structures of a batch are gathered at once. The batches are the same: ``batch``, ``ptr``, keys with "index" raised
    by the atoms before them, ``num_graphs``, ``to_data_list()``; so is their order for the same ``generator``.

    Datasets that need an object for each structure take PyG's path, with the same result at PyG's speed; the reason is
    in :attr:`why_slow`. They are: those with a ``transform`` (a ``pre_transform`` such as
    :class:`~pyg_schnet.transforms.RadiusGraph` costs nothing here and caches the edges), those not in memory, those of
    a single structure of PyG's own kind, and those with other than tensors and strings.

    A key that some structures lack is filled with what absence means, see :func:`pyg_schnet.batching.completed`. A
    batch may be changed in place; neither the dataset nor another batch sees it.

    Args:
        dataset: The structures: a dataset, a subset (``dataset[indices]`` or torch's ``Subset``), a list of ``Data``,
            torch's ``ConcatDataset``, or anything else that :func:`~pyg_schnet.datasets.as_dataset` takes.
        batch_size: Structures in a batch.
        shuffle: True to draw a new order for each epoch.
        device: Where batches are assembled. The structures are moved there once, those of a subset only; ``None``
            leaves them where they are.
        seed: Seed of the order; without it torch's global generator decides, or ``generator``.
        **options: Passed to torch's ``DataLoader``: ``drop_last``, ``sampler``, ``batch_sampler``, ``generator``,
            ``num_workers``, ...

    Raises:
        TypeError: For ``follow_batch`` and ``exclude_keys`` of PyG's ``DataLoader``.
        ValueError: If options contradict each other.

    Example:
        >>> import tempfile
        >>> from pyg_schnet.datasets import MD17
        >>> dataset = MD17(tempfile.mkdtemp(), "ethanol_xtb", log=False)
        >>> batch = next(iter(StructureLoader(dataset, batch_size=32, shuffle=True, seed=0)))
        >>> batch.num_graphs, batch.pos.shape
        (32, torch.Size([288, 3]))
    """

    def __init__(
        self,
        dataset: Dataset | Subset | ConcatDataset | Sequence[Data],
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        *,
        device: str | torch.device | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        for name in ("follow_batch", "exclude_keys"):
            if options.pop(name, None):
                raise TypeError(f"StructureLoader has no `{name}`; use PyG's DataLoader")
        if batch_size is None and options.get("batch_sampler") is None:
            raise ValueError("`batch_size` must be a positive number, got None")
        if seed is not None:
            if options.get("generator") is not None:
                raise ValueError("expected `seed` or `generator`, got both")
            options["generator"] = torch.Generator().manual_seed(seed)
        structures = dataset if isinstance(dataset, _Structures) else _Structures(dataset, device)
        on_host = structures.device is None or structures.device.type == "cpu"
        if not on_host and options.get("num_workers"):
            raise ValueError(f"batches on {structures.device} are assembled by one process; leave out `num_workers`")
        options["collate_fn"] = _as_it_is
        super().__init__(structures, batch_size, shuffle, **options)

    @property
    def why_slow(self) -> str | None:
        """Why batches are made from an object for each structure; ``None`` if they are not."""
        return self.dataset.why_slow  # type: ignore[attr-defined]


def _as_it_is(batch: Batch) -> Batch:
    return batch


class _Structures(torch.utils.data.Dataset):
    """A dataset whose structures are had many at a time, as one batch."""

    def __init__(self, dataset: Any, device: str | torch.device | None) -> None:
        self.structures, self.device = as_dataset(dataset), None if device is None else torch.device(device)
        self.why_slow = _obstacle(self.structures)
        if self.why_slow is not None:
            return
        stored: Any = self.structures
        self.collated = _Collated(stored._data, stored.slices)
        self.positions = torch.tensor(list(stored.indices()), dtype=torch.long)
        if self.device is not None and self.device != self.collated.device:
            if len(self.positions) < self.collated.size:  # a subset does not move what it does not need
                self.collated = self.collated.select(self.positions)
                self.positions = torch.arange(self.collated.size)
            self.collated.to(self.device)

    def __len__(self) -> int:
        return len(self.structures)

    def __getitem__(self, position: int) -> Data:
        return self.structures[position]

    def __getitems__(self, indices: list[int]) -> Batch:
        if self.why_slow is None:
            return self.collated.batch(self.positions[torch.tensor(indices, dtype=torch.long)])
        batch = Batch.from_data_list([self.structures[int(index)] for index in indices])
        return batch if self.device is None else batch.to(self.device)


def _obstacle(dataset: Any) -> str | None:
    """Why the structures of a dataset cannot be gathered from its tensors; ``None`` if they can."""
    if not isinstance(dataset, InMemoryDataset):
        return "the structures are not in the memory of an InMemoryDataset"
    if dataset.transform is not None:
        return "`transform` wants an object for each structure"
    own = type(dataset)
    if (
        own.get not in {InMemoryDataset.get, StructureDataset.get, Structures.get}
        or own.__getitem__ is not Dataset.__getitem__
    ):
        return f"{own.__name__} has its own way of giving a structure"
    if type(dataset._data) is not Data:
        return f"the structures are {type(dataset._data).__name__}, not Data"
    if not dataset.slices:
        return "there is a single structure"
    return _obstacle_in(dataset._data, dataset.slices)


def _obstacle_in(data: Data, slices: dict[str, Any]) -> str | None:
    keys = [key for key in slices if key in data]
    for key, shape in LAYOUT.items():
        if key in keys and isinstance(data[key], Tensor) and data[key].shape[1:] != shape:
            return f"`{key}` is not kept as [1, {', '.join(map(str, shape))}] in each structure"
    for key in keys:
        value, plain = data[key], type(slices[key]) is Tensor and slices[key].dim() == 1
        if type(value) is Tensor:
            plain = plain and value.layout == torch.strided and not value.is_nested and value.dim() > 0
            plain = plain and not (value.dtype == torch.bool and _is_raised(key))  # PyG turns these into integers
        else:
            words = isinstance(value, list) and {type(one) for one in value} <= {str, type(None)}
            plain = plain and (words or isinstance(value, Strings))
        if not plain or "batch" in key or key in {"ptr", "num_nodes"}:
            return f"`{key}` is neither a plain tensor nor a list of strings"
    if _key_of_nodes(data, keys) is None and _tells_nodes(data, keys):
        return "the number of atoms of a structure has to be guessed"
    if _key_of_nodes(data, keys) is None and any(map(_is_raised, keys)):
        return "the number of atoms of a structure is not known"
    return None


def _is_raised(key: str) -> bool:
    """True if PyG raises a key by the number of nodes of the structures before (``Data.__inc__``)."""
    return "index" in key or key == "face"


def _tells_nodes(data: Data, keys: list[str]) -> bool:
    return hasattr(data._store, "_num_nodes") or any(key in _TELL_NODES or "node" in key for key in keys)


def _key_of_nodes(data: Data, keys: list[str]) -> str | None:
    """The key that PyG counts nodes by; "" if the numbers themselves are stored."""
    if hasattr(data._store, "_num_nodes"):
        return "" if all(isinstance(number, int) for number in data._num_nodes) else None
    tensors = [key for key in keys if isinstance(data[key], Tensor)]
    return next((key for key in tensors if key in N_KEYS), next((key for key in tensors if "node" in key), None))


class _Ranges:
    """Where each structure begins in tensors that are collated alike."""

    def __init__(self, starts: Tensor) -> None:
        self.starts, self.counts = starts, starts.diff()
        first = int(self.counts[0]) if len(self.counts) else 0
        #: Rows of a structure if all have equally many and lie one after the other.
        self.each = first if torch.equal(starts, first * torch.arange(len(starts))) else None
        self._last: _Chosen | None = None

    def of(self, chosen: Tensor, device: torch.device) -> "_Chosen":
        """Ranges of some structures.

        Args:
            chosen: Their positions [B] on the CPU.
            device: Where the rows lie.
        """
        if self.each is None:
            return self._gathered(chosen, device)
        if self._last is None or len(self._last.slices) != len(chosen) + 1 or self._last.owner.device != device:
            owner = torch.arange(len(chosen), device=device).unsqueeze(1).expand(-1, self.each).flatten()
            self._last = _Chosen(torch.arange(len(chosen) + 1) * self.each, owner, None)
        return self._last

    def _gathered(self, chosen: Tensor, device: torch.device) -> "_Chosen":
        counts = self.counts[chosen]
        slices = torch.zeros(len(chosen) + 1, dtype=torch.long)
        torch.cumsum(counts, 0, out=slices[1:])
        # sizes are known here, so that nothing is asked of the device
        total, structures = int(slices[-1]), torch.arange(len(chosen), device=device)
        owner = torch.repeat_interleave(structures, counts.to(device), output_size=total)
        shifts = (self.starts[chosen] - slices[:-1]).to(device)
        rows = shifts.index_select(0, owner).add_(torch.arange(total, device=device))
        return _Chosen(slices, owner, rows)


class _Chosen(NamedTuple):
    slices: Tensor  # [B + 1] on the CPU, where each structure of the batch begins
    owner: Tensor  # [rows], the structure of each row
    rows: Tensor | None  # [rows], their positions in the whole; None if all structures have equally many


class _Field(NamedTuple):
    key: str
    kind: int  # which of the kinds of ranges
    dim: int  # along which structures are concatenated
    values: Any  # tensor or list; a tensor of equally many rows has a dimension of structures before that of rows


class _Collated:
    """Tensors of many structures, from which batches are gathered."""

    def __init__(self, data: Data, slices: dict[str, Tensor]) -> None:
        keys = [key for key in slices if key in data]
        self.size, self.ranges = len(slices[keys[0]]) - 1, list[_Ranges]()
        self.fields = [self._field(data, key, slices[key].cpu()) for key in keys]
        self.numbers = torch.tensor(data._num_nodes) if hasattr(data._store, "_num_nodes") else None
        if self.numbers is not None:
            self.nodes: int | None = self._kind(torch.cat([torch.zeros(1, dtype=torch.long), self.numbers.cumsum(0)]))
        else:
            self.nodes = next((field.kind for field in self.fields if field.key == _key_of_nodes(data, keys)), None)
        devices = [field.values.device for field in self.fields if isinstance(field.values, Tensor)]
        self.device = devices[0] if devices else torch.device("cpu")
        self.empty = Batch(_base_cls=Data)  # copied for each batch, because PyG takes long to make one

    def _field(self, data: Data, key: str, starts: Tensor) -> _Field:
        kind, values = self._kind(starts), data[key]
        if not isinstance(values, Tensor):
            return _Field(key, kind, 0, values)
        dim, each = data.__cat_dim__(key, values) % values.dim(), self.ranges[kind].each
        return _Field(key, kind, dim, values if each is None else values.unflatten(dim, (self.size, each)))

    def _kind(self, starts: Tensor) -> int:
        for kind, ranges in enumerate(self.ranges):
            if torch.equal(ranges.starts, starts):
                return kind
        self.ranges.append(_Ranges(starts))
        return len(self.ranges) - 1

    def to(self, device: torch.device) -> None:
        """Move the tensors; where structures begin stays on the CPU."""
        self.fields = [
            field._replace(values=field.values.to(device)) if isinstance(field.values, Tensor) else field
            for field in self.fields
        ]
        self.device = torch.empty(0, device=device).device  # "cuda" becomes "cuda:0"

    def select(self, chosen: Tensor) -> "_Collated":
        """Some of the structures, collated."""
        batch = self.batch(chosen, raised=False)
        slices = batch._slice_dict
        return _Collated(batch, slices)

    def batch(self, chosen: Tensor, raised: bool = True) -> Batch:
        """Structures as a batch.

        Args:
            chosen: Their positions [B] on the CPU.
            raised: True if keys with "index" are raised by the numbers of atoms of the structures before.
        """
        batch, device = copy.copy(self.empty), self.device
        found = [ranges.of(chosen, device) for ranges in self.ranges]
        on_device, zeros = chosen.to(device), torch.zeros(len(chosen), dtype=torch.long)
        ptr = zeros if self.nodes is None else found[self.nodes].slices
        store, slices = batch._store._mapping, {}
        incs: dict[str, Tensor | None] = {}
        for key, kind, dim, values in self.fields:
            slices[key] = found[kind].slices
            if not isinstance(values, Tensor):
                store[key], incs[key] = [values[index] for index in chosen.tolist()], None
                continue
            store[key], incs[key] = _gather(values, dim, found[kind].rows, on_device), zeros
            if raised and _is_raised(key):
                incs[key] = ptr[:-1]
                store[key] += ptr[:-1].to(device, values.dtype).index_select(0, found[kind].owner)
        if self.numbers is not None:
            batch._num_nodes = self.numbers[chosen].tolist()
            store["num_nodes"] = int(ptr[-1])
        if self.nodes is not None:
            store["batch"], store["ptr"] = found[self.nodes].owner.clone(), ptr.to(device, copy=True)
        batch._store.__dict__.update(_num_graphs=len(chosen), _slice_dict=slices, _inc_dict=incs)
        return batch


def _gather(values: Tensor, dim: int, rows: Tensor | None, structures: Tensor) -> Tensor:
    if rows is not None:
        return values.index_select(dim, rows)
    return values.index_select(dim, structures).flatten(dim, dim + 1)
