"""The convolution on the CPU by compiled loops (extra ``fast``).

Threads share the features of nodes and tables, and the edges where there is one number for each. Every number is thus
computed by one thread in one order: the result does not depend on how many there are.
"""

from collections.abc import Callable

import torch
from numpy import ndarray
from torch import Tensor

from pyg_schnet.fast.cpu.arrays import edges_of, flat, padded, pieces_at, place_of
from pyg_schnet.fast.cpu.convolution_loops import (
    PIECE,
    SEGMENT,
    Features,
    KnotPlace,
    add_all,
    add_to_nodes,
    add_to_table,
    write_edges,
)
from pyg_schnet.fast.cpu.vectors import LANES
from pyg_schnet.fast.operands import Form, Pairs
from pyg_schnet.threads import share_out


def nodes(x: Tensor, c: Tensor, pairs: Pairs, num_targets: int, form: Form) -> Tensor:
    """The sum to nodes, see :func:`pyg_schnet.fast.to_nodes`."""
    size, (x, c) = x.size(1), map(padded, (x, c))
    y, edges, how = x.new_zeros(num_targets, x.size(1)), edges_of(pairs, num_targets, x.size(0)), _how(form, c.size(0))
    arrays = flat(y), flat(x), flat(c)
    _share_out_features(lambda part: add_to_nodes(*arrays, edges, *how, part, form.symmetric), x, pairs)
    return y[:, :size].contiguous()


def edges(g: Tensor, x: Tensor, c: Tensor, pairs: Pairs, form: Form) -> Tensor:
    """The numbers of edges, see :func:`pyg_schnet.fast.to_edges`."""
    g, x, c = map(padded, (g, x, c))
    count, size = len(pairs.d), x.size(1)
    a, edges, how = x.new_empty(count), edges_of(pairs, g.size(0), x.size(0)), _how(form, c.size(0))
    arrays = flat(a), flat(g), flat(x), flat(c)
    share_out(lambda *part: write_edges(*arrays, edges, *how, size, part, form.symmetric), count, PIECE, size)
    return a


def table(g: Tensor, x: Tensor, pairs: Pairs, size: int, form: Form) -> Tensor:
    """The sum to the table, see :func:`pyg_schnet.fast.to_table`."""
    features, (g, x) = x.size(1), map(padded, (g, x))
    c, edges, how = x.new_zeros(size, x.size(1)), edges_of(pairs, g.size(0), x.size(0)), _how(form, size)
    arrays = flat(c), flat(g), flat(x)
    _share_out_features(lambda part: add_to_table(*arrays, edges, *how, part, form.symmetric), x, pairs)
    return c[:, :features].contiguous()


def gradients(
    g: Tensor, x: Tensor, c: Tensor, pairs: Pairs, form: Form, wanted: tuple[bool, bool, bool, bool, bool]
) -> tuple[Tensor | None, ...]:
    """Gradients of the form with respect to g, x, c, d and s, those that are wanted, in one go."""
    features, (g, x, c) = x.size(1), map(padded, (g, x, c))
    edges, size, count = edges_of(pairs, g.size(0), x.size(0)), x.size(1), len(pairs.d)
    place, pieces = _how(form, c.size(0))
    how = place, (pieces, pieces_at(form.order + 1, form.spacing))
    kept = zip((g, x, c), wanted[:3], strict=True)
    results = [torch.zeros_like(one, memory_format=torch.contiguous_format) if need else None for one, need in kept]
    segments = -(-size // SEGMENT)
    slopes, sums = (x.new_zeros(segments, count) if need else None for need in wanted[3:])
    outputs = *(None if result is None else flat(result) for result in results), *map(_array, (slopes, sums))
    inputs = flat(g), flat(x), flat(c)
    share_out(
        lambda *part: add_all(*outputs, *inputs, edges, *how, (size, *part), form.symmetric), size, SEGMENT, count
    )
    of_edges = (None if parts is None else parts.sum(0) for parts in (slopes, sums))
    return *(None if result is None else result[:, :features].contiguous() for result in results), *of_edges


def _how(form: Form, size: int) -> tuple[KnotPlace, ndarray]:
    """Where the knots of a table with so many rows lie, and the polynomials between them."""
    return place_of(form.start, form.spacing, size), pieces_at(form.order, form.spacing)


def _share_out_features(work: Callable[[Features], None], x: Tensor, pairs: Pairs) -> None:
    """Let threads work on a part of the features each, given as their number, the first and the last."""
    size = x.size(1)
    share_out(lambda *part: work((size, *part)), size, LANES, len(pairs.d))


def _array(tensor: Tensor | None) -> ndarray | None:
    return None if tensor is None else tensor.numpy()
