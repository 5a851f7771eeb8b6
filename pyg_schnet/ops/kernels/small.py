"""Compiled loops of interaction blocks and the output network for a few atoms, both ways (extra ``fast``).

Pairs are sorted by distance: one behind the other they read nearly the same rows of the table, which stay close to the
processor.
"""

import numpy as np
from numpy import ndarray

from pyg_schnet.ops.kernels.dense import add_bias, add_dense_backward, dense, shifted_softplus
from pyg_schnet.ops.kernels.loops import (
    CONTRACT,
    REORDER,
    both_sums,
    compiled,
    read_filter,
    send,
)

#: Targets, sources, weights, first rows, and six spline values and derivatives [6, P] of the pairs.
Pairs = tuple[ndarray, ndarray, ndarray, ndarray, ndarray, ndarray]
#: Weights of the first layer of a block, weights and biases of the second and the third, filter table.
Layers = tuple[ndarray, ndarray, ndarray, ndarray, ndarray, ndarray]


@compiled(CONTRACT)
def block_forward(
    x: ndarray,
    kept: tuple[ndarray, ndarray, ndarray],
    layers: Layers,
    pairs: Pairs,
    norm: ndarray,
    activation: tuple[float, float],
    sizes: tuple[int, int, int],
    symmetric: bool,
) -> None:
    """Add what the block computes to x [N, A].

    Kept are the features that are sent and what is received [N, F], and the derivative of the activation [N, A].
    """
    (h, y, slope), (w1, w2, b2, w3, b3, c), (target, source, weight, row, b, _) = kept, layers, pairs
    atoms, size, width = sizes
    features, t = (width, 0, width), np.empty(width, x.dtype)
    dense(h, x, w1, atoms, size, width)
    y[:] = 0
    for n in range(len(target)):
        read_filter(t, c, row[n], features, b, n)
        send(y, t, h, target[n], source[n], features, weight[n], symmetric)
    v, u, a = y, np.empty_like(x), np.empty_like(x)
    if len(norm) > 0:
        v = np.empty_like(y)
        for i in range(atoms):
            for f in range(i * width, (i + 1) * width):
                v[f] = norm[i] * y[f]
    dense(u, v, w2, atoms, width, size)
    add_bias(u, b2, atoms)
    shifted_softplus(a, slope, u, *activation)
    dense(u, a, w3, atoms, size, size)
    add_bias(u, b3, atoms)
    for f in range(len(x)):
        x[f] += u[f]


@compiled(REORDER)
def block_backward(
    g: ndarray,
    gradients: tuple[ndarray, ndarray, ndarray],
    kept: tuple[ndarray, ndarray, ndarray],
    layers: Layers,
    pairs: Pairs,
    norm: ndarray,
    sizes: tuple[int, int, int],
    symmetric: bool,
) -> None:
    """Take the gradient g from the features after the block to those before.

    Those of distances and weights of pairs, and of the normalisation of atoms, are added up.
    """
    (h, y, slope), (w1, w2, _, w3, _, c), (target, source, weight, row, b, e) = kept, layers, pairs
    (slopes, sums, of_norm), (atoms, size, width) = gradients, sizes
    features, zero = (width, 0, width), h.dtype.type(0)
    a, v, dh = np.zeros_like(g), np.zeros_like(h), np.zeros_like(h)
    add_dense_backward(a, g, w3, atoms, size, size)
    for f in range(len(a)):
        a[f] *= slope[f]
    add_dense_backward(v, a, w2, atoms, width, size)
    if len(norm) > 0:
        for i in range(atoms):
            total = zero
            for f in range(i * width, (i + 1) * width):
                total += v[f] * y[f]
                v[f] *= norm[i]
            of_norm[i] += total
    t, p = np.empty(width, h.dtype), np.empty(width, h.dtype)
    for n in range(len(target)):
        ends = v, h, target[n], source[n], symmetric
        one, two = both_sums(t, p, (c, row[n], b, e, n), ends, features, (0, width))
        slopes[n] += weight[n] * one
        sums[n] += two
        send(dh, t, v, source[n], target[n], features, weight[n], symmetric)
    add_dense_backward(g, dh, w1, atoms, size, width)


@compiled(CONTRACT)
def output_both_ways(
    contributions: ndarray,
    g: ndarray,
    x: ndarray,
    layers: tuple[ndarray, ndarray, ndarray, ndarray],
    shares: ndarray,
    activation: tuple[float, float],
    size: int,
) -> None:
    """The last two layers of each atom [N], times its share, and the gradient of their sum with respect to x [N, A]."""
    (w1, b1, w2, b2), atoms, half = layers, len(shares), len(layers[2])
    u, slope = np.empty(atoms * half, x.dtype), np.empty(atoms * half, x.dtype)
    a = np.empty_like(u)
    dense(u, x, w1, atoms, size, half)
    add_bias(u, b1, atoms)
    shifted_softplus(a, slope, u, *activation)
    for i in range(atoms):
        total, share = np.float64(b2[0]), x.dtype.type(shares[i])
        for f in range(half):
            total += np.float64(a[i * half + f]) * w2[f]
            slope[i * half + f] *= share * w2[f]
        contributions[i] = total * shares[i]
    add_dense_backward(g, slope, w1, atoms, size, half)
