"""The matrix of all distances: the search for a few atoms of open structures, in a handful of numpy's operations.

Each takes about a microsecond, several times less than one of torch, and as many are needed as elsewhere.
"""

import numpy as np
import torch
from torch import Tensor

from pyg_schnet.graph.edges import SAME_PLACE_SQUARED, Graph, same_place
from pyg_schnet.graph.lattice import Lattice
from pyg_schnet.graph.search import candidate_pairs
from pyg_schnet.sizes import SIZES


def matrix_graph(
    pos: Tensor, cutoff: float, batch: Tensor, batch_size: int, lattice: Lattice | None
) -> Graph | tuple[Tensor, Tensor, Tensor, Tensor]:
    """All pairs of atoms closer than the cutoff, by the exact rule of :func:`pyg_schnet.radius_graph`.

    Args:
        pos: Positions in Angstrom [N, 3] float64, on a CPU.
        cutoff: Cutoff distance in Angstrom.
        batch: Structure of each atom [N], sorted.
        batch_size: Number of structures.
        lattice: ``None``: all structures are open.

    Returns:
        The graph; of more atoms than ``SIZES.matrix_up_to`` the result of
        :func:`pyg_schnet.graph.search.candidate_pairs`.

    Raises:
        ValueError: If two atoms are at the same place.

    Example:
        >>> pos = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [5.0, 0, 0]], dtype=torch.float64)
        >>> matrix_graph(pos, 2.0, torch.zeros(3, dtype=torch.long), 1, None).edge_index
        tensor([[1, 0],
                [0, 1]])
    """
    atoms = pos.size(0)
    if atoms > SIZES.matrix_up_to:
        return candidate_pairs(pos, cutoff, batch, batch_size, lattice)
    x, y, z = pos.numpy().T[:, None, :] - pos.numpy().T[:, :, None]  # [N, N] from target i, the row, to source j
    squared = x * x + y * y + z * z
    close = squared < cutoff * cutoff
    close.flat[:: atoms + 1] = False
    if batch_size > 1:
        close &= batch.numpy()[:, None] == batch.numpy()
    target, source = close.nonzero()
    if (squared[target, source] < SAME_PLACE_SQUARED).any():
        one, other = np.argwhere(close & (squared < SAME_PLACE_SQUARED))[0].tolist()
        raise ValueError(same_place(one, other, pos))
    edges = len(target)
    number = np.empty((atoms, atoms), np.int64)
    number[target, source] = np.arange(edges)
    rowptr = np.zeros(atoms + 1, np.int64)
    close.sum(1).cumsum(out=rowptr[1:])
    arrays = np.stack([source, target]), np.zeros((edges, 3), np.int64), rowptr, number[source, target]
    return Graph(*map(torch.from_numpy, arrays))
