"""A GPU that there is not: tensors that say ``cuda:0``, and counts of what a real one would have to do.

Their values are on the CPU. Operations between devices are refused where CUDA refuses them; launches of kernels and
waits of the host are counted by file and line, and so is memory. Steps are recorded as CUDA graphs and played again.
Triton's kernels are computed by operations of torch, a launch each.
"""

import collections
import contextlib
import traceback
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

import pyg_schnet
from pyg_schnet.fast import convolution
from pyg_schnet.fast.gpu import convolution as gpu_convolution

CUDA = torch.device("cuda", 0)
_ROOT = f"{Path(pyg_schnet.__file__).parent}/"
#: Operations that launch nothing: views, and memory without values.
_FREE = {
    *("_local_scalar_dense", "_reshape_alias", "_unsafe_view", "alias", "as_strided", "detach", "diagonal", "empty"),
    *("empty_like", "empty_strided", "expand", "lift_fresh", "new_empty", "new_empty_strided", "permute", "reshape"),
    *("select", "slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold", "unsqueeze"),
    "view",
}
#: Operations for whose result the host waits, and how often.
_WAITS = {
    **dict.fromkeys(("_linalg_check_errors", "_local_scalar_dense", "_unique2", "equal", "is_nonzero", "item"), 1),
    **dict.fromkeys(("masked_select", "nonzero", "unique_consecutive", "unique_dim"), 1),
    "bincount": 2,
}
#: Operations that add numbers by atomics on a GPU, so that sums are rounded in another way each time.
_ATOMIC = {"index_add", "index_add_", "scatter_add", "scatter_add_"}
#: Operations on some places of a tensor, which may add.
_PUTS = {"_index_put_impl_", "index_put", "index_put_"}


class Gpu:
    """What was done on the device.

    Attributes:
        launches: Kernels by name and place in the package.
        waits: Waits of the host.
        atomic: Sums by atomics, whose order is another one each time.
        mixed: Operations between devices.
        nodes: Kernels of each recording, in order.
        replays: Number of replays.
        peak: Largest number of bytes that were in use at a time.
    """

    def __init__(self) -> None:
        self.recording: Recording | None = None
        self.nodes: list[collections.Counter[tuple[str, str]]] = []
        self._held: collections.Counter[int] = collections.Counter()
        self._bytes: dict[int, int] = {}
        self.in_use = 0
        self._watched: dict[int, Any] = {}
        self.clear()

    def clear(self) -> None:
        """Count anew."""
        self.launches: collections.Counter[tuple[str, str]] = collections.Counter()
        self.waits: collections.Counter[tuple[str, str]] = collections.Counter()
        self.atomic: collections.Counter[tuple[str, str]] = collections.Counter()
        self.mixed: list[tuple[str, str]] = []
        self.replays, self.peak = 0, self.in_use

    def count(self, name: str, waits: int, launches: bool, adds: bool = False) -> None:
        """Count an operation."""
        place = _place()
        if waits:
            if self.recording is not None:
                raise RuntimeError(f"operation not permitted when stream is capturing: {name} at {place}")
            self.waits[name, place] += waits
        if launches:
            (self.launches if self.recording is None else self.recording.nodes)[name, place] += 1
            if adds:
                self.atomic[name, place] += 1

    def watch(self, tensor: "OnGpu") -> None:
        """Follow the memory of a tensor until nobody holds it."""
        storage = tensor.inner.untyped_storage()
        place, size = storage.data_ptr(), storage.nbytes()
        if size == 0:
            return
        if self._held[place] == 0:
            self._bytes[place] = size
            self.in_use += size
            self.peak = max(self.peak, self.in_use)
        self._held[place] += 1
        key = id(tensor)
        self._watched[key] = weakref.ref(tensor, lambda _: self._let_go(key, place))

    def _let_go(self, key: int, place: int) -> None:
        self._watched.pop(key, None)
        self._held[place] -= 1
        if self._held[place] == 0:
            self.in_use -= self._bytes.pop(place)

    @property
    def total(self) -> tuple[int, int]:
        """Number of launches and of waits."""
        return sum(self.launches.values()), sum(self.waits.values())

    def report(self, most: int = 40) -> str:
        """All of it in words, for whoever looks for what to leave out."""
        lines = [f"{self.total[0]} launches, {self.total[1]} waits, {len(self.mixed)} mixed, {self.replays} replays"]
        for title, counter in (("wait", self.waits), ("launch", self.launches), ("atomic", self.atomic)):
            lines += [f"{title} {number:4d} {name:28s} {where}" for (name, where), number in counter.most_common(most)]
        return "\n".join(lines)


class Recording:
    """A CUDA graph: operations on tensors that stay where they are."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.calls: list[tuple[Callable[..., Any], Any, Any, Any]] = []
        self.nodes: collections.Counter[tuple[str, str]] = collections.Counter()
        self.outside: dict[int, tuple[Any, Any]] = {}
        self.inside: dict[int, Any] = {}

    def before(self, tree: Any) -> None:
        """Remember memory from outside as it was."""
        for storage in _storages(tree):
            if storage.data_ptr() not in self.inside:
                self.outside.setdefault(storage.data_ptr(), (storage, storage.clone()))

    def after(self, function: Callable[..., Any], args: Any, kwargs: Any, out: Any) -> None:
        """Keep an operation."""
        for storage in _storages(out):
            if storage.data_ptr() not in self.outside:
                self.inside[storage.data_ptr()] = storage
        self.calls.append((function, args, kwargs, out))

    def undo(self) -> None:
        """A recording computes nothing."""
        for storage, before in self.outside.values():
            storage.copy_(before)

    def replay(self) -> None:
        """Play all of it again."""
        self.gpu.replays += 1
        self.gpu.launches["replay", _place()] += 1
        with torch.no_grad():
            for function, args, kwargs, out in self.calls:
                again = function(*args, **kwargs)
                for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


def _storages(tree: Any) -> list[Any]:
    return [one.untyped_storage() for one in tree_leaves(tree) if isinstance(one, Tensor) and one.numel()]


_gpu = Gpu()


class OnGpu(torch.Tensor):
    """A tensor on the device that there is not; ``inner`` are its values."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "OnGpu":
        own: OnGpu = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device="cpu",
            requires_grad=False,
        )
        own.inner = inner
        _gpu.watch(own)
        return own

    def __repr__(self) -> str:
        return f"OnGpu({self.inner})"

    def __deepcopy__(self, memo: dict[int, Any]) -> "OnGpu":
        if id(self) in memo:
            known: OnGpu = memo[id(self)]
            return known
        copied = OnGpu(self.detach().inner.clone()).requires_grad_(self.requires_grad)
        if getattr(self, "_is_param", False):
            copied._is_param = True
        memo[id(self)] = copied
        return copied

    device = property(lambda self: CUDA)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]

    def get_device(self) -> int:
        return 0

    def cpu(self) -> Tensor:
        return self.to("cpu")

    def tolist(self) -> Any:
        _gpu.count("tolist", 1, False)
        return self.detach().inner.tolist()

    def numpy(self, **options: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def __array__(self, *arguments: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def untyped_storage(self) -> Any:
        return self.inner.untyped_storage()

    def to(self, *arguments: Any, **options: Any) -> Any:
        copied = options.pop("copy", False)
        if arguments and isinstance(arguments[0], Tensor):
            arguments = (arguments[0].device, arguments[0].dtype, *arguments[1:])
        device, dtype, *_ = torch._C._nn._parse_to(*arguments, **options)
        if device is not None and device.type == "cpu":
            _gpu.count("to the CPU", 1, False)
            values = self.detach().inner
            return values.to(dtype) if dtype not in {None, values.dtype} else values.clone()
        if dtype is not None and dtype != self.dtype:
            return torch.Tensor.to(self, dtype)
        return self.clone() if copied else self

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


def _indexed(device: Any) -> torch.device:
    return CUDA if torch.device(device).type == "cuda" else torch.device(device)


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, OnGpu) else value


def _waits(name: str, args: Any, kwargs: Any, here: list[Tensor], others: list[Tensor]) -> int:
    """How often the host waits for an operation, which is refused if it mixes devices."""
    to_gpu = kwargs.get("device") is not None and torch.device(kwargs["device"]).type == "cuda"
    if others and here:
        if name == "copy_" and args[2:3] == (True,) and getattr(args[1], "pinned_here", False):
            return 0
        if name in {"copy_", "_to_copy"} or (name in {"index", *_PUTS} and isinstance(args[0], OnGpu)):
            return 1
        if any(one.dim() > 0 for one in others):
            _gpu.mixed.append((name, _place()))
            raise RuntimeError(f"{name}: expected all tensors to be on the same device, cuda:0 and cpu, at {_place()}")
    elif name == "_to_copy" and to_gpu and not here:
        sent = bool(kwargs.get("non_blocking")) and getattr(args[0], "pinned_here", False)
        return 0 if sent else 1  # the way back is the method `to`: autograd takes these tensors for the CPU's
    if name == "index" and any(isinstance(one, OnGpu) and one.dtype == torch.bool for one in args[1]):
        return 1
    if name == "repeat_interleave" and kwargs.get("output_size") is None and len(args) == 1:
        return 1
    return _WAITS.get(name, 0)


def _on_cpu(kwargs: Any) -> Any:
    """The same options for the values."""
    own = dict(kwargs)
    if own.get("device") is not None:
        own["device"] = torch.device("cpu")
    if own.get("pin_memory"):
        own["pin_memory"] = False
    return tree_map(_inner, own)


def _run(function: Any, args: Any, kwargs: Any) -> Any:
    """An operation on the device."""
    schema = function._schema
    name = schema.name.split("::")[1]
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
    here = [one for one in tensors if isinstance(one, OnGpu)]
    waits = _waits(name, args, kwargs, here, [one for one in tensors if not isinstance(one, OnGpu)])
    adds = name in _ATOMIC or (name in _PUTS and len(args) > 3 and args[3])
    _gpu.count(name, waits, name not in _FREE, adds and any(one.is_floating_point() for one in here))
    given, options = tree_map(_inner, args), _on_cpu(kwargs)
    recording = _gpu.recording
    if recording is not None:
        recording.before((given, options))
    out = function(*given, **options)
    if recording is not None:
        recording.after(function, given, options, out)
    if name == "_local_scalar_dense" or not schema.returns:
        return out
    if "out" in kwargs:
        return kwargs["out"]
    written = [
        value
        for value, argument in zip([*args, *kwargs.values()], schema.arguments, strict=False)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    if schema.is_mutable and name.endswith("_") and written:
        return written[0]
    return tree_map(lambda one: OnGpu(one) if isinstance(one, Tensor) else one, out)


class _Mode(TorchDispatchMode):
    """Sends what is made on the device, or of tensors there, to it."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        device = kwargs.get("device")
        if kwargs.get("pin_memory"):
            pinned = function(*args, **(kwargs | {"pin_memory": False}))
            pinned.pinned_here = True
            return pinned
        there = device is not None and torch.device(device).type == "cuda"
        if there or any(isinstance(one, OnGpu) for one in tree_leaves((args, kwargs))):
            return _run(function, args, kwargs)
        return function(*args, **kwargs)


def _place() -> str:
    """Where in the package this is."""
    frames = [frame for frame in traceback.extract_stack(limit=60) if frame.filename.startswith(_ROOT)]
    return f"{frames[-1].filename.removeprefix(_ROOT)}:{frames[-1].lineno}" if frames else "outside"


class _Stream:
    cuda_stream = 0

    def __init__(self, device: Any = None) -> None:
        self.device = device

    def wait_stream(self, other: "_Stream") -> None:
        pass


class _Graph:
    """Stands for ``torch.cuda.CUDAGraph``."""

    def __init__(self) -> None:
        self.recording = Recording(_gpu)

    def replay(self) -> None:
        self.recording.replay()

    def pool(self) -> tuple[int, int]:
        return 0, 1


@contextlib.contextmanager
def _graph(graph: _Graph, pool: Any = None, stream: Any = None, capture_error_mode: str = "global") -> Iterator[None]:
    _gpu.recording = graph.recording
    try:
        yield
    finally:
        _gpu.recording = None
        graph.recording.undo()
    _gpu.nodes.append(graph.recording.nodes)


@contextlib.contextmanager
def pretended_gpu(kernels: bool = True) -> Iterator[Gpu]:
    """Inside, ``torch.device("cuda")`` is a device that counts.

    Args:
        kernels: True if Triton is there.

    Yields:
        The counts.
    """
    moved = torch.Tensor.to

    def to(self: Tensor, *arguments: Any, **options: Any) -> Tensor:
        if arguments and isinstance(arguments[0], OnGpu):
            arguments = (CUDA, arguments[0].dtype, *arguments[1:])
        elif arguments and isinstance(arguments[0], str | torch.device):
            arguments = (_indexed(arguments[0]), *arguments[1:])
        if options.get("device") is not None:
            options["device"] = _indexed(options["device"])
        return moved(self, *arguments, **options)

    _gpu.__init__()  # type: ignore[misc]
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setattr(torch.Tensor, "to", to)
        for name, stand_in in (
            ("_lazy_init", lambda: None),
            ("is_available", lambda: True),
            ("is_current_stream_capturing", lambda: _gpu.recording is not None),
            ("current_stream", lambda device=None: _Stream(device)),
            ("Stream", _Stream),
            ("stream", lambda stream: contextlib.nullcontext()),
            ("device", lambda device: contextlib.nullcontext()),
            ("CUDAGraph", _Graph),
            ("graph", _graph),
            ("graph_pool_handle", lambda: (0, 1)),
            ("synchronize", lambda device=None: _gpu.count("synchronize", 1, False)),
        ):
            patch.setattr(torch.cuda, name, stand_in)
        grouped = torch.optim.Optimizer._group_tensors_by_device_and_dtype

        def by_device(tensors: Any, with_indices: bool = False) -> Any:  # C++ takes them for the CPU's
            there = any(isinstance(one, OnGpu) for one in tree_leaves(tensors))
            groups = grouped(tensors, with_indices)
            return {(CUDA if there else device, kind): group for (device, kind), group in groups.items()}

        patch.setattr(torch.optim.Optimizer, "_group_tensors_by_device_and_dtype", staticmethod(by_device))
        usual = convolution.is_plain
        patch.setattr(
            convolution,
            "is_plain",
            lambda tensor, weight=False, device="cpu": (
                device == "cuda" if isinstance(tensor, OnGpu) else usual(tensor, weight, device)
            ),
        )
        patch.setattr(convolution, "_installed_gpu_loops", lambda: gpu_convolution if kernels else None)
        patch.setattr(gpu_convolution, "_launch", _launch)
        # weights that are moved become other parameters: their places in memory cannot be exchanged
        before = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, before)
        torch._C._set_only_lift_cpu_tensors(True)
        stack.callback(torch._C._set_only_lift_cpu_tensors, False)
        stack.enter_context(_Mode())
        yield _gpu


# Triton's kernels.


def _launch(kernel: Any, programs: tuple[int, ...], tile: Any, *given: Any) -> None:
    """Compute what a kernel does by operations of torch."""
    by_name = {"nodes_kernel": _nodes, "edges_kernel": _edges, "intervals_kernel": _intervals, "knots_kernel": _knots}
    name = next(name for name in by_name if getattr(gpu_convolution.gpu_loops, name) is kernel)
    function = by_name[name]
    for one in given:
        if isinstance(one, Tensor) and not isinstance(one, OnGpu):
            _gpu.mixed.append((name, _place()))
            raise RuntimeError(f"{name}: an argument is on the CPU, at {_place()}")
    _gpu.count(f"triton {name}", 0, True)
    arguments = [_inner(one.detach()) if isinstance(one, Tensor) else one for one in given]
    if _gpu.recording is not None:
        _gpu.recording.before(arguments)
        _gpu.recording.after(function, arguments, {}, None)
    with torch.no_grad():
        function(*arguments)


def _splines(place: Tensor, pieces: Any, degree: int) -> Tensor:
    """The six splines of each edge [6, E]."""
    rows = []
    for m in range(6):
        value = torch.full_like(place, pieces[m][degree])
        for power in range(degree):
            value = value * place + pieces[m][degree - 1 - power]
        rows.append(value)
    return torch.stack(rows)


def _filters(c: Tensor, row: Tensor, splines: Tensor) -> Tensor:
    return sum(splines[m].unsqueeze(1) * c[row.long() + m].to(splines.dtype) for m in range(6))  # type: ignore[return-value]


def _nodes(y: Any, x: Any, c: Any, pointer: Any, other: Any, edge: Any, row: Any, *rest: Any) -> None:
    place, s, _, scale, pieces, degree, weighted = rest
    t = _filters(c, row[edge.long()], _splines(place[edge.long()], pieces, degree))
    if weighted:
        t = t * s[edge.long()].unsqueeze(1)
    target = torch.arange(len(pointer) - 1).repeat_interleave(pointer.diff().long())
    y.copy_(y.new_zeros(y.shape).index_add_(0, target, (t * x[other.long()].to(t.dtype)).to(y.dtype)) * scale)


def _product(g: Any, x: Any, i: Any, j: Any, symmetric: bool) -> Tensor:
    h: Tensor = g[i] * x[j]
    return h + g[j] * x[i] if symmetric else h


def _edges(a: Any, slope: Any, g: Any, x: Any, c: Any, target: Any, source: Any, *rest: Any) -> None:
    row, place, _, _, scale, slope_scale, pieces, degree, slopes, sloped, symmetric = rest
    h = _product(g, x, target.long(), source.long(), symmetric).to(a.dtype)
    a.copy_((h * _filters(c, row, _splines(place, pieces, degree))).sum(1) * scale)
    if sloped:
        slope.copy_((h * _filters(c, row, _splines(place, slopes, degree - 1))).sum(1) * slope_scale)


def _intervals(parts: Any, g: Any, x: Any, target: Any, source: Any, pointer: Any, edge: Any, *rest: Any) -> None:
    place, s, splits, _, pieces, degree, weighted, symmetric = rest
    edge = edge.long()
    h = _product(g, x, target.long()[edge], source.long()[edge], symmetric).to(parts.dtype)
    if weighted:
        h = h * s[edge].unsqueeze(1)
    interval = torch.arange(len(pointer) - 1).repeat_interleave(pointer.diff().long())
    splines = _splines(place[edge], pieces, degree)
    parts.zero_()
    for m in range(6):
        parts[:, m].index_add_(0, interval * splits, splines[m].unsqueeze(1) * h)


def _knots(c: Any, parts: Any, intervals: int, splits: int, size: int, scale: float) -> None:
    c.zero_()
    by_interval = parts.view(intervals, splits, 6, -1).sum(1)
    for m in range(6):
        c[m : m + intervals] += by_interval[:, m] * scale
