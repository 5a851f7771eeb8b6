"""Pairs of moving atoms in a fixed number of places; the device itself finds out if some may be missing by now."""

from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor

from pyg_schnet.fast.gpu.edge_order import Sorted, hold
from pyg_schnet.fast.padding import PAIRS_PER_GHOST, ghosts_for, room_for, with_ghosts
from pyg_schnet.graph import Edges, neighbor_pairs, within_cutoff
from pyg_schnet.graph.edges import SAME_PLACE
from pyg_schnet.graph.lattice import lattice_of
from pyg_schnet.graph.skin import SEARCH_MARGIN, skin_left
from pyg_schnet.graph.structure import check_finite
from pyg_schnet.ops import edge_vectors
from pyg_schnet.segments import Segments, Signed, in_segments, provide, provide_signed


class MovingAtoms(NamedTuple):
    """Structures whose atoms move, with G ghosts in a structure behind them; all stay where they are in memory.

    Attributes:
        z: Atomic numbers, those of ghosts 1 [N + G].
        batch: Structure of each atom, that of ghosts B [N + G].
        pos: Positions in Angstrom [N + G, 3].
        cell: Lattice vectors in Angstrom [B + 1, 3, 3]; ``None`` if none were given.
        pbc: Periodic axes [B + 1, 3]; ``None`` if none were given.
    """

    z: Tensor
    batch: Tensor
    pos: Tensor
    cell: Tensor | None
    pbc: Tensor | None

    @property
    def lattice(self) -> Tensor | None:
        """Lattice vectors, zero along open axes, where they play no role and may be anything [B + 1, 3, 3]."""
        if self.cell is None or self.pbc is None:
            return None
        return torch.where(self.pbc.unsqueeze(-1), self.cell, 0.0)


class SkinPairs(NamedTuple):
    """All pairs within cutoff + skin of where atoms were, in C places.

    Attributes:
        pair_index: Source and target of each pair [2, C].
        pair_shift: Image of its source [C, 3].
        there: True for each place that holds a pair [C].
        ends: Ghosts of the places, source and target of a pair that is not there, which is as long as the cutoff
            [2, C].
        edge_index: Both directions of all pairs [2, 2 C].
        edge_pair: The pair of each [2 C].
        order: Sums on a GPU: edges by target, edges by source and pairs by source [5 C]; empty elsewhere.
        pointer: Where those of each atom begin, of edges, of pairs by target and of pairs by source [3, N + G + 1].
        by_node: Pairs of each atom, as kernels of tabulated filters read them.
        short: ``pair_index`` in 32 bits [2, C].
        sign: One where an atom is the target of such a pair, minus one where it is the source [2 C, 1].
        reference: Positions in float64 when the pairs were searched [N, 3].
        lattice: Lattice vectors in float64 at that time [B + 1, 3, 3]; ``None`` without a cell.
        inverse: Their inverse, open axes completed [B + 1, 3, 3]; ``None`` without a cell.
    """

    pair_index: Tensor
    pair_shift: Tensor
    there: Tensor
    ends: Tensor
    edge_index: Tensor
    edge_pair: Tensor
    order: Tensor
    pointer: Tensor
    by_node: Sorted
    short: Tensor
    sign: Tensor
    reference: Tensor
    lattice: Tensor | None
    inverse: Tensor | None


def moving_atoms(
    z: Tensor,
    batch: Tensor,
    batch_size: int,
    pos: Tensor,
    cell: Tensor | None,
    pbc: Tensor | None,
    ghosts: int,
    cutoff: float,
) -> MovingAtoms:
    """Copies of structures, with ghosts.

    Args:
        z: Atomic numbers [N].
        batch: Structure of each atom [N].
        batch_size: Number of structures B.
        pos: Positions in Angstrom [N, 3].
        cell: Lattice vectors in Angstrom [B, 3, 3].
        pbc: Periodic axes [B, 3].
        ghosts: Number of ghosts G, in two places.
        cutoff: Distance of these places in Angstrom.

    Returns:
        The structures.
    """
    beside = pos.new_zeros(ghosts, 3)
    beside[ghosts // 2 :, 0] = cutoff
    if cell is not None:
        cell = torch.cat([cell.detach(), torch.eye(3, dtype=cell.dtype, device=cell.device).unsqueeze(0)])
    if pbc is not None:
        pbc = torch.cat([pbc.to(pos.device), torch.zeros(1, 3, dtype=torch.bool, device=pos.device)])
    return MovingAtoms(
        torch.cat([z, z.new_ones(ghosts)]),
        torch.cat([batch, batch.new_full((ghosts,), batch_size)]),
        torch.cat([pos.detach(), beside]),
        cell,
        pbc,
    )


def places_for(pairs: int) -> int:
    """Places for so many pairs, and some more: atoms that move come closer."""
    return room_for(pairs + pairs // 8)


def search_pairs(
    pos: Tensor, batch: Tensor, batch_size: int, cell: Tensor | None, pbc: Tensor | None, reach: float
) -> tuple[Tensor, Tensor]:
    """All pairs of atoms; arguments are already checked by themselves.

    Args:
        pos: Positions in Angstrom [N, 3].
        batch: Structure of each atom [N].
        batch_size: Number of structures B.
        cell: Lattice vectors in Angstrom [B, 3, 3].
        pbc: Periodic axes [B, 3].
        reach: Distance in Angstrom up to which pairs are searched.

    Returns:
        Source and target of each pair [2, P], image of its source [P, 3].

    Raises:
        ValueError: If a position is not finite, two atoms are at the same place or a lattice spans no volume.
    """
    if pos.device.type == "cpu":  # elsewhere the search looks at all it must in one wait
        check_finite(pos)
    _, index, shift, _ = neighbor_pairs(pos.double(), reach * SEARCH_MARGIN, batch, batch_size, cell, pbc)
    return index, shift


def empty_pairs(atoms: MovingAtoms, num_atoms: int, places: int) -> SkinPairs:
    """Places for pairs, none of which is taken.

    Args:
        atoms: The structures.
        num_atoms: Number of atoms N without ghosts.
        places: Number of places C.

    Returns:
        The places.
    """
    ghosts, all_atoms = ghosts_for(places), atoms.pos.size(0)
    target = num_atoms + torch.arange(places, device=atoms.pos.device) // PAIRS_PER_GHOST  # they ascend
    ends, lattice = torch.stack([target + ghosts, target]), atoms.lattice
    number = torch.arange(places, device=ends.device)
    pairs = SkinPairs(
        ends.clone(),
        ends.new_zeros(places, 3),
        torch.zeros_like(target, dtype=torch.bool),
        ends,
        torch.cat([ends, ends.flip(0)], dim=1),
        torch.cat([number, number]),
        ends.new_zeros(5 * places if in_segments(atoms.pos) else 0),
        ends.new_zeros(3, all_atoms + 1),
        Sorted(*(ends.new_zeros(size, dtype=torch.int32) for size in (all_atoms + 1, 2 * places, 2 * places))),
        ends.int(),
        atoms.pos.new_ones(2 * places, 1),
        atoms.pos[:num_atoms].double().clone(),
        None if lattice is None else lattice.double(),
        None if lattice is None else torch.zeros_like(lattice, dtype=torch.float64),
    )
    if pairs.order.numel():
        _say_segments(pairs, atoms)
    return pairs


def _say_segments(pairs: SkinPairs, atoms: MovingAtoms) -> None:
    """Where sums find what :func:`fill_pairs` puts in its places, so that no step sorts anything."""
    (edges, targets, sources), size, places = pairs.pointer, atoms.pos.size(0), pairs.there.size(0)
    of_target, of_source, of_pairs = pairs.order.split([2 * places, 2 * places, places])
    provide(pairs.edge_index[1], size, Segments(of_target, edges), held=True)
    provide(pairs.edge_index[0], size, Segments(of_source, edges), held=True)
    provide(pairs.pair_index[1], size, Segments(None, targets), held=True)
    provide(pairs.pair_index[0], size, Segments(of_pairs, sources), held=True)
    both = torch.stack([pairs.edge_pair[:places], pairs.edge_pair[:places] + places], dim=1).view(-1)
    every_other = torch.arange(0, 2 * places + 1, 2, device=both.device)
    provide(pairs.edge_pair, places, Segments(both, every_other), held=True)
    structures = torch.arange(int(atoms.batch[-1]) + 2, device=both.device)
    found = Segments(None, torch.searchsorted(atoms.batch, structures))
    provide(atoms.batch, structures.size(0) - 1, found, held=True)
    hold(pairs.pair_index, size, pairs.by_node, pairs.short)
    provide_signed(pairs.pair_index, size, Signed(pairs.by_node.edge, pairs.sign, edges))


def _sort(pairs: SkinPairs) -> None:
    """Which edges and pairs belong to each atom, for sums on a GPU."""
    places, atoms = pairs.there.size(0), torch.arange(pairs.pointer.size(1), device=pairs.pointer.device)
    of_target, of_source, of_pairs = pairs.order.split([2 * places, 2 * places, places])
    target, order = pairs.edge_index[1].sort(stable=True)
    of_target.copy_(order)
    of_source.copy_((order + places) % (2 * places))
    pairs.short.copy_(pairs.pair_index)
    pairs.by_node.edge.copy_(order % places)
    pairs.sign[:, 0].copy_(torch.where(order < places, 1.0, -1.0))
    pairs.by_node.other.copy_(pairs.edge_index[0].index_select(0, order))
    source, order = pairs.pair_index[0].sort(stable=True)
    of_pairs.copy_(order)
    for place, ends in zip(pairs.pointer, (target, pairs.pair_index[1].contiguous(), source), strict=True):
        place.copy_(torch.searchsorted(ends, atoms))
    pairs.by_node.pointer.copy_(pairs.pointer[0])


def fill_pairs(pairs: SkinPairs, atoms: MovingAtoms, index: Tensor, shift: Tensor) -> None:
    """Put pairs in their places, and remember where atoms are.

    Args:
        pairs: The places.
        atoms: The structures.
        index: Source and target of each pair [2, P].
        shift: Image of its source [P, 3].
    """
    taken, places = index.size(1), pairs.there.size(0)
    pairs.pair_index[:, :taken] = index
    pairs.pair_index[:, taken:] = pairs.ends[:, taken:]
    pairs.edge_index[:, :places] = pairs.pair_index
    pairs.edge_index[:, places:] = pairs.pair_index.flip(0)
    if pairs.order.numel():
        _sort(pairs)
    pairs.pair_shift[:taken] = shift
    pairs.pair_shift[taken:] = 0
    pairs.there[:taken] = True
    pairs.there[taken:] = False
    pairs.reference.copy_(atoms.pos[: pairs.reference.size(0)])
    if atoms.lattice is not None and pairs.lattice is not None and pairs.inverse is not None:
        pairs.lattice.copy_(atoms.lattice)
        full = lattice_of(atoms.cell, atoms.pbc, pairs.lattice.size(0), pairs.lattice.device)
        if full is not None:
            pairs.inverse.copy_(full.inverse)


class Reach(NamedTuple):
    """How far a model sees.

    Attributes:
        cutoff: Cutoff distance in Angstrom.
        vanishing: True if pairs beyond the cutoff add nothing: they stay where they are, so that edges are the same in
            each step. Else they join ghosts.
    """

    cutoff: float
    vanishing: bool


def edges_and_limits(
    pairs: SkinPairs, atoms: MovingAtoms, reaches: Collection[Reach], skin: float
) -> tuple[dict[Reach, Edges], Tensor, Tensor]:
    """The edges that models see, and what tells if pairs must be searched again before these count.

    They must if atoms have moved, or cells have changed, too far, and if two atoms are at the same place, for the
    search to say so: see :func:`is_stale`.

    Args:
        pairs: The pairs in their places.
        atoms: The structures.
        reaches: How far the models see.
        skin: How much farther than the largest cutoff pairs were searched, in Angstrom.

    Returns:
        The edges for each reach, how far an atom has moved at most [] and the shortest distance [], both in Angstrom.
    """
    lattice, graph = atoms.lattice, (pairs.pair_index, pairs.pair_shift)
    edge_vec = edge_vectors(atoms.pos, *graph, lattice, atoms.batch)
    every = Edges(pairs.edge_index, edge_vec, pairs.edge_pair, pairs.pair_index)
    found = {}
    for reach in reaches:
        found[reach] = every
        if not reach.vanishing:
            counts = pairs.there & within_cutoff(atoms.pos, *graph, lattice, atoms.batch, reach.cutoff)
            found[reach] = with_ghosts(pairs.pair_index, edge_vec, counts, pairs.ends[1], reach.cutoff)
    moved = _moved(pairs, atoms, lattice, max(reach.cutoff for reach in reaches), skin)
    shortest = next(iter(found.values())).edge_weight.amin()
    return found, moved.amax() if moved.numel() else moved.new_zeros(()), shortest


def is_stale(moved: float, shortest: float, skin: float) -> bool:
    """True if pairs must be searched again.

    Args:
        moved: How far an atom has moved at most in Angstrom, or NaN.
        shortest: The shortest distance in Angstrom, or NaN.
        skin: How much farther than the cutoff they were searched, in Angstrom.

    Returns:
        True if so.

    Example:
        >>> is_stale(0.1, 0.9, 0.3), is_stale(0.2, 0.9, 0.3), is_stale(0.1, 0.0, 0.3), is_stale(float("nan"), 0.9, 0.3)
        (False, True, True, True)
    """
    return not (2 * moved <= skin and shortest >= SAME_PLACE)


def _moved(pairs: SkinPairs, atoms: MovingAtoms, lattice: Tensor | None, cutoff: float, skin: float) -> Tensor:
    """How far each atom has moved, in Angstrom, with half of what the strain of its cell does to pairs [N] float64."""
    num_atoms = pairs.reference.size(0)
    displacement = atoms.pos[:num_atoms] - pairs.reference  # [N, 3] float64
    if lattice is None or pairs.lattice is None or pairs.inverse is None:
        return displacement.norm(dim=1)
    strain = (pairs.inverse @ (lattice.double() - pairs.lattice)).index_select(0, atoms.batch[:num_atoms])  # [N, 3, 3]
    displacement = displacement - (pairs.reference.unsqueeze(2) * strain).sum(1)
    return 0.5 * (skin - skin_left(displacement, skin, cutoff + skin, strain))
