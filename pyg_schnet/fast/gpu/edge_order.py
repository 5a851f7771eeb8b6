"""How the edges of one set of distances lie: where in the table, and in which order the GPU's programs read them.

Programs without atomics need the edges of each node, or of each interval between two knots, one after the other. All
blocks of a model and all derivatives read the same edges, so their order is kept as long as the tensor of distances
lives. It is forgotten when PyTorch counts a change in place of one of the tensors. PyTorch does not count what NumPy,
other kernels or replayed CUDA graphs write: such code makes new distances each time, or uses :func:`forgetting`.
Nothing here waits for the device.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from pyg_schnet.fast.bspline import SUPPORT
from pyg_schnet.fast.operands import Pairs

_lock = threading.RLock()
#: What is kept of one tensor of distances, at most: more than one model asks for.
MOST = 32


class KnotGrid(NamedTuple):
    """Knots: the first in Angstrom, the distance between two in Angstrom, the number of coefficients."""

    start: float
    spacing: float
    size: int


class Places(NamedTuple):
    """First of the six rows of the table that count [E] int32, and the position between two knots [E]."""

    row: Tensor
    place: Tensor


class Sorted(NamedTuple):
    """Edges by group: where each group begins [groups + 1], the edges [L], and their other ends [L]."""

    pointer: Tensor
    edge: Tensor
    other: Tensor


def places(d: Tensor, grid: KnotGrid) -> Places:
    """Where distances lie between the knots."""
    return _kept(d, ("places", grid), (), lambda: _places(d, grid))


def by_node(pairs: Pairs, targets: int, sources: int, symmetric: bool) -> Sorted:
    """The edges of each target; with ``symmetric`` those of which it is either end."""
    ends, name = (pairs.target, pairs.source), ("nodes", targets, sources, symmetric)
    return _kept(pairs.d, name, ends, lambda: _by_node(*ends, targets, sources, symmetric))


def by_interval(d: Tensor, grid: KnotGrid) -> Sorted:
    """The edges with distances between each two knots; those beyond the ends count to the outermost intervals."""
    return _kept(d, ("intervals", grid), (), lambda: _group(places(d, grid).row, None, grid.size - SUPPORT + 1))


def ends_of(pairs: Pairs, nodes: int) -> tuple[Tensor, Tensor]:
    """Target and source of each edge, in 32 bits if that is enough: they are read once in each block."""
    if (known := held(pairs.target, pairs.source, nodes)) is not None:
        return known[1][1], known[1][0]
    if nodes >= 2**31:
        return pairs.target.contiguous(), pairs.source.contiguous()
    ends = pairs.target, pairs.source
    made: Callable[[], Any] = lambda: tuple(end.int().contiguous() for end in ends)  # noqa: E731
    found: tuple[Tensor, Tensor] = _kept(pairs.d, ("ends",), ends, made)
    return found


def _places(d: Tensor, grid: KnotGrid) -> Places:
    v = torch.add(_origin(grid, d.device), d.detach(), alpha=1.0 / grid.spacing)  # in float64
    # towards zero, below which all are zero; of what is no number some whole number, which is in the table afterwards
    row = v.int().clamp_(0, grid.size - SUPPORT)
    return Places(row, torch.sub(v, row, out=d.detach().new_empty(d.shape)))


@functools.lru_cache(maxsize=64)
def _origin(grid: KnotGrid, device: torch.device) -> Tensor:
    """Where a distance of zero lies between the knots [1] float64."""
    with torch.inference_mode(False):
        return torch.full((1,), -grid.start / grid.spacing, dtype=torch.float64, device=device)


def _by_node(target: Tensor, source: Tensor, targets: int, sources: int, symmetric: bool) -> Sorted:
    if symmetric and (known := held(target, source, targets)) is not None:
        return known[0]
    if symmetric:
        target, source = torch.cat([target, source]), torch.cat([source, target])
    kind = torch.int32 if max(targets, sources, len(target)) < 2**31 else torch.int64
    pointer, edge, other = _group(target.to(kind), source, targets)
    return Sorted(pointer, edge % (len(target) // 2) if symmetric else edge, other.to(kind))


def _group(key: Tensor, other: Tensor | None, groups: int) -> Sorted:
    """Edges in ascending order of a key, in their own order where keys are equal."""
    key, edge = torch.sort(key, stable=True)
    groups_from = torch.arange(groups + 1, dtype=key.dtype, device=key.device)
    pointer = torch.searchsorted(key, groups_from, out_int32=len(edge) < 2**31)
    found = edge if other is None else other[edge]
    return Sorted(pointer, edge.int() if len(edge) < 2**31 else edge, found)


# What is held by others.

_held: Any = WeakTensorKeyDictionary()  # of pairs of a recording: what follows from their ends, filled anew with them


def hold(pair_index: Tensor, nodes: int, order: Sorted, ends: Tensor) -> None:
    """Say how the edges of pairs lie, both directions of each, as long as their tensor lives.

    Args:
        pair_index: Source and target of each pair [2, P], a tensor that is filled anew from time to time.
        nodes: Number of nodes.
        order: Pairs by node, in tensors that are filled anew with it.
        ends: The pairs in 32 bits, likewise [2, P].
    """
    with _lock:
        _held[pair_index] = nodes, order, ends


def held(target: Tensor, source: Tensor, nodes: int) -> tuple[Sorted, Tensor] | None:
    """What :func:`hold` was told of the pairs with these ends."""
    root = target._base
    if root is None or root is not source._base or root.dim() != 2 or target.data_ptr() != root[1].data_ptr():
        return None
    with _lock:
        known, order, ends = _held.get(root, (None, None, None))
    return (order, ends) if known == nodes and source.data_ptr() == root.data_ptr() else None


# What is kept.

_made: Any = WeakTensorKeyDictionary()  # distances that a step has made itself


def made_here(d: Tensor) -> Tensor:
    """Distances that are computed anew in each step, so that what follows from them may be kept within it."""
    with _lock:
        _made[d] = True
    return d


_known: Any = WeakTensorKeyDictionary()  # of distances: their version, and what belongs to which name and tensors
_thread = threading.local()


@contextlib.contextmanager
def forgetting() -> Iterator[None]:
    """Inside, nothing is kept or taken from before: where memory is used again without PyTorch's counting changes."""
    before = getattr(_thread, "forgets", False)
    _thread.forgets = True
    try:
        yield
    finally:
        _thread.forgets = before


def _kept(d: Tensor, name: tuple, tensors: tuple[Tensor, ...], make: Callable[[], Any]) -> Any:
    """What was made before of the same distances and tensors, else made now."""
    state = _state(d, tensors)
    if state is None:
        return make()
    key = (*name, *state, *(_mark(tensor) for tensor in tensors))
    with _lock:
        version, known = _known.get(d, (None, None))
        if version != d._version or len(known) >= MOST:
            _known[d] = d._version, (known := {})
        if key not in known:  # the tensors are kept, too: another one cannot take their place in memory
            known[key] = make(), tensors
        return known[key][0]


def _state(d: Tensor, tensors: tuple[Tensor, ...]) -> tuple | None:
    """Where what is kept may be used; ``None`` if nowhere."""
    if getattr(_thread, "forgets", False) or d.is_inference() or any(tensor.is_inference() for tensor in tensors):
        return None
    if not d.is_cuda:
        return ()
    captured = torch.cuda.is_current_stream_capturing()
    if captured and d.grad_fn is None and d not in _made:  # perhaps an input of the graph, which will be filled anew
        return None
    return torch.cuda.current_stream(d.device).cuda_stream, captured


def _mark(tensor: Tensor) -> tuple:
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor._version
