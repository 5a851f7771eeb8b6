"""What compiled loops can read: plain numbers in the memory of a CPU or of a GPU."""

from typing import Any

import torch
from torch import Tensor

from pyg_schnet.compat import in_transform, is_batched, is_transformed

#: Kinds of numbers that compiled loops know.
LOOPED = (torch.float32, torch.float64)


def is_plain(tensor: Any, weight: bool = False, device: str = "cpu") -> bool:
    """True for a tensor in memory that compiled loops can read.

    May its values be looked at now? That is another question, see :func:`has_numbers`.

    Args:
        tensor: Anything.
        weight: True if it may be a parameter of a module, too.
        device: Kind of device whose memory it has to be in.

    Returns:
        False for subclasses of a tensor, which may mean something else; for those without memory, as compilers and
        transforms of ``torch.func`` have them; for other numbers than float32 and float64; and for those elsewhere.

    Example:
        >>> is_plain(torch.zeros(2)), is_plain(torch.zeros(2).long()), is_plain(torch.nn.Parameter(torch.zeros(2)))
        (True, False, False)
    """
    kind = type(tensor) if not torch.compiler.is_compiling() else None
    if not (kind is Tensor or (weight and kind is torch.nn.Parameter)) or tensor.dtype not in LOOPED:
        return False
    here = tensor.is_cpu if device == "cpu" else tensor.device.type == device
    return here and not is_transformed(tensor)


def has_numbers(tensor: Tensor) -> bool:
    """True if a plain tensor stands for its numbers, and for nothing else.

    Args:
        tensor: A plain tensor.

    Returns:
        False inside of transforms of ``torch.func``, for one that stands for many at once, and for one with a forward
        derivative, which loops would forget.
    """
    if in_transform() or is_batched(tensor):
        return False
    return torch.autograd.forward_ad.unpack_dual(tensor).tangent is None
