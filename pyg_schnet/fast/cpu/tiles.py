"""Compiled loops of a network of tabulated interactions for structures of any size: layer by layer, tile by tile.

A tile is a number of atoms, one behind the other. Between two convolutions each tile is done for itself, by threads
that share the tiles; a convolution reads and writes the features of all atoms, and threads share the features. What
reads rows of a table is sorted by them within each tile. Every number is computed by one thread in one order.

Arrays are those of all atoms, whose number is rounded up to a multiple of sixteen: [N, F] throughout, [A, N] tile by
tile, so that the numbers of a tile always are behind one another.
"""

from typing import NamedTuple

from numpy import ndarray

from pyg_schnet.compiling import CONTRACT, compiled, inlined, part
from pyg_schnet.fast.bspline import SUPPORT
from pyg_schnet.fast.cpu.blocks import (
    Counts,
    Pairs,
    Part,
    add_received,
    convolve,
    convolve_backward,
    output_both_ways,
    received_backward,
    sent_backward,
    turn_in,
    write_sent,
)
from pyg_schnet.fast.cpu.dense import turn
from pyg_schnet.fast.cpu.first_order import Network, block_at, last_at, sort_pairs
from pyg_schnet.fast.cpu.memory import clear, copy, integer_zeros, integers
from pyg_schnet.fast.cpu.saved import Kept, up
from pyg_schnet.fast.cpu.vectors import LANES


class Tiles(NamedTuple):
    """Atoms and pairs, tile by tile.

    Attributes:
        size: Atoms of a tile, a multiple of sixteen; the last one may have fewer.
        atoms: Number of all atoms.
        order: Pairs by the tiles of their targets [P].
        first_pair: First of these of each tile, and the number of all.
    """

    size: int
    atoms: int
    order: ndarray
    first_pair: ndarray


class TilePairs(NamedTuple):
    """Pairs in the order in which loops read them, what blocks need of each behind one another for a tile.

    Attributes:
        order: Which pairs they are [P].
        distance: Their distances [P].
        decline: Derivatives of the cutoff function [P].
        pairs: Targets, sources, weights, rows, and six spline values and derivatives [6 * P].
    """

    order: ndarray
    distance: ndarray
    decline: ndarray
    pairs: Pairs


@compiled()
def pairs_by_tile(target: ndarray, size: int, tiles: int) -> tuple[ndarray, ndarray]:
    """Order of pairs by the tiles of their targets [P], and the first of each tile and the number of all."""
    first, order = integer_zeros(tiles + 2), integers(len(target))
    for n in range(len(target)):
        first[target[n] // size + 2] += 1
    for k in range(tiles):
        first[k + 2] += first[k + 1]
    for n in range(len(target)):
        tile = target[n] // size + 1
        order[first[tile]] = n
        first[tile] += 1
    return order, first[: tiles + 1]


@inlined()
def span_of(tile: int, tiles: Tiles, network: Network) -> tuple[int, int, Counts]:
    """The first atom of a tile, the one behind its last, and the sizes of its arrays."""
    a, b = tile * tiles.size, min((tile + 1) * tiles.size, tiles.atoms)
    return a, b, (up(b - a, LANES), up(network.sizes[0], LANES), up(network.sizes[1], LANES))


@part(CONTRACT)
def piece(x: ndarray, first: int, counted: int, width: int) -> ndarray:
    """The numbers of a tile."""
    return x[first * width : (first + counted) * width]


@inlined()
def pairs_at(found: TilePairs, tile: int, tiles: Tiles) -> tuple[ndarray, ndarray, ndarray, Pairs]:
    """Those of a tile."""
    low, high = tiles.first_pair[tile], tiles.first_pair[tile + 1]
    i, j, weight, row, b, e = found.pairs
    mine = i[low:high], j[low:high], weight[low:high], row[low:high]
    splines = b[SUPPORT * low : SUPPORT * high], e[SUPPORT * low : SUPPORT * high]
    known = found.order[low:high], found.distance[low:high], found.decline[low:high]
    return known[0], known[1], known[2], (mine[0], mine[1], mine[2], mine[3], splines[0], splines[1])


@compiled(CONTRACT)
def sort_tiles(
    found: TilePairs, pairs: tuple[ndarray, ndarray, ndarray], network: Network, tiles: Tiles, limits: tuple[int, int]
) -> None:
    """Write pairs in the order of the rows of the table, for some tiles.

    Args:
        found: To be written.
        pairs: Vectors [P * 3], targets and sources [P].
        network: The network.
        tiles: The tiles.
        limits: First tile and the one behind the last.
    """
    for tile in range(limits[0], limits[1]):
        order, d, decline, mine = pairs_at(found, tile, tiles)
        which = tiles.order[tiles.first_pair[tile] : tiles.first_pair[tile + 1]]
        sort_pairs((order, d, decline), mine, pairs, which, 0, network)


@compiled(CONTRACT)
def forward(
    step: int,
    some: tuple[ndarray, ndarray, ndarray, ndarray],
    features: tuple[ndarray, ndarray],
    network: Network,
    tiles: Tiles,
    kept: Kept,
    limits: tuple[int, int],
) -> None:
    """From what atoms have received to what they send next, or to energies, for some tiles.

    Args:
        step: The block whose features are to be sent; behind the last one, energies are written.
        some: Contributions times shares [N] float64, to be written; first features [N * A]; shares of the
            contributions in the energy [N] float64; factors of the normalisation [N], empty for ones.
        features: To be changed, the features and the derivatives of the energy with respect to them [A, N].
        network: The network.
        tiles: The tiles.
        kept: To be written, what the way back needs.
        limits: First tile and the one behind the last.
    """
    (contributions, given, shares, norm), (features_of_all, of_features) = some, features
    true_size, asked, like = network.sizes[0], len(kept.features) > 0, given
    layers, before = block_at(network.blocks[min(step, len(network.blocks) - 1)], network.sizes, like), max(step - 1, 0)
    last = last_at(network.output, network.sizes, like)
    received = block_at(network.blocks[before], network.sizes, like)
    for tile in range(limits[0], limits[1]):
        a, b, sizes = span_of(tile, tiles, network)
        atoms, size, width = sizes
        x = piece(features_of_all, a, atoms, size)
        if step == 0:
            turn_in(x, given[a * true_size : b * true_size], true_size, (atoms, size))
        else:
            y = piece(kept.received[before], a, atoms, width)
            activated = piece(kept.inner[before % len(kept.inner)], a, atoms, size)
            slope = piece(kept.slope[before], a, atoms, size)
            add_received(x, (y, activated, slope), received, norm[a:b], network.activation, sizes)
        if asked:
            turn(piece(kept.features[step], a, atoms, size), x, size, atoms)
        if step < len(network.blocks):
            write_sent(piece(kept.sent[step], a, atoms, width), x, layers[0], sizes)
        else:
            g = piece(of_features, a, atoms, size)
            clear(g)
            output_both_ways(contributions[a:b], g, x, last, shares[a:b], network.activation, (atoms, size))


@compiled(CONTRACT)
def convolve_tiles(
    step: int, found: TilePairs, network: Network, tiles: Tiles, kept: Kept, chosen: Part, symmetric: bool
) -> None:
    """Write some filtered features that all atoms receive in a block."""
    layers, y = block_at(network.blocks[step], network.sizes, found.distance), kept.received[step]
    clear_part(y, chosen)
    for tile in range(len(tiles.first_pair) - 1):
        convolve(y, kept.sent[step], layers[5], pairs_at(found, tile, tiles)[3], chosen, symmetric)


@inlined()
def clear_part(y: ndarray, chosen: Part) -> None:
    """Write zeros for some features of all atoms."""
    for first in range(0, len(y), chosen[0]):
        for f in range(first + chosen[1], first + chosen[2]):
            y[f] = 0


@compiled(CONTRACT)
def backward(
    step: int,
    some: tuple[ndarray, ndarray],
    gradients: tuple[ndarray, ndarray],
    network: Network,
    tiles: Tiles,
    kept: Kept,
    limits: tuple[int, int],
) -> None:
    """From the gradients of what atoms have sent to those of what they received before, for some tiles.

    Args:
        step: The block whose features have been received.
        some: Factors of the normalisation [N], and derivatives with respect to them, to be added to; both empty for
            ones.
        gradients: Derivatives of the energy with respect to features [A, N], to be changed, and to those that are sent
            by the next block [N, F].
        network: The network.
        tiles: The tiles.
        kept: To be written, what the way back needs.
        limits: First tile and the one behind the last.
    """
    (norm, of_norm), (of_features, of_sent), count = some, gradients, len(network.blocks)
    layers, next_one = block_at(network.blocks[step], network.sizes, of_sent), min(step + 1, count - 1)
    sending = block_at(network.blocks[next_one], network.sizes, of_sent)
    for tile in range(limits[0], limits[1]):
        a, b, sizes = span_of(tile, tiles, network)
        atoms, size, width = sizes
        g = piece(of_features, a, atoms, size)
        if step < count - 1:
            turned = piece(kept.of_sent[next_one % len(kept.of_sent)], a, atoms, width)
            sent_backward(g, turned, piece(of_sent, a, atoms, width), sending[0], sizes)
        if len(kept.of_features) > 0:
            copy(piece(kept.of_features[step], a, atoms, size), g)
        y, slope = piece(kept.received[step], a, atoms, width), piece(kept.slope[step], a, atoms, size)
        of_inner = piece(kept.of_inner[step % len(kept.of_inner)], a, atoms, size)
        of_received = piece(kept.of_received[step % len(kept.of_received)], a, atoms, width)
        received_backward(g, of_norm[a:b], (y, slope), (of_inner, of_received), layers, norm[a:b], sizes)


@compiled(CONTRACT)
def convolve_tiles_backward(
    step: int,
    of_sent: ndarray,
    found: TilePairs,
    network: Network,
    tiles: Tiles,
    kept: Kept,
    chosen: Part,
    symmetric: bool,
    slopes: ndarray,
    sums: ndarray,
) -> None:
    """Write derivatives of the energy with respect to some features that all atoms send in a block.

    Those with respect to distances and weights of pairs [P], as far as these features go, are added to.
    """
    layers = block_at(network.blocks[step], network.sizes, found.distance)
    v = kept.of_received[step % len(kept.of_received)]
    clear_part(of_sent, chosen)
    for tile in range(len(tiles.first_pair) - 1):
        low, high = tiles.first_pair[tile], tiles.first_pair[tile + 1]
        mine, h = pairs_at(found, tile, tiles)[3], kept.sent[step]
        convolve_backward(
            of_sent, slopes[low:high], sums[low:high], v, h, layers[5], mine, chosen, symmetric, step == 0
        )


@compiled(CONTRACT)
def write_slopes(
    slopes: ndarray, vec: ndarray, found: TilePairs, of_distance: ndarray, of_weight: ndarray, limits: tuple[int, int]
) -> None:
    """Derivatives with respect to the vectors of some pairs [P * 3], from those of parts of the features [C, P]."""
    for n in range(limits[0], limits[1]):
        slope, weighed, k = of_distance[0, n], of_weight[0, n], 3 * found.order[n]
        for part_of_all in range(1, len(of_distance)):
            slope += of_distance[part_of_all, n]
            weighed += of_weight[part_of_all, n]
        radial = (slope + weighed * found.decline[n]) / found.distance[n]
        for axis in range(k, k + 3):
            slopes[axis] = radial * vec[axis]
