"""What path integrals give for harmonic oscillators, in closed form: how many beads a molecule needs."""

import math
from typing import Any

import torch
from torch import Tensor

from pyg_schnet.analysis.checks import count, positive
from pyg_schnet.units import BOLTZMANN


def harmonic_energy(quanta: Any, temperature: float, beads: int, *, perturbed: bool = False) -> float:
    r"""Mean energy of quantum harmonic oscillators by a path integral of P beads, without errors of sampling.

    With :math:`u = \beta \hbar \omega / P` and :math:`\lambda_k = 4 \sin^2(\pi k / P)` the plain path integral has

    .. math:: \beta E = \sum_{k=0}^{P-1} \frac{u^2}{\lambda_k + u^2}

    for each oscillator, half of it kinetic and half potential (K. S. Schweizer, R. M. Stratt, D. Chandler and P. G.
    Wolynes, J. Chem. Phys. 75, 1347 (1981)), and the perturbed one, as
    :math:`\langle \delta \rangle = \frac{1}{24} \sum_k u^4 / (\lambda_k + u^2)`,

    .. math:: \beta E + \frac{1}{12} \sum_k \Big( \frac{2 u^4}{\lambda_k + u^2} - \frac{u^6}{(\lambda_k + u^2)^2} \Big)

    Both tend to :math:`\frac{\hbar \omega}{2} \coth \frac{\beta \hbar \omega}{2}`, with errors of the order
    :math:`P^{-2}` and :math:`P^{-4}`.

    Args:
        quanta: Energy quanta in eV [M], for example :attr:`NormalModes.quanta`.
        temperature: In K.
        beads: Number of beads.
        perturbed: True if it is the perturbed path integral.

    Returns:
        Energy in eV, summed over the oscillators.

    Raises:
        TypeError: If a number is of another kind.
        ValueError: If a quantum or the temperature is not positive, or there is no bead.

    Example:
        >>> [round(harmonic_energy([0.2], 300.0, beads), 4) for beads in (1, 8, 1000)]  # half a quantum is 0.1 eV
        [0.0259, 0.0901, 0.1001]
        >>> round(harmonic_energy([0.2], 300.0, 8, perturbed=True), 4)
        0.1
    """
    kt, beads = BOLTZMANN * positive("temperature", temperature, "in K"), count("beads", beads)
    steps = torch.as_tensor(quanta, dtype=torch.float64).detach().cpu().reshape(-1, 1) / (kt * beads)  # [M, 1]
    if not bool((steps.isfinite() & (steps > 0)).all()):
        raise ValueError("`quanta` must be positive and finite, in eV; leave rigid motions and imaginary modes out")
    square = steps.square()
    share = square / (4 * torch.sin(math.pi * torch.arange(beads, dtype=torch.float64) / beads).square() + square)
    energy: Tensor = share.sum()
    if perturbed:
        energy = energy + (square * (2 * share - share.square())).sum() / 12
    return kt * float(energy)
