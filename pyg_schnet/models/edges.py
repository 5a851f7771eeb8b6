"""The edges of a batch of structures: those that are searched, or those that are given."""

from typing import Any

import torch

from pyg_schnet.fast.convolution import check_ends
from pyg_schnet.fast.pair_vectors import pair_vectors
from pyg_schnet.graph import Edges, neighbor_pairs, opposite_edges, within_cutoff
from pyg_schnet.models.inputs import check_distances, check_edges
from pyg_schnet.models.structures import Structures


def find_edges(structures: Structures, cutoff: float) -> Edges:
    """Search all pairs within the cutoff; vectors are differentiable with respect to positions and cell.

    Args:
        structures: The structures, checked.
        cutoff: Cutoff distance in Angstrom.

    Returns:
        The edges; i -> j shares the vector of j -> i.
    """
    pos, (batch, batch_size), cell = structures.pos, structures.structure_of_atoms, structures.cell
    edge_index, pair_index, pair_shift, edge_pair = neighbor_pairs(pos, cutoff, batch, batch_size, cell, structures.pbc)
    edge_vec = pair_vectors(pos, pair_index, pair_shift, cell, batch)  # [E / 2, 3]
    return Edges(edge_index, edge_vec, edge_pair, pair_index)


def given_edges(structures: Structures, cutoff: float) -> Edges:
    """Check a precomputed graph, leave out what is beyond the cutoff, and see which edges are opposite to each other.

    Args:
        structures: The structures, checked, with their ``edge_index``.
        cutoff: Cutoff distance in Angstrom.

    Returns:
        The edges within the cutoff.

    Raises:
        TypeError: If an argument is no tensor of the right kind.
        ValueError: If shapes or values do not fit, or an edge has length zero.
    """
    check_edges(structures)
    edge_index: Any = structures.edge_index
    check_ends(edge_index, structures.batch.size(0), structures.batch.size(0))
    pos, batch, edge_shift, cell = structures.pos, structures.batch, structures.edge_shift, structures.cell
    paired = opposite_edges(edge_index, edge_shift, structures.batch.size(0))
    pair_index, pair_shift, edge_pair = edge_index, edge_shift, None
    if paired is not None:
        pairs, edge_pair = paired
        pair_index = edge_index.index_select(1, pairs)
        pair_shift = None if edge_shift is None else edge_shift.index_select(0, pairs)
    edge_vec = pair_vectors(pos, pair_index, pair_shift, cell, batch)
    check_distances(edge_vec.detach().norm(dim=-1), pair_index)
    if cell is not None:  # vectors of open axes may be NaN; edges that need them stay and are seen to be NaN
        cell = torch.where(cell.isfinite().all(-1, keepdim=True), cell, 0.0)
    inside = within_cutoff(pos, pair_index, pair_shift, cell, batch, cutoff) | edge_vec.detach().isnan().any(-1)
    if edge_pair is None:
        edge_index = edge_index[:, inside]
        return Edges(edge_index, edge_vec[inside], None, edge_index)
    if bool(inside.all()):
        return Edges(edge_index, edge_vec, edge_pair, pair_index)
    near, number = inside.index_select(0, edge_pair), inside.cumsum(0) - 1
    edge_pair = number.index_select(0, edge_pair[near])
    return Edges(edge_index[:, near], edge_vec[inside], edge_pair, pair_index[:, inside])
