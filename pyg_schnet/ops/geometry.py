"""Vectors and distances of edges, differentiable with respect to positions and cell."""

import torch
from torch import Tensor

from pyg_schnet.segments import take


def edge_vectors(
    pos: Tensor,
    edge_index: Tensor,
    edge_shift: Tensor | None = None,
    cell: Tensor | None = None,
    batch: Tensor | None = None,
) -> Tensor:
    r"""Vector from the target atom to (the image of) the source atom of each edge.

    .. math:: r_{ij} = r_j - r_i + s_{ij} \cdot \mathrm{cell}

    Args:
        pos: Positions in Angstrom [N, 3].
        edge_index: Row 0 the source j, row 1 the target i [2, E].
        edge_shift: Image of the source in units of the cell [E, 3]; ``None`` for open systems.
        cell: Lattice vectors as rows in Angstrom [B, 3, 3]; needed for the shifts to count. Vectors along which no edge
            is shifted play no role and may be zero, infinite or NaN, as those of open axes sometimes are.
        batch: Structure of each atom [N]; ``None`` for one structure.

    Returns:
        Vectors in Angstrom [E, 3].

    Example:
        >>> pos = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        >>> edge_vectors(pos, torch.tensor([[1], [0]]))
        tensor([[0., 0., 1.]])
    """
    source, target = edge_index[0], edge_index[1]
    if pos.is_cuda and not pos.requires_grad:  # in one launch
        ends = pos.index_select(0, edge_index.reshape(-1)).view(2, -1, 3)
        vectors = ends[0] - ends[1]
    else:
        vectors = take(pos, source) - take(pos, target)
    if cell is None or edge_shift is None:
        return vectors
    cells = cell[torch.zeros_like(target) if batch is None else batch.index_select(0, target)]  # [E, 3, 3]
    steps = edge_shift.to(cell.dtype).unsqueeze(-1)  # [E, 3, 1]
    return vectors + torch.where(steps != 0, steps * cells, 0.0).sum(1)  # zero times NaN would be NaN
