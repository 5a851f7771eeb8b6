"""The loss of the papers, its term for stresses, and losses that outliers pull less."""

from typing import Literal, get_args

import torch
from torch import Tensor

from pyg_schnet.segments import add_up
from pyg_schnet.training.weights import Weights

#: What becomes of a difference x, see :func:`energy_forces_loss`.
LossName = Literal["squared", "absolute", "huber"]


def check_loss(loss: str, huber_delta: float) -> None:
    """Refuse a loss that does not exist.

    Args:
        loss: Its name.
        huber_delta: Where a Huber loss becomes linear.

    Raises:
        ValueError: If it is not known, or ``huber_delta`` not positive.
    """
    if loss not in get_args(LossName):
        raise ValueError(f"unknown loss {loss!r}; expected one of {', '.join(map(repr, get_args(LossName)))}")
    if not huber_delta > 0:
        raise ValueError(f"`huber_delta` must be positive, got {huber_delta}")


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
    loss: LossName = "squared",
    huber_delta: float = 0.1,
    weights: Weights | None = None,
) -> Tensor:
    r"""Combined loss of energies, forces and, for crystals, stresses, averaged over the structures.

    .. math:: \ell = \rho\,\|E - \hat E\|^2 + \frac{1}{n} \sum_{i=1}^{n} \|F_i - \hat F_i\|^2
        + \rho_\sigma \|\sigma - \hat\sigma\|^2

    Schütt et al., J. Chem. Phys. 148, 241722 (2018), equation (5); n is the number of atoms of the structure. The last
    term, the squared Frobenius norm of the nine elements, is not in the paper. Errors of a stress are some tens of
    meV/Angstrom^3 where those of forces are some hundreds of meV/Angstrom, so that with :math:`\rho_\sigma` between
    10 and 1000 it counts as much as the forces. Labels that are not known (NaN) add nothing. The difference of energies
    is taken in the dtype they come in, so that float64 total energies lose nothing.

    ``"absolute"`` takes the differences instead of their squares, of forces and stresses their lengths, which do not
    depend on the axes: one outlier then pulls like any other structure. ``"huber"`` takes squares up to
    :math:`\delta` and :math:`2\delta|x| - \delta^2` beyond, so that it is the squared loss for small differences.

    Weights multiply the terms of a structure, and the forces of an atom; whatever they are, the sum is divided by the
    number of structures, so that weights of one change nothing.

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
        loss: ``"squared"``, as in the paper, ``"absolute"`` or ``"huber"``.
        huber_delta: Difference :math:`\delta` in eV, eV/Angstrom and eV/Angstrom^3 where a Huber loss becomes linear.
        weights: How much structures and atoms count, see :func:`~pyg_schnet.training.weights.weights_of`.

    Returns:
        The loss, a scalar in the dtype of the forces.

    Raises:
        ValueError: If targets do not have the shape of the predictions, or there is no such loss.

    Example:
        >>> zero, batch = torch.zeros(2, 3), torch.tensor([0, 0])
        >>> energy_forces_loss(torch.tensor([2.0]), zero + 1, torch.tensor([0.0]), zero, batch, rho=0.01)
        tensor(3.0400)
    """
    check_loss(loss, huber_delta)
    if energy_target.shape == (*energy.shape, 1):  # [1, 1] in each Data, a habit of PyG
        energy_target = energy_target.squeeze(-1)
    for name, target, value in (("energy", energy_target, energy), ("forces", forces_target, forces)):
        if target.shape != value.shape:
            raise ValueError(f"`{name}` of the data must have shape {list(value.shape)}, got {list(target.shape)}")
    weights = Weights() if weights is None else weights
    energy_error = _of_scalars(_difference(energy, energy_target).to(forces.dtype), loss, huber_delta)  # [B]
    forces_error = _of_vectors(_difference(forces, forces_target).to(forces.dtype), loss, huber_delta)  # [N]
    num_atoms = add_up(torch.ones_like(forces_error), batch, energy.size(0), ascending=True)
    forces_error = _weighted(forces_error, weights.atoms)
    per_structure = add_up(forces_error, batch, energy.size(0), ascending=True) / num_atoms.clamp(min=1)  # [B]
    per_structure = rho * _weighted(energy_error, weights.energy) + _weighted(per_structure, weights.forces)
    if stress is not None and stress_target is not None:
        stress_error = _of_vectors(_stress_difference(stress, stress_target), loss, huber_delta)
        per_structure = per_structure + rho_stress * _weighted(stress_error, weights.stress)
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
    return scalar_loss("squared", prediction, target, scale)


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
    return scalar_loss("absolute", prediction, target, scale)


def huber_loss(
    prediction: Tensor,
    target: Tensor,
    scale: Tensor | float = 1.0,
    delta: float = 1.0,
    weights: Tensor | None = None,
) -> Tensor:
    r"""Mean Huber loss of scalar properties: squared for small errors, linear for outliers.

    .. math:: \ell = \frac{1}{BC} \sum_{s,c} h\Big(\frac{P_{sc} - \hat P_{sc}}{\sigma_c}\Big), \quad
        h(x) = \begin{cases} x^2 & |x| \le \delta \\ 2\delta|x| - \delta^2 & |x| > \delta \end{cases}

    Args:
        prediction: Predicted properties [B] or [B, C].
        target: True properties of the same shape; values that are not known (NaN) add nothing.
        scale: Unit in which errors are measured, for each target [C].
        delta: Where it becomes linear, in this unit.
        weights: How much each structure counts [B].

    Returns:
        The loss, a scalar.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> huber_loss(torch.tensor([1.0, 5.0]), torch.tensor([1.5, 2.0]), delta=1.0)
        tensor(2.6250)
    """
    return scalar_loss("huber", prediction, target, scale, delta, weights)


def scalar_loss(
    loss: LossName,
    prediction: Tensor,
    target: Tensor,
    scale: Tensor | float = 1.0,
    huber_delta: float = 1.0,
    weights: Tensor | None = None,
) -> Tensor:
    """One of the losses of scalar properties by its name; arguments as in :func:`huber_loss`.

    Returns:
        The loss, a scalar.

    Raises:
        ValueError: If the shapes differ.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"`target` must have shape {list(prediction.shape)}, got {list(target.shape)}")
    errors = _of_scalars(_difference(prediction, target) / scale, loss, huber_delta)
    if weights is not None and errors.dim() == 2:
        weights = weights.unsqueeze(1)
    return _weighted(errors, weights).mean()


def _of_scalars(difference: Tensor, loss: str, delta: float) -> Tensor:
    if loss == "squared":
        return difference.square()
    size = difference.abs()
    return size if loss == "absolute" else _huber(size, delta)


def _of_vectors(difference: Tensor, loss: str, delta: float) -> Tensor:
    """That of the lengths of vectors or matrices, one for each row."""
    if loss == "squared":
        return difference.square().sum(dim=tuple(range(1, difference.dim())))
    size = difference.flatten(1).norm(dim=1)  # its gradient at zero is zero
    return size if loss == "absolute" else _huber(size, delta)


def _huber(size: Tensor, delta: float) -> Tensor:
    return torch.where(size <= delta, size.square(), 2 * delta * size - delta**2)


def _weighted(errors: Tensor, weights: Tensor | None) -> Tensor:
    return errors if weights is None else errors * weights.to(errors.dtype)


def _difference(prediction: Tensor, target: Tensor) -> Tensor:
    """Target less prediction, zero where the target is not known."""
    return torch.where(target.isnan(), 0.0, target - prediction)


def _stress_difference(stress: Tensor, target: Tensor) -> Tensor:
    """Differences [B, 3, 3], zero where there is no true stress."""
    if target.shape != stress.shape:
        raise ValueError(
            f"`stress_target` must have shape {list(stress.shape)}, [1, 3, 3] in each Data, got {list(target.shape)}"
        )
    known = known_stress(target).view(-1, 1, 1)
    # a predicted NaN, of a structure without volume, must not reach the gradient either
    return torch.where(known, target, 0.0).to(stress.dtype) - torch.where(known, stress, 0.0)


def known_stress(target: Tensor) -> Tensor:
    """Which structures have a true stress.

    Args:
        target: True stresses [B, 3, 3], NaN where there is none.

    Returns:
        True for each structure whose nine elements are finite [B].

    Example:
        >>> known_stress(torch.stack([torch.zeros(3, 3), torch.full((3, 3), torch.nan)]))
        tensor([ True, False])
    """
    return target.isfinite().flatten(1).all(1)
