"""Radial basis functions: a distance as a vector."""

import math

import torch
from torch import Tensor

#: Gaussians below e to this power, 4e-31, are zero.
NEGLIGIBLE_EXPONENT = -70.0


def gaussian_basis(distance: Tensor, centers: Tensor, gamma: float | Tensor) -> Tensor:
    r"""Expand distances in Gaussians.

    .. math:: e_k(d) = \exp\left(-\gamma (d - \mu_k)^2\right)

    Schütt et al., J. Chem. Phys. 148, 241722 (2018), section II.D.1. The text prints the scale as
    :math:`0.1\,\mathrm{Å}^{-2}`; the authors' code evaluates :math:`\exp(-(d - \mu)^2 / 0.1)`, which is
    :math:`\gamma = 10\,\mathrm{Å}^{-2}`. We follow the code.

    Args:
        distance: Distances in Angstrom [E].
        centers: Centres :math:`\mu_k` in Angstrom [G].
        gamma: Inverse squared width in 1/Angstrom^2, one for all or one for each [G].

    Returns:
        The expanded distances [E, G].

    Example:
        >>> gaussian_basis(torch.tensor([1.0]), torch.tensor([0.0, 1.0]), gamma=10.0).round(decimals=6)
        tensor([[4.5000e-05, 1.0000e+00]])
    """
    exponent = -gamma * (distance.unsqueeze(-1) - centers).square()
    # exactly zero instead of denormal numbers, with which processors compute some ten times slower
    return torch.exp(exponent.masked_fill(exponent < NEGLIGIBLE_EXPONENT, -torch.inf))


def bessel_basis(distance: Tensor, frequencies: Tensor, cutoff: float) -> Tensor:
    r"""Expand distances in spherical Bessel functions of order zero.

    .. math:: e_k(d) = \sqrt{\frac{2}{r_\mathrm{cut}}}\, \frac{\sin(f_k d / r_\mathrm{cut})}{d}

    with :math:`f_k = k \pi` orthonormal inside the cutoff. Gasteiger et al., "Directional message passing for molecular
    graphs", ICLR 2020, equation (7). Not in the papers.

    Args:
        distance: Distances in Angstrom [E].
        frequencies: Frequencies :math:`f_k` [G].
        cutoff: Cutoff distance in Angstrom.

    Returns:
        The expanded distances [E, G], the limit :math:`\sqrt{2 / r_\mathrm{cut}}\, f_k / r_\mathrm{cut}` at zero.

    Example:
        >>> bessel_basis(torch.tensor([0.0, 1.0]), math.pi * torch.tensor([1.0, 3.0]), cutoff=2.0).round(decimals=4)
        tensor([[ 1.5708,  4.7124],
                [ 1.0000, -1.0000]])
    """
    k = frequencies / cutoff
    return math.sqrt(2.0 / cutoff) * k * torch.sinc(distance.unsqueeze(-1) * (k / math.pi))
