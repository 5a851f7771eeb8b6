"""Structures of any size, tile by tile: the network forwards and backwards, one layer of all atoms after the other.

What is kept of a large structure does not fit the caches of a processor, so loops take some atoms at a time through the
dense layers, and some features at a time through the convolutions, see :mod:`pyg_schnet.fast.cpu.tiles`. Small ones go
in groups, see :mod:`pyg_schnet.fast.groups`.
"""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from pyg_schnet.fast import convolution
from pyg_schnet.fast.groups import (
    StructureGroups,
    factors_of,
    group_structures,
    kept_in,
    numbers_kept,
    pairs_of,
    scratch,
    shares_of,
)
from pyg_schnet.fast.weight_gradients import PARTS, GradientSums, up
from pyg_schnet.fast.weights import LocatedWeights
from pyg_schnet.graph import Edges
from pyg_schnet.sizes import SIZES
from pyg_schnet.threads import share_out


class AtomTiles(NamedTuple):
    """Atoms and pairs as loops take them, tile by tile.

    Attributes:
        pairs: Vectors [P * 3], targets and sources [P].
        shares: What each atom's contribution counts in the energy of its structure [N] float64.
        symmetric: True if each pair stands for its opposite, too.
        tiles: The tiles, :class:`pyg_schnet.fast.cpu.tiles.Tiles`.
    """

    pairs: tuple[ndarray, ndarray, ndarray]
    shares: ndarray
    symmetric: bool
    tiles: Any

    @property
    def number(self) -> int:
        """Number of tiles."""
        return len(self.tiles.first_pair) - 1

    def memory(self, network: Any, x: Tensor) -> Tensor:
        """Memory for all that the way back needs, nothing in it; x are the first features of the atoms."""
        return x.new_empty(up(len(x)) * numbers_kept(network))

    def forward_and_backward(
        self, network: Any, x: Tensor, norm: Tensor | None, slope: Tensor, memory: Tensor | None = None
    ) -> tuple[ndarray, ndarray]:
        """As :meth:`StructureGroups.forward_and_backward`."""
        cpu, loops = convolution.installed_cpu_loops(), _loops()
        contributions, features, (size, width) = np.empty(len(x)), cpu.flat(x), map(up, network.sizes[:2])
        norms, atoms, chunks = factors_of(norm, features), up(len(x)), -(-width // up(SIZES.filters_at_once))
        of_norm, found, kept = np.zeros_like(norms), self._sorted(network), self._kept(network, x, memory)
        moving = np.empty(atoms * size, features.dtype), np.empty(atoms * size, features.dtype)
        of_sent = np.empty(atoms * width, features.dtype)
        of_pairs = tuple(np.zeros((chunks, len(found.order)), features.dtype) for _ in range(2))
        known, count = (network, self.tiles, kept), len(network.blocks)
        for step in range(count + 1):
            some = contributions, features, self.shares, norms
            self._share_tiles(network, loops.forward, step, some, moving, *known)
            if step < count:
                self._share_filters(width, loops.convolve_tiles, step, found, *known)
        for step in range(count - 1, -1, -1):
            self._share_tiles(network, loops.backward, step, (norms, of_norm), (moving[1], of_sent), *known)
            self._share_filters(width, loops.convolve_tiles_backward, step, of_sent, found, *known, rows=of_pairs)
        slopes, vec = cpu.flat(slope), self.pairs[0]
        share_out(lambda *limits: loops.write_slopes(slopes, vec, found, *of_pairs, limits), len(found.order), 1, 16)
        return contributions, of_norm

    def gradients(
        self,
        network: Any,
        inputs: tuple[Tensor, ...],
        norm: Tensor | None,
        memory: Tensor,
        given: tuple[Tensor, Tensor],
    ) -> list[Tensor]:
        """As :meth:`StructureGroups.gradients`."""
        x, *weights = inputs
        cpu = convolution.installed_cpu_loops()
        loops = importlib.import_module("pyg_schnet.fast.cpu.tiles_second_order")
        (size, width), count, own = map(up, network.sizes[:2]), len(network.blocks), (len(weights) - 4) // 6
        number = min(PARTS, self.number)
        parts = np.arange(number + 1) * self.number // number
        dense = tuple(weight[:0] if n % 6 == 5 and n < 6 * own else weight for n, weight in enumerate(weights))
        sums, of_x = GradientSums.of(dense, count, number), torch.empty_like(x, memory_format=torch.contiguous_format)
        tables = [x.new_zeros(table.size(0), width) for table in weights[5 : 6 * own : 6]]
        arrays, found, kept = sums.sums.numpy(), self._sorted(network), self._kept(network, x, memory)
        of_energies, of_slopes, of_features = *map(cpu.flat, given), cpu.flat(of_x)
        norms, like, atoms = factors_of(norm, of_features), of_features, up(len(x))
        rows = ((count + 1, size), (count, width), (count, width), (count, size), (count, size))
        changes = loops.Changes(
            *(np.empty((row, atoms * numbers), like.dtype) for row, numbers in rows), np.empty(atoms * size, like.dtype)
        )
        known = changes, network, sums.places, self.tiles, kept, parts
        rest = changes, found, network, self.tiles, kept
        self._share_tiles(network, loops.let_tiles_move, of_slopes, self.pairs[0], found, self.tiles)
        for step in range(count + 1):
            self._share_parts(network, loops.change, step, arrays, (of_energies, self.shares, norms), *known)
            if step < count:
                self._share_filters(width, loops.convolve_tile_changes, step, *rest)
        of_pairs = np.empty(atoms * width, like.dtype), np.empty(atoms * width, like.dtype)
        for step in range(count - 1, -2, -1):
            self._share_parts(network, loops.add_gradients, step, arrays, (of_features, norms), of_pairs, *known)
            if step >= 0:
                table = cpu.flat(tables[step % own])
                self._share_filters(width, loops.convolve_tile_gradients, step, table, of_pairs, *rest)
        found_ones = sums.gradients()
        for table, of_table in enumerate(tables):
            found_ones[6 * table + 5] = of_table[:, : network.sizes[1]]
        return [of_x, *found_ones]

    def _sorted(self, network: Any) -> Any:
        """Pairs in the order of the rows of the table, tile by tile."""
        loops, like, number = _loops(), self.pairs[0], len(self.pairs[1])
        kinds = np.int64, np.int64, like.dtype, np.int64
        i, j, weight, row = (np.empty(number, kind) for kind in kinds)
        splines = np.empty(6 * number, like.dtype), np.empty(6 * number, like.dtype)
        order = np.empty(number, np.int64)
        distance, decline = np.empty(number, like.dtype), np.empty(number, like.dtype)
        found = loops.TilePairs(order, distance, decline, (i, j, weight, row, *splines))
        self._share_tiles(network, loops.sort_tiles, found, self.pairs, network, self.tiles)
        return found

    def _kept(self, network: Any, x: Tensor, memory: Tensor | None) -> Any:
        """Memory for what the way back needs, or for what the pass itself does."""
        if memory is not None:
            return kept_in(memory.numpy(), network)
        return scratch(network, len(x), self.pairs[0].dtype)

    def _share_tiles(self, network: Any, work: Callable[..., None], *given: Any) -> None:
        """Let threads work on some tiles each, given last as the first and the one behind the last."""
        share_out(lambda *limits: work(*given, limits), self.number, 1, self._products(network))

    def _share_parts(self, network: Any, work: Callable[..., None], *given: Any) -> None:
        """The same for parts whose gradients are added up for themselves."""
        share_out(lambda *limits: work(*given, limits), min(PARTS, self.number), 1, self._products(network))

    def _share_filters(
        self, width: int, work: Callable[..., None], *given: Any, rows: tuple[ndarray, ...] = ()
    ) -> None:
        """Let threads work on some filters each, given as their limits; of arrays with a row for each, on their row."""
        step = up(SIZES.filters_at_once)

        def some(begin: int, end: int) -> None:
            for chunk in range(begin, end):
                chosen = width, chunk * step, min((chunk + 1) * step, width)
                work(*given, chosen, self.symmetric, *(one[chunk] for one in rows))

        share_out(some, -(-width // step), 1, len(self.pairs[1]) * step)

    def _products(self, network: Any) -> int:
        """What a tile costs in products."""
        size, width, *_ = network.sizes
        return int(self.tiles.size * size * width)


Division = StructureGroups | AtomTiles


def divide(model: Any, located: LocatedWeights, batch: Tensor, edges: Edges) -> Division | None:
    """Structures in groups, or atoms in tiles if one is too large for that.

    Args:
        model: A SchNet.
        located: Its weights.
        batch: Structure of each atom [N].
        edges: The edges.

    Returns:
        How loops take them; ``None`` if a pair belongs to two structures, or there are no atoms.
    """
    atoms = batch.numel()
    if atoms <= SIZES.max_atoms or int(np.bincount(batch.numpy()).max()) <= SIZES.max_atoms:
        return group_structures(model, located, batch, edges)
    pairs, symmetric = pairs_of(edges, atoms), edges.edge_pair is not None
    loops, size = _loops(), up(SIZES.atoms_per_tile)
    order, first_pair = loops.pairs_by_tile(pairs[1], size, -(-atoms // size))
    tiles = loops.Tiles(size, atoms, order, first_pair)
    return AtomTiles(pairs, shares_of(model, batch.numpy()), symmetric, tiles)


def _loops() -> Any:
    return importlib.import_module("pyg_schnet.fast.cpu.tiles")
