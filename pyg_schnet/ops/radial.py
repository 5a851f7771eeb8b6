"""Radial basis functions: a distance as a vector."""

import torch
from torch import Tensor

#: Gaussians below e to this power, 4e-31, are zero.
NEGLIGIBLE_EXPONENT = -70.0


def gaussian_basis(distance: Tensor, centers: Tensor, gamma: float) -> Tensor:
    r"""Expand distances in Gaussians.

    .. math:: e_k(d) = \exp\left(-\gamma (d - \mu_k)^2\right)

    Schütt et al., J. Chem. Phys. 148, 241722 (2018), section II.D.1. The text prints the scale as
    :math:`0.1\,\mathrm{Å}^{-2}`; the authors' code evaluates :math:`\exp(-(d - \mu)^2 / 0.1)`, which is
    :math:`\gamma = 10\,\mathrm{Å}^{-2}`. We follow the code.

    Args:
        distance: Distances in Angstrom [E].
        centers: Centres :math:`\mu_k` in Angstrom [G].
        gamma: Inverse squared width in 1/Angstrom^2.

    Returns:
        The expanded distances [E, G].

    Example:
        >>> gaussian_basis(torch.tensor([1.0]), torch.tensor([0.0, 1.0]), gamma=10.0).round(decimals=6)
        tensor([[4.5000e-05, 1.0000e+00]])
    """
    exponent = -gamma * (distance.unsqueeze(-1) - centers).square()
    # exactly zero instead of denormal numbers, with which processors compute some ten times slower
    return torch.exp(exponent.masked_fill(exponent < NEGLIGIBLE_EXPONENT, -torch.inf))
