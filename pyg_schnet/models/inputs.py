"""What a model asks of its input.

Values are looked at only where that is free, see :func:`pyg_schnet.graph.can_inspect`.
"""

import torch
from torch import Tensor, nn

from pyg_schnet.graph import can_inspect
from pyg_schnet.graph.lattice import SMALLEST_RELATIVE_VOLUME
from pyg_schnet.models.structures import Structures
from pyg_schnet.nn import AtomEmbedding
from pyg_schnet.nn.embedding import check_numbers
from pyg_schnet.ops import cell_volume


def check_atoms(z: Tensor, pos: Tensor, embedding: nn.Module) -> None:
    """Check atomic numbers against positions and model, and positions against the dtype of the model.

    Args:
        z: Atomic numbers [N].
        pos: Positions [N, 3], already checked by themselves.
        embedding: Embedding of the model, which knows its dtype and largest atomic number.

    Raises:
        TypeError: If ``z`` is no int64 tensor or the dtypes differ.
        ValueError: If the shapes do not match, or there is no such element.
    """
    if not isinstance(z, Tensor):
        raise TypeError(f"`z` must be a tensor of atomic numbers [N], got {type(z).__name__}")
    if z.shape != pos.shape[:1]:
        raise ValueError(f"`z` must have shape [{pos.size(0)}] like `pos`, got {list(z.shape)}")
    if isinstance(embedding, AtomEmbedding):
        check_numbers(z, embedding.max_z)
    dtype = next(embedding.parameters()).dtype
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
    if cell is not None and not isinstance(cell, Tensor):
        raise TypeError(f"`cell` must be a tensor of lattice vectors [B, 3, 3], got {type(cell).__name__}")
    if cell is not None and cell.dtype != pos.dtype:
        raise TypeError(
            f"`cell` is {cell.dtype}, `pos` {pos.dtype}; convert one of them, for example cell.to({pos.dtype})"
        )


def check_edges(structures: Structures) -> None:
    """Check a precomputed graph.

    Args:
        structures: The structures, their atoms checked, with a graph as it is given.

    Raises:
        TypeError: If an argument is no tensor of the right kind.
        ValueError: If shapes or values do not fit.
    """
    edge_index, edge_shift, cell, pbc = structures.edge_index, structures.edge_shift, structures.cell, structures.pbc
    batch, batch_size = structures.structure_of_atoms
    if not isinstance(edge_index, Tensor) or edge_index.dtype != torch.long:
        kind = edge_index.dtype if isinstance(edge_index, Tensor) else type(edge_index).__name__
        raise TypeError(f"`edge_index` must be an int64 tensor [2, E], got {kind}")
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise ValueError(f"`edge_index` must have shape [2, E], got {list(edge_index.shape)}")
    num_edges, num_atoms = edge_index.size(1), batch.size(0)
    if edge_shift is not None and (not isinstance(edge_shift, Tensor) or edge_shift.is_floating_point()):
        kind = edge_shift.dtype if isinstance(edge_shift, Tensor) else type(edge_shift).__name__
        raise TypeError(f"`edge_shift` must be an integer tensor [E, 3], numbers of cells, got {kind}")
    if edge_shift is not None and edge_shift.shape != (num_edges, 3):
        raise ValueError(
            f"`edge_shift` must have shape [{num_edges}, 3] like `edge_index`, got {list(edge_shift.shape)}"
        )
    if cell is not None and cell.shape != (batch_size, 3, 3):
        raise ValueError(
            f"`cell` must have shape [{batch_size}, 3, 3], a cell for each structure, got {list(cell.shape)}"
        )
    if edge_shift is None and pbc is not None and can_inspect(pbc) and bool(pbc.any()):
        raise ValueError(
            "`edge_shift` is missing: beside periodic axes `edge_index` alone does not tell which images interact; "
            "pass the graph's edge_shift [E, 3] too"
        )
    if not can_inspect(edge_index):
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
    """Check that no precomputed edge has length zero, where forces are not defined, or none at all.

    Args:
        edge_weight: Distances [E].
        edge_index: Source and target of each edge [2, E].

    Raises:
        ValueError: If one has.
    """
    if not can_inspect(edge_weight):
        return
    bad = ~((edge_weight > 0) & edge_weight.isfinite())
    if bad.any():
        edge = int(bad.nonzero()[0])
        j, i = edge_index[:, edge].tolist()
        if edge_weight[edge] == 0:
            raise ValueError(f"the edge {j} -> {i} has length zero, where forces are not defined; remove it or an atom")
        raise ValueError(
            f"the edge {j} -> {i} has length {float(edge_weight[edge])}: its `edge_shift` leads along a lattice vector "
            "of `cell` that is not finite; repair the cell or build the graph anew"
        )


def check_volume(cell: Tensor | None, needed: Tensor | None = None) -> None:
    """Check that the cells of structures span a volume, without which there is no stress.

    Args:
        cell: Lattice vectors as rows [B, 3, 3].
        needed: Structures whose stress is asked for [B] bool; ``None`` for all.

    Raises:
        ValueError: If the cell is missing or that of a structure spans no volume.
    """
    remedy = "pass three lattice vectors, or ask for virials, which need no cell"
    if cell is None:
        raise ValueError(
            f"stress is dE/dstrain per volume and needs a cell, expected `cell` [B, 3, 3], got none; {remedy}"
        )
    if not can_inspect(cell):
        return
    lengths = cell.detach().double().norm(dim=-1).prod(dim=-1)
    flat = ~(cell_volume(cell.detach()) > SMALLEST_RELATIVE_VOLUME * lengths)  # NaN and infinite cells too
    if needed is not None:
        flat = flat & needed
    if flat.any():
        structure = int(flat.nonzero()[0])
        raise ValueError(
            "stress is dE/dstrain per volume and needs a complete cell, expected three finite, linearly independent "
            f"lattice vectors for each structure, got {cell[structure].tolist()} for structure {structure}; {remedy}"
        )
