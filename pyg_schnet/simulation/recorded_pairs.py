"""Pairs of moving atoms in a fixed number of places; the device itself finds out if some may be missing by now."""

from typing import NamedTuple

import torch
from torch import Tensor

from pyg_schnet.fast.padding import ghost_ends, ghosts_for, room_for, with_ghosts
from pyg_schnet.graph import Edges, neighbor_pairs, within_cutoff
from pyg_schnet.graph.edges import SAME_PLACE
from pyg_schnet.graph.lattice import lattice_of
from pyg_schnet.graph.skin import SEARCH_MARGIN, skin_left
from pyg_schnet.graph.structure import check_finite
from pyg_schnet.ops import edge_vectors


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
        ends: Ghosts of the places, see :func:`~pyg_schnet.fast.padding.ghost_ends` [C].
        reference: Positions in float64 when the pairs were searched [N, 3].
        lattice: Lattice vectors in float64 at that time [B + 1, 3, 3]; ``None`` without a cell.
        inverse: Their inverse, open axes completed [B + 1, 3, 3]; ``None`` without a cell.
    """

    pair_index: Tensor
    pair_shift: Tensor
    there: Tensor
    ends: Tensor
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
) -> MovingAtoms:
    """Copies of structures, with ghosts.

    Args:
        z: Atomic numbers [N].
        batch: Structure of each atom [N].
        batch_size: Number of structures B.
        pos: Positions in Angstrom [N, 3].
        cell: Lattice vectors in Angstrom [B, 3, 3].
        pbc: Periodic axes [B, 3].
        ghosts: Number of ghosts G.

    Returns:
        The structures.
    """
    if cell is not None:
        cell = torch.cat([cell.detach(), torch.eye(3, dtype=cell.dtype, device=cell.device).unsqueeze(0)])
    if pbc is not None:
        pbc = torch.cat([pbc.to(pos.device), torch.zeros(1, 3, dtype=torch.bool, device=pos.device)])
    return MovingAtoms(
        torch.cat([z, z.new_ones(ghosts)]),
        torch.cat([batch, batch.new_full((ghosts,), batch_size)]),
        torch.cat([pos.detach(), pos.new_zeros(ghosts, 3)]),
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
    ghosts = ghosts_for(places)
    ends = ghost_ends(places, num_atoms, ghosts, atoms.pos.device)
    lattice = atoms.lattice
    return SkinPairs(
        ends.repeat(2, 1),
        ends.new_zeros(places, 3),
        torch.zeros_like(ends, dtype=torch.bool),
        ends,
        atoms.pos[:num_atoms].double().clone(),
        None if lattice is None else lattice.double(),
        None if lattice is None else torch.zeros_like(lattice, dtype=torch.float64),
    )


def fill_pairs(pairs: SkinPairs, atoms: MovingAtoms, index: Tensor, shift: Tensor) -> None:
    """Put pairs in their places, and remember where atoms are.

    Args:
        pairs: The places.
        atoms: The structures.
        index: Source and target of each pair [2, P].
        shift: Image of its source [P, 3].
    """
    taken = index.size(1)
    pairs.pair_index[:, :taken] = index
    pairs.pair_index[:, taken:] = pairs.ends[taken:]
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


def edges_and_stale(pairs: SkinPairs, atoms: MovingAtoms, cutoff: float, skin: float) -> tuple[Edges, Tensor]:
    """The edges within the cutoff, and whether pairs must be searched again before these count.

    They must if atoms have moved, or cells have changed, too far, and if two atoms are at the same place, for the
    search to say so.

    Args:
        pairs: The pairs in their places.
        atoms: The structures.
        cutoff: Cutoff distance in Angstrom.
        skin: How much farther pairs were searched, in Angstrom.

    Returns:
        The edges, and one flag [].
    """
    lattice, graph = atoms.lattice, (pairs.pair_index, pairs.pair_shift)
    counts = pairs.there & within_cutoff(atoms.pos, *graph, lattice, atoms.batch, cutoff)
    edge_vec = edge_vectors(atoms.pos, *graph, lattice, atoms.batch)
    edges = with_ghosts(pairs.pair_index, edge_vec, counts, pairs.ends, cutoff)
    near = _slack(pairs, atoms, lattice, cutoff, skin) >= 0  # false for NaN, too
    return edges, ~near.all() | (edges.edge_weight < SAME_PLACE).any()


def _slack(pairs: SkinPairs, atoms: MovingAtoms, lattice: Tensor | None, cutoff: float, skin: float) -> Tensor:
    """How much of the skin is left for each atom, in Angstrom [N] float64."""
    num_atoms = pairs.reference.size(0)
    displacement = atoms.pos[:num_atoms].double() - pairs.reference  # [N, 3]
    if lattice is None or pairs.lattice is None or pairs.inverse is None:
        return skin_left(displacement, skin)
    strain = (pairs.inverse @ (lattice.double() - pairs.lattice)).index_select(0, atoms.batch[:num_atoms])  # [N, 3, 3]
    displacement = displacement - (pairs.reference.unsqueeze(2) * strain).sum(1)
    return skin_left(displacement, skin, cutoff + skin, strain)
