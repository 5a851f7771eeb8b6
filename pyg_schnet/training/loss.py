"""The loss of the papers."""

import torch
from torch import Tensor


def energy_forces_loss(
    energy: Tensor, forces: Tensor, energy_target: Tensor, forces_target: Tensor, batch: Tensor, rho: float
) -> Tensor:
    r"""Combined squared loss of energies and forces, averaged over the structures.

    .. math:: \ell = \rho\,\|E - \hat E\|^2 + \frac{1}{n} \sum_{i=1}^{n} \|F_i - \hat F_i\|^2

    Schütt et al., J. Chem. Phys. 148, 241722 (2018), equation (5); n is the number of atoms of the structure. The
    difference of energies is taken in the dtype they come in, so that float64 total energies lose nothing.

    Args:
        energy: Predicted energies [B].
        forces: Predicted forces [N, 3].
        energy_target: True energies [B].
        forces_target: True forces [N, 3].
        batch: Structure of each atom [N].
        rho: Trade-off between energies and forces; 0 trains on forces only.

    Returns:
        The loss, a scalar in the dtype of the forces.

    Example:
        >>> zero, batch = torch.zeros(2, 3), torch.tensor([0, 0])
        >>> energy_forces_loss(torch.tensor([2.0]), zero + 1, torch.tensor([0.0]), zero, batch, rho=0.01)
        tensor(3.0400)
    """
    energy_error = (energy_target - energy).to(forces.dtype)  # [B]
    forces_error = (forces_target - forces).square().sum(dim=1)  # [N]
    num_structures = energy.size(0)
    num_atoms = torch.zeros(num_structures, dtype=forces.dtype, device=forces.device)
    num_atoms = num_atoms.index_add(0, batch, torch.ones_like(forces_error))
    per_structure = torch.zeros_like(num_atoms).index_add(0, batch, forces_error) / num_atoms.clamp(min=1)  # [B]
    return (rho * energy_error.square() + per_structure).mean()
