"""Filters from tables instead of one network evaluation for every pair: made anew for a batch, or frozen for good."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pyg_schnet.fast import convolution
from pyg_schnet.fast.bspline import DEGREE, FilterTable
from pyg_schnet.fast.filter_networks import spline_coefficients
from pyg_schnet.fast.gpu.self_test import kernels_agree
from pyg_schnet.fast.knots import EXTRA_KNOTS, knot_spacing
from pyg_schnet.graph import can_inspect, values_hidden
from pyg_schnet.nn import BesselBasis, GaussianSmearing
from pyg_schnet.sizes import SIZES

#: Values of the argument ``filters`` of a model.
FILTERS = ("exact", "table", "auto")


class FilterTables(NamedTuple):
    """The filters of all blocks as splines with the same knots.

    Attributes:
        coefficients: Coefficients of the B-splines [T, K, F].
        start: First knot in Angstrom.
        spacing: Distance between knots in Angstrom.
    """

    coefficients: Tensor
    start: float
    spacing: float

    def each(self) -> list[FilterTable]:
        """A table for each block."""
        return [FilterTable(c, self.start, self.spacing) for c in self.coefficients.unbind()]


def worth_a_table(distance: Tensor, spacing: Callable[[], float], training: bool = False) -> bool:
    """True if a batch has so many pairs that a table takes less time: at least as many as knots.

    Who computes in float64 wants the digits that tables do not have.

    Args:
        distance: Distances of the pairs in Angstrom [P].
        spacing: Asked for the distance between knots in Angstrom, if there may be enough pairs.
        training: True in training.

    Returns:
        True for float32 on a CPU with compiled loops and that many pairs; on a GPU outside of training with very many,
        if its kernels work.
    """
    if distance.is_cuda and not torch.compiler.is_compiling():  # in training, kernels have yet to be measured
        few = distance.numel() < SIZES.tables_from or distance.dtype != torch.float32
        return not (few or training or values_hidden()) and kernels_agree(distance.device)
    if distance.numel() < 64 or distance.dtype != torch.float32 or convolution.cpu_loops() is None:
        return False
    if not can_inspect(distance):
        return False
    low, high = torch.aminmax(distance.detach())
    return distance.numel() * spacing() > float(high - low)


def spacing_of(basis: GaussianSmearing | BesselBasis) -> float:
    """Spacing of knots that keeps the digits of float32.

    Args:
        basis: The radial basis.

    Returns:
        Spacing in Angstrom.
    """
    if isinstance(basis, BesselBasis):
        return knot_spacing(frequency=float(basis.frequencies.detach().abs().max()) / basis.cutoff)
    gamma = basis.gamma
    return knot_spacing(gamma=float(gamma.detach().max()) if isinstance(gamma, Tensor) else gamma)


def filter_tables(
    basis: GaussianSmearing | BesselBasis,
    blocks: nn.ModuleList,
    knots: Tensor,
    matrix: Tensor | None,
    place: tuple[float, float],
    like: Tensor,
    kind: torch.dtype = torch.float64,
) -> FilterTables:
    """Tables of the filter networks, without the cutoff function, over the distances of a batch.

    The networks are evaluated at the knots; gradients flow through the tables into their weights.

    Args:
        basis: The radial basis.
        blocks: Interaction blocks.
        knots: All knots in Angstrom [K'] float64, see :func:`~pyg_schnet.fast.knots.knots_of`.
        matrix: From values there to coefficients, see :func:`~pyg_schnet.fast.spline.interpolation`; ``None`` to
            solve for them in the fastest way.
        place: First knot and distance between knots in Angstrom.
        like: A tensor whose dtype the tables get.
        kind: Kind of numbers in which compiled loops compute gradients of weights.

    Returns:
        The tables.
    """
    if len(blocks) == 0:
        return FilterTables(like.new_zeros(0, DEGREE + 1, 1), *place)
    return FilterTables(spline_coefficients(basis, blocks, knots, matrix, like.dtype, kind, place[1]), *place)


@torch.no_grad()
def frozen_coefficients(
    basis: GaussianSmearing | BesselBasis, blocks: nn.ModuleList, cutoff: float, num_filters: int, spacing: float
) -> Tensor:
    """Tables of the filter networks, without the cutoff function, for all distances from zero to the cutoff.

    A knot lies at zero and one at the cutoff; those beyond keep the ends as accurate as the middle. Computed where the
    knots are, on the CPU: not every device has float64.

    Args:
        basis: The radial basis.
        blocks: Interaction blocks.
        cutoff: Largest distance in Angstrom.
        num_filters: Number of filters F.
        spacing: Largest distance between knots in Angstrom.

    Returns:
        Coefficients of the splines [T, K, F] float64, for :func:`frozen_tables`.
    """
    intervals = _intervals(cutoff, spacing)
    knots = torch.arange(-EXTRA_KNOTS, intervals + EXTRA_KNOTS + 1, dtype=torch.float64) * (cutoff / intervals)
    if len(blocks) == 0:
        return torch.zeros(0, frozen_rows(cutoff, spacing), num_filters)
    return spline_coefficients(basis, blocks, knots, None, torch.float64)


def frozen_tables(coefficients: Tensor, cutoff: float) -> FilterTables:
    """The tables that :func:`frozen_coefficients` made; their number of rows tells their spacing.

    Args:
        coefficients: Coefficients of the splines [T, K, F].
        cutoff: Largest distance in Angstrom.

    Returns:
        The tables.
    """
    spacing = frozen_spacing(coefficients, cutoff)
    return FilterTables(coefficients, -EXTRA_KNOTS * spacing, spacing)


def frozen_rows(cutoff: float, spacing: float) -> int:
    """Rows of frozen tables.

    Args:
        cutoff: Largest distance in Angstrom.
        spacing: Largest distance between knots in Angstrom.

    Returns:
        Number of coefficients K.
    """
    return _intervals(cutoff, spacing) + 2 * EXTRA_KNOTS + DEGREE


def _intervals(cutoff: float, spacing: float) -> int:
    return math.ceil(cutoff / spacing)


def frozen_spacing(coefficients: Tensor, cutoff: float) -> float:
    """Distance between the knots of frozen tables.

    Args:
        coefficients: Coefficients of the splines [T, K, F].
        cutoff: Largest distance in Angstrom.

    Returns:
        Spacing in Angstrom.
    """
    return cutoff / (coefficients.size(1) - DEGREE - 2 * EXTRA_KNOTS)


def check_coefficients(coefficients: Tensor, blocks: int, num_filters: int) -> Tensor:
    """Refuse tables of another network.

    Args:
        coefficients: What :func:`frozen_coefficients` may have made.
        blocks: Number of interaction blocks T.
        num_filters: Number of filters F.

    Returns:
        The coefficients.

    Raises:
        ValueError: If they have another shape.
    """
    least = DEGREE + 2 * EXTRA_KNOTS + 1
    shape = list(coefficients.shape)
    if len(shape) != 3 or shape[0] != blocks or shape[1] < least or shape[2] != num_filters:
        raise ValueError(f"frozen tables must be [{blocks}, at least {least}, {num_filters}], got {shape}")
    return coefficients
