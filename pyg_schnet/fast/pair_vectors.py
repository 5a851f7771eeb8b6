"""Vectors of periodic pairs of atoms, in a compiled loop where nobody differentiates them."""

import torch
from torch import Tensor

from pyg_schnet.compiling import loops_of
from pyg_schnet.fast import ways
from pyg_schnet.fast.plain import has_numbers, is_plain
from pyg_schnet.graph import can_inspect
from pyg_schnet.ops import edge_vectors


def pair_vectors(
    pos: Tensor,
    pair_index: Tensor,
    pair_shift: Tensor | None,
    cell: Tensor | None = None,
    batch: Tensor | None = None,
) -> Tensor:
    """The same as :func:`pyg_schnet.ops.edge_vectors`, for pairs whose ends are surely atoms.

    Args:
        pos: Positions in Angstrom [N, 3].
        pair_index: Source and target of each pair [2, P].
        pair_shift: Image of its source in units of the cell [P, 3]; ``None`` for open structures.
        cell: Lattice vectors as rows in Angstrom [B, 3, 3]; ``None`` for open structures.
        batch: Structure of each atom [N]; ``None`` for one structure.

    Returns:
        Vectors in Angstrom [P, 3].
    """
    if pair_shift is None or cell is None or batch is None or not _readable(pos, cell) or not can_inspect(pair_index):
        return edge_vectors(pos, pair_index, pair_shift, cell, batch)
    vectors = pos.new_empty(pair_index.size(1), 3)
    given = pos, pair_index[0], pair_index[1], pair_shift.long(), cell, batch
    loops = loops_of("pyg_schnet.fast.cpu.pair_vectors")
    loops.write_vectors(vectors.numpy(), *(one.detach().contiguous().numpy() for one in given))
    return vectors


def _readable(pos: Tensor, cell: Tensor) -> bool:
    """True if both are ordinary numbers of one kind on a CPU with compiled loops, and nobody asks for derivatives."""
    if torch.is_grad_enabled() and (pos.requires_grad or cell.requires_grad):
        return False
    if not can_inspect(pos) or not all(is_plain(one) and has_numbers(one) for one in (pos, cell)):
        return False
    return pos.dtype == cell.dtype and ways.loops_enabled() and loops_of("pyg_schnet.fast.cpu.pair_vectors") is not None
