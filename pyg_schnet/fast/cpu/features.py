"""Features of atoms after tabulated interactions in compiled loops, and the gradients of all weights (extra ``fast``).

Atoms are done in groups, see :mod:`pyg_schnet.fast.cpu.sorted_pairs`. Rows are atoms, columns features, everywhere; the
number of atoms of a group is rounded up to a multiple of :data:`pyg_schnet.fast.cpu.dense.ROWS`, that of features to
one of sixteen.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from pyg_schnet.compiling import CONTRACT, compiled, inlined, part
from pyg_schnet.fast.cpu.arrays import each_flat, filled_up, flat, pieces_at, place_of
from pyg_schnet.fast.cpu.blocks import normalize
from pyg_schnet.fast.cpu.dense import ROWS, turn
from pyg_schnet.fast.cpu.memory import clear, copy, empty, zeros
from pyg_schnet.fast.cpu.products import add_dense, add_rows, add_transposed, fill_rows, multiply_each
from pyg_schnet.fast.cpu.softplus import shifted_softplus
from pyg_schnet.fast.cpu.sorted_pairs import Pairs, convolve, convolve_backward, sort_pairs
from pyg_schnet.fast.weight_gradients import PARTS, up
from pyg_schnet.threads import share_out


class Network(NamedTuple):
    """Weights and biases of the blocks as torch has them, filled up, and their tables.

    Attributes:
        w1: Weights of the first layer [T, F * A].
        w2: Those of the second [T, A * F].
        b2: Its biases [T, A].
        w3: Weights of the third layer [T, A * A].
        b3: Its biases [T, A].
        c: Coefficients of the tables [T, K * F].
    """

    w1: ndarray
    w2: ndarray
    b2: ndarray
    w3: ndarray
    b3: ndarray
    c: ndarray


class Kept(NamedTuple):
    """What the way back needs.

    Attributes:
        memory: What is kept of all groups, block by block.
        network: Weights and tables, filled up [T, ...].
        pairs: The pairs, sorted.
        norm: Factors of the normalisation [N], empty for ones.
        sizes: Features A and filters F, filled up, and number of interactions.
        shapes: Shapes of the tables and of the weights of a block, not filled up.
    """

    memory: Tensor
    network: tuple[Tensor, ...]
    pairs: Pairs
    norm: ndarray
    sizes: tuple[int, int, int]
    shapes: list[torch.Size]


def forwards(
    given: Any, x: Tensor, coefficients: Tensor, weights: tuple[Tensor, ...], keep: bool
) -> tuple[Tensor, Kept]:
    """Features of atoms after all interactions.

    Args:
        given: See :mod:`pyg_schnet.fast.features`.
        x: First features [N, A].
        coefficients: Coefficients of the tables [T, K, F].
        weights: Weights of all blocks, five of each.
        keep: True to keep what :func:`backwards` needs.

    Returns:
        Features [N, A], and what is kept.
    """
    blocks, atoms = len(coefficients), len(x)
    kinds = [torch.stack(weights[n::5]) for n in range(5)]
    size, width = up(x.size(1)), up(coefficients.size(2))
    wide = (width, size), (size, width), (size,), (size, size), (size,), (coefficients.size(1), width)
    network = tuple(filled_up(one, (blocks, *shape)) for one, shape in zip((*kinds, coefficients), wide, strict=True))
    sizes = size, width, given.model.num_interactions
    target, source = given.pairs
    place = place_of(given.tables.start, given.tables.spacing, coefficients.size(1))
    factor = flat(given.edge_weight[:0] if given.factor is None else given.factor)
    norm = flat(x[:0] if given.norm is None else given.norm)
    pieces, symmetric = pieces_at(0, given.tables.spacing), given.edges.edge_pair is not None
    pairs = sort_pairs(target, source, flat(given.edge_weight), factor, given.groups, place, pieces, symmetric)
    memory = x.new_empty(room_for(given.groups) * numbers_kept(sizes) * keep)
    result, act = x.new_empty(atoms, size), given.model.interactions[0].act
    arrays = flat(result), flat(filled_up(x, (atoms, size))), memory.numpy(), Network(*map(each_flat, network))
    how = pairs, given.groups, norm, (act.shift, act.linear_from), sizes
    cost = _products(given.groups, sizes)
    share_out(lambda *some: write_features(*arrays, *how, some), len(given.groups) - 1, 1, cost)
    shapes = [x.shape[1:], *(one.shape[1:] for one in (coefficients, *kinds))]
    return result[:, : x.size(1)].contiguous(), Kept(memory, network, pairs, norm, sizes, shapes)


def backwards(given: Any, g: Tensor, kept: Kept) -> list[Tensor]:
    """Gradients with respect to first features, tables and weights, in the order of :func:`forwards`.

    Args:
        given: See :mod:`pyg_schnet.fast.features`.
        g: Gradients with respect to the features [N, A].
        kept: What :func:`forwards` has kept.

    Returns:
        The gradients.
    """
    size, atoms, groups = kept.sizes[0], len(g), len(given.groups) - 1
    number = min(PARTS, groups, max(2, 1 << max(0, (groups // 4).bit_length() - 1)))  # as few as threads may need
    limits = np.arange(number + 1) * groups // number
    sums = [one.new_empty(number, *one.shape) for one in kept.network]
    of_x, network = g.new_empty(atoms, size), Network(*map(each_flat, kept.network))
    arrays = flat(of_x), flat(filled_up(g, (atoms, size))), kept.memory.numpy()

    def work(begin: int, end: int) -> None:
        for place in range(begin, end):
            slopes = Network(*(each_flat(one[place]) for one in sums))
            some = int(limits[place]), int(limits[place + 1])
            rest = network, kept.pairs, given.groups, kept.norm, kept.sizes, some
            write_gradients(arrays[0], slopes, *arrays[1:], *rest)

    share_out(work, number, 1, 2 * _products(given.groups, kept.sizes) * groups // number)
    for one in sums:
        for place in range(1, number):
            one[0] += one[place]
    *dense, of_c = (one[0] for one in sums)
    of_first, of_tables, *shapes = kept.shapes
    cut = [one[(slice(None), *map(slice, shape))] for one, shape in zip(dense, shapes, strict=True)]
    of_weights = [one for block in zip(*(one.unbind() for one in cut), strict=True) for one in block]
    return [of_x[:, : of_first[0]], of_c[..., : of_tables[1]], *of_weights]


def _products(groups: ndarray, sizes: tuple[int, int, int]) -> int:
    """What a group of atoms costs, in products of a convolution."""
    size, width, steps = sizes
    return int(groups[-1]) // (len(groups) - 1) * steps * size * width // 2


@part(CONTRACT)
def _turned(w: ndarray, rows: int, columns: int) -> ndarray:
    """All of some matrices [rows, columns] the other way round."""
    turned = empty(w.size, w).reshape(w.shape)
    for t in range(len(w)):
        turn(turned[t], w[t], rows, columns)
    return turned


@inlined()
def _kept(memory: ndarray, sizes: tuple[int, int, int], t: int) -> tuple[ndarray, ndarray, ndarray, ndarray, ndarray]:
    """Kept of a block: features before it [N, A], those sent and received [N, F], activation and slope [N, A]."""
    atoms, size, width = sizes
    a, f = atoms * size, atoms * width
    begin = t * (3 * a + 2 * f)
    x, h, y = memory[begin : begin + a], memory[begin + a : begin + a + f], memory[begin + a + f : begin + a + 2 * f]
    begin += a + 2 * f
    return x, h, y, memory[begin : begin + a], memory[begin + a : begin + 2 * a]


@inlined()
def _place(groups: ndarray, group: int) -> tuple[int, int]:
    """Where the atoms of a group begin if those of each group are rounded up, and how many they then are."""
    atoms = (groups[group + 1] - groups[group] + ROWS - 1) // ROWS * ROWS
    return groups[group] + group * (ROWS - 1), atoms


@part(CONTRACT)
def _add(y: ndarray, x: ndarray) -> None:
    """Add numbers to those in the same places."""
    for n in range(len(x)):
        y[n] += x[n]


@compiled(CONTRACT)
def write_features(
    result: ndarray,
    x: ndarray,
    memory: ndarray,
    network: Network,
    pairs: Pairs,
    groups: ndarray,
    norm: ndarray,
    activation: tuple[float, float],
    sizes: tuple[int, int, int],
    limits: tuple[int, int],
) -> None:
    """Features of the atoms of some groups after all interactions.

    Args:
        result: To be written [N * A].
        x: First features [N * A].
        memory: To be written, what :func:`write_gradients` asks for, as many numbers for each atom, those of each group
            rounded up, as :func:`numbers_kept` says; empty if nobody asks.
        network: Weights and tables.
        pairs: The pairs, sorted.
        groups: First atom of each group.
        norm: Factors of the normalisation [N], empty for ones.
        activation: What is subtracted from the softplus, and from where on it is linear.
        sizes: Features A and filters F, multiples of sixteen, and number of interactions.
        limits: First group and the one behind the last.
    """
    size, width, steps = sizes
    w1, w2 = _turned(network.w1, width, size), _turned(network.w2, size, width)
    w3, own = _turned(network.w3, size, size), len(network.w1)
    for group in range(limits[0], limits[1]):
        first, end = groups[group], groups[group + 1]
        begin, atoms = _place(groups, group)
        keep, numbers = len(memory) > 0, atoms * (3 * size + 2 * width)
        mine = memory[begin * steps * (3 * size + 2 * width) :] if keep else empty(numbers, x)
        now, shape = zeros(atoms * size, x), (atoms, size, width)
        for n in range((end - first) * size):
            now[n] = x[first * size + n]
        for step in range(steps):
            t, (before, h, y, a, slope) = step % own, _kept(mine, shape, step if keep else 0)
            if keep:
                copy(before, now)
            clear(h)
            add_dense(h, now, w1[t], (atoms, size, width))
            clear(y)
            convolve(y, h, network.c[t], pairs, (pairs.first[group], pairs.first[group + 1]), width)
            normalize(y, norm[first:end], width)
            fill_rows(a, network.b2[t])
            add_dense(a, y, w2[t], (atoms, width, size))
            shifted_softplus(a, slope, a, *activation, (0, len(a)))
            for n in range(0, len(now), size):
                _add(now[n : n + size], network.b3[t])
            add_dense(now, a, w3[t], (atoms, size, size))
        for n in range((end - first) * size):
            result[first * size + n] = now[n]


@compiled(CONTRACT)
def write_gradients(
    of_x: ndarray,
    slopes: Network,
    g: ndarray,
    memory: ndarray,
    network: Network,
    pairs: Pairs,
    groups: ndarray,
    norm: ndarray,
    sizes: tuple[int, int, int],
    limits: tuple[int, int],
) -> None:
    """Gradients of the weights, after :func:`write_features`.

    Args:
        of_x: To be written, gradients with respect to the first features [N * A].
        slopes: To be written, gradients with respect to weights and tables.
        g: Gradients with respect to the features after all interactions [N * A].
        memory: What :func:`write_features` has written.
        network: Weights and tables.
        pairs: The pairs, sorted.
        groups: First atom of each group.
        norm: Factors of the normalisation [N], empty for ones.
        sizes: Features A and filters F, multiples of sixteen, and number of interactions.
        limits: First group and the one behind the last.
    """
    (size, width, steps), own = sizes, len(network.w1)
    for t in range(own):
        clear(slopes.w1[t])
        clear(slopes.w2[t])
        clear(slopes.b2[t])
        clear(slopes.w3[t])
        clear(slopes.b3[t])
        clear(slopes.c[t])
    for group in range(limits[0], limits[1]):
        first, end = groups[group], groups[group + 1]
        count, (begin, atoms) = end - first, _place(groups, group)
        mine, shape = memory[begin * steps * (3 * size + 2 * width) :], (atoms, size, width)
        now, of_u = zeros(atoms * size, g), empty(atoms * size, g)
        of_y, of_h = empty(atoms * width, g), empty(atoms * width, g)
        for n in range(count * size):
            now[n] = g[first * size + n]
        for step in range(steps - 1, -1, -1):
            t, (before, h, y, a, slope) = step % own, _kept(mine, shape, step)
            add_transposed(slopes.w3[t], now, a, (count, size, size))
            add_rows(slopes.b3[t], now)
            clear(of_u)
            add_dense(of_u, now, network.w3[t], (atoms, size, size))
            multiply_each(of_u, slope)
            add_transposed(slopes.w2[t], of_u, y, (count, width, size))
            add_rows(slopes.b2[t], of_u)
            clear(of_y)
            add_dense(of_y, of_u, network.w2[t], (atoms, size, width))
            normalize(of_y, norm[first:end], width)
            clear(of_h)
            some = pairs.first[group], pairs.first[group + 1]
            convolve_backward(of_h, slopes.c[t], of_y, h, network.c[t], pairs, some, width)
            add_transposed(slopes.w1[t], of_h, before, (count, size, width))
            add_dense(now, of_h, network.w1[t], (atoms, width, size))
        for n in range(count * size):
            of_x[first * size + n] = now[n]


def numbers_kept(sizes: tuple[int, int, int]) -> int:
    """How many numbers are kept of an atom."""
    size, width, steps = sizes
    return steps * (3 * size + 2 * width)


def room_for(groups: ndarray) -> int:
    """For how many atoms there must be room, if those of each group are rounded up."""
    return int(groups[-1]) + (len(groups) - 1) * (ROWS - 1)
