"""A network of tabulated interactions on a few atoms: energies, and their derivatives by one pass backwards.

Everything is an array, and every step a compiled loop; this file only puts them in their order.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from pyg_schnet.ops.filter_table import SUPPORT
from pyg_schnet.ops.kernels.loops import Edges, Place
from pyg_schnet.ops.kernels.small import Layers, block_backward, block_forward, output_both_ways, write_splines


class Network(NamedTuple):
    """Weights as flat arrays.

    Attributes:
        blocks: Layers and filter table of each interaction.
        output: Weights and biases of both layers of the output network.
        activation: What is subtracted from the softplus, and from where on it is linear.
        sizes: Features A of the atoms and number F of filters.
    """

    blocks: Sequence[Layers]
    output: tuple[ndarray, ndarray, ndarray, ndarray]
    activation: tuple[float, float]
    sizes: tuple[int, int]


class Slopes(NamedTuple):
    """Derivatives of the sum of all energies.

    Attributes:
        distance: With respect to distances [P], cutoff function and normalisation kept.
        weight: With respect to the weights of pairs [P].
        norm: With respect to the normalisation of atoms [N], empty without one.
    """

    distance: ndarray
    weight: ndarray
    norm: ndarray


def energies(
    network: Network,
    x: ndarray,
    edges: Edges,
    table: tuple[Place, tuple[ndarray, ndarray]],
    norm: ndarray,
    shares: ndarray,
    symmetric: bool,
) -> tuple[ndarray, Slopes]:
    """Contributions of the atoms to the energies, and slopes.

    Args:
        network: The network.
        x: First features of the atoms [N * A], which are overwritten.
        edges: Distances, weights (empty for ones), targets and sources [P].
        table: Where the knots of the tables are; polynomials of their splines and of the derivatives.
        norm: Factor of each atom [N]; empty for ones.
        shares: Share of each atom's contribution in the energy [N] float64.
        symmetric: Whether each edge stands for its opposite, too.

    Returns:
        Contributions times shares [N] float64, and derivatives of their sum.
    """
    atoms, (size, width), number = len(shares), network.sizes, len(edges[0])
    order = edges[0].argsort()
    distance, target, source = (one[order] for one in (edges[0], *edges[2:]))
    weight = edges[1][order] if len(edges[1]) > 0 else np.ones_like(distance)
    row, (b, e) = np.empty(number, np.int64), np.empty((2, SUPPORT, number), x.dtype)
    write_splines(distance, *table, row, b, e)
    pairs = target, source, weight, row, b, e
    kept = [np.empty((len(network.blocks), atoms * one), x.dtype) for one in (width, width, size)]
    sizes, passes = (atoms, size, width), list(zip(zip(*kept, strict=True), network.blocks, strict=True))
    for here, layers in passes:
        block_forward(x, here, layers, pairs, norm, network.activation, sizes, symmetric)
    contributions, g = np.empty(atoms), np.zeros_like(x)
    output_both_ways(contributions, g, x, network.output, shares, network.activation, size)
    slopes, of_norm = np.zeros((2, number), x.dtype), np.zeros(len(norm), x.dtype)
    for here, layers in reversed(passes):
        block_backward(g, (*slopes, of_norm), here, layers, pairs, norm, sizes, symmetric)
    unsorted = np.empty_like(slopes)
    unsorted[:, order] = slopes
    return contributions, Slopes(unsorted[0], unsorted[1], of_norm)
