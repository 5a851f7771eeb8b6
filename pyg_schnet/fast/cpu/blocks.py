"""Compiled loops of interaction blocks and the output network for a few atoms, both ways (extra ``fast``).

Dense layers want sixteen atoms behind one another, convolutions sixteen features: arrays are [features, atoms] for the
former, [atoms, features] for the latter, and turned between them. The number of atoms is rounded up to a multiple of
sixteen; no real atom sees those that are added. Pairs are sorted by their place in the table: one behind the other they
read nearly the same rows, which stay close to the processor.
"""

import numpy as np
from numpy import ndarray

from pyg_schnet.compiling import REORDER, inlined
from pyg_schnet.fast.cpu.convolution_loops import dot, product, rows, send, six
from pyg_schnet.fast.cpu.dense import add_dense, add_dense_backward, turn
from pyg_schnet.fast.cpu.softplus import shifted_softplus
from pyg_schnet.fast.cpu.vectors import LANES, splat, total

#: Targets, sources, weights, first rows, and six spline values and derivatives [6 * P] of the pairs.
Pairs = tuple[ndarray, ndarray, ndarray, ndarray, ndarray, ndarray]
#: Weights of the first layer of a block, weights and biases of the second and the third, filter table.
Layers = tuple[ndarray, ndarray, ndarray, ndarray, ndarray, ndarray]
#: Weights and biases of both layers of the output network.
Last = tuple[ndarray, ndarray, ndarray, ndarray]
_LANES = np.uintp(LANES)


@inlined()
def clear(y: ndarray) -> None:
    """Write zeros."""
    for n in range(len(y)):
        y[n] = 0


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


@inlined()
def convolve(y: ndarray, h: ndarray, c: ndarray, pairs: Pairs, width: int, symmetric: bool) -> None:
    """Add the filtered features of sources to targets; h and y are [N, F]."""
    (target, source, weight, row, b, _), size = pairs, np.uintp(width)
    for n in range(len(target)):
        values, w, k = six(b, n), splat(weight[n]), np.uintp(row[n]) * size
        i, j = np.uintp(target[n]) * size, np.uintp(source[n]) * size
        for f in range(np.uintp(0), size, _LANES):
            send(y, h, w * dot(values, rows(c, k + f, size)), i + f, j + f, symmetric)


@inlined(REORDER)
def convolve_backward(
    dh: ndarray,
    slopes: ndarray,
    sums: ndarray,
    v: ndarray,
    h: ndarray,
    c: ndarray,
    pairs: Pairs,
    width: int,
    symmetric: bool,
    first: bool,
) -> None:
    """Add the gradients of :func:`convolve` with respect to features, distances and weights, for those v of its y.

    Nobody needs those of the ``first`` block's features.
    """
    (target, source, weight, row, b, e), size = pairs, np.uintp(width)
    for n in range(len(target)):
        values, steps, w, k = six(b, n), six(e, n), splat(weight[n]), np.uintp(row[n]) * size
        i, j = np.uintp(target[n]) * size, np.uintp(source[n]) * size
        slope = value = splat(v.dtype.type(0))
        for f in range(np.uintp(0), size, _LANES):
            six_rows, both = rows(c, k + f, size), product(v, h, i + f, j + f, symmetric)
            t = dot(values, six_rows)
            value += both * t
            slope += both * dot(steps, six_rows)
            if not first:
                send(dh, v, w * t, j + f, i + f, symmetric)
        slopes[n] += weight[n] * total(slope)
        sums[n] += total(value)


@inlined()
def block_forward(
    x: ndarray,
    kept: tuple[ndarray, ndarray, ndarray, ndarray],
    layers: Layers,
    pairs: Pairs,
    norm: ndarray,
    activation: tuple[float, float],
    sizes: tuple[int, int, int],
    symmetric: bool,
) -> None:
    """Add what the block computes to x [A, N].

    Kept are the features that are sent and what is received [N, F], and the activation and its derivative [A, N].
    """
    (h, y, a, slope), (w1, w2, b2, w3, b3, c), (atoms, size, width) = kept, layers, sizes
    turned, u = np.zeros_like(h), np.empty_like(x)
    add_dense(turned, x, w1, atoms, size, width)
    turn(h, turned, width, atoms)
    clear(y)
    convolve(y, h, c, pairs, width, symmetric)
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


@inlined(REORDER)
def block_backward(
    g: ndarray,
    gradients: tuple[ndarray, ndarray, ndarray],
    kept: tuple[ndarray, ndarray, ndarray],
    made: tuple[ndarray, ndarray, ndarray],
    layers: Layers,
    pairs: Pairs,
    norm: ndarray,
    sizes: tuple[int, int, int],
    symmetric: bool,
    first: bool,
) -> None:
    """Take the gradient g [A, N] from the features after the block to those before.

    Those of distances and weights of pairs, and of the normalisation of atoms, are added up. Before the ``first`` block
    no gradient is needed. On the way, gradients are made of what is activated [A, N], of what is received [N, F] and of
    the features that are sent [F, N].
    """
    (h, y, slope), (w1, w2, _, w3, _, c), (atoms, size, width) = kept, layers, sizes
    (slopes, sums, of_norm), (a, v, turned), zero = gradients, made, h.dtype.type(0)
    dh = np.zeros_like(h)
    clear(a)
    clear(turned)
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
    convolve_backward(dh, slopes, sums, v, h, c, pairs, width, symmetric, first)
    if not first:
        turn(turned, dh, atoms, width)
        add_dense_backward(g, turned, w1, atoms, size, width)


@inlined()
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
    u, a, slope = (np.empty(half * atoms, x.dtype), np.empty(half * atoms, x.dtype), np.empty(half * atoms, x.dtype))
    sums, factors = np.zeros(atoms, np.float64), np.zeros(atoms, x.dtype)
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
