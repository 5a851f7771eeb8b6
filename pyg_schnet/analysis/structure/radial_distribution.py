"""Radial distribution functions of liquids, crystals and clusters, total and by pairs of elements, frame by frame."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyg_schnet.analysis.structure.pair_counts import Curves, PairCounts
from pyg_schnet.analysis.structure.trajectories import beads_of, snapshots
from pyg_schnet.units import SYMBOLS

Elements = str | int | Sequence[str | int] | None


class RadialDistribution(NamedTuple):
    """How atoms are distributed around atoms.

    Attributes:
        r: Centres of the bins in Angstrom [K].
        g: Radial distribution function g(r) [K]; of open structures without a volume the pair distribution h(r) in
            1/Angstrom.
        error: Standard error of ``g`` from block averages [K], NaN for a single frame.
        counts: Pairs in each bin, each pair once, all frames together [K] int64.
        coordination: Mean number of neighbours closer than the outer edge of the bin [K].
        edges: Edges of the bins in Angstrom [K + 1].
        density: Mean number density of the neighbours in 1/Angstrom^3, at which g = 1; ``None`` beside h(r).
        frames: Number of frames, beads counted singly.
    """

    r: Tensor
    g: Tensor
    error: Tensor
    counts: Tensor
    coordination: Tensor
    edges: Tensor
    density: float | None
    frames: int


def radial_distribution(
    trajectory: Any,
    r_max: float | None = None,
    bins: int = 200,
    elements: Elements = None,
    *,
    volume: float | None = None,
    progress: bool = True,
) -> RadialDistribution:
    r"""Radial distribution function of a trajectory, with all periodic images: ``r_max`` may exceed the cell.

    Of periodic structures, and of all if ``volume`` is given, the number of b atoms around an a atom, divided by that
    of evenly distributed ones (M. P. Allen and D. J. Tildesley, Computer Simulation of Liquids, section 2.6):

    .. math:: g_{ab}(r) = \left\langle \frac{V}{N_a N_b} \sum_{i \in a} \sum_{j \in b}{}'
        \frac{\delta(r - r_{ij})}{4 \pi r^2} \right\rangle

    where pairs of an atom and its own images count, the atom itself does not, and each frame is taken with its own
    volume, as cells may change. V is that of the cell: **in slabs and wires it includes the vacuum**, which only
    scales g; pass the ``volume`` of the matter to leave it out. Their g falls off beyond the thickness. Coordination
    numbers do not depend on the volume.

    Of open structures the pair distribution function h(r) of section III.E and figures 8 and 11 of J. Chem. Phys. 148,
    241722 (2018), for which no normalisation is printed; here it is the probability density of the distance of a pair,

    .. math:: h(r) = \left\langle \frac{2}{N (N - 1)} \sum_{i < j} \delta(r - r_{ij}) \right\rangle ,
        \qquad \int_0^\infty h(r)\, dr = 1 .

    Frames are read one after another and not kept. Atoms may differ in number from frame to frame.

    Args:
        trajectory: A file that ASE reads, or several, or an iterable of ``ase.Atoms`` or ``Data``, or a single one;
            :class:`~pyg_schnet.analysis.Beads` of such, over which is averaged.
        r_max: Largest distance in Angstrom, itself not counted; ``None`` for 10 Angstrom, and in open structures for
            the largest distance that occurs.
        bins: Number of bins up to ``r_max``. In open structures without ``r_max`` so many reach a quarter beyond the
            largest distance of the first frame; more of the same width follow if they are needed.
        elements: Pair of symbols or atomic numbers (a, b), for b around a; one stands for two; ``None`` for all atoms.
        volume: Volume in Angstrom^3 that replaces that of the cell.
        progress: True to show a progress bar.

    Returns:
        The distribution.

    Raises:
        TypeError: If the trajectory or an option is of another kind.
        ValueError: If an option is out of range, a pair of elements does not occur, a cell has no volume, open and
            periodic frames are mixed, two atoms are at the same place or a frame is damaged.

    Example:
        >>> from torch_geometric.data import Data
        >>> cell, pbc = 3 * torch.eye(3)[None], torch.ones(1, 3, dtype=torch.bool)
        >>> cubic = Data(z=torch.tensor([29]), pos=torch.zeros(1, 3), cell=cell, pbc=pbc)
        >>> [round(number) for number in radial_distribution(cubic, r_max=5.0, bins=10).coordination.tolist()]
        [0, 0, 0, 0, 0, 0, 6, 6, 18, 18]
    """
    pair = _pair(elements)
    table = PairCounts(r_max, bins, volume, None if pair is None else sorted(set(pair)), beads_of(trajectory))
    for snapshot in snapshots(trajectory, "pair distances", progress):
        table.add(snapshot)
    places = (0, 0) if pair is None or table.elements is None else tuple(table.elements.index(one) for one in pair)
    curves = table.curves()
    if places not in curves:
        names = "atoms" if pair is None else " and ".join(SYMBOLS[one] for one in pair)
        raise ValueError(f"no frame has a pair of {names}; expected two atoms, of elements that occur together")
    return _distribution(table, curves[places])


def partial_distributions(
    trajectory: Any, r_max: float | None = None, bins: int = 200, *, volume: float | None = None, progress: bool = True
) -> dict[tuple[str, str], RadialDistribution]:
    """The radial distribution functions of all pairs of elements at once, in one pass through the trajectory.

    Args:
        trajectory: As :func:`radial_distribution`; all elements must be in the first frame.
        r_max: Largest distance in Angstrom.
        bins: Number of bins.
        volume: Volume in Angstrom^3 that replaces that of the cell.
        progress: True to show a progress bar.

    Returns:
        For each ordered pair of symbols (a, b) that occurs the distribution of b around a; g is that of (b, a),
        coordination numbers are not.

    Raises:
        TypeError: As :func:`radial_distribution`.
        ValueError: As :func:`radial_distribution`.

    Example:
        >>> from torch_geometric.data import Data
        >>> water = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
        >>> found = partial_distributions(water)
        >>> {pair: one.coordination[-1].item() for pair, one in found.items()}
        {('H', 'H'): 1.0, ('H', 'O'): 1.0, ('O', 'H'): 2.0}
    """
    table = PairCounts(r_max, bins, volume, [], beads_of(trajectory))
    for snapshot in snapshots(trajectory, "pair distances", progress):
        table.add(snapshot)
    if not table.curves():
        raise ValueError("no frame has a pair of atoms; expected at least two")
    symbols = [SYMBOLS[number] for number in table.elements or []]
    return {(symbols[a], symbols[b]): _distribution(table, curves) for (a, b), curves in table.curves().items()}


def _distribution(counts: PairCounts, curves: Curves) -> RadialDistribution:
    edges = torch.from_numpy(curves.edges)
    g, error, number, around = (
        torch.from_numpy(curve.copy()) for curve in (curves.g, curves.error, curves.counts, curves.coordination)
    )
    density = float(curves.density) if counts.as_density else None
    return RadialDistribution((edges[1:] + edges[:-1]) / 2, g, error, number, around, edges, density, counts.frames)


def _pair(elements: Elements) -> tuple[int, int] | None:
    """Atomic numbers of a pair."""
    if elements is None:
        return None
    listed = elements.tolist() if isinstance(elements, (Tensor, np.ndarray)) else elements
    both = list(listed) if isinstance(listed, Sequence) and not isinstance(listed, str) else [listed] * 2
    found = [SYMBOLS.index(one) if isinstance(one, str) and one in SYMBOLS else one for one in both]
    known = all(isinstance(one, (int, np.integer)) and 0 < int(one) < len(SYMBOLS) for one in found)
    if len(found) != 2 or not known:
        raise ValueError(
            f"`elements` must be a pair of symbols or atomic numbers, such as ('O', 'H'), or one, got {elements!r}"
        )
    return int(found[0]), int(found[1])
