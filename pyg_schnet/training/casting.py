"""Structures in the floating-point kind of a model."""

import copy

from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.models import AtomisticModel


def in_dtype_of(model: AtomisticModel, data: Data) -> Data:
    """Positions and cells in the dtype of a model, whatever they are stored in; labels stay as they are.

    Args:
        model: The model.
        data: Structures.

    Returns:
        The same structures if nothing has to change, otherwise a shallow copy.

    Example:
        >>> import torch
        >>> from pyg_schnet import SchNet
        >>> data = Data(pos=torch.zeros(1, 3), energy=torch.zeros(1))
        >>> moved = in_dtype_of(SchNet(4, 4, 1).double(), data)
        >>> moved.pos.dtype, moved.energy.dtype, data.pos.dtype
        (torch.float64, torch.float32, torch.float32)
    """
    dtype = model.embedding.weight.dtype
    changed = {
        name: value.to(dtype)
        for name in ("pos", "cell")
        if isinstance(value := data.get(name), Tensor) and value.is_floating_point() and value.dtype != dtype
    }
    if not changed:
        return data
    data = copy.copy(data)
    for name, value in changed.items():
        data[name] = value
    return data
