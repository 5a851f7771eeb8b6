"""A network of tabulated interactions on small structures: energies, and their derivatives by one pass backwards.

Python calls the compiled loops once, because handing over an array takes as long as some thousand products. Weights are
therefore passed by their addresses; the caller keeps them where they are until the loops are done.

Many small structures are done in groups, each so small that all that is kept of it fits the caches of the processor.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.core.cgutils import voidptr_t
from numba.extending import intrinsic
from numba.np.numpy_support import carray
from numpy import ndarray

from pyg_schnet.compiling import CONTRACT, compiled, inlined, part
from pyg_schnet.fast.bspline import SUPPORT
from pyg_schnet.fast.cpu.blocks import Last, Layers, Pairs, block_backward, block_forward, output_both_ways, turn_in
from pyg_schnet.fast.cpu.convolution_loops import KnotPlace, find, splines
from pyg_schnet.fast.cpu.cutoff import write_cutoff
from pyg_schnet.fast.cpu.dense import ROWS, turn
from pyg_schnet.fast.cpu.memory import copy, doubles, empty, integer_zeros, integers, zeros
from pyg_schnet.fast.cpu.saved import Kept, scratch, up
from pyg_schnet.fast.cpu.vectors import LANES


class Network(NamedTuple):
    """Where the weights are, and how many.

    Attributes:
        embedding: Address of the first features of all elements, and their number.
        blocks: Addresses of the weights of the first layer, weights and biases of the second and the third, and of the
            filter table of each interaction [T, 6] int64.
        output: Addresses of weights and biases of both layers of the output network [4] int64.
        sizes: Features A of the atoms, number F of filters, rows of a table, size of the output network's inner layer.
        activation: What is subtracted from the softplus, and from where on it is linear.
        cutoff: Number of the cutoff function, its end and exponent, see :func:`write_cutoff`.
        table: Where the knots of the tables are; polynomials of their splines and of the derivatives.
    """

    embedding: tuple[int, int]
    blocks: ndarray
    output: ndarray
    sizes: tuple[int, int, int, int]
    activation: tuple[float, float]
    cutoff: tuple[int, float, int]
    table: tuple[KnotPlace, ndarray, ndarray]


def _typed(context: Any, address: Any) -> Any:
    """How Numba turns an address into what ``carray`` takes."""
    del context, address

    def cast(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        return builder.inttoptr(arguments[0], voidptr_t)

    return types.voidptr(types.int64), cast


_pointer: Any = intrinsic(_typed)


@inlined()
def _array(address: int, count: int, like: ndarray) -> ndarray:
    """So many numbers from an address on."""
    return carray(_pointer(address), (count,), like.dtype)


@part(CONTRACT)
def _matrix(address: int, rows: int, columns: int, high: int, wide: int, like: ndarray) -> ndarray:
    """Weights from an address on; a copy with zeros at its ends if loops need more rows or columns."""
    given = _array(address, rows * columns, like)
    if high == rows and wide == columns:
        return given
    copy = zeros(high * wide, like)
    for row in range(rows):
        for column in range(columns):
            copy[row * wide + column] = given[row * columns + column]
    return copy


@inlined()
def block_at(addresses: ndarray, sizes: tuple[int, int, int, int], like: ndarray) -> Layers:
    """The weights of a block."""
    (size, width, rows, _), one = (
        sizes,
        np.int64(1),
    )  # a number whose value the compiler knew would be compiled for itself
    a, f = up(size, LANES), up(width, LANES)
    return (
        _matrix(addresses[0], width, size, f, a, like),
        _matrix(addresses[1], size, width, a, f, like),
        _matrix(addresses[2], one, size, one, a, like),
        _matrix(addresses[3], size, size, a, a, like),
        _matrix(addresses[4], one, size, one, a, like),
        _matrix(addresses[5], rows, width, rows, f, like),
    )


@inlined()
def last_at(addresses: ndarray, sizes: tuple[int, int, int, int], like: ndarray) -> Last:
    """The weights of the output network."""
    (size, _, _, half), one = sizes, np.int64(1)
    a, h = up(size, LANES), up(half, ROWS)
    return (
        _matrix(addresses[0], half, size, h, a, like),
        _matrix(addresses[1], one, half, one, h, like),
        _matrix(addresses[2], one, half, one, h, like),
        _array(addresses[3], one, like),
    )


@inlined()
def _length(vec: ndarray, pair: int) -> float:
    """Length of the vector of a pair."""
    return math.sqrt(vec[3 * pair] ** 2 + vec[3 * pair + 1] ** 2 + vec[3 * pair + 2] ** 2)


@inlined()
def _sort_by_row(order: ndarray, row: ndarray, last: int) -> None:
    """Order of pairs by the rows of the table that they read."""
    first = integer_zeros(last + 2)
    for k in row:
        first[k + 1] += 1
    for k in range(last + 1):
        first[k + 1] += first[k]
    for n in range(len(row)):
        order[first[row[n]]] = n
        first[row[n]] += 1


@compiled(CONTRACT)
def groups_of(batch: ndarray, target: ndarray, source: ndarray, most: int) -> tuple[ndarray, ndarray, ndarray]:
    """Structures that are done at once: groups of about the same size, so that no thread has to wait for another.

    Args:
        batch: Structure of each atom [N], sorted.
        target: Target of each pair [P].
        source: Its source [P].
        most: Atoms of a group, on an average; no structure is divided.

    Returns:
        First atom of each group [C + 1], pairs of one group after the other [P] and the first of these of each group
        [C + 1]; no groups if a pair belongs to two of them.
    """
    first_atom, group_of, groups, begin = integer_zeros(len(batch) + 2), integers(len(batch)), 0, 0
    number, here = (len(batch) + most - 1) // most, 0
    number = number if number < 3 else up(number, 4)  # as much to do for each of two or four threads
    for i in range(len(batch)):
        if i > 0 and batch[i] != batch[i - 1]:
            begin = i
        if i == begin or groups == 0:  # a structure begins: in which group is its middle?
            end = i
            while end < len(batch) and batch[end] == batch[i]:
                end += 1
            place = (i + end) * number // (2 * len(batch))
            if groups == 0 or place != here:
                first_atom[groups], here = i, place
                groups += 1
        group_of[i] = groups - 1
    first_atom[groups] = len(batch)
    first_pair, order = integer_zeros(groups + 1), integers(len(target))
    for n in range(len(target)):
        group = group_of[target[n]]
        if group_of[source[n]] != group:  # one would be outside of what is at hand of the other's
            return first_atom[:1], order, first_pair[:1]
        first_pair[group + 1] += 1
    for group in range(groups):
        first_pair[group + 1] += first_pair[group]
    free = first_pair.copy()
    for n in range(len(target)):
        group = group_of[target[n]]
        order[free[group]] = n
        free[group] += 1
    return first_atom[: groups + 1], order, first_pair


@part(CONTRACT)
def sort_pairs(
    known: tuple[ndarray, ndarray, ndarray],
    sorted_pairs: Pairs,
    pairs: tuple[ndarray, ndarray, ndarray],
    mine: ndarray,
    first: int,
    network: Network,
) -> None:
    """Write pairs in the order of the rows of the table that they read; atoms are counted from the first one.

    Known of each is which pair it is, its distance, and the derivative of the cutoff function.
    """
    (vec, target, source), number, (place, pieces, derivatives) = pairs, len(mine), network.table
    (order, d, decline), (i, j, weight, row, b, e), u = known, sorted_pairs, doubles(number)
    for n in range(number):
        d[n] = _length(vec, mine[n])
    find(u, row, d, 0, number, place)
    _sort_by_row(order, row, place[2])
    for n in range(number):
        order[n] = mine[order[n]]
        d[n], i[n], j[n] = _length(vec, order[n]), target[order[n]] - first, source[order[n]] - first
    find(u, row, d, 0, number, place)
    write_cutoff(weight, decline, d, *network.cutoff)
    splines(b, u, number, pieces)
    splines(e, u, number, derivatives)


@part(CONTRACT)
def sorted_by_row(
    pairs: tuple[ndarray, ndarray, ndarray], mine: ndarray, first: int, network: Network
) -> tuple[ndarray, ndarray, ndarray, Pairs]:
    """What :func:`sort_pairs` writes, in new arrays."""
    number, like = len(mine), pairs[0]
    known = integers(number), empty(number, like), empty(number, like)
    b, e, row = empty(SUPPORT * number, like), empty(SUPPORT * number, like), integers(number)
    found = integers(number), integers(number), empty(number, like), row, b, e
    sort_pairs(known, found, pairs, mine, first, network)
    return known[0], known[1], known[2], found


@inlined()
def embed(x: ndarray, z: ndarray, network: Network, like: ndarray) -> None:
    """Write the first features of atoms [N * A]."""
    size = network.sizes[0]
    weights = _array(network.embedding[0], network.embedding[1] * size, like)
    for i in range(len(z)):
        for f in range(size):
            x[i * size + f] = weights[z[i] * size + f]


@part(CONTRACT)
def group_both_ways(
    some: tuple[ndarray, ndarray, ndarray, ndarray, ndarray],
    slopes: ndarray,
    network: Network,
    pairs: tuple[ndarray, ndarray, ndarray],
    mine: ndarray,
    first: int,
    left: Kept,
    symmetric: bool,
) -> None:
    """What :func:`pass_both_ways` does, for other loops."""
    (contributions, x, shares, norm, of_norm), vec, number = some, pairs[0], len(mine)
    size, width, atoms = up(network.sizes[0], LANES), up(network.sizes[1], LANES), up(len(shares), LANES)
    blocks, sizes, asked = network.blocks, (atoms, size, width), len(left.features) > 0
    order, d, decline, sorted_pairs = sorted_by_row(pairs, mine, first, network)
    features, g = empty(atoms * size, x), zeros(atoms * size, x)
    turn_in(features, x, network.sizes[0], (atoms, size))
    for t in range(len(blocks)):
        if asked:
            turn(left.features[t], features, size, atoms)
        to_keep = left.sent[t], left.received[t], left.inner[t % len(left.inner)], left.slope[t]
        layers = block_at(blocks[t], network.sizes, x)
        block_forward(features, to_keep, layers, sorted_pairs, norm, network.activation, sizes, symmetric)
    if asked:
        turn(left.features[len(blocks)], features, size, atoms)
    last = last_at(network.output, network.sizes, x)
    output_both_ways(contributions, g, features, last, shares, network.activation, (atoms, size))
    of_distance, of_weight = zeros(number, x), zeros(number, x)
    for t in range(len(blocks) - 1, -1, -1):
        if asked:
            copy(left.of_features[t], g)
        place = t % len(left.of_inner)
        made = left.of_inner[place], left.of_received[place], left.of_sent[place]
        layers, gradients = block_at(blocks[t], network.sizes, x), (of_distance, of_weight, of_norm)
        parts = left.sent[t], left.received[t], left.slope[t]
        block_backward(g, gradients, parts, made, layers, sorted_pairs, norm, sizes, symmetric, t == 0)
    for n in range(number):
        radial, k = (of_distance[n] + of_weight[n] * decline[n]) / d[n], 3 * order[n]
        for axis in range(k, k + 3):
            slopes[axis] = radial * vec[axis]


@compiled(CONTRACT)
def pass_both_ways(
    some: tuple[ndarray, ndarray, ndarray, ndarray, ndarray],
    slopes: ndarray,
    network: Network,
    pairs: tuple[ndarray, ndarray, ndarray],
    mine: ndarray,
    first: int,
    left: Kept,
    symmetric: bool,
) -> None:
    """Contributions of some atoms to the energies, and derivatives of their sum.

    Args:
        some: Of these atoms contributions times shares [N] float64, to be written; first features [N * A]; shares of
            the contributions in the energy [N] float64; factors of the normalisation [N], and derivatives with respect
            to them, to be added to; both empty for ones.
        slopes: To be written, derivatives with respect to the vectors of pairs, normalisation kept [P * 3].
        network: The network.
        pairs: Vectors [P * 3], targets and sources [P], of all atoms.
        mine: Which pairs are those of these atoms.
        first: The first of these atoms.
        left: To be written, what :mod:`pyg_schnet.fast.cpu.second_order` asks for, or as much as the pass itself needs.
        symmetric: True if each pair stands for its opposite, too.
    """
    group_both_ways(some, slopes, network, pairs, mine, first, left, symmetric)


@compiled(CONTRACT)
def molecules_both_ways(
    energies: ndarray,
    forces: ndarray,
    z: ndarray,
    pos: ndarray,
    batch: ndarray,
    network: Network,
    pairs: ndarray,
    shares: ndarray,
    groups: tuple[ndarray, ndarray, ndarray],
    limits: tuple[int, int],
) -> None:
    """Energies of open structures and forces on their atoms.

    Args:
        energies: To be written, without references [B] float64; zeros.
        forces: To be written, energies per Angstrom [N, 3]; zeros.
        z: Atomic numbers that the network knows [N].
        pos: Positions in Angstrom [N, 3].
        batch: Structure of each atom [N].
        network: The network.
        pairs: Targets and sources of pairs, each of which stands for its opposite, too [2, P].
        shares: Share of each atom's contribution in the energy [N] float64.
        groups: Structures that are done at once, see :func:`groups_of`.
        limits: First group and the one behind the last.
    """
    (first_atom, order, first_pair), size = groups, network.sizes[0]
    contributions, none = doubles(len(z)), empty(np.int64(0), pos)
    for group in range(limits[0], limits[1]):
        a, b = first_atom[group], first_atom[group + 1]
        mine = order[first_pair[group] : first_pair[group + 1]]
        x, vec = empty((b - a) * size, none), empty(3 * len(mine), none)
        embed(x, z[a:b], network, pos)
        target, source, every = integers(len(mine)), integers(len(mine)), integers(len(mine))
        for n in range(len(mine)):
            target[n], source[n], every[n] = pairs[0, mine[n]], pairs[1, mine[n]], n
            for axis in range(3):
                vec[3 * n + axis] = pos[source[n], axis] - pos[target[n], axis]
        slopes, some = empty(len(vec), vec), (contributions[a:b], x, shares[a:b], none, none)
        left = scratch(len(network.blocks), network.sizes, b - a, vec)
        group_both_ways(some, slopes, network, (vec, target, source), every, a, left, True)
        for i in range(a, b):
            energies[batch[i]] += contributions[i]
        for n in range(len(mine)):
            for axis in range(3):
                forces[target[n], axis] += slopes[3 * n + axis]
                forces[source[n], axis] -= slopes[3 * n + axis]
