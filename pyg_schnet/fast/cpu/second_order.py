r"""Gradients of a loss of energies and forces, in compiled loops (extra ``fast``).

A loss L depends on the weights through the energies E and through their derivatives s with respect to the distances of
pairs. Its gradient is that of

.. math:: J = \sum_i \frac{\partial L}{\partial E_i} E_i + \dot E, \quad
    \dot E = \sum_p \dot d_p \frac{\partial E}{\partial d_p}, \quad
    \dot d_p = \frac{\partial L}{\partial s_p}

with :math:`\dot E` the change of the energy if distances change by :math:`\dot d`: the network is gone through once
more with the changes of all features, and then backwards. How the energy depends on features says how J depends on
their changes, and is known from the pass that gave the forces, which leaves it on tape.

Names: what begins with ``d`` is such a change, what begins with ``of_`` a derivative of J, ``e_`` of the energy.
"""

import numpy as np
from numpy import ndarray

from pyg_schnet.compiling import CONTRACT, REORDER, compiled, inlined, part
from pyg_schnet.fast.cpu.blocks import Counts, Last, Layers, Pairs, Part, fill, normalize, turn_out
from pyg_schnet.fast.cpu.convolution_loops import Six, add, dot, rows, six
from pyg_schnet.fast.cpu.dense import add_dense, add_dense_backward, turn
from pyg_schnet.fast.cpu.first_order import Network, block_at, last_at, sorted_by_row
from pyg_schnet.fast.cpu.memory import clear, doubles, empty, row_of, zeros
from pyg_schnet.fast.cpu.saved import Kept, up
from pyg_schnet.fast.cpu.softplus import shifted_softplus
from pyg_schnet.fast.cpu.vectors import LANES, Lanes, load

#: Targets, sources, first rows of the table, six factors of these in the filter and in its change [6 * P] of pairs.
Moving = tuple[ndarray, ndarray, ndarray, ndarray, ndarray]
_LANES = np.uintp(LANES)


@part(CONTRACT)
def convolve_changes(
    dy: ndarray, dh: ndarray, h: ndarray, c: ndarray, pairs: Moving, part: Part, symmetric: bool, first: bool
) -> None:
    """Add what changes of features and of filters do to targets; before the ``first`` block no features change."""
    (target, source, row, b, e), size, low, high = pairs, np.uintp(part[0]), np.uintp(part[1]), np.uintp(part[2])
    for n in range(len(target)):
        values, steps, k = six(b, n), six(e, n), np.uintp(row[n]) * size
        i, j = np.uintp(target[n]) * size, np.uintp(source[n]) * size
        for f in range(low, high, _LANES):
            six_rows = rows(c, k + f, size)
            change = dot(steps, six_rows)
            if first:
                add(dy, i + f, change * load(h, j + f))
                if symmetric:
                    add(dy, j + f, change * load(h, i + f))
            else:
                w = dot(values, six_rows)
                add(dy, i + f, w * load(dh, j + f) + change * load(h, j + f))
                if symmetric:
                    add(dy, j + f, w * load(dh, i + f) + change * load(h, i + f))


@part(CONTRACT)
def convolve_gradients(
    of_h: ndarray,
    of_c: ndarray,
    of_y: ndarray,
    e_y: ndarray,
    h: ndarray,
    dh: ndarray,
    c: ndarray,
    pairs: Moving,
    part: Part,
    symmetric: bool,
    first: bool,
) -> None:
    """Add the gradients with respect to features that are sent and to the table."""
    (target, source, row, b, e), size, low, high = pairs, np.uintp(part[0]), np.uintp(part[1]), np.uintp(part[2])
    for n in range(len(target)):
        values, steps, k = six(b, n), six(e, n), np.uintp(row[n]) * size
        i, j = np.uintp(target[n]) * size, np.uintp(source[n]) * size
        for f in range(low, high, _LANES):  # all is read before anything is written, lest it be read twice
            six_rows = rows(c, k + f, size)
            w, change = dot(values, six_rows), dot(steps, six_rows)
            of_i, e_i, h_j = load(of_y, i + f), load(e_y, i + f), load(h, j + f)
            if symmetric:
                of_j, e_j, h_i = load(of_y, j + f), load(e_y, j + f), load(h, i + f)
                still = e_i * h_j + e_j * h_i
                if first:
                    both = of_i * h_j + of_j * h_i
                else:
                    both = of_i * h_j + of_j * h_i + e_i * load(dh, j + f) + e_j * load(dh, i + f)
                _add_to_rows(of_c, k + f, size, (values, steps), both, still)
                add(of_h, j + f, w * of_i + change * e_i)
                add(of_h, i + f, w * of_j + change * e_j)
            else:
                still = e_i * h_j
                both = of_i * h_j if first else of_i * h_j + e_i * load(dh, j + f)
                _add_to_rows(of_c, k + f, size, (values, steps), both, still)
                add(of_h, j + f, w * of_i + change * e_i)


@inlined()
def _add_to_rows(c: ndarray, first: int, size: int, factors: tuple[Six, Six], one: Lanes, two: Lanes) -> None:
    """Add sixteen features of either kind to the six rows of a table that count."""
    (b, e), k1 = factors, first + size
    k2 = k1 + size
    k3 = k2 + size
    k4 = k3 + size
    add(c, first, b[0] * one + e[0] * two)
    add(c, k1, b[1] * one + e[1] * two)
    add(c, k2, b[2] * one + e[2] * two)
    add(c, k3, b[3] * one + e[3] * two)
    add(c, k4, b[4] * one + e[4] * two)
    add(c, k4 + size, b[5] * one + e[5] * two)


@inlined()
def _add_sums(b: ndarray, u: ndarray, atoms: int) -> None:
    """B += sums over atoms, the gradient of biases, for u [outputs, N]."""
    for o in range(len(b)):
        value = b[o]
        for n in range(o * atoms, (o + 1) * atoms):
            value += u[n]
        b[o] = value


@part(CONTRACT)
def write_changes_sent(dh: ndarray, dx_before: ndarray, dx: ndarray, w1: ndarray, sizes: Counts, first: bool) -> None:
    """Changes of features before a block [N, A], and of those that are sent, none before the ``first`` block."""
    atoms, size, width = sizes
    turn(dx_before, dx, size, atoms)
    if not first:
        turned = zeros(len(dh), dh)
        add_dense(turned, dx, w1, atoms, size, width)
        turn(dh, turned, width, atoms)


@part(CONTRACT)
def add_changes_received(
    dx: ndarray,
    changes: tuple[ndarray, ndarray, ndarray],
    slope: ndarray,
    layers: Layers,
    norm: ndarray,
    sizes: Counts,
) -> None:
    """Add to the changes of features [A, N] what the block makes of the changes of what is received."""
    (dv, du, da), (_, w2, _, w3, _, _), (atoms, size, width) = changes, layers, sizes
    turned = empty(len(dv), dv)
    normalize(dv, norm, width)
    turn(turned, dv, atoms, width)
    clear(du)
    add_dense(du, turned, w2, atoms, width, size)
    for f in range(len(da)):
        da[f] = slope[f] * du[f]
    add_dense(dx, da, w3, atoms, size, size)


@part(REORDER)
def add_received_gradients(
    of_y: ndarray,
    of_x: ndarray,
    gradients: Layers,
    kept: tuple[ndarray, ndarray, ndarray, ndarray, ndarray],
    changes: tuple[ndarray, ndarray, ndarray],
    layers: Layers,
    norm: ndarray,
    sizes: Counts,
) -> None:
    """The gradient of J with respect to what is received [N, F], for those of the features [A, N] after the block.

    Those of the weights of the last two layers are added. Kept are what is received [N, F], the activation and its
    derivative, and the derivatives of the energy with respect to what is activated and to the features [A, N].
    """
    (y, a, slope, e_u, e_x), (dv, du, da) = kept, changes
    (_, w2, _, w3, _, _), (atoms, size, width) = layers, sizes
    _, of_w2, of_b2, of_w3, of_b3, _ = gradients
    of_u, turned, one = zeros(len(of_x), of_x), empty(len(of_x), of_x), of_x.dtype.type(1)
    turn(turned, a, size, atoms)  # a gradient of weights is a dense layer, too: sums over atoms instead of features
    add_dense(of_w3, turned, of_x, size, atoms, size)
    turn(turned, da, size, atoms)
    add_dense(of_w3, turned, e_x, size, atoms, size)
    _add_sums(of_b3, of_x, atoms)
    add_dense_backward(of_u, of_x, w3, atoms, size, size)
    for f in range(len(of_u)):
        of_u[f] = of_u[f] * slope[f] + e_u[f] * (one - slope[f]) * du[f]
    v = y if len(norm) == 0 else y.copy()
    normalize(v, norm, width)
    add_dense(of_w2, v, of_u, width, atoms, size)
    add_dense(of_w2, dv, e_u, width, atoms, size)
    _add_sums(of_b2, of_u, atoms)
    of_v = zeros(len(of_y), of_y)
    add_dense_backward(of_v, of_u, w2, atoms, width, size)
    turn(of_y, of_v, width, atoms)
    normalize(of_y, norm, width)


@part(REORDER)
def add_sent_gradients(
    of_x: ndarray,
    of_w1: ndarray,
    of_h: ndarray,
    kept: tuple[ndarray, ndarray],
    dx_before: ndarray,
    w1: ndarray,
    sizes: Counts,
    first: bool,
) -> None:
    """Add to the gradients of J with respect to features [A, N] and to the first layer those by what is sent [N, F].

    Kept are the derivatives of the energy with respect to what is sent [F, N], and the features before [N, A].
    """
    (e_h, x_before), (atoms, size, width) = kept, sizes
    turned = empty(len(of_h), of_h)
    turn(turned, of_h, atoms, width)
    add_dense(of_w1, x_before, turned, size, atoms, width)
    if not first:
        add_dense(of_w1, dx_before, e_h, size, atoms, width)
    add_dense_backward(of_x, turned, w1, atoms, size, width)


@part(REORDER)
def output_gradients(
    of_x: ndarray,
    gradients: Last,
    features: tuple[ndarray, ndarray],
    layers: Last,
    weights: tuple[ndarray, ndarray],
    activation: tuple[float, float],
    sizes: tuple[int, int],
) -> None:
    """Begin the gradient with respect to features [A, N], and add those of the output network's weights.

    Weights are those of the contributions to J and to the energy [N]; features and their changes are [N, A].
    """
    (w1, b1, w2, _), (atoms, size), half = layers, sizes, len(layers[1])
    (of_w1, of_b1, of_w2, of_b2), (x, dx), kind = gradients, features, of_x.dtype.type
    turned, u, a, slope = (
        empty(len(of_x), of_x),
        empty(half * atoms, of_x),
        empty(half * atoms, of_x),
        empty(half * atoms, of_x),
    )
    du, e_u = zeros(half * atoms, of_x), empty(half * atoms, of_x)
    turn(turned, x, atoms, size)
    fill(u, b1, atoms)
    add_dense(u, turned, w1, atoms, size, half)
    shifted_softplus(a, slope, u, *activation, (0, len(u)))
    turn(turned, dx, atoms, size)
    add_dense(du, turned, w1, atoms, size, half)
    of_contribution, share = zeros(atoms, of_x), zeros(atoms, of_x)
    for i in range(len(weights[0])):
        of_contribution[i], share[i] = weights[0][i], weights[1][i]
        of_b2[0] += of_contribution[i]
    for o in range(half):
        summed, factor = kind(0), w2[o]
        for i in range(atoms):
            f = o * atoms + i
            summed += of_contribution[i] * a[f] + share[i] * slope[f] * du[f]
            e_u[f] = factor * share[i] * slope[f]
            u[f] = factor * of_contribution[i] * slope[f] + e_u[f] * (kind(1) - slope[f]) * du[f]
        of_w2[o] += summed
    add_dense(of_w1, x, u, size, atoms, half)
    add_dense(of_w1, dx, e_u, size, atoms, half)
    _add_sums(of_b1, u, atoms)
    clear(of_x)
    add_dense_backward(of_x, u, w1, atoms, size, half)


@part(CONTRACT)
def let_move(pairs: Pairs, order: ndarray, d: ndarray, decline: ndarray, of_slopes: ndarray, vec: ndarray) -> Moving:
    """Pairs with factors of their rows in the filter and in its change, in place of spline values and derivatives."""
    (i, j, weight, row, b, e), number = pairs, len(order)
    for n in range(number):
        k = 3 * order[n]
        moved = (of_slopes[k] * vec[k] + of_slopes[k + 1] * vec[k + 1] + of_slopes[k + 2] * vec[k + 2]) / d[n]
        for m in range(n, len(b), number):
            e[m] = moved * (weight[n] * e[m] + decline[n] * b[m])
            b[m] *= weight[n]
    return i, j, row, b, e


@compiled(CONTRACT)
def gradients_of_loss(
    gradients: ndarray,
    some: tuple[ndarray, ndarray, ndarray, ndarray],
    of_slopes: ndarray,
    network: Network,
    places: tuple[ndarray, ndarray],
    pairs: tuple[ndarray, ndarray, ndarray],
    mine: ndarray,
    first: int,
    kept: Kept,
    symmetric: bool,
) -> None:
    """Gradients of a loss after :func:`pyg_schnet.fast.cpu.first_order.pass_both_ways`.

    Args:
        gradients: To be added to, the gradients of all weights and tables, padded, one behind the other.
        some: Of some atoms the gradients with respect to their first features [N * A], to be written; those with
            respect to the energies of their structures [N] float64; shares of their contributions in these [N]
            float64; factors of the normalisation [N], empty for ones, which must not depend on distances.
        of_slopes: Gradients with respect to the derivatives with respect to vectors of pairs [P * 3].
        network: The network.
        places: Where the gradients of each block's weights, as in ``network.blocks``, and of the output network begin.
        pairs: Vectors [P * 3], targets and sources [P], of all atoms.
        mine: Which pairs are those of these atoms.
        first: The first of these atoms.
        kept: What the pass has written.
        symmetric: True if each pair stands for its opposite, too.
    """
    (of_features, of_contributions, shares, norm), vec = some, pairs[0]
    atoms, size, width = up(len(shares), LANES), up(network.sizes[0], LANES), up(network.sizes[1], LANES)
    blocks, sizes = network.blocks, (atoms, size, width)
    order, d, decline, sorted_pairs = sorted_by_row(pairs, mine, first, network)
    moving = let_move(sorted_pairs, order, d, decline, of_slopes, vec)
    count, length, dx = len(blocks), atoms * size, zeros(atoms * size, vec)
    dxs, dus, das = empty((count + 1) * length, vec), empty(count * length, vec), empty(count * length, vec)
    dhs, dvs = empty(count * atoms * width, vec), empty(count * atoms * width, vec)
    for t in range(count):
        layers, dx_before, du, da = (
            block_at(blocks[t], network.sizes, vec),
            row_of(dxs, t, length),
            row_of(dus, t, length),
            row_of(das, t, length),
        )
        dh, dv = row_of(dhs, t, atoms * width), row_of(dvs, t, atoms * width)
        write_changes_sent(dh, dx_before, dx, layers[0], sizes, t == 0)
        clear(dv)
        convolve_changes(dv, dh, kept.sent[t], layers[5], moving, (width, 0, width), symmetric, t == 0)
        add_changes_received(dx, (dv, du, da), kept.slope[t], layers, norm, sizes)
    dx_last = row_of(dxs, count, length)
    turn(dx_last, dx, size, atoms)
    of_x, of_contribution = empty(length, vec), doubles(len(shares))
    for n in range(len(shares)):
        of_contribution[n] = of_contributions[n] * shares[n]
    last = last_at(network.output, network.sizes, vec)
    of_last, weights = last_of(gradients, places[1], len(last[1]), size), (of_contribution, shares)
    output_gradients(of_x, of_last, (kept.features[count], dx_last), last, weights, network.activation, (atoms, size))
    of_y, of_h = empty(atoms * width, vec), empty(atoms * width, vec)
    for t in range(count - 1, -1, -1):
        dx_before, du, da = row_of(dxs, t, length), row_of(dus, t, length), row_of(das, t, length)
        dh, dv = row_of(dhs, t, atoms * width), row_of(dvs, t, atoms * width)
        layers, of_layers = (
            block_at(blocks[t], network.sizes, vec),
            block_of(gradients, places[0][t], sizes, network.sizes[2]),
        )
        left = kept.received[t], kept.inner[t], kept.slope[t], kept.of_inner[t], kept.of_features[t]
        add_received_gradients(of_y, of_x, of_layers, left, (dv, du, da), layers, norm, sizes)
        clear(of_h)
        sent, e_y = kept.sent[t], kept.of_received[t]
        convolve_gradients(
            of_h, of_layers[5], of_y, e_y, sent, dh, layers[5], moving, (width, 0, width), symmetric, t == 0
        )
        before = kept.of_sent[t], kept.features[t]
        add_sent_gradients(of_x, of_layers[0], of_h, before, dx_before, layers[0], sizes, t == 0)
    turn_out(of_features, of_x, network.sizes[0], (atoms, size))


@inlined()
def block_of(gradients: ndarray, places: ndarray, sizes: tuple[int, int, int], table: int) -> Layers:
    """Where the gradients of a block's weights are."""
    _, size, width = sizes
    return (
        gradients[places[0] : places[0] + width * size],
        gradients[places[1] : places[1] + size * width],
        gradients[places[2] : places[2] + size],
        gradients[places[3] : places[3] + size * size],
        gradients[places[4] : places[4] + size],
        gradients[places[5] : places[5] + table * width],
    )


@inlined()
def last_of(gradients: ndarray, places: ndarray, half: int, size: int) -> Last:
    """Where those of the output network are."""
    return (
        gradients[places[0] : places[0] + half * size],
        gradients[places[1] : places[1] + half],
        gradients[places[2] : places[2] + half],
        gradients[places[3] : places[3] + 1],
    )
