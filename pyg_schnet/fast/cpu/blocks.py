"""Compiled loops of interaction blocks and the output network for a few atoms, both ways (extra ``fast``).

Dense layers want sixteen atoms behind one another, convolutions sixteen features: arrays are [features, atoms] for the
former, [atoms, features] for the latter, and turned between them. The number of atoms is rounded up to a multiple of
sixteen; no real atom sees those that are added. Pairs are sorted by their place in the table: one behind the other they
read nearly the same rows, which stay close to the processor.
"""

import numpy as np
from numpy import ndarray

from pyg_schnet.compiling import CONTRACT, REORDER, inlined, part
from pyg_schnet.fast.cpu.convolution_loops import dot, product, rows, send, six
from pyg_schnet.fast.cpu.dense import add_dense, add_dense_backward, turn
from pyg_schnet.fast.cpu.memory import clear, empty, zeros
from pyg_schnet.fast.cpu.softplus import shifted_softplus
from pyg_schnet.fast.cpu.vectors import LANES, splat, total

#: Targets, sources, weights, first rows, and six spline values and derivatives [6 * P] of the pairs.
Pairs = tuple[ndarray, ndarray, ndarray, ndarray, ndarray, ndarray]
#: Weights of the first layer of a block, weights and biases of the second and the third, filter table.
Layers = tuple[ndarray, ndarray, ndarray, ndarray, ndarray, ndarray]
#: Weights and biases of both layers of the output network.
Last = tuple[ndarray, ndarray, ndarray, ndarray]
#: Number of filters, the first of those that are done and the one behind the last, multiples of sixteen.
Part = tuple[int, int, int]
#: Number of atoms, of their features and of filters, multiples of sixteen.
Counts = tuple[int, int, int]
_LANES = np.uintp(LANES)


@inlined()
def normalize(y: ndarray, norm: ndarray, width: int) -> None:
    """Multiply what atoms have received [N, F] by their factors, if there are any."""
    for i in range(len(norm)):
        for f in range(i * width, (i + 1) * width):
            y[f] *= norm[i]


@inlined()
def fill(y: ndarray, b: ndarray, columns: int) -> None:
    """Begin each row with its bias: y [outputs, columns]."""
    for o in range(len(b)):
        y[o * columns : (o + 1) * columns] = b[o]


@part(CONTRACT)
def turn_in(x: ndarray, given: ndarray, width: int, sizes: tuple[int, int]) -> None:
    """Write features as they are given, so many of each atom, in the order of dense layers [A, N], zeros between."""
    (atoms, size), padded = sizes, zeros(len(x), x)
    for n in range(len(given) // width):
        for f in range(width):
            padded[n * size + f] = given[n * width + f]
    turn(x, padded, atoms, size)


@part(CONTRACT)
def turn_out(given: ndarray, x: ndarray, width: int, sizes: tuple[int, int]) -> None:
    """The way back: write features x [A, N], so many of each atom, as they were given."""
    (atoms, size), padded = sizes, empty(len(x), x)
    turn(padded, x, size, atoms)
    for n in range(len(given) // width):
        for f in range(width):
            given[n * width + f] = padded[n * size + f]


@part(CONTRACT)
def convolve(y: ndarray, h: ndarray, c: ndarray, pairs: Pairs, part: Part, symmetric: bool) -> None:
    """Add some filtered features of sources to those of targets; h and y are [N, F]."""
    (target, source, weight, row, b, _), size, low, high = (
        pairs,
        np.uintp(part[0]),
        np.uintp(part[1]),
        np.uintp(part[2]),
    )
    for n in range(len(target)):
        values, w, k = six(b, n), splat(weight[n]), np.uintp(row[n]) * size
        i, j = np.uintp(target[n]) * size, np.uintp(source[n]) * size
        for f in range(low, high, _LANES):
            send(y, h, w * dot(values, rows(c, k + f, size)), i + f, j + f, symmetric)


@part(REORDER)
def convolve_backward(
    dh: ndarray,
    slopes: ndarray,
    sums: ndarray,
    v: ndarray,
    h: ndarray,
    c: ndarray,
    pairs: Pairs,
    part: Part,
    symmetric: bool,
    first: bool,
) -> None:
    """Add the gradients of :func:`convolve` with respect to features, distances and weights, for those v of its y.

    Nobody needs those of the ``first`` block's features.
    """
    (target, source, weight, row, b, e), size, low, high = (
        pairs,
        np.uintp(part[0]),
        np.uintp(part[1]),
        np.uintp(part[2]),
    )
    for n in range(len(target)):
        values, steps, w, k = six(b, n), six(e, n), splat(weight[n]), np.uintp(row[n]) * size
        i, j = np.uintp(target[n]) * size, np.uintp(source[n]) * size
        slope = value = splat(v.dtype.type(0))
        for f in range(low, high, _LANES):
            six_rows, both = rows(c, k + f, size), product(v, h, i + f, j + f, symmetric)
            t = dot(values, six_rows)
            value += both * t
            slope += both * dot(steps, six_rows)
            if not first:
                send(dh, v, w * t, j + f, i + f, symmetric)
        slopes[n] += weight[n] * total(slope)
        sums[n] += total(value)


@part(CONTRACT)
def write_sent(h: ndarray, x: ndarray, w1: ndarray, sizes: Counts) -> None:
    """The features that atoms send [N, F], by the first layer of a block from those before it [A, N]."""
    atoms, size, width = sizes
    turned = zeros(len(h), h)
    add_dense(turned, x, w1, atoms, size, width)
    turn(h, turned, width, atoms)


@part(CONTRACT)
def add_received(
    x: ndarray,
    kept: tuple[ndarray, ndarray, ndarray],
    layers: Layers,
    norm: ndarray,
    activation: tuple[float, float],
    sizes: Counts,
) -> None:
    """Add what the last layers of a block make of what is received to the features x [A, N].

    Kept are what is received [N, F], and the activation and its derivative [A, N].
    """
    (y, a, slope), (_, w2, b2, w3, b3, _), (atoms, size, width) = kept, layers, sizes
    turned, u = empty(len(y), y), empty(len(x), x)
    v = y if len(norm) == 0 else y.copy()
    normalize(v, norm, width)
    turn(turned, v, atoms, width)
    fill(u, b2, atoms)
    add_dense(u, turned, w2, atoms, width, size)
    shifted_softplus(a, slope, u, *activation, (0, len(u)))
    for o in range(size):
        for i in range(o * atoms, (o + 1) * atoms):
            x[i] += b3[o]
    add_dense(x, a, w3, atoms, size, size)


@inlined()
def block_forward(
    x: ndarray,
    kept: tuple[ndarray, ndarray, ndarray, ndarray],
    layers: Layers,
    pairs: Pairs,
    norm: ndarray,
    activation: tuple[float, float],
    sizes: Counts,
    symmetric: bool,
) -> None:
    """Add what the block computes to x [A, N].

    Kept are the features that are sent and what is received [N, F], and the activation and its derivative [A, N].
    """
    h, y, a, slope = kept
    write_sent(h, x, layers[0], sizes)
    clear(y)
    convolve(y, h, layers[5], pairs, (sizes[2], 0, sizes[2]), symmetric)
    add_received(x, (y, a, slope), layers, norm, activation, sizes)


@part(REORDER)
def received_backward(
    g: ndarray,
    of_norm: ndarray,
    kept: tuple[ndarray, ndarray],
    made: tuple[ndarray, ndarray],
    layers: Layers,
    norm: ndarray,
    sizes: Counts,
) -> None:
    """The gradients of what is activated [A, N] and of what is received [N, F], for those g of the features [A, N].

    Those of the normalisation of atoms are added up.
    """
    (y, slope), (a, v), (_, w2, _, w3, _, _), (atoms, size, width) = kept, made, layers, sizes
    turned, zero = zeros(len(v), v), g.dtype.type(0)
    clear(a)
    add_dense_backward(a, g, w3, atoms, size, size)
    for f in range(len(a)):
        a[f] *= slope[f]
    add_dense_backward(turned, a, w2, atoms, width, size)
    turn(v, turned, width, atoms)
    for i in range(len(norm)):
        summed = zero
        for f in range(i * width, (i + 1) * width):
            summed += v[f] * y[f]
            v[f] *= norm[i]
        of_norm[i] += summed


@part(CONTRACT)
def sent_backward(g: ndarray, turned: ndarray, dh: ndarray, w1: ndarray, sizes: Counts) -> None:
    """Add to the gradient g [A, N] that by way of features that are sent, dh [N, F], which are left turned, too."""
    atoms, size, width = sizes
    turn(turned, dh, atoms, width)
    add_dense_backward(g, turned, w1, atoms, size, width)


@inlined(REORDER)
def block_backward(
    g: ndarray,
    gradients: tuple[ndarray, ndarray, ndarray],
    kept: tuple[ndarray, ndarray, ndarray],
    made: tuple[ndarray, ndarray, ndarray],
    layers: Layers,
    pairs: Pairs,
    norm: ndarray,
    sizes: Counts,
    symmetric: bool,
    first: bool,
) -> None:
    """Take the gradient g [A, N] from the features after the block to those before.

    Those of distances and weights of pairs, and of the normalisation of atoms, are added up. Before the ``first`` block
    no gradient is needed. On the way, gradients are made of what is activated [A, N], of what is received [N, F] and of
    the features that are sent [F, N].
    """
    (h, y, slope), (slopes, sums, of_norm), (a, v, turned), width = kept, gradients, made, sizes[2]
    dh = zeros(len(h), h)
    received_backward(g, of_norm, (y, slope), (a, v), layers, norm, sizes)
    convolve_backward(dh, slopes, sums, v, h, layers[5], pairs, (width, 0, width), symmetric, first)
    if not first:
        sent_backward(g, turned, dh, layers[0], sizes)


@part(CONTRACT)
def output_both_ways(
    contributions: ndarray,
    g: ndarray,
    x: ndarray,
    layers: Last,
    shares: ndarray,
    activation: tuple[float, float],
    sizes: tuple[int, int],
) -> None:
    """The last two layers of each atom, times its share [N]; the gradient of their sum is added to g, like x [A, N]."""
    (w1, b1, w2, b2), (atoms, size), half = layers, sizes, len(layers[1])
    u, a, slope = empty(half * atoms, x), empty(half * atoms, x), empty(half * atoms, x)
    sums, factors = zeros(atoms, contributions), zeros(atoms, x)
    fill(u, b1, atoms)
    add_dense(u, x, w1, atoms, size, half)
    shifted_softplus(a, slope, u, *activation, (0, len(u)))
    for i in range(len(shares)):
        factors[i] = shares[i]
    for o in range(half):
        for i in range(atoms):
            sums[i] += np.float64(a[o * atoms + i]) * w2[o]
            slope[o * atoms + i] *= factors[i] * w2[o]
    for i in range(len(shares)):
        contributions[i] = (sums[i] + b2[0]) * shares[i]
    add_dense_backward(g, slope, w1, atoms, size, half)
