"""What a model asks of its input.

Values are looked at only where that is free, see :func:`pyg_schnet.graph.may_inspect`.
"""

import torch
from torch import Tensor

from pyg_schnet.graph import may_inspect


def check_atoms(z: Tensor, pos: Tensor, dtype: torch.dtype) -> None:
    """Check atomic numbers against positions, and positions against the dtype of the model.

    Args:
        z: Atomic numbers [N].
        pos: Positions [N, 3], already checked by themselves.
        dtype: Dtype of the model.

    Raises:
        TypeError: If ``z`` is no tensor or the dtypes differ.
        ValueError: If the shapes do not match.
    """
    if not isinstance(z, Tensor):
        raise TypeError(f"`z` must be a tensor of atomic numbers [N], got {type(z).__name__}")
    if z.shape != pos.shape[:1]:
        raise ValueError(f"`z` must have shape [{pos.size(0)}] like `pos`, got {list(z.shape)}")
    if pos.dtype != dtype:
        raise TypeError(f"`pos` is {pos.dtype}, the model {dtype}; convert one of them, for example pos.to({dtype})")


def check_cell(cell: Tensor | None, pos: Tensor) -> None:
    """Check that the lattice vectors have the dtype of the positions.

    Args:
        cell: Lattice vectors as rows [B, 3, 3].
        pos: Positions [N, 3].

    Raises:
        TypeError: If they have not.
    """
    if isinstance(cell, Tensor) and cell.dtype != pos.dtype:
        raise TypeError(
            f"`cell` is {cell.dtype}, `pos` {pos.dtype}; convert one of them, for example cell.to({pos.dtype})"
        )


def check_edges(
    edge_index: Tensor, edge_shift: Tensor | None, cell: Tensor | None, batch: Tensor, batch_size: int
) -> None:
    """Check a precomputed graph.

    Args:
        edge_index: Source and target of each edge [2, E].
        edge_shift: Image of the source of each edge [E, 3].
        cell: Lattice vectors as rows [B, 3, 3].
        batch: Structure of each atom [N].
        batch_size: Number of structures B.

    Raises:
        TypeError: If an argument is no tensor of the right kind.
        ValueError: If shapes or values do not fit.
    """
    if not isinstance(edge_index, Tensor) or edge_index.dtype != torch.long:
        kind = edge_index.dtype if isinstance(edge_index, Tensor) else type(edge_index).__name__
        raise TypeError(f"`edge_index` must be an int64 tensor [2, E], got {kind}")
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise ValueError(f"`edge_index` must have shape [2, E], got {list(edge_index.shape)}")
    num_edges, num_atoms = edge_index.size(1), batch.size(0)
    if edge_shift is not None and edge_shift.shape != (num_edges, 3):
        raise ValueError(
            f"`edge_shift` must have shape [{num_edges}, 3] like `edge_index`, got {list(edge_shift.shape)}"
        )
    if cell is not None and cell.shape != (batch_size, 3, 3):
        raise ValueError(
            f"`cell` must have shape [{batch_size}, 3, 3], a cell for each structure, got {list(cell.shape)}"
        )
    if not may_inspect(edge_index):
        return
    low, high = (int(bound) for bound in torch.aminmax(edge_index))
    if low < 0 or high >= num_atoms:
        raise ValueError(f"`edge_index` must name atoms from 0 to {num_atoms - 1}, got {low} to {high}")
    if not torch.equal(batch[edge_index[0]], batch[edge_index[1]]):
        raise ValueError("`edge_index` connects atoms of different structures; an edge must stay within one")
    if cell is None and edge_shift is not None and bool(edge_shift.any()):
        raise ValueError(
            "`cell` is missing, but `edge_shift` names periodic images; pass the lattice vectors [B, 3, 3]"
        )


def check_distances(edge_weight: Tensor, edge_index: Tensor) -> None:
    """Check that no precomputed edge has length zero, where forces are not defined.

    Args:
        edge_weight: Distances [E].
        edge_index: Source and target of each edge [2, E].

    Raises:
        ValueError: If one has.
    """
    if may_inspect(edge_weight) and bool((edge_weight == 0).any()):
        j, i = edge_index[:, int((edge_weight == 0).nonzero()[0])].tolist()
        raise ValueError(f"the edge {j} -> {i} has length zero, where forces are not defined; remove it or an atom")
