"""Structures in the floating-point kind of a model."""

import copy

import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.datasets.rounding import NEAR
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
    pos = data.get("pos")
    if isinstance(pos, Tensor) and pos.dtype == torch.float64 and dtype != torch.float64:
        data = copy.copy(data)
        data["pos"] = _near(pos, data)
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


def _near(pos: Tensor, data: Data) -> Tensor:
    """Positions [N, 3] of structures that lie far from the origin moved near it, so that float32 keeps their digits."""
    count = getattr(data, "num_graphs", 1)
    batch = data.get("batch")
    batch = torch.zeros(len(pos), dtype=torch.long, device=pos.device) if batch is None else batch
    sizes = torch.zeros(count, 1, dtype=pos.dtype, device=pos.device).index_add(0, batch, torch.ones_like(pos[:, :1]))
    centre = torch.zeros(count, 3, dtype=pos.dtype, device=pos.device).index_add(0, batch, pos) / sizes.clamp(min=1)
    is_far = centre.abs().amax(1, keepdim=True) > NEAR
    return pos - torch.where(is_far, centre, 0.0)[batch]
