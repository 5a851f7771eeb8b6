"""The continuous-filter convolution as a pure function."""

from torch import Tensor

from pyg_schnet.segments import add_up, in_segments, take


def cfconv(x: Tensor, w: Tensor, edge_index: Tensor, num_targets: int) -> Tensor:
    r"""Continuous-filter convolution: every target atom sums its neighbours' features times the pair's filter.

    .. math:: x_i' = \sum_{j \in \mathcal N(i)} x_j \circ W(d_{ij})

    Schütt et al., J. Chem. Phys. 148, 241722 (2018), equation (3).

    Args:
        x: Features of the source atoms [N, F].
        w: Filter of each edge [E, F].
        edge_index: Row 0 the source j, row 1 the target i [2, E].
        num_targets: Number of target atoms.

    Returns:
        The convolved features [num_targets, F].

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0], [2.0], [4.0]])
        >>> cfconv(x, torch.tensor([[10.0], [1.0]]), torch.tensor([[1, 2], [0, 0]]), 3).flatten()
        tensor([24.,  0.,  0.])
    """
    source, target = edge_index[0], edge_index[1]
    if in_segments(x):
        return add_up(take(x, source) * w, target, num_targets)
    message = x.index_select(0, source) * w  # [E, F]
    return message.new_zeros(num_targets, message.size(1)).index_add_(0, target, message)
