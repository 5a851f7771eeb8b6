"""Sums over groups of rows on a GPU: in one order, without atomics, so that the same input gives the same bits.

The rows of each group are added one after the other. Which rows these are follows from the index alone and is kept as
long as the tensor lives; a search that knows it says so by :func:`provide`. Everything here is for tensors on a GPU
outside of compilers and transforms of ``torch.func``, see :func:`in_segments`; elsewhere ``index_add`` and
``index_select`` are as good.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from pyg_schnet.compat import in_transform, is_batched

#: Rows of a group, on average, from which on columns are summed by blocks of threads instead of one thread each.
LONG = 256
#: The most columns for which that is done.
FEW_COLUMNS = 16


class Segments(NamedTuple):
    """Rows by group.

    Attributes:
        order: Rows, those of each group one after the other [E]; ``None`` if they are so already.
        pointer: Where each group begins, and the number of rows [groups + 1].
    """

    order: Tensor | None
    pointer: Tensor


def in_segments(values: Tensor) -> bool:
    """True if sums of such values are made by segments.

    Args:
        values: Any tensor.

    Returns:
        True for floating-point numbers on a GPU of which it is known that they are numbers.
    """
    if not values.is_cuda or torch.compiler.is_compiling() or not values.is_floating_point():
        return False
    return not in_transform() and not is_batched(values)


def take(values: Tensor, index: Tensor) -> Tensor:
    """Rows of a tensor, whose derivative is a sum in one order.

    Args:
        values: Values [N, ...].
        index: Row of each result [E].

    Returns:
        Values [E, ...]; differentiable any number of times.

    Example:
        >>> take(torch.tensor([[1.0], [2.0]]), torch.tensor([1, 1, 0])).flatten()
        tensor([2., 2., 1.])
    """
    if not in_segments(values) or not (values.requires_grad and torch.is_grad_enabled()):
        return values.index_select(0, index)
    taken: Tensor = _Take.apply(values, index, segments_of(index, values.size(0)))
    return taken


def add_up(values: Tensor, index: Tensor, size: int, ascending: bool = False) -> Tensor:
    """Sum of the rows of each group.

    Args:
        values: Values [E, ...].
        index: Group of each row [E].
        size: Number of groups.
        ascending: True if groups ascend.

    Returns:
        Sums [size, ...]; differentiable any number of times.

    Example:
        >>> add_up(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1, 1, 0]), 3)
        tensor([4., 3., 0.])
    """
    if not in_segments(values):
        return values.new_zeros(size, *values.shape[1:]).index_add(0, index, values)
    if size == 1:  # of one structure
        return values.sum(0, keepdim=True)
    total: Tensor = _AddUp.apply(values, index, segments_of(index, size, ascending))
    return total


class _Take(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor, segments: Segments) -> Tensor:
        ctx.index, ctx.segments = index, segments
        return values.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        total = _AddUp.apply(g, ctx.index, ctx.segments) if in_segments(g) else _plain_sum(g, ctx.index, ctx.segments)
        return total, None, None


class _AddUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor, segments: Segments) -> Tensor:
        ctx.index, ctx.segments = index, segments
        return _reduced(values, segments)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        rows = _Take.apply(g, ctx.index, ctx.segments) if in_segments(g) else g.index_select(0, ctx.index)
        return rows, None, None


def _plain_sum(values: Tensor, index: Tensor, segments: Segments) -> Tensor:
    """Many at once, as for Jacobians."""
    return values.new_zeros(segments.pointer.size(0) - 1, *values.shape[1:]).index_add(0, index, values)


def _reduced(values: Tensor, segments: Segments) -> Tensor:
    order, pointer = segments
    groups, rows = pointer.size(0) - 1, values.size(0)
    if groups == 0 or values.numel() == 0:
        return values.new_zeros(groups, *values.shape[1:])
    values = values.contiguous() if order is None else values.index_select(0, order)
    columns = values[0].numel()
    if not (1 < columns <= FEW_COLUMNS and rows >= LONG * groups):
        flat = values.view(rows) if columns == 1 else values.view(rows, columns)
        return _segment_sum(flat, pointer).view(groups, *values.shape[1:])
    steps = torch.arange(0, columns * rows, rows, device=pointer.device).unsqueeze(1)
    places = torch.cat([(pointer[:-1] + steps).view(-1), pointer[-1:] * columns])  # one column behind the other
    total = _segment_sum(values.view(rows, columns).t().reshape(-1), places)
    return total.view(columns, groups).t().reshape(groups, *values.shape[1:])


def _segment_sum(values: Tensor, pointer: Tensor) -> Tensor:
    return torch.segment_reduce(values, "sum", offsets=pointer, axis=0, unsafe=True, initial=0)


# What is kept.

#: Stands for what is not known: a version that no tensor has.
_NOTHING = -1, None

_known: Any = WeakTensorKeyDictionary()  # of tensors of indices, or what they are views of: segments by place and size
_lock, _thread = threading.RLock(), threading.local()


@contextlib.contextmanager
def recording() -> Iterator[None]:
    """Inside, what a step makes is kept for this step alone: a recording fills its tensors anew.

    What is provided for tensors that a recording reads stays as long as they live, see :func:`provide`.
    """
    before = getattr(_thread, "made", None)
    _thread.made = {}
    try:
        yield
    finally:
        _thread.made = before


def provide(index: Tensor, size: int, segments: Segments | None, held: bool = False) -> None:
    """Say which rows belong to the groups of an index, so that nobody has to sort it.

    Args:
        index: Group of each row [E].
        size: Number of groups.
        segments: The rows; ``None`` if groups ascend, where each begins is then found when it is needed.
        held: True if the tensors of the segments are filled anew whenever the index is, as those of recorded steps.
    """
    made = getattr(_thread, "made", None)
    if made is not None and not held:
        # the tensor is kept, lest another takes its place
        made[index.data_ptr(), *_place(index, size)] = segments, index
        return
    if index.is_inference():
        return
    root = _root(index)
    with _lock:
        if root not in _known:
            _known[root] = {}
        _known[root][_place(index, size)] = None if held else root._version, segments


class Signed(NamedTuple):
    """Pairs by node, both ends of each, one of which counts with a minus.

    Attributes:
        pair: The pair of each entry [2 P].
        sign: One for its target, minus one for its source [2 P, 1].
        pointer: Where the entries of each node begin, and their number [N + 1].
    """

    pair: Tensor
    sign: Tensor
    pointer: Tensor


_signed: Any = WeakTensorKeyDictionary()


def provide_signed(pair_index: Tensor, size: int, signed: Signed) -> None:
    """Say how the ends of pairs lie, in tensors that are filled anew whenever the pairs are.

    Args:
        pair_index: Source and target of each pair [2, P].
        size: Number of nodes N.
        signed: The ends.
    """
    with _lock:
        _signed[pair_index] = size, signed


def differences(values: Tensor, pair_index: Tensor, size: int) -> Tensor:
    """Sums over the targets of pairs, less those over their sources.

    Args:
        values: A number or vector of each pair [P, ...], on a GPU.
        pair_index: Source and target of each [2, P].
        size: Number of nodes N.

    Returns:
        Sums [N, ...]; differentiable any number of times.
    """
    with _lock:
        known, signed = _signed.get(pair_index, (None, None))
    if known != size or signed is None or values.requires_grad:
        return add_up(values, pair_index[1], size) - add_up(values, pair_index[0], size)
    entries = values.index_select(0, signed.pair) * signed.sign
    return _reduced(entries, Segments(None, signed.pointer))


def both_ways(edge_index: Tensor, size: int) -> None:
    """Find out which edges belong to each node, where the second half of the edges are those of the first in reverse.

    Args:
        edge_index: Sources and targets [2, 2 P]: row 0 of one half is row 1 of the other.
        size: Number of nodes.
    """
    order, pointer = segments_of(edge_index[1], size)
    if order is None:  # no order was needed, nor is there one to turn around
        return
    pairs = edge_index.size(1) // 2
    provide(edge_index[0], size, Segments((order + pairs) % (2 * pairs) if pairs else order, pointer))


def segments_of(index: Tensor, size: int, ascending: bool = False) -> Segments:
    """The rows of each group of an index, kept or made now.

    Args:
        index: Group of each row [E].
        size: Number of groups.
        ascending: True if groups ascend.

    Returns:
        The rows.

    Example:
        >>> segments_of(torch.tensor([1, 0, 1]), 2)
        Segments(order=tensor([1, 0, 2]), pointer=tensor([0, 1, 3]))
    """
    place, made = _place(index, size), getattr(_thread, "made", None)
    if not index.is_inference():
        root = _root(index)
        with _lock:
            version, known = _known.get(root, {}).get(place, _NOTHING)
        if version is None or (version == root._version and made is None):
            if known is not None:
                segments: Segments = known
                return segments
            ascending = True
    if made is None:
        found = _segments(index, size, ascending)
        provide(index, size, found)
        return found
    own, _ = made.get((index.data_ptr(), *place), (_NOTHING, None))
    if own is None or own is _NOTHING:
        own = _segments(index, size, ascending or own is None)
        provide(index, size, own)
    given: Segments = own
    return given


def _segments(index: Tensor, size: int, ascending: bool) -> Segments:
    groups = torch.arange(size + 1, device=index.device, dtype=index.dtype)
    if ascending:
        return Segments(None, torch.searchsorted(index.contiguous(), groups))
    values, order = index.sort(stable=True)
    return Segments(order, torch.searchsorted(values, groups))


def _root(index: Tensor) -> Tensor:
    return index if index._base is None else index._base


def _place(index: Tensor, size: int) -> tuple[Any, ...]:
    return index.storage_offset(), index.shape, index.stride(), size
