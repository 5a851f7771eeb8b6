"""Distributions of distances of quantum nuclei by perturbed path integrals."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from pyg_schnet.analysis.checks import count, positive
from pyg_schnet.analysis.path_integrals.ring_polymer import (
    RingPolymer,
    check_masses,
    check_ring,
    perturbation,
    perturbed_positions,
)
from pyg_schnet.analysis.structure.block_average import BlockAverage
from pyg_schnet.analysis.structure.cluster_distances import ClusterDistances, Distribution, distance_samples


def perturbed_distances(
    frames: Iterable[Any],
    masses: Any,
    temperature: float,
    width: float = 0.02,
    neighbors: int = 1,
    *,
    progress: bool = True,
) -> ClusterDistances:
    r"""What :func:`~pyg_schnet.analysis.cluster_distances` gives, of the perturbed path integral.

    For the mean A over the beads of a property of their positions

    .. math:: \langle A(x - \tfrac{\hbar^2 \beta^2}{12 P^2} f / m) \rangle - \mathrm{cov}(\delta, A)

    (see :func:`~pyg_schnet.analysis.path_integrals.ring_polymer.perturbed_positions`): the densities, the mean and the
    mean square of each distance are such properties. Densities keep the integral one, but may be a little negative
    where they are small.

    Args:
        frames: As in :func:`~pyg_schnet.analysis.path_integral_energies`, of an open structure.
        masses: In u [n].
        temperature: In K.
        width: Width of the bins in Angstrom.
        neighbors: Nearest neighbours of each atom that count.
        progress: True to show a progress bar.

    Returns:
        The distributions, with errors of a jackknife over blocks.

    Raises:
        TypeError: If an option is of another kind.
        ValueError: If there is no frame, a shape does not fit, or a number is impossible.

    Example:
        >>> ring = np.array([[[0.0, 0, 0], [1.5, 0, 0]]]), np.zeros(1), np.zeros((1, 2, 3))
        >>> round(perturbed_distances([ring, ring], [12.0, 12.0], 300.0).pair.mean, 3)
        1.5
    """
    masses, temperature = check_masses(masses), positive("temperature", temperature, "in K")
    width, neighbors = positive("width", width), count("neighbors", neighbors, most=max(len(masses) - 1, 1))
    collected = [_Perturbed(width) for _ in range(4)]
    number, beads = 0, 0
    for frame in tqdm(frames, "perturbed distances", unit="frame", leave=False, disable=not progress, delay=0.5):
        ring = check_ring(RingPolymer(*frame), masses, number)
        added = perturbation(ring.forces, masses, temperature)
        places = perturbed_positions(ring.positions, ring.forces, masses, temperature)
        of_beads = [distance_samples(place, neighbors) for place in places]
        for one, values in zip(collected, zip(*of_beads, strict=True), strict=True):
            one.add(np.concatenate(values), added)
        number, beads = number + 1, beads + len(places)
    if not number:
        raise ValueError("there are no frames; expected at least one")
    nearest, diameter, antipodal, pair = (one.distribution() for one in collected)
    return ClusterDistances(nearest, diameter, antipodal, pair, beads)


class _Perturbed:
    """A distribution that grows with the simulation, and its products with the perturbation."""

    def __init__(self, width: float) -> None:
        self.width, self.average = width, BlockAverage()
        self.origin: tuple[float, float] | None = None

    def add(self, values: NDArray, added: float) -> None:
        """Add the distances of all beads at one time."""
        self.origin = self.origin or (float(values.mean()), added)  # moments about it keep their digits
        shifted, added = values - self.origin[0], added - self.origin[1]
        counts = np.bincount((values / self.width).astype(np.int64)) / (len(values) * self.width)
        row = np.array([added, shifted.mean(), np.square(shifted).mean(), *counts])
        self.average.add(np.stack([row, added * row]))

    def distribution(self) -> Distribution:
        """What was found."""
        found, error = _corrected(self.average.mean()), self.average.jackknife_error(_corrected)
        width = _deviation(found)
        width_error = float(self.average.jackknife_error(lambda means: _deviation(_corrected(means))))
        r = self.width * (torch.arange(len(found) - 2, dtype=torch.float64) + 0.5)
        mean = float(found[0]) + (self.origin or (0.0, 0.0))[0]
        curves = torch.from_numpy(found[2:]), torch.from_numpy(error[2:])
        return Distribution(r, *curves, mean, float(error[0]), float(width), width_error)


def _corrected(means: NDArray) -> NDArray:
    """Means less covariances with the perturbation [..., K], of means and those of products with it [..., 2, 1+K]."""
    plain, products = means[..., 0, :], means[..., 1, :]
    corrected: NDArray = plain[..., 1:] - (products[..., 1:] - plain[..., 1:] * plain[..., :1])
    return corrected


def _deviation(corrected: NDArray) -> NDArray:
    deviation: NDArray = np.sqrt(np.maximum(corrected[..., 1] - corrected[..., 0] ** 2, 0.0))
    return deviation
