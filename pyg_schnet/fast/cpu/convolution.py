"""The convolution on the CPU by compiled loops (extra ``fast``).

Threads share the features of nodes and tables, and the edges where there is one number for each. Every number is thus
computed by one thread in one order: the result does not depend on how many there are.
"""

import torch
from numpy import ndarray
from torch import Tensor

from pyg_schnet.fast.cpu.arrays import edges_of, flat, padded, pieces_at, place_of
from pyg_schnet.fast.cpu.convolution_loops import (
    PIECE,
    SEGMENT,
    add_all,
    add_to_nodes,
    add_to_table,
    write_edges,
)
from pyg_schnet.fast.cpu.vectors import LANES
from pyg_schnet.threads import share_out


def nodes(
    x: Tensor,
    c: Tensor,
    d: Tensor,
    s: Tensor | None,
    target: Tensor,
    source: Tensor,
    num_targets: int,
    start: float,
    spacing: float,
    order: int,
    symmetric: bool,
) -> Tensor:
    """The sum to nodes, see :func:`pyg_schnet.fast.to_nodes`."""
    size, (x, c) = x.size(1), map(padded, (x, c))
    y = x.new_zeros(num_targets, x.size(1))
    edges = edges_of(d, s, target, source, num_targets, x.size(0))
    how = place_of(start, spacing, c.size(0)), pieces_at(order, spacing)
    arrays = flat(y), flat(x), flat(c)
    share_out(lambda *part: add_to_nodes(*arrays, edges, *how, (x.size(1), *part), symmetric), x.size(1), LANES, len(d))
    return y[:, :size].contiguous()


def edges(
    g: Tensor,
    x: Tensor,
    c: Tensor,
    d: Tensor,
    target: Tensor,
    source: Tensor,
    start: float,
    spacing: float,
    order: int,
    symmetric: bool,
) -> Tensor:
    """The numbers of edges, see :func:`pyg_schnet.fast.to_edges`."""
    g, x, c = map(padded, (g, x, c))
    a = x.new_empty(d.size(0))
    edges = edges_of(d, None, target, source, g.size(0), x.size(0))
    how = place_of(start, spacing, c.size(0)), pieces_at(order, spacing)
    arrays = flat(a), flat(g), flat(x), flat(c)
    share_out(lambda *part: write_edges(*arrays, edges, *how, x.size(1), part, symmetric), len(d), PIECE, x.size(1))
    return a


def table(
    g: Tensor,
    x: Tensor,
    d: Tensor,
    s: Tensor | None,
    target: Tensor,
    source: Tensor,
    size: int,
    start: float,
    spacing: float,
    order: int,
    symmetric: bool,
) -> Tensor:
    """The sum to the table, see :func:`pyg_schnet.fast.to_table`."""
    features, (g, x) = x.size(1), map(padded, (g, x))
    c = x.new_zeros(size, x.size(1))
    edges = edges_of(d, s, target, source, g.size(0), x.size(0))
    how = place_of(start, spacing, size), pieces_at(order, spacing)
    arrays = flat(c), flat(g), flat(x)
    share_out(lambda *part: add_to_table(*arrays, edges, *how, (x.size(1), *part), symmetric), x.size(1), LANES, len(d))
    return c[:, :features].contiguous()


def gradients(
    g: Tensor,
    x: Tensor,
    c: Tensor,
    d: Tensor,
    s: Tensor | None,
    target: Tensor,
    source: Tensor,
    start: float,
    spacing: float,
    order: int,
    symmetric: bool,
    wanted: tuple[bool, bool, bool, bool, bool],
) -> tuple[Tensor | None, ...]:
    """Gradients of the form with respect to g, x, c, d and s, those that are wanted, in one go."""
    features, (g, x, c) = x.size(1), map(padded, (g, x, c))
    edges, size = edges_of(d, s, target, source, g.size(0), x.size(0)), x.size(1)
    how = place_of(start, spacing, c.size(0)), (pieces_at(order, spacing), pieces_at(order + 1, spacing))
    kept = zip((g, x, c), wanted[:3], strict=True)
    results = [torch.zeros_like(one, memory_format=torch.contiguous_format) if need else None for one, need in kept]
    segments = -(-size // SEGMENT)
    slopes, sums = (x.new_zeros(segments, d.size(0)) if need else None for need in wanted[3:])
    outputs = *(None if result is None else flat(result) for result in results), *map(_array, (slopes, sums))
    inputs = flat(g), flat(x), flat(c)
    share_out(lambda *part: add_all(*outputs, *inputs, edges, *how, (size, *part), symmetric), size, SEGMENT, len(d))
    of_edges = (None if parts is None else parts.sum(0) for parts in (slopes, sums))
    return *(None if result is None else result[:, :features].contiguous() for result in results), *of_edges


def _array(tensor: Tensor | None) -> ndarray | None:
    return None if tensor is None else tensor.numpy()
