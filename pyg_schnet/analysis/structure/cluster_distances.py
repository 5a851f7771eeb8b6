"""Distances in molecules and clusters: nearest neighbours, diameter, all pairs, as distributions over a trajectory."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyg_schnet.analysis.checks import count, positive
from pyg_schnet.analysis.structure.block_average import BlockAverage
from pyg_schnet.analysis.structure.pair_distances import distance_rows
from pyg_schnet.analysis.structure.trajectories import beads_of, snapshots

#: Bins that a distribution may have.
_MOST_BINS = 1_000_000


class Distribution(NamedTuple):
    """Distribution of a distance.

    Attributes:
        r: Centres of the bins in Angstrom [K].
        density: Probability density in 1/Angstrom, whose integral is one [K].
        error: Its standard error from block averages [K], NaN for a single frame.
        mean: Mean in Angstrom, of the distances, not of the bins.
        mean_error: Its standard error.
        deviation: Standard deviation of the distances in Angstrom, their width.
        deviation_error: Its standard error.
    """

    r: Tensor
    density: Tensor
    error: Tensor
    mean: float
    mean_error: float
    deviation: float
    deviation_error: float

    @property
    def peak(self) -> float:
        """Distance of the largest density in Angstrom, to half a bin."""
        return float(self.r[self.density.argmax()])


class ClusterDistances(NamedTuple):
    """Distributions of distances of a cluster.

    Attributes:
        nearest: Distances of each atom to its nearest neighbours.
        diameter: Largest distance of two atoms, one for each frame.
        antipodal: Distance of each atom to the one farthest from it, which in a cage is the opposite one.
        pair: Distances of all pairs, the pair distribution function h(r).
        frames: Number of frames, beads counted singly.
    """

    nearest: Distribution
    diameter: Distribution
    antipodal: Distribution
    pair: Distribution
    frames: int


def cluster_distances(
    trajectory: Any, width: float = 0.02, neighbors: int = 1, *, progress: bool = True
) -> ClusterDistances:
    r"""Distributions of nearest-neighbour distance, diameter and pair distance of a cluster over a trajectory.

    The three of figure 8 of J. Chem. Phys. 148, 241722 (2018), for C20. The paper does not say how it defines them;
    here, with the distances :math:`r_{ij}` of a frame,

    - the nearest-neighbour distances are, for each atom i, the smallest of :math:`r_{ij}`, or its ``neighbors``
      smallest: with 3 those of a fullerene are its bonds, each seen from both ends;
    - the diameter is :math:`\max_{ij} r_{ij}`, one number for each frame, and, as the distance of opposite atoms,
      :math:`\max_j r_{ij}` for each atom i, of which it is the largest;
    - the pair distribution h(r) is the density of all :math:`r_{ij}`, as in :func:`radial_distribution`.

    All densities have the integral one; each frame counts the same. Frames are read one after another and not kept.

    Args:
        trajectory: As in :func:`radial_distribution`, of open structures; with
            :class:`~pyg_schnet.analysis.Beads` it is averaged over the beads.
        width: Width of the bins in Angstrom.
        neighbors: Nearest neighbours of each atom that count.
        progress: True to show a progress bar.

    Returns:
        The distributions.

    Raises:
        TypeError: If the trajectory or an option is of another kind.
        ValueError: If an option is out of range, a frame is periodic or has no more atoms than ``neighbors``.

    Example:
        >>> from torch_geometric.data import Data
        >>> square = Data(z=torch.full((4,), 6), pos=1.5 * torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]))
        >>> found = cluster_distances(square)
        >>> round(found.nearest.mean, 3), round(found.diameter.mean, 3), round(found.pair.mean, 3)
        (1.5, 2.121, 1.707)
    """
    width, neighbors = positive("width", width), count("neighbors", neighbors)
    collected = [_Collected(width, beads_of(trajectory)) for _ in range(4)]
    frames = 0
    for snapshot in snapshots(trajectory, "cluster distances", progress):
        if snapshot.pbc.any():
            raise ValueError(
                f"frame {frames} is periodic along {snapshot.pbc.tolist()}; clusters are open: take the periodic axes "
                "away (atoms.pbc = False) if they do not matter, or use radial_distribution"
            )
        if len(snapshot.z) <= neighbors:
            raise ValueError(
                f"frame {frames} has {len(snapshot.z)} atoms, of which none has {neighbors} neighbours; expected more"
            )
        for one, values in zip(collected, distance_samples(snapshot.pos, neighbors), strict=True):
            one.add(values, frames)
        frames += 1
    nearest, diameter, antipodal, pair = (one.distribution() for one in collected)
    return ClusterDistances(nearest, diameter, antipodal, pair, frames)


def distance_samples(pos: NDArray, neighbors: int) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """The distances of one open structure whose distributions :class:`ClusterDistances` holds, in its order.

    Args:
        pos: Positions in Angstrom [n, 3].
        neighbors: Nearest neighbours of each atom that count.

    Returns:
        Distances in Angstrom to nearest neighbours, the largest one, those to the farthest atom, and all, each pair
        twice.

    Raises:
        ValueError: If two atoms are at the same place.
    """
    nearest, farthest, pairs = [], [], []
    for _, rows in distance_rows(pos):
        nearest.append(np.partition(rows, neighbors - 1, axis=1)[:, :neighbors].ravel())
        inside = np.isfinite(rows)
        farthest.append(np.where(inside, rows, 0.0).max(axis=1))
        pairs.append(rows[inside])
    far = np.concatenate(farthest)
    return np.concatenate(nearest), far.max(keepdims=True), far, np.concatenate(pairs)


class _Collected:
    """A distribution that grows with the trajectory."""

    def __init__(self, width: float, beads: int) -> None:
        self.width = width
        self.density, self.moments = BlockAverage(beads), BlockAverage(beads)
        self.origin: float | None = None

    def add(self, values: NDArray, frame: int) -> None:
        """Add the distances of a frame."""
        if self.origin is None:
            self.origin = float(values.mean())  # moments about it keep their digits
        if values.max() > _MOST_BINS * self.width:
            raise ValueError(
                f"frame {frame} has atoms {values.max():g} Angstrom apart, too many bins of {self.width:g}; leave it "
                "out or make `width` larger"
            )
        counts = np.bincount((values / self.width).astype(np.int64))
        self.density.add(counts / (len(values) * self.width))
        shifted = values - self.origin
        self.moments.add(np.array([shifted.mean(), np.square(shifted).mean()]))

    def distribution(self) -> Distribution:
        """What was found."""
        density, error = self.density.mean(), self.density.error()
        first, second = self.moments.mean()
        deviation = float(np.sqrt(max(second - first**2, 0.0)))
        spread = self.moments.derived_error(lambda one: np.sqrt(np.maximum(one[..., 1] - one[..., 0] ** 2, 0.0)))
        r = self.width * (torch.arange(len(density), dtype=torch.float64) + 0.5)
        mean = float(first) + (self.origin or 0.0)
        curves = torch.from_numpy(density), torch.from_numpy(error)
        return Distribution(r, *curves, mean, float(self.moments.error()[0]), deviation, spread)
