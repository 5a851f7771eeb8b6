"""The convolution on a GPU by Triton kernels.

Every number is computed by one program in one order, without atomics: the same input gives the same bits. In float32
the errors are those of sums in float32; distances find their place between the knots in float64. Nothing waits for the
device. Sums to nodes and to the table read edges grouped by node and by interval between knots, see
:mod:`pyg_schnet.fast.gpu.edge_order`.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyg_schnet.fast.bspline import SUPPORT, pieces_of
from pyg_schnet.fast.gpu import convolution_kernels as gpu_loops
from pyg_schnet.fast.gpu.edge_order import KnotGrid, by_interval, by_node, ends_of, places
from pyg_schnet.fast.operands import Form, Pairs
from pyg_schnet.sizes import SIZES

#: True if the kernels can run.
INSTALLED = gpu_loops.INSTALLED


class Tile(NamedTuple):
    """What a program reads at a time: edges, at most so many features (half as many in float64), by so many warps."""

    edges: int
    features: int
    warps: int


# 64 float32 are two cache lines of a row; of a table of 500 knots they take 128 kB, which fits the caches of current
# GPUs' multiprocessors. 16 lanes read 16 bytes each, so that a warp reads two edges. Sizes are not chosen by timing at
# run time: the order of sums, and thus the last bits, would change from run to run.
NODES, EDGES, TABLE = Tile(8, 64, 4), Tile(16, 64, 4), Tile(8, 64, 4)


def nodes(x: Tensor, c: Tensor, pairs: Pairs, num_targets: int, form: Form) -> Tensor:
    """The sum to nodes, see :func:`pyg_schnet.fast.to_nodes`."""
    grid, y, d = _grid(form, c), x.new_empty(num_targets, x.size(1)), pairs.d
    pieces, scale = _pieces(form.order), _scale(form)
    if not pieces or d.numel() == 0 or y.numel() == 0:
        return y.zero_()
    (row, place), mine = places(d, grid), by_node(pairs, num_targets, x.size(0), form.symmetric)
    tile, slices = _tile(NODES, y)
    arrays = y, _features(x), _table(c), mine.pointer, mine.other, mine.edge, row, place, _weights(pairs)
    how = pieces, len(pieces[0]) - 1, pairs.s is not None
    _launch(gpu_loops.nodes_kernel, (num_targets, slices), tile, *arrays, x.size(1), scale, *how)
    return y


def edges(g: Tensor, x: Tensor, c: Tensor, pairs: Pairs, form: Form) -> Tensor:
    """The numbers of edges, see :func:`pyg_schnet.fast.to_edges`."""
    return _edges(g, x, c, pairs, form, False)[0]


def edges_and_slopes(
    g: Tensor, x: Tensor, c: Tensor, pairs: Pairs, form: Form, a: Tensor, slope: Tensor
) -> tuple[Tensor, Tensor]:
    """The numbers of edges and those of the next order, written to where they are wanted."""
    return _edges(g, x, c, pairs, form, True, (a, slope))


def _edges(
    g: Tensor,
    x: Tensor,
    c: Tensor,
    pairs: Pairs,
    form: Form,
    sloped: bool,
    out: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """The numbers of edges and, with ``sloped``, those of the next order, from one reading of the features."""
    d, following = pairs.d, form.next_order()
    grid, a = _grid(form, c), x.new_empty(d.size(0)) if out is None else out[0]
    slope = a if not sloped else torch.empty_like(a) if out is None else out[1]
    pieces, slopes = _pieces(form.order), _pieces(following.order)
    if not pieces or d.numel() == 0 or x.size(1) == 0:
        return a.zero_(), slope.zero_()
    tile, _ = _tile(EDGES, x)
    ends = ends_of(pairs, max(g.size(0), x.size(0)))
    arrays = a, slope, _features(g), _features(x), _table(c), *ends, *places(d, grid)
    numbers = d.size(0), x.size(1), _scale(form), _scale(following)
    how = pieces, len(pieces[0]) - 1, slopes or pieces, sloped and bool(slopes), form.symmetric
    _launch(gpu_loops.edges_kernel, (-(-d.size(0) // tile.edges),), tile, *arrays, *numbers, *how)
    return a, slope if slopes or not sloped else slope.zero_()


def table(g: Tensor, x: Tensor, pairs: Pairs, size: int, form: Form) -> Tensor:
    """The sum to the table, see :func:`pyg_schnet.fast.to_table`."""
    c, d = x.new_empty(size, x.size(1)), pairs.d
    grid, pieces, scale = _grid(form, c), _pieces(form.order), _scale(form)
    if not pieces or d.numel() == 0 or c.numel() == 0:
        return c.zero_()
    mine, (tile, slices) = by_interval(d, grid), _tile(TABLE, c)
    intervals = size - SUPPORT + 1
    splits = min(SIZES.programs_per_interval, -(-d.size(0) // (intervals * SIZES.edges_per_program)))
    parts = c.new_empty(intervals * splits, SUPPORT, x.size(1))
    ends, place = ends_of(pairs, max(g.size(0), x.size(0))), places(d, grid).place
    arrays = parts, _features(g), _features(x), *ends, mine.pointer, mine.edge, place, _weights(pairs)
    how = pieces, len(pieces[0]) - 1, pairs.s is not None, form.symmetric
    _launch(gpu_loops.intervals_kernel, (intervals * splits, slices), tile, *arrays, splits, x.size(1), *how)
    _launch(gpu_loops.knots_kernel, (size, slices), tile, c, parts, intervals, splits, x.size(1), scale)
    return c


def gradients(
    g: Tensor, x: Tensor, c: Tensor, pairs: Pairs, form: Form, wanted: tuple[bool, bool, bool, bool, bool]
) -> tuple[Tensor | None, ...]:
    """Gradients of the form with respect to g, x, c, d and s, those that are wanted."""
    back = pairs if form.symmetric else pairs.reversed()  # the transposed convolution
    dg = nodes(x, c, pairs, g.size(0), form) if wanted[0] else None
    dx = nodes(g, c, back, x.size(0), form) if wanted[1] else None
    dc = table(g, x, pairs, c.size(0), form) if wanted[2] else None
    dd, ds = None, None
    if wanted[3] and wanted[4]:
        ds, dd = _edges(g, x, c, pairs, form, sloped=True)
    elif wanted[3]:
        dd = edges(g, x, c, pairs, form.next_order())
    elif wanted[4]:
        ds = edges(g, x, c, pairs, form)
    return dg, dx, dc, dd if dd is None or pairs.s is None else pairs.s * dd, ds


# Sizes and splines.


def _grid(form: Form, c: Tensor) -> KnotGrid:
    if c.size(0) < SUPPORT:
        raise ValueError(f"a table of quintic splines has at least {SUPPORT} rows, got {c.size(0)}")
    return KnotGrid(float(form.start), float(form.spacing), c.size(0))


def _tile(tile: Tile, x: Tensor) -> tuple[Tile, int]:
    """The tile for so many features, and the number of slices they are cut into."""
    most = tile.features // (2 if x.dtype == torch.float64 else 1)
    features = min(most, max(16, 1 << (x.size(1) - 1).bit_length()))  # Triton takes powers of two
    return tile._replace(features=features), -(-x.size(1) // features)


def _launch(kernel: Any, programs: tuple[int, ...], tile: Tile, *arguments: Any) -> None:
    """Start a kernel on the device of its result, whichever is the current one."""
    device = arguments[0].device
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        # a product and a sum may be rounded once, which Triton's own choice changes with its version
        how = {"num_warps": tile.warps, "enable_fp_fusion": True}
        kernel[programs](*arguments, EDGES=tile.edges, FEATURES=tile.features, **how)


def _weights(pairs: Pairs) -> Tensor:
    """The weights; without, any tensor to stand for them, which will not be read."""
    return (pairs.d if pairs.s is None else pairs.s).detach().contiguous()


@functools.cache
def _pieces(order: int) -> tuple[tuple[float, ...], ...]:
    """Polynomials of the splines' derivatives by powers, times 120, for knots one apart; empty if all are zero."""
    length = SUPPORT - order
    rows = pieces_of(order, 1.0)
    return tuple(tuple(float(round(120 * value)) for value in row[:length]) for row in rows) if length > 0 else ()


def _scale(form: Form) -> float:
    """What makes derivatives with respect to the distance of :func:`_pieces`."""
    return 1.0 / (120.0 * float(form.spacing) ** form.order)


# 16-bit storage.


class Storage(NamedTuple):
    """Kinds in which kernels read features and tables; ``None`` for their own."""

    features: torch.dtype | None = None
    table: torch.dtype | None = None


_storage = Storage()


@contextlib.contextmanager
def storage(features: torch.dtype | None = None, table: torch.dtype | None = None) -> Iterator[None]:
    """Let kernels read rounded copies, half as large, of features and tables in float32; sums stay in float32.

    It holds for all threads of the process, because PyTorch computes gradients in threads of its own: forces and what
    they come from belong inside. Forces are then no longer the exact derivative of the energy.

    Errors in parts per thousand, root mean squares relative to that of the results, of filters T and of their slopes T'
    (``TRITON_INTERPRET=1 python examples/benchmarks/kernels.py --atoms 8 --neighbors 4 --features 32``; in float32 they
    are below 0.001). Slopes, and thus forces, suffer from rounded tables, whose errors they divide by the spacing:

    ========================  ===========  ===========  ==========
    stored                    sums with T  sums with T' to_table
    ========================  ===========  ===========  ==========
    features in float16       0.3          0.3          0.3
    features in bfloat16      2            3            3
    table in float16          0.1          2            not read
    table in bfloat16         1            15           not read
    ========================  ===========  ===========  ==========

    Numbers beyond 65504 are infinite in float16, those below 6e-5 lose digits.

    Args:
        features: ``torch.float16``, ``torch.bfloat16`` or ``None`` for the features of atoms as they are.
        table: The same for tables.

    Raises:
        TypeError: If it is another kind.
    """
    for name, kind in (("features", features), ("table", table)):
        if kind not in (None, torch.float16, torch.bfloat16):
            raise TypeError(f"`{name}` must be None, torch.float16 or torch.bfloat16, got {kind}")
    global _storage  # noqa: PLW0603
    before, _storage = _storage, Storage(features, table)
    try:
        yield
    finally:
        _storage = before


def _features(x: Tensor) -> Tensor:
    return _rounded(x.detach(), _storage.features)


def _table(c: Tensor) -> Tensor:
    return _rounded(c.detach(), _storage.table)


def _rounded(value: Tensor, kind: torch.dtype | None) -> Tensor:
    rounded = value if kind is None or value.dtype != torch.float32 else value.to(kind)
    return rounded.contiguous()
