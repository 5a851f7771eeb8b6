r"""What one configuration of a ring polymer says: estimators of the primitive path integral, and its perturbation.

P beads :math:`x_k` at the temperature :math:`1 / (k_B \beta)`, with ring closure :math:`x_{P+1} = x_1`, have the
density :math:`e^{-S}` of the action

.. math::
    S = \frac{P}{2 \beta \hbar^2} \sum_{k,i} m_i |x_{k+1,i} - x_{k,i}|^2 + \frac{\beta}{P} \sum_k V(x_k)

The next term of the expansion of its imaginary-time step :math:`\beta / P`, that of Takahashi and Imada, adds

.. math:: \delta = \frac{\hbar^2 \beta^3}{24 P^3} \sum_{k,i} \frac{|f_{k,i}|^2}{m_i}

where :math:`f = -\partial V / \partial x`; with :math:`S + \delta` averages converge as :math:`P^{-4}`, without as
:math:`P^{-2}`. **Perturbed path integrals** (I. Poltavsky and A. Tkatchenko, Chem. Sci. 7, 1368 (2016)) take it into
account to first order, :math:`\ln Z \approx \ln Z_P - \langle \delta \rangle`, on average over an ordinary simulation;
what is left is of order :math:`P^{-4}`, too.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyg_schnet.units import BOLTZMANN, SPRING_QUANTUM


class RingPolymer(NamedTuple):
    """All beads at one time, in the order of the ring.

    Attributes:
        positions: In Angstrom [P, n, 3].
        energies: Potential energy of each bead in eV [P].
        forces: In eV/Angstrom [P, n, 3].
    """

    positions: NDArray
    energies: NDArray
    forces: NDArray


def primitive_kinetic_energy(positions: NDArray, masses: NDArray, temperature: float) -> float:
    r"""The primitive, also called thermodynamic, estimator of the kinetic energy.

    .. math:: \frac{3nP}{2\beta} - \frac{P}{2 \beta^2 \hbar^2} \sum_{k,i} m_i |x_{k+1,i} - x_{k,i}|^2

    (J. A. Barker, J. Chem. Phys. 70, 2914 (1979)). Its variance grows with P.

    Args:
        positions: In Angstrom [P, n, 3].
        masses: In u [n].
        temperature: In K.

    Returns:
        The estimate in eV.

    Example:
        >>> round(primitive_kinetic_energy(np.zeros((1, 2, 3)), np.ones(2), 300.0), 6)  # one bead: 3/2 kT for each atom
        0.077556
    """
    beads, atoms = positions.shape[:2]
    kt = BOLTZMANN * temperature
    squares = np.square(positions - np.roll(positions, 1, axis=0)).sum(axis=(0, 2))
    return float(1.5 * atoms * beads * kt - beads * kt**2 / (2 * SPRING_QUANTUM**2) * (masses * squares).sum())


def virial_kinetic_energy(positions: NDArray, forces: NDArray, temperature: float) -> float:
    r"""The centroid virial estimator of the kinetic energy, with the same mean and less variance.

    .. math:: \frac{3n}{2\beta} - \frac{1}{2P} \sum_{k,i} (x_{k,i} - \bar x_i) \cdot f_{k,i}

    (M. F. Herman, E. J. Bruskin and B. J. Berne, J. Chem. Phys. 76, 5150 (1982)).

    Args:
        positions: In Angstrom [P, n, 3].
        forces: In eV/Angstrom [P, n, 3].
        temperature: In K.

    Returns:
        The estimate in eV.

    Example:
        >>> round(virial_kinetic_energy(np.ones((1, 2, 3)), np.ones((1, 2, 3)), 300.0), 6)
        0.077556
    """
    beads, atoms = positions.shape[:2]
    arms = positions - positions.mean(axis=0)
    return float(1.5 * atoms * BOLTZMANN * temperature - (arms * forces).sum() / (2 * beads))


def gyration(positions: NDArray) -> NDArray:
    r"""Mean squared radius of gyration of each atom's ring, how far its nucleus is delocalised.

    .. math:: \frac{1}{P} \sum_k |x_{k,i} - \bar x_i|^2

    Args:
        positions: In Angstrom [P, n, 3].

    Returns:
        In Angstrom^2 [n].

    Example:
        >>> gyration(np.array([[[0.0, 0, 0]], [[0, 0, 2]]]))
        array([1.])
    """
    squares: NDArray = np.square(positions - positions.mean(axis=0)).sum(axis=2).mean(axis=0)
    return squares


def perturbation(forces: NDArray, masses: NDArray, temperature: float) -> float:
    r"""What the perturbation adds to the action, the :math:`\delta` above.

    Args:
        forces: In eV/Angstrom [P, n, 3].
        masses: In u [n].
        temperature: In K.

    Returns:
        A number without a unit. Where it varies by more than about one, first order is not enough: take more beads.

    Example:
        >>> round(perturbation(np.ones((4, 1, 3)), np.array([12.0]), 300.0), 5)
        0.15751
    """
    beads = len(forces)
    factor = SPRING_QUANTUM**2 / (24 * (BOLTZMANN * temperature * beads) ** 3)
    return float(factor * (np.square(forces).sum(axis=(0, 2)) / masses).sum())


def perturbed_positions(positions: NDArray, forces: NDArray, masses: NDArray, temperature: float) -> NDArray:
    r"""Where the perturbation has the beads for a property of their positions.

    With :math:`V + s A` in place of V, :math:`\delta` changes by
    :math:`-s \frac{\hbar^2 \beta^3}{12 P^3} \sum f \cdot \partial A / \partial x / m`. So the derivative of
    :math:`\ln Z` with respect to s gives, beside the covariance with :math:`\delta`, the mean of A at

    .. math:: x_{k,i} - \frac{\hbar^2 \beta^2}{12 P^2} \frac{f_{k,i}}{m_i}

    Args:
        positions: In Angstrom [P, n, 3].
        forces: In eV/Angstrom [P, n, 3].
        masses: In u [n].
        temperature: In K.

    Returns:
        In Angstrom [P, n, 3].
    """
    step = SPRING_QUANTUM**2 / (12 * (BOLTZMANN * temperature * len(forces)) ** 2)
    moved: NDArray = positions - step * forces / masses[:, None]
    return moved


def check_ring(ring: RingPolymer, masses: NDArray, number: int) -> RingPolymer:
    """The beads at one time in float64, if their shapes fit.

    Args:
        ring: The beads.
        masses: In u [n].
        number: Which time it is, for the message.

    Returns:
        The same in float64.

    Raises:
        ValueError: If shapes do not fit or a number is not finite.
    """
    positions, energies, forces = (np.asarray(part, dtype=np.float64) for part in ring)
    shape = (len(energies) if energies.ndim == 1 else 0, len(masses), 3)
    if positions.shape != shape or forces.shape != shape or not shape[0]:
        raise ValueError(
            f"frame {number}: expected positions and forces [P, {len(masses)}, 3] and energies [P], got "
            f"{list(positions.shape)}, {list(forces.shape)} and {list(energies.shape)}"
        )
    if not all(np.isfinite(part).all() for part in (positions, energies, forces)):
        raise ValueError(f"frame {number} has numbers that are not finite; leave it and what follows out")
    return RingPolymer(positions, energies, forces)


def check_masses(masses: object) -> NDArray:
    """Masses as an array, if they can be some.

    Args:
        masses: In u [n].

    Returns:
        The masses [n].

    Raises:
        ValueError: If one is not positive, or they are no list of numbers.
    """
    found = np.asarray(masses, dtype=np.float64)
    if found.ndim != 1 or not len(found) or not (np.isfinite(found) & (found > 0)).all():
        raise ValueError(f"`masses` must be a positive number in u for each atom [n], got {masses!r}")
    return found
