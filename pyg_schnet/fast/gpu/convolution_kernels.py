"""Triton kernels of the convolution, each program with a result of its own: no atomics, always the same sums.

Of edges they take ``row``, the first of the six rows of the table that count, and ``place``, the position between two
knots [0, 1]; both are computed once, in double precision (see :mod:`pyg_schnet.fast.gpu.edge_order`). Programs read
a few edges and some adjacent features at a time, a tile. Programs for the same features stand next to each other in the
grid, so that what they read of the table, a slice of its columns, stays in the cache closest to them.

``PIECES`` are the polynomials of the six splines, by powers, 120 times too large and for knots a distance of one apart:
whole numbers, exact in any precision, and kernels need not be compiled anew for another spacing. ``scale`` makes up for
both. Features and tables may be stored in fewer bits than results; sums have the precision of results.

The file can be read without Triton; the kernels then say what to install. ``TRITON_INTERPRET=1`` in the environment,
when this file is imported, makes them run on tensors of the CPU, slowly.
"""

from __future__ import annotations  # where Triton is missing, nobody asks for its types

import importlib
from collections.abc import Callable
from typing import Any

from pyg_schnet.compiling import trouble_with


def _installed() -> bool:
    """True if there is a Triton that knows tuples in tuples when compiling."""
    if trouble_with("triton") is not None:
        return False
    version = importlib.import_module("triton").__version__
    return tuple(int(part) for part in version.split(".")[:2]) >= (3, 4)


INSTALLED = _installed()
if INSTALLED:
    import triton
    import triton.language as tl


#: Numbers, and what is read one by one: rows of an array of odd length begin anywhere.
_VARYING = ("edges", "splits", "intervals")
_ANYWHERE = ("pointer", "other", "edge", "row", "place", "s", "target", "source", "a", "slope")


class _Missing:
    """Stands for a kernel where Triton is missing."""

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        raise ImportError(
            'the compiled convolution on a GPU needs triton; install it with pip install "pyg_schnet[gpu]"'
        )


def compiled(function: Callable) -> Any:
    """Compile at the first call, for any number of edges and any place of their numbers in memory alike."""
    if not INSTALLED:
        return _Missing()
    own = function.__annotations__
    varying, anywhere = ([name for name in names if name in own] for names in (_VARYING, _ANYWHERE))
    return triton.jit(do_not_specialize=varying, do_not_specialize_on_alignment=anywhere)(function)


@compiled
def _add(a: tl.tensor, b: tl.tensor) -> tl.tensor:
    return a + b


@compiled
def _spline(place: tl.tensor, m: tl.constexpr, PIECES: tl.constexpr, DEGREE: tl.constexpr) -> tl.tensor:
    """The m-th spline, or a derivative of it, at some places."""
    value = tl.full(place.shape, PIECES[m][DEGREE], place.dtype)
    for power in tl.static_range(DEGREE):
        value = value * place + PIECES[m][DEGREE - 1 - power]
    return value


@compiled
def _at(values: tl.tensor, row: tl.tensor, f: tl.tensor, SIZE: tl.constexpr) -> tl.tensor:
    """Where some features of some rows are."""
    return values + row.to(tl.int64)[:, None] * SIZE + f[None, :]


@compiled
def _rows(
    values: tl.tensor, row: tl.tensor, f: tl.tensor, there: tl.tensor, SIZE: tl.constexpr, KIND: tl.constexpr
) -> tl.tensor:
    """Some features of some rows, zero where there are none."""
    return tl.load(_at(values, row, f, SIZE), mask=there, other=0.0).to(KIND)


@compiled
def _products(
    g: tl.tensor,
    x: tl.tensor,
    i: tl.tensor,
    j: tl.tensor,
    f: tl.tensor,
    there: tl.tensor,
    SIZE: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    KIND: tl.constexpr,
) -> tl.tensor:
    """Features of one end of edges times those of the other."""
    h = _rows(g, i, f, there, SIZE, KIND) * _rows(x, j, f, there, SIZE, KIND)
    if SYMMETRIC:
        h += _rows(g, j, f, there, SIZE, KIND) * _rows(x, i, f, there, SIZE, KIND)
    return h


@compiled
def nodes_kernel(
    y: tl.tensor,
    x: tl.tensor,
    c: tl.tensor,
    pointer: tl.tensor,
    other: tl.tensor,
    edge: tl.tensor,
    row: tl.tensor,
    place: tl.tensor,
    s: tl.tensor,
    size: tl.constexpr,
    scale: tl.float64,
    PIECES: tl.constexpr,
    DEGREE: tl.constexpr,
    WEIGHTED: tl.constexpr,
    EDGES: tl.constexpr,
    FEATURES: tl.constexpr,
) -> None:
    """Some features of one node: the filtered features of the other ends of its edges, summed."""
    kind = y.dtype.element_ty
    node = tl.program_id(0).to(tl.int64)
    f = tl.program_id(1) * FEATURES + tl.arange(0, FEATURES)
    begin, end = tl.load(pointer + node), tl.load(pointer + node + 1)
    sums = tl.full((EDGES, FEATURES), 0.0, kind)
    for first in range(begin, end, EDGES):
        n = first + tl.arange(0, EDGES)
        mine = n < end
        there = mine[:, None] & (f < size)[None, :]
        e = tl.load(edge + n, mask=mine, other=0).to(tl.int64)
        k = tl.load(row + e, mask=mine, other=0)
        u = tl.load(place + e, mask=mine, other=0.0)
        t, base = tl.full((EDGES, FEATURES), 0.0, kind), _at(c, k, f, size)
        for m in tl.static_range(6):
            t += _spline(u, m, PIECES, DEGREE)[:, None] * tl.load(base + m * size, mask=there, other=0.0).to(kind)
        if WEIGHTED:
            t *= tl.load(s + e, mask=mine, other=0.0)[:, None]
        sums += t * _rows(x, tl.load(other + n, mask=mine, other=0), f, there, size, kind)
    tl.store(y + node * size + f, tl.reduce(sums, 0, _add) * scale, mask=f < size)


@compiled
def edges_kernel(
    a: tl.tensor,
    slope: tl.tensor,
    g: tl.tensor,
    x: tl.tensor,
    c: tl.tensor,
    target: tl.tensor,
    source: tl.tensor,
    row: tl.tensor,
    place: tl.tensor,
    edges: tl.tensor,
    size: tl.constexpr,
    scale: tl.float64,
    slope_scale: tl.float64,
    PIECES: tl.constexpr,
    DEGREE: tl.constexpr,
    SLOPES: tl.constexpr,
    SLOPED: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    EDGES: tl.constexpr,
    FEATURES: tl.constexpr,
) -> None:
    """The numbers of some edges: products of both ends and the filter, summed; with ``SLOPED`` also their slopes."""
    kind = a.dtype.element_ty
    e = tl.program_id(0).to(tl.int64) * EDGES + tl.arange(0, EDGES)
    mine = e < edges
    i, j = tl.load(target + e, mask=mine, other=0), tl.load(source + e, mask=mine, other=0)
    k = tl.load(row + e, mask=mine, other=0)
    u = tl.load(place + e, mask=mine, other=0.0)
    sums = tl.full((EDGES, FEATURES), 0.0, kind)
    slopes = tl.full((EDGES, FEATURES), 0.0, kind)
    for first in range(0, size, FEATURES):
        f = first + tl.arange(0, FEATURES)
        there = mine[:, None] & (f < size)[None, :]
        h, base = _products(g, x, i, j, f, there, size, SYMMETRIC, kind), _at(c, k, f, size)
        for m in tl.static_range(6):
            hc = h * tl.load(base + m * size, mask=there, other=0.0).to(kind)
            sums += _spline(u, m, PIECES, DEGREE)[:, None] * hc
            if SLOPED:
                slopes += _spline(u, m, SLOPES, DEGREE - 1)[:, None] * hc
    tl.store(a + e, tl.reduce(sums, 1, _add) * scale, mask=mine)
    if SLOPED:
        tl.store(slope + e, tl.reduce(slopes, 1, _add) * slope_scale, mask=mine)


@compiled
def intervals_kernel(
    parts: tl.tensor,
    g: tl.tensor,
    x: tl.tensor,
    target: tl.tensor,
    source: tl.tensor,
    pointer: tl.tensor,
    edge: tl.tensor,
    place: tl.tensor,
    s: tl.tensor,
    splits: tl.tensor,
    size: tl.constexpr,
    PIECES: tl.constexpr,
    DEGREE: tl.constexpr,
    WEIGHTED: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    EDGES: tl.constexpr,
    FEATURES: tl.constexpr,
) -> None:
    """Some features of what the edges between two knots, or one of equal shares of them, add to six rows of the table.

    Each edge is read once, not once for each of the six rows.
    """
    kind = parts.dtype.element_ty
    program = tl.program_id(0).to(tl.int64)
    interval, split = program // splits, program % splits
    f = tl.program_id(1) * FEATURES + tl.arange(0, FEATURES)
    begin, end = tl.load(pointer + interval), tl.load(pointer + interval + 1)
    share = (end - begin + splits - 1) // splits
    begin += split * share
    end = tl.minimum(begin + share, end)
    c0 = tl.full((EDGES, FEATURES), 0.0, kind)
    c1, c2, c3, c4, c5 = c0, c0, c0, c0, c0
    for first in range(begin, end, EDGES):
        n = first + tl.arange(0, EDGES)
        mine = n < end
        there = mine[:, None] & (f < size)[None, :]
        e = tl.load(edge + n, mask=mine, other=0).to(tl.int64)
        i, j = tl.load(target + e, mask=mine, other=0), tl.load(source + e, mask=mine, other=0)
        u = tl.load(place + e, mask=mine, other=0.0)
        h = _products(g, x, i, j, f, there, size, SYMMETRIC, kind)
        if WEIGHTED:
            h *= tl.load(s + e, mask=mine, other=0.0)[:, None]
        c0 += _spline(u, 0, PIECES, DEGREE)[:, None] * h
        c1 += _spline(u, 1, PIECES, DEGREE)[:, None] * h
        c2 += _spline(u, 2, PIECES, DEGREE)[:, None] * h
        c3 += _spline(u, 3, PIECES, DEGREE)[:, None] * h
        c4 += _spline(u, 4, PIECES, DEGREE)[:, None] * h
        c5 += _spline(u, 5, PIECES, DEGREE)[:, None] * h
    at = parts + program * 6 * size + f
    tl.store(at, tl.reduce(c0, 0, _add), mask=f < size)
    tl.store(at + size, tl.reduce(c1, 0, _add), mask=f < size)
    tl.store(at + 2 * size, tl.reduce(c2, 0, _add), mask=f < size)
    tl.store(at + 3 * size, tl.reduce(c3, 0, _add), mask=f < size)
    tl.store(at + 4 * size, tl.reduce(c4, 0, _add), mask=f < size)
    tl.store(at + 5 * size, tl.reduce(c5, 0, _add), mask=f < size)


@compiled
def knots_kernel(
    c: tl.tensor,
    parts: tl.tensor,
    intervals: tl.tensor,
    splits: tl.tensor,
    size: tl.constexpr,
    scale: tl.float64,
    EDGES: tl.constexpr,
    FEATURES: tl.constexpr,
) -> None:
    """Some features of one row of the table: the parts of six intervals, summed."""
    k = tl.program_id(0).to(tl.int64)
    f = tl.program_id(1) * FEATURES + tl.arange(0, FEATURES)
    sums = tl.full((FEATURES,), 0.0, c.dtype.element_ty)
    for m in tl.static_range(6):
        inside = tl.where((k >= m) & (k - m < intervals), size, 0)
        for split in range(0, splits):
            part = ((k - m) * splits + split) * 6 + m
            sums += tl.load(parts + part * size + f, mask=f < inside, other=0.0)
    tl.store(c + k * size + f, sums * scale, mask=f < size)
