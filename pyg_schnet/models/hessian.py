"""Second derivatives of energies with respect to positions, by way of the vectors of pairs."""

from typing import Any

import torch
from torch import Tensor

from pyg_schnet.models.structures import Structures
from pyg_schnet.ops import edge_vectors, forces_from_edges, gradient


def hessians(energy: Tensor, edge_vec: Tensor, structures: Structures, differentiable: bool) -> list[Tensor]:
    """The Hessian of each structure, all structures at once: an atom and a direction of each in one backward pass.

    Args:
        energy: Energies [B].
        edge_vec: Vectors of the pairs that they come from [P, 3].
        structures: The structures, whose edges are known.
        differentiable: True if they are to be differentiable again.

    Returns:
        Hessians [n, 3, n, 3].
    """
    slope = gradient(energy, edge_vec, create_graph=True)  # [P, 3]
    batch, batch_size = structures.structure_of_atoms
    num_atoms = batch.size(0)
    count = torch.bincount(batch, minlength=batch_size)  # [B]
    number = torch.arange(num_atoms, device=batch.device) - (count.cumsum(0) - count)[batch]  # within its structure
    sizes = count.tolist()
    # all matrices one behind the other; `row` is where that of a coordinate begins
    length = 3 * count
    start = (length * length).cumsum(0) - length * length
    axes = torch.arange(3, device=batch.device)
    row = start[batch].unsqueeze(1) + (3 * number.unsqueeze(1) + axes) * length[batch].unsqueeze(1)  # [N, 3]
    flat = slope.new_zeros(sum(9 * size * size for size in sizes))
    for atom in range(max(sizes, default=0)):
        larger = (count[batch] > atom).nonzero().squeeze(1)
        for axis in range(3):
            vector = slope.new_zeros(num_atoms, 3)
            vector[number == atom, axis] = 1.0
            column = _product(slope, edge_vec, structures, vector, differentiable)
            flat[row[larger] + 3 * atom + axis] = column[larger]
    parts = flat.split([9 * size * size for size in sizes])
    return [part.view(size, 3, size, 3) for part, size in zip(parts, sizes, strict=True)]


def hessian_vector(
    energy: Tensor, edge_vec: Tensor, structures: Structures, vector: Tensor, differentiable: bool
) -> Tensor:
    """The Hessian times a displacement of every atom, without the Hessian.

    Args:
        energy: Energies [B].
        edge_vec: Vectors of the pairs that they come from [P, 3].
        structures: The structures, whose edges are known.
        vector: The displacement [N, 3].
        differentiable: True if it is to be differentiable again.

    Returns:
        The product [N, 3].
    """
    slope = gradient(energy, edge_vec, create_graph=True)
    return _product(slope, edge_vec, structures, vector, differentiable)


def check_vector(vector: Any, num_atoms: int, dtype: torch.dtype) -> None:
    """Check a displacement of every atom.

    Args:
        vector: The displacement.
        num_atoms: Number of atoms N.
        dtype: That of the positions.

    Raises:
        TypeError: If it is of another kind.
        ValueError: If it is not [N, 3].
    """
    if not isinstance(vector, Tensor) or vector.dtype != dtype:
        kind = vector.dtype if isinstance(vector, Tensor) else type(vector).__name__
        raise TypeError(f"`vector` must be a {dtype} tensor [N, 3] like `pos`, got {kind}")
    if vector.shape != (num_atoms, 3):
        raise ValueError(f"`vector` must have shape [{num_atoms}, 3] like `pos`, got {list(vector.shape)}")


def _product(slope: Tensor, edge_vec: Tensor, structures: Structures, vector: Tensor, differentiable: bool) -> Tensor:
    """The Hessian times a vector [N, 3], by way of the displacements of the pairs."""
    edges = structures.edges
    assert edges is not None
    moved = edge_vectors(vector, edges.pair_index)  # [P, 3]
    change = gradient(slope, edge_vec, moved, create_graph=differentiable, retain_graph=True)
    return -forces_from_edges(change, edges.pair_index, structures.batch.size(0))
