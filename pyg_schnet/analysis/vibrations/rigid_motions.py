"""Motions of a structure as a whole, which cost no energy."""

import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.analysis.vibrations.single import periodic_axes

#: Radius of gyration about an axis below which a structure lies on that axis, beside the largest and beside 1 Angstrom.
_LINEAR = 1e-3


def rigid_motions(pos: Tensor, masses: Tensor, axis: Tensor | None = None, *, rotations: bool = True) -> Tensor:
    r"""Orthonormal translations and rotations in mass-weighted coordinates :math:`\sqrt{m_i}\, r_i`.

    .. math::
        t_{k, ia} = \sqrt{m_i}\, \delta_{ka}, \quad
        d_{k, i} = \sqrt{m_i}\; e_k \times (r_i - r_\mathrm{com})

    (E. B. Wilson, J. C. Decius and P. C. Cross, Molecular Vibrations, section 2-2.) There are six of them for a
    molecule, five for a linear one, which has no rotation about its own axis, and three for an atom.

    Args:
        pos: Positions in Angstrom [n, 3] float64.
        masses: Masses [n] in any unit.
        axis: The only axis about which the structure may turn [3], as a polymer does about its periodic axis; ``None``
            for all.
        rotations: True if there are rotations at all: crystals and slabs have none.

    Returns:
        Orthonormal rows [R, 3n], translations first.

    Example:
        >>> pos = torch.tensor([[0.0, 0, 0], [0.0, 0, 1.1]], dtype=torch.float64)
        >>> rigid_motions(pos, torch.ones(2, dtype=torch.float64)).shape
        torch.Size([5, 6])
    """
    root = masses.sqrt()
    directions = torch.eye(3, dtype=pos.dtype)
    translations = root.view(-1, 1, 1) * directions.unsqueeze(0) / masses.sum().sqrt()  # [n, 3 axes, 3]
    motions = translations.transpose(0, 1).reshape(3, -1)
    if not rotations:
        return motions
    centred = pos - (masses.unsqueeze(1) * pos).sum(0) / masses.sum()
    about = directions if axis is None else (axis / axis.norm()).unsqueeze(0)  # [K, 3]
    turns = torch.linalg.cross(about.unsqueeze(1), centred.unsqueeze(0).expand(len(about), -1, -1))  # [K, n, 3]
    _, size, turned = torch.linalg.svd((root.unsqueeze(1) * turns).flatten(1), full_matrices=False)
    gyration = size / masses.sum().sqrt()  # about each principal axis, in Angstrom
    turned = turned[gyration > _LINEAR * gyration.max().clamp(min=1.0)]
    return torch.cat([motions, turned])


def motions_of(structure: Data, masses: Tensor) -> Tensor:
    """The rigid motions that a structure has: none turns a lattice of two or three axes, one alone turns about itself.

    Args:
        structure: What :func:`~pyg_schnet.analysis.vibrations.single.single_structure` returned.
        masses: Masses [n].

    Returns:
        Orthonormal rows [R, 3n] of :func:`rigid_motions`.
    """
    periodic = periodic_axes(structure)
    if len(periodic) > 1:
        return rigid_motions(structure.pos, masses, rotations=False)
    return rigid_motions(structure.pos, masses, structure.cell[0, periodic[0]] if periodic else None)
