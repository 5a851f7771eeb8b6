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
    number = torch.arange(batch.size(0), device=batch.device)
    end = torch.bincount(batch, minlength=batch_size).cumsum(0)  # [B] one after the last atom of each structure
    after = end.index_select(0, batch) - number - 1  # [N] atoms of the structure after each atom
    i = number.repeat_interleave(after)
    j = torch.arange(i.size(0), device=i.device) + (number + 1 - (after.cumsum(0) - after)).index_select(0, i)
    x, y, z = (pos.index_select(0, j) - pos.index_select(0, i)).unbind(1)
    close = (x * x + y * y + z * z < limit).nonzero().squeeze(1)
    image = i.new_zeros(close.size(0), 3)
    return i.index_select(0, close), j.index_select(0, close), image, image
