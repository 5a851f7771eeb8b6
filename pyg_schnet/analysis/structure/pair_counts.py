"""Counts of pairs by distance, frame by frame, for all pairs of species, and what is made of them."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyg_schnet.analysis.checks import count, positive
from pyg_schnet.analysis.structure.block_average import BlockAverage, sum_grown
from pyg_schnet.analysis.structure.pair_distances import close_pairs, distance_rows
from pyg_schnet.analysis.structure.snapshot import Snapshot
from pyg_schnet.units import SYMBOLS

#: Largest distance in Angstrom of periodic structures, unless one is given.
R_MAX = 10.0
#: Bins that structures without a largest distance may get.
_MOST_BINS = 1_000_000
#: Distances that are closer to an edge than this part of a bin are in the bin above, so that rounding does not split
#: the shells of perfect crystals.
_ON_EDGE = 1e-9


class Curves(NamedTuple):
    """What is known of a pair of species.

    Attributes:
        edges: Edges of the bins in Angstrom [K + 1].
        g: Radial distribution function, or density of the distance of a pair in 1/Angstrom [K].
        error: Its standard error [K].
        counts: Pairs, each once [K] int64.
        coordination: Neighbours closer than the outer edge of the bin [K].
        density: Number density of the neighbours in 1/Angstrom^3, or NaN.
    """

    edges: NDArray
    g: NDArray
    error: NDArray
    counts: NDArray
    coordination: NDArray
    density: float


class PairCounts:
    """Sums over frames for all pairs of species.

    Args:
        r_max: Largest distance, or ``None``.
        bins: Number of bins.
        volume: Volume, or ``None`` for that of the cell.
        elements: Atomic numbers of the species, ``None`` for all atoms as one, empty for those of the first frame.
        beads: Consecutive frames of the same time.
    """

    def __init__(
        self, r_max: float | None, bins: int, volume: float | None, elements: list[int] | None, beads: int
    ) -> None:
        self.r_max = None if r_max is None else positive("r_max", r_max)
        self.volume = None if volume is None else positive("volume", volume)
        self.bins, self.elements = count("bins", bins, most=_MOST_BINS), elements
        self.all_elements = elements == []
        self.width, self.frames = 0.0, 0
        self.counts = np.zeros((1, 1, 1), dtype=np.int64)
        self.g, self.around, self.density = (BlockAverage(beads) for _ in range(3))

    def add(self, snapshot: Snapshot) -> None:
        """Count the pairs of a frame."""
        if self.frames == 0:
            self._begin(snapshot)
        periodic = bool(snapshot.pbc.any())
        if periodic != self.periodic:
            raise ValueError(
                f"frame {self.frames} is {'periodic' if periodic else 'open'}, earlier ones are not; pass the two "
                "kinds separately"
            )
        species, snapshot = self._species(snapshot)
        atoms = np.bincount(species, minlength=self.num_species)  # [S]
        directed = self._count(snapshot, species)  # [S, S, K]
        pairs = np.outer(atoms, atoms).astype(np.float64)
        if self.as_density:
            volume = self._volume(snapshot)
            scaled = directed * volume
            self.density.add(atoms / volume)
        else:
            pairs -= np.diag(atoms)
            scaled = directed / self.width
        with np.errstate(divide="ignore", invalid="ignore"):  # what does not occur has no weight
            self.g.add(scaled / pairs[..., None], pairs[..., None] > 0)
            self.around.add(
                directed / atoms[:, None, None], np.broadcast_to(atoms[:, None, None] > 0, (*pairs.shape, 1))
            )
        self.counts = sum_grown(self.counts, directed)
        self.frames += 1

    def curves(self) -> dict[tuple[int, int], Curves]:
        """What was counted, by the places of the species in ``elements``; of the pairs that occur.

        Returns:
            For each ordered pair the curves.
        """
        g, error, around = self.g.mean(), self.g.error(), self.around.mean().cumsum(axis=-1)
        edges, density = self.width * np.arange(g.shape[-1] + 1), np.full(self.num_species, np.nan)
        if self.as_density:
            shells = 4 / 3 * math.pi * np.diff(edges**3)
            g, error, density = g / shells, error / shells, self.density.mean()
        once = self.counts // (1 + np.eye(self.num_species, dtype=np.int64))[..., None]
        found = np.argwhere(~np.isnan(g[..., 0])).tolist()
        return {(a, b): Curves(edges, g[a, b], error[a, b], once[a, b], around[a, b], density[b]) for a, b in found}

    def _begin(self, snapshot: Snapshot) -> None:
        """What the first frame decides."""
        self.periodic = bool(snapshot.pbc.any())
        self.as_density = self.periodic or self.volume is not None
        if self.all_elements:
            self.elements = np.unique(snapshot.z).tolist()
        self.num_species = 1 if self.elements is None else len(self.elements)
        self.counts = np.zeros((self.num_species, self.num_species, 1), dtype=np.int64)
        if self.r_max is None and self.periodic:
            self.r_max = R_MAX
        reach = self.r_max
        if reach is None:
            reach = 1.25 * max(
                (float(rows[np.isfinite(rows)].max(initial=0.0)) for _, rows in distance_rows(snapshot.pos))
            )
        self.width = (reach or 1.0) / self.bins

    def _species(self, snapshot: Snapshot) -> tuple[NDArray, Snapshot]:
        """Place of each atom in ``elements`` [n], and the frame without other atoms."""
        if self.elements is None:
            return np.zeros(len(snapshot.z), dtype=np.int64), snapshot
        places = np.searchsorted(self.elements, snapshot.z).clip(max=self.num_species - 1)
        known = np.asarray(self.elements)[places] == snapshot.z
        if known.all():
            return places, snapshot
        if self.all_elements:
            other = int(snapshot.z[~known][0])
            raise ValueError(
                f"frame {self.frames} has {SYMBOLS[other]}, the first one has not; expected all elements in the first "
                "frame, or ask for one pair by radial_distribution(elements=...)"
            )
        return places[known], snapshot._replace(z=snapshot.z[known], pos=snapshot.pos[known])

    def _count(self, snapshot: Snapshot, species: NDArray) -> NDArray:
        """Pairs in each bin, in both directions [S, S, K]."""
        if self.r_max is not None:
            if len(species) == 0:
                return np.zeros((self.num_species, self.num_species, self.bins), dtype=np.int64)
            target, source, distance = close_pairs(snapshot, self.r_max)
            once = self._histogram(species[target], species[source], distance, self.bins)
            return once + once.swapaxes(0, 1)
        total = np.zeros((self.num_species, self.num_species, self.bins), dtype=np.int64)
        for start, rows in distance_rows(snapshot.pos):
            inside = np.isfinite(rows)
            bins = max(self.bins, int(rows[inside].max(initial=0.0) / self.width + _ON_EDGE) + 1)
            if bins > _MOST_BINS:
                raise ValueError(
                    f"frame {self.frames} has atoms {rows[inside].max():g} Angstrom apart, many times as far as the "
                    "first one; pass `r_max`"
                )
            near, far = inside.nonzero()
            counted = self._histogram(species[start + near], species[far], rows[inside], bins)
            total = sum_grown(total, counted)
        return total

    def _histogram(self, one: NDArray, other: NDArray, distance: NDArray, bins: int) -> NDArray:
        place = (distance / self.width + _ON_EDGE).astype(np.int64)
        key = (one * self.num_species + other) * (bins + 1) + place  # one more for those at the largest distance
        number = np.bincount(key, minlength=self.num_species**2 * (bins + 1))
        return number.reshape(self.num_species, self.num_species, bins + 1)[..., :bins]

    def _volume(self, snapshot: Snapshot) -> float:
        if self.volume is not None:
            return self.volume
        volume = abs(float(np.linalg.det(snapshot.cell)))
        if not 0 < volume < math.inf:
            raise ValueError(
                f"the cell of frame {self.frames} is periodic along {snapshot.pbc.tolist()} and has no volume, which g "
                "needs; pass that of the matter as `volume`"
            )
        return volume
