"""One structure, as the studies of vibrations take it."""

from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.analysis.molecule import atoms_of


def single_structure(data: Any) -> Data:
    """A structure with nothing but its atoms and its cell, float64, on the CPU.

    Args:
        data: A ``Data`` with ``z`` [n], ``pos`` [n, 3] and, for crystals, ``cell`` [1, 3, 3] and ``pbc`` [1, 3]; edges
            and labels are left out, as they belong to these very positions. A ``Batch`` of one structure is one, too.

    Returns:
        ``z``, ``pos`` and, where there are periodic axes, ``cell`` and ``pbc``.

    Raises:
        TypeError, ValueError: As :func:`~pyg_schnet.analysis.molecule.atoms_of`, or if cell and axes are no tensors of
            their shapes.

    Example:
        >>> sorted(single_structure(Data(z=torch.tensor([1]), pos=torch.zeros(1, 3), y=torch.ones(1))).keys())
        ['pos', 'z']
    """
    z, pos = atoms_of(data)
    own = Data(z=z, pos=pos)
    for name, shape, dtype in (("cell", (1, 3, 3), torch.float64), ("pbc", (1, 3), torch.bool)):
        value = data.get(name)
        if isinstance(value, Tensor):
            if value.numel() != torch.Size(shape).numel():
                raise ValueError(f"`{name}` of a structure must have shape {list(shape)}, got {list(value.shape)}")
            own[name] = value.detach().cpu().to(dtype).view(shape)
    return own


def periodic_axes(data: Data) -> list[int]:
    """Numbers of the periodic axes of one structure.

    Args:
        data: What :func:`single_structure` returned.

    Returns:
        Those of 0, 1 and 2 along which it repeats.
    """
    pbc = data.get("pbc")
    return [] if pbc is None else [axis for axis in range(3) if bool(pbc[0, axis])]
