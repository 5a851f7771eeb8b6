"""Cutoff functions: how a filter ends at the cutoff distance."""

import math

import torch
from torch import Tensor


def cosine_cutoff(distance: Tensor, cutoff: float) -> Tensor:
    r"""Cosine cutoff (Behler), exactly zero at and beyond the cutoff.

    .. math:: C(d) = \tfrac12 \left(\cos\frac{\pi d}{r_\mathrm{cut}} + 1\right) \text{ for } d < r_\mathrm{cut},
        \text{ else } 0

    Value and first derivative are continuous at the cutoff. Not in the papers of 2017 and 2018, which use no cutoff
    function; PyG and SchNetPack do (PyG without the second case).

    Args:
        distance: Distances in Angstrom, any shape.
        cutoff: Cutoff distance in Angstrom.

    Returns:
        Factors between 0 and 1, the same shape.

    Example:
        >>> cosine_cutoff(torch.tensor([0.0, 2.5, 5.0, 6.0]), cutoff=5.0)
        tensor([1.0000, 0.5000, 0.0000, 0.0000])
    """
    inside = 0.5 * (torch.cos(distance * (math.pi / cutoff)) + 1.0)
    return torch.where(distance < cutoff, inside, 0.0)
