"""Short lattice vectors in place of very skewed ones, whose images a search could not even count."""

import itertools

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from pyg_schnet.graph.lattice import Lattice

#: Lattices with a vector longer than so many times its height above the other two are reduced.
MOST_SKEWED = 100
#: Vectors are exchanged only for ones shorter by more than rounding; and not for ever.
SHORTER, MOST_STEPS = 1 - 1e-9, 1000


def reduced(lattice: Lattice) -> tuple[Lattice, Tensor] | None:
    """The same lattices with short vectors, where they are very skewed.

    Args:
        lattice: Lattices of a batch.

    Returns:
        The reduced lattices and integer matrices [B, 3, 3] that turn the old vectors into the new ones,
        ``new = matrix @ old``; ``None`` if there is nothing to do.

    Example:
        >>> from pyg_schnet.graph.lattice import lattice_of
        >>> cell = torch.tensor([[[3.0, 0, 0], [90000.0, 3, 0], [0, 0, 3]]])
        >>> short, matrix = reduced(lattice_of(cell, torch.ones(1, 3, dtype=torch.bool), 1, cell.device))
        >>> matrix[0, 1], short.height[0]
        (tensor([-30000,      1,      0]), tensor([3., 3., 3.], dtype=torch.float64))
    """
    skewed = (lattice.cell.norm(dim=2) > MOST_SKEWED * lattice.height).any(dim=1)  # [B], never of open axes alone
    if not skewed.any():
        return None
    cell, pbc = lattice.cell.cpu().numpy().copy(), lattice.pbc.cpu().numpy()
    matrix = np.tile(np.eye(3, dtype=np.int64), (len(cell), 1, 1))
    for structure in skewed.nonzero().squeeze(1).tolist():
        cell[structure], matrix[structure] = shortest(cell[structure], np.flatnonzero(pbc[structure]).tolist())
    full = torch.from_numpy(cell).to(lattice.cell.device)
    inverse = torch.linalg.inv(full)
    short = Lattice(full, inverse, lattice.pbc, 1.0 / inverse.norm(dim=1))
    return short, torch.from_numpy(matrix).to(lattice.cell.device)


def in_old_vectors(shift: Tensor, matrix: Tensor) -> Tensor:
    """Shifts [P, 3] in the vectors before a reduction, from those after it and the matrix of each [P, 3, 3]."""
    return (shift.unsqueeze(-1) * matrix).sum(dim=1)


def shortest(cell: ndarray, axes: list[int]) -> tuple[ndarray, ndarray]:
    """Vectors of one lattice of which none gets shorter by adding others.

    Args:
        cell: Lattice vectors as rows [3, 3].
        axes: Those that may be exchanged, the periodic ones.

    Returns:
        The short vectors [3, 3] and their integer coordinates in the old ones [3, 3].

    Example:
        >>> shortest(np.array([[3.0, 0, 0], [7.0, 3, 0], [0, 0, 3]]), [0, 1, 2])[0][1].tolist()
        [1.0, 3.0, 0.0]
    """
    vectors, matrix = cell.astype(np.longdouble), np.eye(3, dtype=np.int64)
    for _ in range(MOST_STEPS):
        shorter = False
        for axis in axes:
            others = [other for other in axes if other != axis]
            for factors in _attempts(vectors, axis, others):  # the first ones may make later ones useless
                new = vectors[axis] + factors @ vectors
                if new @ new < SHORTER * (vectors[axis] @ vectors[axis]):
                    vectors[axis], shorter = new, True
                    matrix[axis] += factors @ matrix
        if not shorter:
            break
    return vectors.astype(np.float64), matrix


def _attempts(vectors: ndarray, axis: int, others: list[int]) -> list[ndarray]:
    """What to add to a vector: the best multiple of each other one, and each combination of two."""
    unit, steps = np.eye(3, dtype=np.int64), []
    for other in others:
        projection = vectors[axis] @ vectors[other] / (vectors[other] @ vectors[other])
        steps.append(-int(np.rint(projection)) * unit[other])
    if len(others) == 2:
        steps += [unit[others].T @ signs for signs in itertools.product([-1, 1], repeat=2)]
    return steps
