"""Compiled loops of the convolution (extra ``fast``).

Edges are read in the given order, a few hundred at a time: first the six spline values of each, then sixteen features
of both ends and of the table at a time, which stay in registers until their sums are written. Features and tables are
flat, with a multiple of sixteen features, and indices into them unsigned: signed ones may be negative in Python, and
each test for it takes time. Loops start no threads: they do the features from ``features[1]`` to ``features[2]``,
``features[0]`` is the number of all.

Of edges they take distances, weights (empty for ones), targets and sources; of the table, as ``place``, its first knot,
the inverse of its spacing and the last row where six begin.
"""

from typing import Any

import numpy as np
from numpy import ndarray

from pyg_schnet.compiling import CONTRACT, REORDER, compiled, inlined
from pyg_schnet.fast.bspline import SUPPORT
from pyg_schnet.fast.cpu.vectors import LANES, load, splat, store, total

#: Edges whose splines are computed at a time, and features that are summed at a time beside other gradients.
PIECE, SEGMENT = 256, 64
EdgeArrays = tuple[ndarray, ndarray, ndarray, ndarray]
KnotPlace = tuple[float, float, int]
Features = tuple[int, int, int]
#: Sixteen numbers, and six times so many; in Python they are nothing.
Lanes = Any
Six = tuple[Lanes, Lanes, Lanes, Lanes, Lanes, Lanes]
_LANES = np.uintp(LANES)


@inlined()
def find(u: ndarray, row: ndarray, d: ndarray, begin: int, count: int, place: KnotPlace) -> None:
    """First row of some edges, and their position between two knots."""
    start, inverse, last = place
    for n in range(np.uintp(count)):
        v = (np.float64(d[np.uintp(begin) + n]) - start) * inverse
        k = min(max(np.floor(v), 0.0), np.float64(last))  # zero where d is NaN
        row[n] = np.int64(k)
        u[n] = v - k


@inlined()
def splines(b: ndarray, u: ndarray, count: int, pieces: ndarray) -> None:
    """Six spline values of some edges, one after the other for all of them [6 * PIECE]."""
    size = np.uintp(len(b) // SUPPORT)
    for m in range(SUPPORT):
        p0, p1, p2, p3, p4, p5 = pieces[m, 0], pieces[m, 1], pieces[m, 2], pieces[m, 3], pieces[m, 4], pieces[m, 5]
        first = np.uintp(m) * size
        for n in range(np.uintp(count)):
            v = u[n]
            b[first + n] = ((((p5 * v + p4) * v + p3) * v + p2) * v + p1) * v + p0


@inlined()
def weigh(b: ndarray, s: ndarray, begin: int, count: int) -> None:
    """Spline values times the weights of the edges."""
    size = np.uintp(len(b) // SUPPORT)
    for m in range(SUPPORT):
        first = np.uintp(m) * size
        for n in range(np.uintp(count)):
            b[first + n] *= s[np.uintp(begin) + n]


@inlined()
def six(b: ndarray, edge: int) -> Six:
    """The spline values of an edge, each in all lanes."""
    n, m = np.uintp(edge), np.uintp(len(b) // SUPPORT)
    b0, b1, b2 = b[n], b[n + m], b[n + np.uintp(2) * m]
    b3, b4, b5 = b[n + np.uintp(3) * m], b[n + np.uintp(4) * m], b[n + np.uintp(5) * m]
    return splat(b0), splat(b1), splat(b2), splat(b3), splat(b4), splat(b5)


@inlined()
def rows(c: ndarray, first: int, size: int) -> Six:
    """Sixteen features of the six rows of a table that count, from an index on."""
    k1 = first + size
    k2 = k1 + size
    k3 = k2 + size
    k4 = k3 + size
    return load(c, first), load(c, k1), load(c, k2), load(c, k3), load(c, k4), load(c, k4 + size)


@inlined()
def dot(b: Six, c: Six) -> Lanes:
    """The filter: six rows times their spline values."""
    return b[0] * c[0] + b[1] * c[1] + b[2] * c[2] + b[3] * c[3] + b[4] * c[4] + b[5] * c[5]


@inlined()
def add(y: ndarray, index: int, value: Lanes) -> None:
    """Add to sixteen numbers."""
    store(y, index, load(y, index) + value)


@compiled(CONTRACT)
def add_to_nodes(
    y: ndarray,
    x: ndarray,
    c: ndarray,
    edges: EdgeArrays,
    place: KnotPlace,
    pieces: ndarray,
    features: Features,
    symmetric: bool,
) -> None:
    """Add the filtered features of sources to targets."""
    d, s, target, source = edges
    size, low, high = np.uintp(features[0]), np.uintp(features[1]), np.uintp(features[2])
    row, u, b = np.empty(PIECE, np.int64), np.empty(PIECE, np.float64), np.empty(SUPPORT * PIECE, x.dtype)
    for begin in range(0, len(d), PIECE):
        count = min(PIECE, len(d) - begin)
        find(u, row, d, begin, count, place)
        splines(b, u, count, pieces)
        if len(s) > 0:
            weigh(b, s, begin, count)
        for n in range(count):
            values, k = six(b, n), np.uintp(row[n]) * size
            i, j = np.uintp(target[begin + n]) * size, np.uintp(source[begin + n]) * size
            for f in range(low, high, _LANES):
                t = dot(values, rows(c, k + f, size))
                add(y, i + f, t * load(x, j + f))
                if symmetric:
                    add(y, j + f, t * load(x, i + f))


@compiled(REORDER)
def write_edges(
    a: ndarray,
    g: ndarray,
    x: ndarray,
    c: ndarray,
    edges: EdgeArrays,
    place: KnotPlace,
    pieces: ndarray,
    size: int,
    limits: tuple[int, int],
    symmetric: bool,
) -> None:
    """Sums over the features of some edges."""
    d, _, target, source = edges
    end = np.uintp(size)
    row, u, b = np.empty(PIECE, np.int64), np.empty(PIECE, np.float64), np.empty(SUPPORT * PIECE, x.dtype)
    for begin in range(limits[0], limits[1], PIECE):
        count = min(PIECE, limits[1] - begin)
        find(u, row, d, begin, count, place)
        splines(b, u, count, pieces)
        for n in range(count):
            values, k = six(b, n), np.uintp(row[n]) * end
            i, j = np.uintp(target[begin + n]) * end, np.uintp(source[begin + n]) * end
            value = splat(x.dtype.type(0))
            for f in range(np.uintp(0), end, _LANES):
                value += dot(values, rows(c, k + f, end)) * product(g, x, i + f, j + f, symmetric)
            a[begin + n] = total(value)


@inlined()
def product(g: ndarray, x: ndarray, i: int, j: int, symmetric: bool) -> Lanes:
    """Sixteen features of one end of an edge times those of the other."""
    if symmetric:  # a variable that is set twice would leave its register
        return load(g, i) * load(x, j) + load(g, j) * load(x, i)
    return load(g, i) * load(x, j)


@inlined()
def _add_to_rows(c: ndarray, first: int, size: int, b: Six, value: Lanes) -> None:
    """Add sixteen features to the six rows of a table that count."""
    k1 = first + size
    k2 = k1 + size
    k3 = k2 + size
    k4 = k3 + size
    add(c, first, b[0] * value)
    add(c, k1, b[1] * value)
    add(c, k2, b[2] * value)
    add(c, k3, b[3] * value)
    add(c, k4, b[4] * value)
    add(c, k4 + size, b[5] * value)


@compiled(CONTRACT)
def add_to_table(
    c: ndarray,
    g: ndarray,
    x: ndarray,
    edges: EdgeArrays,
    place: KnotPlace,
    pieces: ndarray,
    features: Features,
    symmetric: bool,
) -> None:
    """Add the products of both ends' features to the six rows of the table that count."""
    d, s, target, source = edges
    size, low, high = np.uintp(features[0]), np.uintp(features[1]), np.uintp(features[2])
    row, u, b = np.empty(PIECE, np.int64), np.empty(PIECE, np.float64), np.empty(SUPPORT * PIECE, x.dtype)
    for begin in range(0, len(d), PIECE):
        count = min(PIECE, len(d) - begin)
        find(u, row, d, begin, count, place)
        splines(b, u, count, pieces)
        if len(s) > 0:
            weigh(b, s, begin, count)
        for n in range(count):
            values, k = six(b, n), np.uintp(row[n]) * size
            i, j = np.uintp(target[begin + n]) * size, np.uintp(source[begin + n]) * size
            for f in range(low, high, _LANES):
                _add_to_rows(c, k + f, size, values, product(g, x, i + f, j + f, symmetric))


@compiled(REORDER)
def add_all(
    dg: ndarray | None,
    dx: ndarray | None,
    dc: ndarray | None,
    slopes: ndarray | None,
    sums: ndarray | None,
    g: ndarray,
    x: ndarray,
    c: ndarray,
    edges: EdgeArrays,
    place: KnotPlace,
    pieces: tuple[ndarray, ndarray],
    features: Features,
    symmetric: bool,
) -> None:
    """All gradients of the form in one go: with respect to g, x, c, distances and weights; ``None`` is not wanted.

    What is not wanted is known to the compiler and takes no register. Sums over the features of an edge are left in
    segments [F / SEGMENT, E], so that threads share none.
    """
    d, s, target, source = edges
    size, low, high = np.uintp(features[0]), np.uintp(features[1]), np.uintp(features[2])
    row, u, weight = np.empty(PIECE, np.int64), np.empty(PIECE, np.float64), x.dtype.type(1)
    b, e = np.empty(SUPPORT * PIECE, x.dtype), np.empty(SUPPORT * PIECE, x.dtype)
    for begin in range(0, len(d), PIECE):
        count = min(PIECE, len(d) - begin)
        find(u, row, d, begin, count, place)
        splines(b, u, count, pieces[0])
        splines(e, u, count, pieces[1])
        for n in range(count):
            if len(s) > 0:
                weight = s[begin + n]
            values, steps, w, k = six(b, n), six(e, n), splat(weight), np.uintp(row[n]) * size
            i, j = np.uintp(target[begin + n]) * size, np.uintp(source[begin + n]) * size
            for first in range(low, high, np.uintp(SEGMENT)):
                slope = value = splat(x.dtype.type(0))
                for f in range(first, min(first + np.uintp(SEGMENT), high), _LANES):
                    six_rows, both = rows(c, k + f, size), product(g, x, i + f, j + f, symmetric)
                    t = dot(values, six_rows)
                    value += both * t
                    t = w * t
                    if slopes is not None:
                        slope += both * dot(steps, six_rows)
                    if dc is not None:
                        _add_to_rows(dc, k + f, size, values, w * both)
                    if dg is not None:
                        send(dg, x, t, i + f, j + f, symmetric)
                    if dx is not None:
                        send(dx, g, t, j + f, i + f, symmetric)
                segment = np.int64(first // np.uintp(SEGMENT))
                if slopes is not None:
                    slopes[segment, begin + n] = weight * total(slope)
                if sums is not None:
                    sums[segment, begin + n] = total(value)


@inlined()
def send(y: ndarray, x: ndarray, t: Lanes, i: int, j: int, symmetric: bool) -> None:
    """Add the filtered features of the source to those of the target, and the other way round."""
    add(y, i, t * load(x, j))
    if symmetric:
        add(y, j, t * load(x, i))


@compiled(CONTRACT)
def first_stray(target: ndarray, source: ndarray, targets: int, sources: int) -> int:
    """First edge with an end that is no node, or -1."""
    stray = False
    for e in range(len(target)):
        stray |= (target[e] < 0) | (target[e] >= targets) | (source[e] < 0) | (source[e] >= sources)
    if stray:
        for e in range(len(target)):
            if target[e] < 0 or target[e] >= targets or source[e] < 0 or source[e] >= sources:
                return e
    return -1
