"""Energies of quantum nuclei from path-integral dynamics, by plain and by perturbed estimators."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pyg_schnet.analysis.checks import positive
from pyg_schnet.analysis.path_integrals.ring_polymer import (
    RingPolymer,
    check_masses,
    check_ring,
    gyration,
    perturbation,
    primitive_kinetic_energy,
    virial_kinetic_energy,
)
from pyg_schnet.analysis.structure.block_average import BlockAverage
from pyg_schnet.units import BOLTZMANN


class Estimate(NamedTuple):
    """A mean and its standard error.

    Attributes:
        value: The mean.
        error: Its standard error from blocks of frames, NaN if there are too few.
    """

    value: float
    error: float


class PathIntegralEnergies(NamedTuple):
    """Means over a path-integral simulation, energies in eV.

    Attributes:
        potential: Potential energy, mean over the beads.
        kinetic: Kinetic energy by the centroid virial estimator.
        kinetic_primitive: The same by the primitive estimator.
        total: Potential and kinetic energy.
        perturbed_potential: Potential energy of the perturbed path integral.
        perturbed_kinetic: Its kinetic energy.
        perturbed_total: Its total energy.
        perturbation: What the perturbation adds to the action.
        spread: Standard deviation of that; the perturbed estimators are good for nothing where it is beyond about one.
        gyration: Radius of gyration of the rings in Angstrom, root mean square over the atoms.
        frames: Number of frames.
        beads: Number of beads.
    """

    potential: Estimate
    kinetic: Estimate
    kinetic_primitive: Estimate
    total: Estimate
    perturbed_potential: Estimate
    perturbed_kinetic: Estimate
    perturbed_total: Estimate
    perturbation: Estimate
    spread: Estimate
    gyration: Estimate
    frames: int
    beads: int


def path_integral_energies(
    frames: Iterable[Any], masses: Any, temperature: float, *, progress: bool = True
) -> PathIntegralEnergies:
    r"""Energies of a system of quantum nuclei from the frames of a path-integral simulation.

    Plain estimators, of which the primitive and the virial kinetic energy have the same mean (see
    :mod:`~pyg_schnet.analysis.path_integrals.ring_polymer`), and those of the perturbed path integral. For the latter,
    with the primitive estimator K of the kinetic energy and the mean V of the potential over the beads,

    .. math::
        E &= \langle K + V \rangle + \tfrac{3}{\beta} \langle \delta \rangle - \mathrm{cov}(\delta, K + V) \\
        E_\text{pot} &= \langle V \rangle + \tfrac{2}{\beta} \langle \delta \rangle - \mathrm{cov}(\delta, V)

    which follow from :math:`\ln Z \approx \ln Z_P - \langle \delta \rangle` by the derivatives with respect to
    :math:`\beta` and to a factor on the potential; the kinetic energy is their difference. In the first mean K is that
    by the virial. Errors of the perturbed ones are those of a jackknife over blocks.

    Args:
        frames: The beads at one time after another, :class:`RingPolymer` or such triples of positions, energies and
            forces; frames are not kept.
        masses: In u [n].
        temperature: In K.
        progress: True to show a progress bar.

    Returns:
        The means.

    Raises:
        TypeError: If the temperature is no number.
        ValueError: If there is no frame, a shape does not fit, the number of beads changes, or a number is impossible.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(0.0, 0.1, (100, 1, 1, 3))  # classical, k = 2.585 eV/Angstrom^2 at 300 K
        >>> frames = [(one, 1.2926 * np.square(one).sum((1, 2)), -2.5852 * one) for one in x]
        >>> found = path_integral_energies(frames, [12.0], 300.0, progress=False)
        >>> round(found.kinetic.value, 4), found.beads, found.frames
        (0.0388, 1, 100)
    """
    masses, temperature = check_masses(masses), positive("temperature", temperature, "in K")
    average, origin, count, beads = BlockAverage(), 0.0, 0, 0
    for frame in tqdm(frames, "path integral", unit="frame", leave=False, disable=not progress, delay=0.5):
        ring = check_ring(RingPolymer(*frame), masses, count)
        if count and len(ring.energies) != beads:
            raise ValueError(f"frame {count} has {len(ring.energies)} beads, those before {beads}; expected the same")
        beads = len(ring.energies)
        origin = origin if count else float(ring.energies.mean())  # products with it would cost digits
        average.add(_values(ring, masses, temperature, origin))
        count += 1
    if not count:
        raise ValueError("there are no frames; expected at least one")
    kt = BOLTZMANN * temperature

    def estimate(derived: Callable[[NDArray], NDArray], shift: float = 0.0) -> Estimate:
        value = float(derived(average.mean()))
        return Estimate(value + shift, float(average.jackknife_error(derived)))

    def perturbed_potential(m: NDArray) -> NDArray:
        return m[..., 0] + 2 * kt * m[..., 3] - (m[..., 5] - m[..., 3] * m[..., 0])

    def perturbed_kinetic(m: NDArray) -> NDArray:
        return m[..., 1] + kt * m[..., 3] - (m[..., 6] - m[..., 3] * m[..., 2])

    return PathIntegralEnergies(
        potential=estimate(lambda m: m[..., 0], origin),
        kinetic=estimate(lambda m: m[..., 1]),
        kinetic_primitive=estimate(lambda m: m[..., 2]),
        total=estimate(lambda m: m[..., 0] + m[..., 1], origin),
        perturbed_potential=estimate(perturbed_potential, origin),
        perturbed_kinetic=estimate(perturbed_kinetic),
        perturbed_total=estimate(lambda m: perturbed_potential(m) + perturbed_kinetic(m), origin),
        perturbation=estimate(lambda m: m[..., 3]),
        spread=estimate(lambda m: np.sqrt(np.maximum(m[..., 7] - m[..., 3] ** 2, 0.0))),
        gyration=estimate(lambda m: np.sqrt(m[..., 4])),
        frames=count,
        beads=beads,
    )


def _values(ring: RingPolymer, masses: NDArray, temperature: float, origin: float) -> NDArray:
    """What is averaged: V, both K, the perturbation, gyration, and the products that make covariances [8]."""
    potential = float(ring.energies.mean()) - origin
    virial = virial_kinetic_energy(ring.positions, ring.forces, temperature)
    primitive = primitive_kinetic_energy(ring.positions, masses, temperature)
    added = perturbation(ring.forces, masses, temperature)
    size = float(gyration(ring.positions).mean())
    return np.array([potential, virial, primitive, added, size, added * potential, added * primitive, added**2])
