"""One structure, as the studies of vibrations take it."""

from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from pyg_schnet.graph import check_structures


def single_structure(data: Any) -> Data:
    """A structure with nothing but its atoms and its cell, float64, on the CPU.

    Args:
        data: A ``Data`` with ``z`` [n], ``pos`` [n, 3] and, for crystals, ``cell`` [1, 3, 3] and ``pbc`` [1, 3]; edges
            and labels are left out, as they belong to these very positions. A ``Batch`` of one structure is one, too.

    Returns:
        ``z``, ``pos`` and, where there are periodic axes, ``cell`` and ``pbc``.

    Raises:
        TypeError: If it is no ``Data``, or atomic numbers are no integers.
        ValueError: If it holds no atom or several structures, or its tensors do not fit together.

    Example:
        >>> sorted(single_structure(Data(z=torch.tensor([1]), pos=torch.zeros(1, 3), y=torch.ones(1))).keys())
        ['pos', 'z']
    """
    if not isinstance(data, Data):
        hint = "; pyg_schnet.simulation.ase.atoms_to_data(atoms) makes one" if hasattr(data, "positions") else ""
        raise TypeError(f"`data` must be a Data of PyG with one structure, got {type(data).__name__}{hint}")
    if isinstance(data, Batch) and data.num_graphs != 1:
        raise ValueError(
            f"`data` holds {data.num_graphs} structures, expected one; take them one by one from data.to_data_list()"
        )
    for name in ("z", "pos"):
        if not isinstance(data.get(name), Tensor):
            raise ValueError(f"`data` must have `z` [n] and `pos` [n, 3]; `{name}` is missing")
    z, pos = data.z.detach().cpu(), data.pos.detach().cpu()
    check_structures(pos)
    if z.is_floating_point() or z.dtype == torch.bool:
        raise TypeError(f"`z` must be an integer tensor of atomic numbers [n], got {z.dtype}")
    if z.shape != pos.shape[:1]:
        raise ValueError(f"`z` must have shape [{pos.size(0)}] like `pos`, got {list(z.shape)}")
    if pos.size(0) == 0:
        raise ValueError("`data` holds no atom, expected at least one")
    own = Data(z=z.long(), pos=pos.double())
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
