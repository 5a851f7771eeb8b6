"""Gradients of a loss of energies and forces for structures of any size: layer by layer, tile by tile.

What is computed, and what things are called, says :mod:`pyg_schnet.fast.cpu.second_order`; how it is divided,
:mod:`pyg_schnet.fast.cpu.tiles`.
"""

from typing import NamedTuple

from numpy import ndarray

from pyg_schnet.compiling import CONTRACT, compiled
from pyg_schnet.fast.cpu.blocks import Part, turn_out
from pyg_schnet.fast.cpu.dense import turn
from pyg_schnet.fast.cpu.first_order import Network, block_at, last_at
from pyg_schnet.fast.cpu.memory import clear, doubles
from pyg_schnet.fast.cpu.saved import Kept
from pyg_schnet.fast.cpu.second_order import (
    add_changes_received,
    add_received_gradients,
    add_sent_gradients,
    block_of,
    convolve_changes,
    convolve_gradients,
    last_of,
    let_move,
    output_gradients,
    write_changes_sent,
)
from pyg_schnet.fast.cpu.tiles import TilePairs, Tiles, clear_part, pairs_at, piece, span_of


class Changes(NamedTuple):
    """Changes of what a pass has computed, of all atoms.

    Attributes:
        before: Of features before each block and after the last [T + 1, N * A].
        sent: Of features that are sent [T, N * F].
        received: Of what is received [T, N * F].
        inner: Of what is activated [T, A * N].
        activated: Of the activation [T, A * N].
        features: Of the features, and later the gradients of J with respect to them [A * N].
    """

    before: ndarray
    sent: ndarray
    received: ndarray
    inner: ndarray
    activated: ndarray
    features: ndarray


@compiled(CONTRACT)
def let_tiles_move(of_slopes: ndarray, vec: ndarray, found: TilePairs, tiles: Tiles, limits: tuple[int, int]) -> None:
    """Write factors of rows in filters and in their changes in place of spline values and derivatives."""
    for tile in range(limits[0], limits[1]):
        order, d, decline, mine = pairs_at(found, tile, tiles)
        let_move(mine, order, d, decline, of_slopes, vec)


@compiled(CONTRACT)
def change(
    step: int,
    gradients: ndarray,
    some: tuple[ndarray, ndarray, ndarray],
    changes: Changes,
    network: Network,
    places: tuple[ndarray, ndarray],
    tiles: Tiles,
    kept: Kept,
    parts: ndarray,
    limits: tuple[int, int],
) -> None:
    """From changes of what atoms have received to those of what they send next, for some tiles.

    Args:
        step: The block whose features are to be sent; behind the last one, gradients of the output network are added.
        gradients: To be added to, the gradients of all weights but tables, padded, one behind the other, for each part.
        some: Gradients with respect to the energies of the structures [N] float64; shares of the contributions in
            these [N] float64; factors of the normalisation [N], empty for ones.
        changes: To be written.
        network: The network.
        places: Where the gradients of each block's weights, as in ``network.blocks``, and of the output network begin.
        tiles: The tiles.
        kept: What the pass has written.
        parts: First tile of each part whose gradients are added up for themselves, and the number of all tiles [C + 1].
        limits: First part and the one behind the last.
    """
    (of_contributions, shares, norm), count = some, len(network.blocks)
    layers, before = block_at(network.blocks[min(step, count - 1)], network.sizes, gradients), max(step - 1, 0)
    received = block_at(network.blocks[before], network.sizes, gradients)
    last = last_at(network.output, network.sizes, gradients)
    for one in range(limits[0], limits[1]):
        mine = gradients[one]
        for tile in range(parts[one], parts[one + 1]):
            a, b, sizes = span_of(tile, tiles, network)
            atoms, size, width = sizes
            dx = piece(changes.features, a, atoms, size)
            if step == 0:
                clear(dx)
            else:
                dv = piece(changes.received[before], a, atoms, width)
                du, da = piece(changes.inner[before], a, atoms, size), piece(changes.activated[before], a, atoms, size)
                slope = piece(kept.slope[before], a, atoms, size)
                add_changes_received(dx, (dv, du, da), slope, received, norm[a:b], sizes)
            dx_before = piece(changes.before[step], a, atoms, size)
            if step < count:
                dh = piece(changes.sent[step], a, atoms, width)
                write_changes_sent(dh, dx_before, dx, layers[0], sizes, step == 0)
            else:
                turn(dx_before, dx, size, atoms)
                weights = doubles(b - a), shares[a:b]
                for n in range(a, b):
                    weights[0][n - a] = of_contributions[n] * shares[n]
                x, of_last = piece(kept.features[count], a, atoms, size), last_of(mine, places[1], len(last[1]), size)
                output_gradients(dx, of_last, (x, dx_before), last, weights, network.activation, (atoms, size))


@compiled(CONTRACT)
def convolve_tile_changes(
    step: int,
    changes: Changes,
    found: TilePairs,
    network: Network,
    tiles: Tiles,
    kept: Kept,
    chosen: Part,
    symmetric: bool,
) -> None:
    """Write changes of some features that all atoms receive in a block."""
    layers, dv = block_at(network.blocks[step], network.sizes, found.distance), changes.received[step]
    clear_part(dv, chosen)
    for tile in range(len(tiles.first_pair) - 1):
        i, j, _, row, b, e = pairs_at(found, tile, tiles)[3]
        dh, h = changes.sent[step], kept.sent[step]
        convolve_changes(dv, dh, h, layers[5], (i, j, row, b, e), chosen, symmetric, step == 0)


@compiled(CONTRACT)
def add_gradients(
    step: int,
    gradients: ndarray,
    some: tuple[ndarray, ndarray],
    of_pairs: tuple[ndarray, ndarray],
    changes: Changes,
    network: Network,
    places: tuple[ndarray, ndarray],
    tiles: Tiles,
    kept: Kept,
    parts: ndarray,
    limits: tuple[int, int],
) -> None:
    """From gradients of J of what atoms have sent to those of what they received before, for some tiles.

    Args:
        step: The block whose features have been received; -1 for those with respect to the first features.
        gradients: To be added to, the gradients of all weights but tables, padded, one behind the other, for each part.
        some: Gradients with respect to the first features [N * A], to be written at last, and factors of the
            normalisation [N], empty for ones.
        of_pairs: Gradients with respect to what is received, to be written, and to what has been sent [N * F].
        changes: What :func:`change` has written.
        network: The network.
        places: Where the gradients of each block's weights, as in ``network.blocks``, and of the output network begin.
        tiles: The tiles.
        kept: What the pass has written.
        parts: First tile of each part whose gradients are added up for themselves, and the number of all tiles [C + 1].
        limits: First part and the one behind the last.
    """
    (of_first, norm), (of_received, of_sent), count, true_size = some, of_pairs, len(network.blocks), network.sizes[0]
    now, later = max(step, 0), min(step + 1, count - 1)
    layers = block_at(network.blocks[now], network.sizes, gradients)
    sending = block_at(network.blocks[later], network.sizes, gradients)
    for one in range(limits[0], limits[1]):
        mine = gradients[one]
        for tile in range(parts[one], parts[one + 1]):
            a, b, sizes = span_of(tile, tiles, network)
            atoms, size, width = sizes
            of_x = piece(changes.features, a, atoms, size)
            if step < count - 1:
                before = piece(kept.of_sent[later], a, atoms, width), piece(kept.features[later], a, atoms, size)
                of_w1 = block_of(mine, places[0][later], sizes, 0)[0]
                of_h, dx_before = piece(of_sent, a, atoms, width), piece(changes.before[later], a, atoms, size)
                add_sent_gradients(of_x, of_w1, of_h, before, dx_before, sending[0], sizes, later == 0)
            if step >= 0:
                y, activated = piece(kept.received[now], a, atoms, width), piece(kept.inner[now], a, atoms, size)
                slope, e_u = piece(kept.slope[now], a, atoms, size), piece(kept.of_inner[now], a, atoms, size)
                left = y, activated, slope, e_u, piece(kept.of_features[now], a, atoms, size)
                dv, du = piece(changes.received[now], a, atoms, width), piece(changes.inner[now], a, atoms, size)
                changed = dv, du, piece(changes.activated[now], a, atoms, size)
                of_y, of_layers = piece(of_received, a, atoms, width), block_of(mine, places[0][now], sizes, 0)
                add_received_gradients(of_y, of_x, of_layers, left, changed, layers, norm[a:b], sizes)
            else:
                turn_out(of_first[a * true_size : b * true_size], of_x, true_size, (atoms, size))


@compiled(CONTRACT)
def convolve_tile_gradients(
    step: int,
    of_table: ndarray,
    of_pairs: tuple[ndarray, ndarray],
    changes: Changes,
    found: TilePairs,
    network: Network,
    tiles: Tiles,
    kept: Kept,
    chosen: Part,
    symmetric: bool,
) -> None:
    """Write gradients of J with respect to some features that all atoms send, and add those of the table's [K * F]."""
    (of_received, of_sent), layers = of_pairs, block_at(network.blocks[step], network.sizes, found.distance)
    clear_part(of_sent, chosen)
    for tile in range(len(tiles.first_pair) - 1):
        i, j, _, row, b, e = pairs_at(found, tile, tiles)[3]
        e_y, h, dh, moving = kept.of_received[step], kept.sent[step], changes.sent[step], (i, j, row, b, e)
        convolve_gradients(of_sent, of_table, of_received, e_y, h, dh, layers[5], moving, chosen, symmetric, step == 0)
