"""A network of tabulated interactions on a few atoms: energies, and their derivatives by one pass backwards.

Python and compiled loops meet once, because to hand over an array takes as long as some thousand products. So weights
are found by their addresses; whoever gives them keeps the weights where they are until the loops are done.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.core.cgutils import voidptr_t
from numba.extending import intrinsic
from numba.np.numpy_support import carray
from numpy import ndarray

from pyg_schnet.ops.filter_table import SUPPORT
from pyg_schnet.ops.kernels.cutoff import write_cutoff
from pyg_schnet.ops.kernels.loops import CONTRACT, Place, compiled, part, splines
from pyg_schnet.ops.kernels.small import Layers, block_backward, block_forward, output_both_ways


class Network(NamedTuple):
    """Where the weights are, and how many.

    Attributes:
        blocks: Addresses of the weights of the first layer, weights and biases of the second and the third, and of the
            filter table of each interaction [T, 6] int64.
        output: Addresses of weights and biases of both layers of the output network [4] int64.
        sizes: Features A of the atoms, number F of filters, rows of a table, size of the output network's inner layer.
        activation: What is subtracted from the softplus, and from where on it is linear.
        cutoff: Number of the cutoff function, its end and exponent, see :func:`write_cutoff`.
        table: Where the knots of the tables are; polynomials of their splines and of the derivatives.
    """

    blocks: ndarray
    output: ndarray
    sizes: tuple[int, int, int, int]
    activation: tuple[float, float]
    cutoff: tuple[int, float, int]
    table: tuple[Place, ndarray, ndarray]


def _typed(context: Any, address: Any) -> Any:
    """How Numba turns an address into what ``carray`` takes."""
    del context, address

    def cast(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        return builder.inttoptr(arguments[0], voidptr_t)

    return types.voidptr(types.int64), cast


_pointer: Any = intrinsic(_typed)


@part
def _array(address: int, count: int, like: ndarray) -> ndarray:
    """So many numbers from an address on."""
    return carray(_pointer(address), (count,), like.dtype)


@part
def _block(addresses: ndarray, sizes: tuple[int, int, int, int], like: ndarray) -> Layers:
    size, width, rows, _ = sizes
    return (
        _array(addresses[0], width * size, like),
        _array(addresses[1], size * width, like),
        _array(addresses[2], size, like),
        _array(addresses[3], size * size, like),
        _array(addresses[4], size, like),
        _array(addresses[5], rows * width, like),
    )


@compiled(CONTRACT)
def pass_both_ways(
    contributions: ndarray,
    slopes: tuple[ndarray, ndarray],
    x: ndarray,
    network: Network,
    pairs: tuple[ndarray, ndarray, ndarray],
    norm: ndarray,
    shares: ndarray,
    symmetric: bool,
) -> None:
    """Contributions of the atoms to the energies, and derivatives of their sum.

    Args:
        contributions: To be written, contributions times shares [N] float64.
        slopes: To be written, derivatives with respect to the vectors of pairs, normalisation kept [P * 3], and to
            the normalisation [N], empty without.
        x: First features of the atoms [N * A], which are overwritten.
        network: The network.
        pairs: Vectors [P * 3], targets and sources [P].
        norm: Factor of each atom [N]; empty for ones.
        shares: Share of each atom's contribution in the energy [N] float64.
        symmetric: Whether each pair stands for its opposite, too.
    """
    (vec, target, source), number, atoms = pairs, len(pairs[1]), len(shares)
    (size, width, _, half), blocks = network.sizes, network.blocks
    distance = np.empty(number, x.dtype)
    for n in range(number):
        distance[n] = math.sqrt(vec[3 * n] ** 2 + vec[3 * n + 1] ** 2 + vec[3 * n + 2] ** 2)
    order = np.argsort(distance)
    d, i, j, row = distance[order], target[order], source[order], np.empty(number, np.int64)
    weight, decline = np.empty(number, x.dtype), np.empty(number, x.dtype)
    write_cutoff(weight, decline, d, *network.cutoff)
    b, e = np.empty((SUPPORT, number), x.dtype), np.empty((SUPPORT, number), x.dtype)
    place, pieces, derivatives = network.table
    splines(d, d[:0], 0, number, place, pieces, row, b)
    splines(d, d[:0], 0, number, place, derivatives, row, e)
    sorted_pairs, sizes = (i, j, weight, row, b, e), (atoms, size, width)
    h, y = np.empty((len(blocks), atoms * width), x.dtype), np.empty((len(blocks), atoms * width), x.dtype)
    slope = np.empty((len(blocks), atoms * size), x.dtype)
    for t in range(len(blocks)):
        kept, layers = (h[t], y[t], slope[t]), _block(blocks[t], network.sizes, x)
        block_forward(x, kept, layers, sorted_pairs, norm, network.activation, sizes, symmetric)
    g = np.zeros_like(x)
    last = (
        _array(network.output[0], half * size, x),
        _array(network.output[1], half, x),
        _array(network.output[2], half, x),
        _array(network.output[3], 1, x),
    )
    output_both_ways(contributions, g, x, last, shares, network.activation, size)
    of_distance, of_weight = np.zeros(number, x.dtype), np.zeros(number, x.dtype)
    for t in range(len(blocks) - 1, -1, -1):
        kept, layers = (h[t], y[t], slope[t]), _block(blocks[t], network.sizes, x)
        block_backward(g, (of_distance, of_weight, slopes[1]), kept, layers, sorted_pairs, norm, sizes, symmetric)
    for n in range(number):
        radial, k = (of_distance[n] + of_weight[n] * decline[n]) / d[n], 3 * order[n]
        for axis in range(k, k + 3):
            slopes[0][axis] = radial * vec[axis]
