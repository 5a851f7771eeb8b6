"""All pairs: the search for batches of small open structures, where bins would cost more than they save."""

import torch
from torch import Tensor


def num_pairs(batch: Tensor, batch_size: int) -> int:
    """Number of pairs of atoms of the same structure.

    Args:
        batch: Structure of each atom [N].
        batch_size: Number of structures.

    Returns:
        The sum of n (n - 1) / 2 over the structures.

    Example:
        >>> num_pairs(torch.tensor([0, 0, 0, 1]), 2)
        3
    """
    atoms = torch.bincount(batch, minlength=batch_size)
    return int((atoms * (atoms - 1)).sum()) // 2


def all_pairs(pos: Tensor, limit: float, batch: Tensor, batch_size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pairs of atoms of open structures up to a squared distance, each pair once.

    Args:
        pos: Positions in Angstrom [N, 3].
        limit: Square of the largest distance in Angstrom^2.
        batch: Structure of each atom [N], sorted.
        batch_size: Number of structures.

    Returns:
        Target i [P], source j > i [P], and twice the image of j [P, 3], zero in open structures.

    Example:
        >>> pos, batch = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [5.0, 0, 0]]), torch.zeros(3, dtype=torch.long)
        >>> all_pairs(pos, 4.0, batch, 1)[:2]
        (tensor([0]), tensor([1]))
    """
    i, j = every_pair(batch, num_pairs(batch, batch_size))
    x, y, z = (pos.index_select(0, j) - pos.index_select(0, i)).unbind(1)
    close = (x * x + y * y + z * z < limit).nonzero().squeeze(1)
    image = i.new_zeros(close.size(0), 3)
    return i.index_select(0, close), j.index_select(0, close), image, image


def every_pair(batch: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Each pair of atoms of the same structure, once.

    Args:
        batch: Structure of each atom [N], sorted.
        number: How many there are, see :func:`num_pairs`.

    Returns:
        Atom i [P], ascending, and j > i [P].

    Example:
        >>> every_pair(torch.tensor([0, 0, 0, 1]), 3)
        (tensor([0, 0, 1]), tensor([1, 2, 2]))
    """
    end = torch.searchsorted(batch, batch, right=True)  # [N] one after the last atom of the structure of each atom
    after = end - torch.arange(1, batch.size(0) + 1, device=batch.device)  # atoms of the structure after each atom
    i = torch.repeat_interleave(after, output_size=number)
    return i, torch.arange(number, device=batch.device) + (end - after.cumsum(0)).index_select(0, i)
