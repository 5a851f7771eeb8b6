"""The loss of the papers, and its term for stresses."""

from collections.abc import Callable

import torch
from torch import Tensor


def energy_forces_loss(
    energy: Tensor,
    forces: Tensor,
    energy_target: Tensor,
    forces_target: Tensor,
    batch: Tensor,
    rho: float,
    *,
    stress: Tensor | None = None,
    stress_target: Tensor | None = None,
    rho_stress: float = 0.0,
) -> Tensor:
    r"""Combined squared loss of energies, forces and, for crystals, stresses, averaged over the structures.

    .. math:: \ell = \rho\,\|E - \hat E\|^2 + \frac{1}{n} \sum_{i=1}^{n} \|F_i - \hat F_i\|^2
        + \rho_\sigma \|\sigma - \hat\sigma\|^2

    Schütt et al., J. Chem. Phys. 148, 241722 (2018), equation (5); n is the number of atoms of the structure. The last
    term, the squared Frobenius norm of the nine elements, is not in the paper. Errors of a stress are some tens of
    meV/Angstrom^3 where those of forces are some hundreds of meV/Angstrom, so that with :math:`\rho_\sigma` between
    10 and 1000 it counts as much as the forces. Labels that are not known (NaN) add nothing. The difference of energies
    is taken in the dtype they come in, so that float64 total energies lose nothing.

    Args:
        energy: Predicted energies [B].
        forces: Predicted forces [N, 3].
        energy_target: True energies [B] or [B, 1].
        forces_target: True forces [N, 3].
        batch: Structure of each atom [N].
        rho: Trade-off between energies and forces; 0 trains on forces only.
        stress: Predicted stresses [B, 3, 3].
        stress_target: True stresses [B, 3, 3], NaN where there is none; ``None`` for no term of stresses.
        rho_stress: Weight of the stresses in Angstrom^4, the forces having weight 1.

    Returns:
        The loss, a scalar in the dtype of the forces.

    Raises:
        ValueError: If targets do not have the shape of the predictions.

    Example:
        >>> zero, batch = torch.zeros(2, 3), torch.tensor([0, 0])
        >>> energy_forces_loss(torch.tensor([2.0]), zero + 1, torch.tensor([0.0]), zero, batch, rho=0.01)
        tensor(3.0400)
    """
    if energy_target.shape == (*energy.shape, 1):  # [1, 1] in each Data, a habit of PyG
        energy_target = energy_target.squeeze(-1)
    for name, target, value in (("energy", energy_target, energy), ("forces", forces_target, forces)):
        if target.shape != value.shape:
            raise ValueError(f"`{name}` of the data must have shape {list(value.shape)}, got {list(target.shape)}")
    energy_error = _difference(energy, energy_target).to(forces.dtype)  # [B]
    forces_error = _difference(forces, forces_target).square().sum(dim=1)  # [N]
    num_structures = energy.size(0)
    num_atoms = torch.zeros(num_structures, dtype=forces.dtype, device=forces.device)
    num_atoms = num_atoms.index_add(0, batch, torch.ones_like(forces_error))
    per_structure = torch.zeros_like(num_atoms).index_add(0, batch, forces_error) / num_atoms.clamp(min=1)  # [B]
    per_structure = rho * energy_error.square() + per_structure
    if stress is not None and stress_target is not None:
        per_structure = per_structure + rho_stress * _stress_error(stress, stress_target)
    return per_structure.mean()


def squared_loss(prediction: Tensor, target: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    r"""Mean squared error of scalar properties.

    .. math:: \ell = \frac{1}{BC} \sum_{s,c} \Big( \frac{P_{sc} - \hat P_{sc}}{\sigma_c} \Big)^2

    The squared loss of Schütt et al., J. Chem. Phys. 148, 241722 (2018), section II.F. Values that are not known (NaN)
    add nothing.

    Args:
        prediction: Predicted properties [B] or [B, C].
        target: True properties of the same shape.
        scale: Unit in which errors are measured, for each target [C]: one that is alone does not need it.

    Returns:
        The loss, a scalar.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> squared_loss(torch.tensor([1.0, 5.0]), torch.tensor([3.0, torch.nan]))
        tensor(2.)
    """
    return _scaled_difference(prediction, target, scale).square().mean()


def absolute_loss(prediction: Tensor, target: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    r"""Mean absolute error of scalar properties, in which the few examples that fit badly count less.

    .. math:: \ell = \frac{1}{BC} \sum_{s,c} \Big| \frac{P_{sc} - \hat P_{sc}}{\sigma_c} \Big|

    Not in the papers, whose tables nevertheless report this error. Values that are not known (NaN) add nothing.

    Args:
        prediction: Predicted properties [B] or [B, C].
        target: True properties of the same shape.
        scale: Unit in which errors are measured, for each target [C].

    Returns:
        The loss, a scalar.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> absolute_loss(torch.tensor([1.0, 5.0]), torch.tensor([3.0, torch.nan]))
        tensor(1.)
    """
    return _scaled_difference(prediction, target, scale).abs().mean()


#: Losses of scalar properties by name.
PROPERTY_LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor | float], Tensor]] = {
    "squared": squared_loss,
    "absolute": absolute_loss,
}


def _scaled_difference(prediction: Tensor, target: Tensor, scale: Tensor | float) -> Tensor:
    if prediction.shape != target.shape:
        raise ValueError(f"`target` must have shape {list(prediction.shape)}, got {list(target.shape)}")
    return _difference(prediction, target) / scale


def _difference(prediction: Tensor, target: Tensor) -> Tensor:
    """Target less prediction, zero where the target is not known."""
    return torch.where(target.isnan(), 0.0, target - prediction)


def _stress_error(stress: Tensor, target: Tensor) -> Tensor:
    """Squared norm of the differences [B], zero where there is no true stress."""
    if target.shape != stress.shape:
        raise ValueError(
            f"`stress_target` must have shape {list(stress.shape)}, [1, 3, 3] in each Data, got {list(target.shape)}"
        )
    known = known_stress(target).view(-1, 1, 1)
    # a predicted NaN, of a structure without volume, must not reach the gradient either
    difference = torch.where(known, target, 0.0).to(stress.dtype) - torch.where(known, stress, 0.0)
    return difference.square().sum(dim=(1, 2))


def known_stress(target: Tensor) -> Tensor:
    """Which structures have a true stress.

    Args:
        target: True stresses [B, 3, 3], NaN where there is none.

    Returns:
        Whether all nine elements are finite [B].

    Example:
        >>> known_stress(torch.stack([torch.zeros(3, 3), torch.full((3, 3), torch.nan)]))
        tensor([ True, False])
    """
    return target.isfinite().flatten(1).all(1)
