"""Derivatives of the energy."""

import torch
from torch import Tensor


def forces_from_energy(energy: Tensor, pos: Tensor, create_graph: bool = False) -> Tensor:
    r"""Forces on the atoms, the negative gradient of the energy.

    .. math:: F_i = -\frac{\partial E}{\partial r_i}

    Schütt et al., J. Chem. Phys. 148, 241722 (2018), equation (4).

    Args:
        energy: Energies in eV, any shape, computed from ``pos``.
        pos: Positions in Angstrom [N, 3] that require gradients.
        create_graph: Whether the forces shall be differentiable again, as training on forces needs it.

    Returns:
        Forces in eV/Angstrom [N, 3]; zero where the energy does not depend on an atom.

    Example:
        >>> pos = torch.tensor([[0.0, 0.0, 2.0]], requires_grad=True)
        >>> forces_from_energy(pos.square().sum(), pos)
        tensor([[-0., -0., -4.]])
    """
    if not energy.requires_grad:  # no pair in the whole batch: the energy does not depend on positions
        return torch.zeros_like(pos)
    (gradient,) = torch.autograd.grad(energy.sum(), pos, create_graph=create_graph, allow_unused=True)
    return torch.zeros_like(pos) if gradient is None else -gradient
