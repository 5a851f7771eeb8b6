"""The edges of a batch of structures: those that are searched, or those that are given."""

import torch
from torch import Tensor

from pyg_schnet.graph import Edges, neighbor_pairs, within_cutoff
from pyg_schnet.models.inputs import check_distances, check_edges
from pyg_schnet.ops import edge_vectors


def find_edges(
    pos: Tensor, cutoff: float, batch: Tensor, batch_size: int, cell: Tensor | None = None, pbc: Tensor | None = None
) -> Edges:
    """Search all pairs within the cutoff; vectors are differentiable with respect to positions and cell.

    Args:
        pos: Positions in Angstrom [N, 3].
        cutoff: Cutoff distance in Angstrom.
        batch: Structure of each atom [N].
        batch_size: Number of structures B.
        cell: Lattice vectors as rows [B, 3, 3].
        pbc: Periodic axes [B, 3].

    Returns:
        The edges; i -> j shares the vector of j -> i.
    """
    edge_index, pair_index, pair_shift, edge_pair = neighbor_pairs(pos, cutoff, batch, batch_size, cell, pbc)
    edge_vec = edge_vectors(pos, pair_index, pair_shift, cell, batch)  # [E / 2, 3]
    return Edges(edge_index, edge_vec, edge_pair, pair_index)


def given_edges(
    pos: Tensor,
    cutoff: float,
    batch: Tensor,
    batch_size: int,
    edge_index: Tensor,
    edge_shift: Tensor | None = None,
    cell: Tensor | None = None,
    pbc: Tensor | None = None,
) -> Edges:
    """Check a precomputed graph and leave out what is beyond the cutoff.

    Args:
        pos: Positions in Angstrom [N, 3].
        cutoff: Cutoff distance in Angstrom.
        batch: Structure of each atom [N].
        batch_size: Number of structures B.
        edge_index: Neighbours j -> i [2, E].
        edge_shift: Image of the source of each edge [E, 3].
        cell: Lattice vectors as rows [B, 3, 3].
        pbc: Periodic axes [B, 3].

    Returns:
        The edges within the cutoff.

    Raises:
        TypeError: If an argument is no tensor of the right kind.
        ValueError: If shapes or values do not fit, or an edge has length zero.
    """
    check_edges(edge_index, edge_shift, cell, pbc, batch, batch_size)
    edge_vec = edge_vectors(pos, edge_index, edge_shift, cell, batch)
    check_distances(edge_vec.detach().norm(dim=-1), edge_index)
    if cell is not None:  # vectors of open axes may be NaN; edges that need them stay and are seen to be NaN
        cell = torch.where(cell.isfinite().all(-1, keepdim=True), cell, 0.0)
    inside = within_cutoff(pos, edge_index, edge_shift, cell, batch, cutoff) | edge_vec.detach().isnan().any(-1)
    edge_index = edge_index[:, inside]
    return Edges(edge_index, edge_vec[inside], None, edge_index)
