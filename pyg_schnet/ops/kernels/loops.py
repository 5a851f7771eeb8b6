"""Compiled loops of the trilinear family (extra ``fast``).

Edges are read in the given order, a few hundred at a time: first the six spline values of each, then features, a whole
row at a time, so that processors take as many of them at once as they can. Features and tables are flat, and indices
into them unsigned: signed ones may be negative in Python, and the test for it keeps compilers from doing so. Loops
start no threads: they do the features from ``features[1]`` to ``features[2]``, ``features[0]`` is the number of all.

Of edges they take distances, weights (empty for ones), targets and sources; of the table, as ``place``, its first knot,
the inverse of its spacing and the last row where six begin.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from pyg_schnet.ops.filter_table import SUPPORT

try:
    from numba import njit
except ImportError as error:
    raise ImportError('the compiled convolution needs numba; install it with pip install "pyg_schnet[fast]"') from error

#: Edges whose splines are computed at a time, and features that are summed at a time beside other gradients.
PIECE, SEGMENT = 256, 64
#: A product and a sum may be rounded once; only sums over features, which one thread does, may change their order.
CONTRACT, REORDER = {"contract", "nsz"}, {"contract", "nsz", "reassoc"}
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
#: Saves the time to compile what only Python would need.
NOT_FROM_PYTHON: dict[str, Any] = {"no_cpython_wrapper": True, "forceinline": True}
Edges = tuple[ndarray, ndarray, ndarray, ndarray]
Place = tuple[float, float, int]
Features = tuple[int, int, int]


def compiled(fastmath: set[str]) -> Callable[[Callable], Callable]:
    """Compile at the first call and keep the machine code beside this file, or elsewhere, or not at all."""

    def decorate(function: Callable) -> Callable:
        try:
            return njit(cache=True, fastmath=fastmath, **OPTIONS)(function)
        except RuntimeError:  # no folder can be written to
            return njit(fastmath=fastmath, **OPTIONS)(function)

    return decorate


def part(function: Callable) -> Callable:
    """Compile what only the loops of this file call."""
    return njit(fastmath=CONTRACT, **OPTIONS, **NOT_FROM_PYTHON)(function)


@part
def splines(
    d: ndarray,
    s: ndarray,
    begin: int,
    count: int,
    place: Place,
    pieces: ndarray,
    row: ndarray,
    b: ndarray,
) -> None:
    """First row and six spline values of some edges, times their weights."""
    start, inverse, last = place
    for n in range(count):
        v = (np.float64(d[begin + n]) - start) * inverse
        k = min(max(np.floor(v), 0.0), np.float64(last))  # zero where d is NaN
        row[n] = np.int64(k)
        u = v - k
        for m in range(SUPPORT):
            p = pieces[m]
            b[m, n] = ((((p[5] * u + p[4]) * u + p[3]) * u + p[2]) * u + p[1]) * u + p[0]
    if len(s) > 0:
        for m in range(SUPPORT):
            for n in range(count):
                b[m, n] *= s[begin + n]


@part
def read_filter(t: ndarray, c: ndarray, row: int, features: Features, b: ndarray, n: int) -> None:
    """Some features of the table at the place of an edge."""
    size, end = np.uintp(features[0]), np.uintp(features[2] - features[1])
    k0 = np.uintp(row) * size + np.uintp(features[1])
    k1 = k0 + size
    k2 = k1 + size
    k3 = k2 + size
    k4 = k3 + size
    k5 = k4 + size
    b0, b1, b2, b3, b4, b5 = b[0, n], b[1, n], b[2, n], b[3, n], b[4, n], b[5, n]
    for f in range(end):
        t[f] = b0 * c[k0 + f] + b1 * c[k1 + f] + b2 * c[k2 + f] + b3 * c[k3 + f] + b4 * c[k4 + f] + b5 * c[k5 + f]


@part
def multiply(h: ndarray, g: ndarray, x: ndarray, target: int, source: int, features: Features, symmetric: bool) -> None:
    """Some features of one end of an edge times those of the other."""
    size, first, end = np.uintp(features[0]), np.uintp(features[1]), np.uintp(features[2] - features[1])
    i, j = np.uintp(target) * size + first, np.uintp(source) * size + first
    if symmetric:
        for f in range(end):
            h[f] = g[i + f] * x[j + f] + g[j + f] * x[i + f]
    else:
        for f in range(end):
            h[f] = g[i + f] * x[j + f]


@part
def _scatter(c: ndarray, h: ndarray, row: int, features: Features, b: ndarray, n: int, weight: float) -> None:
    """Add products to the six rows of the table that count."""
    size, end = np.uintp(features[0]), np.uintp(features[2] - features[1])
    k = np.uintp(row) * size + np.uintp(features[1])
    for m in range(SUPPORT):
        value = weight * b[m, n]
        for f in range(end):
            c[k + f] += value * h[f]
        k += size


@part
def send(
    y: ndarray, t: ndarray, x: ndarray, target: int, source: int, features: Features, weight: float, symmetric: bool
) -> None:
    """Add the filtered features of the source to those of the target, and the other way round."""
    size, first, end = np.uintp(features[0]), np.uintp(features[1]), np.uintp(features[2] - features[1])
    i, j = np.uintp(target) * size + first, np.uintp(source) * size + first
    for f in range(end):
        y[i + f] += weight * t[f] * x[j + f]
    if symmetric:
        for f in range(end):
            y[j + f] += weight * t[f] * x[i + f]


@compiled(CONTRACT)
def add_to_nodes(
    y: ndarray,
    x: ndarray,
    c: ndarray,
    edges: Edges,
    place: Place,
    pieces: ndarray,
    features: Features,
    symmetric: bool,
) -> None:
    """Add the filtered features of sources to targets."""
    d, s, target, source = edges
    row, b = np.empty(PIECE, np.int64), np.empty((SUPPORT, PIECE), x.dtype)
    t, one = np.empty(features[2] - features[1], x.dtype), x.dtype.type(1)
    for begin in range(0, len(d), PIECE):
        count = min(PIECE, len(d) - begin)
        splines(d, s, begin, count, place, pieces, row, b)
        for n in range(count):
            read_filter(t, c, row[n], features, b, n)
            send(y, t, x, target[begin + n], source[begin + n], features, one, symmetric)


@compiled(CONTRACT)
def add_to_table(
    c: ndarray,
    g: ndarray,
    x: ndarray,
    edges: Edges,
    place: Place,
    pieces: ndarray,
    features: Features,
    symmetric: bool,
) -> None:
    """Add the products of both ends' features to the six rows of the table that count."""
    d, s, target, source = edges
    row, b = np.empty(PIECE, np.int64), np.empty((SUPPORT, PIECE), x.dtype)
    h, one = np.empty(features[2] - features[1], x.dtype), x.dtype.type(1)
    for begin in range(0, len(d), PIECE):
        count = min(PIECE, len(d) - begin)
        splines(d, s, begin, count, place, pieces, row, b)
        for n in range(count):
            multiply(h, g, x, target[begin + n], source[begin + n], features, symmetric)
            _scatter(c, h, row[n], features, b, n, one)


@compiled(REORDER)
def write_edges(
    a: ndarray,
    g: ndarray,
    x: ndarray,
    c: ndarray,
    edges: Edges,
    place: Place,
    pieces: ndarray,
    size: int,
    limits: tuple[int, int],
    symmetric: bool,
) -> None:
    """Sums over the features of some edges."""
    d, s, target, source = edges
    end, zero = np.uintp(size), x.dtype.type(0)
    row, b = np.empty(PIECE, np.int64), np.empty((SUPPORT, PIECE), x.dtype)
    for begin in range(limits[0], limits[1], PIECE):
        count = min(PIECE, limits[1] - begin)
        splines(d, s, begin, count, place, pieces, row, b)
        for n in range(count):
            i, j = np.uintp(target[begin + n]) * end, np.uintp(source[begin + n]) * end
            k0 = np.uintp(row[n]) * end
            k1 = k0 + end
            k2 = k1 + end
            k3 = k2 + end
            k4 = k3 + end
            k5 = k4 + end
            b0, b1, b2, b3, b4, b5 = b[0, n], b[1, n], b[2, n], b[3, n], b[4, n], b[5, n]
            total = zero
            if symmetric:
                for f in range(end):
                    t = b0 * c[k0 + f] + b1 * c[k1 + f] + b2 * c[k2 + f]
                    t += b3 * c[k3 + f] + b4 * c[k4 + f] + b5 * c[k5 + f]
                    total += (g[i + f] * x[j + f] + g[j + f] * x[i + f]) * t
            else:
                for f in range(end):
                    t = b0 * c[k0 + f] + b1 * c[k1 + f] + b2 * c[k2 + f]
                    t += b3 * c[k3 + f] + b4 * c[k4 + f] + b5 * c[k5 + f]
                    total += g[i + f] * x[j + f] * t
            a[begin + n] = total


@njit(fastmath=REORDER, **OPTIONS, **NOT_FROM_PYTHON)
def _sum(sums: ndarray, h: ndarray, t: ndarray, edge: int, features: Features, weight: float) -> None:
    """Sums of products over segments of features, of one edge."""
    low, end, segment = np.uintp(0), np.uintp(features[2] - features[1]), features[1] // SEGMENT
    while low < end:
        high, total = min(low + np.uintp(SEGMENT), end), h.dtype.type(0)
        for f in range(low, high):
            total += h[f] * t[f]
        sums[segment, edge] = weight * total
        low, segment = high, segment + 1


@njit(fastmath=REORDER, **OPTIONS, **NOT_FROM_PYTHON)
def both_sums(
    t: ndarray,
    h: ndarray,
    table: tuple[ndarray, int, ndarray, ndarray, int],
    ends: tuple[ndarray, ndarray, int, int, bool],
    features: Features,
    limits: tuple[int, int],
) -> tuple[float, float]:
    """Write the filter of an edge and the products of its ends, for features within limits; sums of their products.

    The first sum is with the derivative of the filter, the second with the filter: all is read once.
    """
    (c, row, b, e, edge), (g, x, target, source, symmetric) = table, ends
    size, first = np.uintp(features[0]), np.uintp(features[1])
    i, j, k0 = np.uintp(target) * size + first, np.uintp(source) * size + first, np.uintp(row) * size + first
    k1 = k0 + size
    k2 = k1 + size
    k3 = k2 + size
    k4 = k3 + size
    k5 = k4 + size
    b0, b1, b2, b3, b4, b5 = b[0, edge], b[1, edge], b[2, edge], b[3, edge], b[4, edge], b[5, edge]
    e0, e1, e2, e3, e4, e5 = e[0, edge], e[1, edge], e[2, edge], e[3, edge], e[4, edge], e[5, edge]
    one = two = zero = t.dtype.type(0)
    # one loop for both kinds: processors compute several features at a time only in the simplest of loops
    back = t.dtype.type(1) if symmetric else zero
    m, n = (j, i) if symmetric else (i, j)  # where g and x surely have a row
    for f in range(np.uintp(limits[0]), np.uintp(limits[1])):
        p, q, r, u, v, w = c[k0 + f], c[k1 + f], c[k2 + f], c[k3 + f], c[k4 + f], c[k5 + f]
        product = g[i + f] * x[j + f] + back * (g[m + f] * x[n + f])
        value = b0 * p + b1 * q + b2 * r + b3 * u + b4 * v + b5 * w
        one += product * (e0 * p + e1 * q + e2 * r + e3 * u + e4 * v + e5 * w)
        two += product * value
        t[f], h[f] = value, product
    return one, two


@njit(fastmath=REORDER, **OPTIONS, **NOT_FROM_PYTHON)
def _write_sums(
    slopes: ndarray,
    sums: ndarray,
    t: ndarray,
    h: ndarray,
    table: tuple[ndarray, int, ndarray, ndarray, int],
    ends: tuple[ndarray, ndarray, int, int, bool],
    features: Features,
    edge: int,
    weight: float,
) -> None:
    """Both sums of an edge over segments of features."""
    low, end, segment = 0, features[2] - features[1], features[1] // SEGMENT
    while low < end:
        high = min(low + SEGMENT, end)
        one, two = both_sums(t, h, table, ends, features, (low, high))
        slopes[segment, edge], sums[segment, edge] = weight * one, two
        low, segment = high, segment + 1


@compiled(REORDER)
def add_all(
    results: tuple[ndarray, ndarray, ndarray, ndarray, ndarray],
    g: ndarray,
    x: ndarray,
    c: ndarray,
    edges: Edges,
    place: Place,
    pieces: tuple[ndarray, ndarray],
    features: Features,
    symmetric: bool,
) -> None:
    """All gradients of the form in one go: with respect to g, x, c, distances and weights; empty ones are not wanted.

    Sums over the features of an edge are left in segments [F / SEGMENT, E], so that threads share none.
    """
    (dg, dx, dc, slopes, sums), (d, s, target, source) = results, edges
    sloped, summed, weight, no_weights = len(slopes) > 0, len(sums) > 0, x.dtype.type(1), s[:0]
    row, b, e = np.empty(PIECE, np.int64), np.empty((SUPPORT, PIECE), x.dtype), np.empty((SUPPORT, PIECE), x.dtype)
    width, filtered = features[2] - features[1], len(dg) + len(dx) > 0 or summed
    t, slope, h = np.empty(width, x.dtype), np.empty(width, x.dtype), np.empty(width, x.dtype)
    for begin in range(0, len(d), PIECE):
        count = min(PIECE, len(d) - begin)
        splines(d, no_weights, begin, count, place, pieces[0], row, b)
        if sloped:
            splines(d, no_weights, begin, count, place, pieces[1], row, e)
        for n in range(count):
            i, j = target[begin + n], source[begin + n]
            if len(s) > 0:
                weight = s[begin + n]
            if sloped and summed:
                table, ends = (c, row[n], b, e, n), (g, x, i, j, symmetric)
                _write_sums(slopes, sums, t, h, table, ends, features, begin + n, weight)
            else:
                multiply(h, g, x, i, j, features, symmetric)
                if filtered:
                    read_filter(t, c, row[n], features, b, n)
                if summed:
                    _sum(sums, h, t, begin + n, features, x.dtype.type(1))
                if sloped:
                    read_filter(slope, c, row[n], features, e, n)
                    _sum(slopes, h, slope, begin + n, features, weight)
            if len(dc) > 0:
                _scatter(dc, h, row[n], features, b, n, weight)
            if len(dg) > 0:
                send(dg, t, x, i, j, features, weight, symmetric)
            if len(dx) > 0:
                send(dx, t, g, j, i, features, weight, symmetric)


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
