"""Repulsion of two nuclei behind their electrons, which depends on nothing but the elements and the distance."""

import torch
from torch import Tensor

from pyg_schnet.units import BOHR, HARTREE

#: Coulomb's constant times the square of the elementary charge, in eV Angstrom.
COULOMB = HARTREE * BOHR
#: The screening function as a sum of exponentials: weights, and how fast they decay.
SCREENING = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))
#: Screening length in Angstrom of two charges whose powers add up to one, and the exponent of these powers.
LENGTH, EXPONENT = 0.8854 * BOHR, 0.23
#: Exponent of :func:`~pyg_schnet.ops.polynomial_cutoff` by which a repulsion ends.
ENVELOPE = 6


def zbl_repulsion(distance: Tensor, first: Tensor, second: Tensor) -> Tensor:
    r"""Universal repulsion of Ziegler, Biersack and Littmark.

    .. math::
        E(d) &= \frac{e^2}{4 \pi \varepsilon_0} \frac{Z_i Z_j}{d}\, \phi(d / a), \quad
            a = \frac{0.8854\, a_0}{Z_i^{0.23} + Z_j^{0.23}} \\
        \phi(x) &= 0.18175\, e^{-3.1998 x} + 0.50986\, e^{-0.94229 x} + 0.28022\, e^{-0.4029 x}
            + 0.02817\, e^{-0.20162 x}

    Ziegler, Biersack and Littmark, "The Stopping and Range of Ions in Solids", Pergamon 1985, in the numbers that
    LAMMPS documents for its ``pair_style zbl``. It was fitted to calculated potentials of pairs of free atoms, for
    collisions, and knows nothing of bonds.

    Args:
        distance: Distances in Angstrom, any shape.
        first: Atomic numbers of the first atoms, as floating-point numbers of the same shape.
        second: Atomic numbers of the second atoms, likewise.

    Returns:
        Energies of the pairs in eV, the same shape.

    Example:
        >>> distance, carbon, oxygen = torch.tensor([0.5, 1.0]), torch.full((2,), 6.0), torch.full((2,), 8.0)
        >>> zbl_repulsion(distance, carbon, oxygen).round(decimals=1)
        tensor([151.5000,  18.9000])
    """
    x = distance * ((first**EXPONENT + second**EXPONENT) / LENGTH)
    screening = torch.zeros_like(x)
    for weight, decay in SCREENING:
        screening = screening + weight * torch.exp(-decay * x)
    return COULOMB * first * second / distance * screening
