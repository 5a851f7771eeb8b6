r"""Thermodynamics of harmonic oscillators.

With :math:`x = \varepsilon / kT` for each oscillator of energy quantum :math:`\varepsilon = h \nu` (D. A. McQuarrie,
Statistical Mechanics, section 8-3):

.. math::
    U = \sum \varepsilon \Big(\frac12 + \frac1{e^x - 1}\Big), \quad
    C_V = k \sum \frac{x^2 e^x}{(e^x - 1)^2}, \quad
    S = k \sum \Big(\frac{x}{e^x - 1} - \ln(1 - e^{-x})\Big), \quad
    F = U - TS
"""

from typing import Any

import torch
from torch import Tensor

from pyg_schnet.units import BOLTZMANN


def internal_energy(quanta: Tensor, temperature: Any) -> Any:
    """Mean energy, zero-point energy included.

    Args:
        quanta: Energy quanta in eV [M], positive.
        temperature: Temperature in K, a number or several [...].

    Returns:
        Energy in eV: a float for a number, else a float64 tensor [...].

    Raises:
        ValueError: If a temperature is negative or not finite.

    Example:
        >>> round(internal_energy(torch.tensor([0.25, 0.5]), 0.0), 12)
        0.375
    """
    x = _reduced(quanta, temperature)
    return _like(temperature, (quanta.double() * (0.5 + _occupation(x))).sum(-1))


def heat_capacity(quanta: Tensor, temperature: Any) -> Any:
    """Heat capacity at constant volume.

    Args:
        quanta: Energy quanta in eV [M], positive.
        temperature: Temperature in K, a number or several [...].

    Returns:
        Heat capacity in eV/K, as of :func:`internal_energy`.

    Raises:
        ValueError: If a temperature is negative or not finite.
    """
    x = _reduced(quanta, temperature)
    occupation = _occupation(x)
    share = torch.where(occupation > 0, x.square() * occupation * (1 + occupation), 0.0)
    return _like(temperature, BOLTZMANN * share.sum(-1))


def entropy(quanta: Tensor, temperature: Any) -> Any:
    """Entropy.

    Args:
        quanta: Energy quanta in eV [M], positive.
        temperature: Temperature in K, a number or several [...].

    Returns:
        Entropy in eV/K, as of :func:`internal_energy`.

    Raises:
        ValueError: If a temperature is negative or not finite.
    """
    x = _reduced(quanta, temperature)
    occupation = _occupation(x)
    share = torch.where(occupation > 0, x * occupation - torch.log(-torch.expm1(-x)), 0.0)
    return _like(temperature, BOLTZMANN * share.sum(-1))


def free_energy(quanta: Tensor, temperature: Any) -> Any:
    """Helmholtz free energy, zero-point energy included.

    Args:
        quanta: Energy quanta in eV [M], positive.
        temperature: Temperature in K, a number or several [...].

    Returns:
        Energy in eV, as of :func:`internal_energy`.

    Raises:
        ValueError: If a temperature is negative or not finite.
    """
    held = temperature if isinstance(temperature, (int, float)) else _tensor(temperature)
    return internal_energy(quanta, temperature) - held * entropy(quanta, temperature)


def _tensor(temperature: Any) -> Tensor:
    return torch.as_tensor(temperature, dtype=torch.float64).detach().cpu()


def _reduced(quanta: Tensor, temperature: Any) -> Tensor:
    """Quanta in units of kT [..., M], infinite at 0 K."""
    kelvin = _tensor(temperature)
    if not bool((kelvin.isfinite() & (kelvin >= 0)).all()):
        raise ValueError(f"a temperature must be finite and not negative, in K, got {temperature}")
    return quanta.double() / (BOLTZMANN * kelvin.unsqueeze(-1))


def _occupation(x: Tensor) -> Tensor:
    """Mean number of quanta, 1 / (exp(x) - 1), without overflow."""
    return -torch.exp(-x) / torch.expm1(-x)


def _like(temperature: Any, value: Tensor) -> Any:
    return float(value) if isinstance(temperature, (int, float)) else value
