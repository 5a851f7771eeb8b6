"""Pairs sorted by the row of the table that they read, and the convolution over them, both ways (extra ``fast``).

Atoms are done in groups between which there are no pairs, so that what is kept of a group stays close to the processor;
pairs of a group one behind the other read the same rows.
"""

from typing import NamedTuple

import numpy as np
from numpy import ndarray

from pyg_schnet.compiling import CONTRACT, compiled, inlined, part
from pyg_schnet.fast.bspline import SUPPORT
from pyg_schnet.fast.cpu.convolution_loops import PIECE, KnotPlace, Six, dot, find, product, rows, send, splines
from pyg_schnet.fast.cpu.vectors import LANES, Lanes, splat, store

#: Numbers kept of each pair: its six spline values times its weight, and two that do not count.
WIDTH = 8
_LANES = np.uintp(LANES)


class Pairs(NamedTuple):
    """Pairs sorted by group and, within a group, by the row of the table.

    Attributes:
        target: Target in its group [P].
        source: Source in its group [P].
        row: First of the six rows of the table [P].
        values: Six spline values times the weight of the pair [P * WIDTH].
        first: First pair of each group, and their number [C + 1].
        symmetric: True if each pair stands for its opposite, too.
    """

    target: ndarray
    source: ndarray
    row: ndarray
    values: ndarray
    first: ndarray
    symmetric: bool


@compiled(CONTRACT)
def groups_of(target: ndarray, source: ndarray, atoms: int, most: int) -> ndarray:
    """Atoms that are done at once, as many as possible up to so many, on an average; no pair belongs to two groups.

    Args:
        target: Target of each pair [P].
        source: Its source [P].
        atoms: Number of atoms N.
        most: Atoms of a group.

    Returns:
        First atom of each group, and the number of atoms [C + 1].
    """
    reach = np.arange(atoms)
    for n in range(len(target)):
        low = min(target[n], source[n])
        reach[low] = max(reach[low], target[n], source[n])
    number = (atoms + most - 1) // most
    number = number if number < 3 else (number + 3) // 4 * 4  # as much to do for each of two or four threads
    first, groups, last, begin = np.empty(number + 1, np.int64), 0, 0, 0
    here = -1
    for i in range(atoms):
        last = max(last, reach[i])
        if last > i:
            continue
        place = (begin + i + 1) * number // (2 * atoms)  # in which group is the middle of these?
        if place != here:
            first[groups], here = begin, place
            groups += 1
        begin = i + 1
    first[groups] = atoms
    return first[: groups + 1].copy()


@compiled(CONTRACT)
def sort_pairs(
    target: ndarray,
    source: ndarray,
    d: ndarray,
    weight: ndarray,
    groups: ndarray,
    place: KnotPlace,
    pieces: ndarray,
    symmetric: bool,
) -> Pairs:
    """Pairs as loops take them.

    Args:
        target: Target of each pair [P].
        source: Its source [P].
        d: Its distance in Angstrom [P].
        weight: Its weight [P], empty for ones.
        groups: First atom of each group, see :func:`groups_of`.
        place: Where the knots of the tables are.
        pieces: Polynomials of the splines.
        symmetric: True if each pair stands for its opposite, too.

    Returns:
        The pairs, sorted.
    """
    number, count, last = len(target), len(groups) - 1, place[2] + 1
    group_of, u, row = np.empty(groups[count], np.int32), np.empty(number, np.float64), np.empty(number, np.int64)
    for group in range(count):
        for i in range(groups[group], groups[group + 1]):
            group_of[i] = group
    find(u, row, d, 0, number, place)
    free = np.zeros(count * last + 1, np.int64)
    for n in range(number):
        free[group_of[target[n]] * last + row[n] + 1] += 1
    for k in range(count * last):
        free[k + 1] += free[k]
    first = np.empty(count + 1, np.int64)
    for group in range(count + 1):
        first[group] = free[group * last]
    targets, sources, order = np.empty(number, np.int32), np.empty(number, np.int32), np.empty(number, np.int32)
    values, b = np.empty(number * WIDTH, d.dtype), np.empty(SUPPORT * PIECE, d.dtype)
    for begin in range(0, number, PIECE):
        some = min(PIECE, number - begin)
        splines(b, u[begin : begin + some], some, pieces)
        for m in range(some):
            n = begin + m
            group = group_of[target[n]]
            at = free[group * last + row[n]]
            free[group * last + row[n]] += 1
            targets[at], sources[at], order[at] = target[n] - groups[group], source[n] - groups[group], row[n]
            factor = weight[n] if len(weight) > 0 else d.dtype.type(1)
            for k in range(SUPPORT):
                values[at * WIDTH + k] = b[k * PIECE + m] * factor
    return Pairs(targets, sources, order, values, first, symmetric)


@inlined()
def _six(b: ndarray, pair: int) -> Six:
    """The spline values of a pair, each in all lanes."""
    n = np.uintp(pair) * np.uintp(WIDTH)
    b0, b1, b2 = b[n], b[n + np.uintp(1)], b[n + np.uintp(2)]
    b3, b4, b5 = b[n + np.uintp(3)], b[n + np.uintp(4)], b[n + np.uintp(5)]
    return splat(b0), splat(b1), splat(b2), splat(b3), splat(b4), splat(b5)


@inlined()
def _end_of_run(row: ndarray, begin: int, end: int) -> int:
    """The pair behind the last of those, from one on, that read the same rows."""
    n = begin + 1
    while n < end and row[n] == row[begin]:
        n += 1
    return n


@part(CONTRACT)
def convolve(y: ndarray, h: ndarray, c: ndarray, pairs: Pairs, limits: tuple[int, int], width: int) -> None:
    """Add the filtered features of sources to targets.

    Pairs that read the same rows come one behind the other: thirty-two features of these rows stay in registers.
    """
    size, symmetric = np.uintp(width), pairs.symmetric
    wide = np.uintp(width // (2 * LANES) * 2 * LANES)
    for f in range(np.uintp(0), wide, _LANES + _LANES):
        begin = limits[0]
        while begin < limits[1]:
            end, k = _end_of_run(pairs.row, begin, limits[1]), np.uintp(pairs.row[begin]) * size + f
            left, right = rows(c, k, size), rows(c, k + _LANES, size)
            for n in range(np.uintp(begin), np.uintp(end)):
                values = _six(pairs.values, n)
                i, j = np.uintp(pairs.target[n]) * size + f, np.uintp(pairs.source[n]) * size + f
                send(y, h, dot(values, left), i, j, symmetric)
                send(y, h, dot(values, right), i + _LANES, j + _LANES, symmetric)
            begin = end
    for n in range(limits[0], limits[1]):  # the last sixteen of an odd number of times so many
        values, k = _six(pairs.values, n), np.uintp(pairs.row[n]) * size
        i, j = np.uintp(pairs.target[n]) * size, np.uintp(pairs.source[n]) * size
        for f in range(wide, size, _LANES):
            send(y, h, dot(values, rows(c, k + f, size)), i + f, j + f, symmetric)


@inlined()
def _sums(b: Six, value: Lanes, sums: Six) -> Six:
    """Six sums, to which a value times each of six numbers is added."""
    return (
        sums[0] + b[0] * value,
        sums[1] + b[1] * value,
        sums[2] + b[2] * value,
        sums[3] + b[3] * value,
        sums[4] + b[4] * value,
        sums[5] + b[5] * value,
    )


@part(CONTRACT)
def convolve_backward(
    of_h: ndarray,
    of_c: ndarray,
    g: ndarray,
    h: ndarray,
    c: ndarray,
    pairs: Pairs,
    limits: tuple[int, int],
    width: int,
) -> None:
    """Add the gradients with respect to the features that are sent and to the table, for those g of what is received.

    Pairs that read the same rows come one behind the other: their sums stay in registers.
    """
    size, symmetric = np.uintp(width), pairs.symmetric
    for f in range(np.uintp(0), size, _LANES):
        begin = limits[0]
        while begin < limits[1]:
            end, k = _end_of_run(pairs.row, begin, limits[1]), np.uintp(pairs.row[begin]) * size + f
            six_rows, sums = rows(c, k, size), rows(of_c, k, size)
            for n in range(np.uintp(begin), np.uintp(end)):
                values = _six(pairs.values, n)
                i, j = np.uintp(pairs.target[n]) * size + f, np.uintp(pairs.source[n]) * size + f
                sums = _sums(values, product(g, h, i, j, symmetric), sums)
                send(of_h, g, dot(values, six_rows), j, i, symmetric)
            _write(of_c, k, size, sums)
            begin = end


@inlined()
def _write(c: ndarray, first: int, size: int, sums: Six) -> None:
    """Write sixteen features of six rows."""
    k1 = first + size
    k2 = k1 + size
    k3 = k2 + size
    k4 = k3 + size
    store(c, first, sums[0])
    store(c, k1, sums[1])
    store(c, k2, sums[2])
    store(c, k3, sums[3])
    store(c, k4, sums[4])
    store(c, k4 + size, sums[5])
