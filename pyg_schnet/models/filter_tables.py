"""Filters from tables instead of one network evaluation for every pair: made anew for a batch, or frozen for good."""

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pyg_schnet.nn import BesselBasis, GaussianSmearing
from pyg_schnet.ops import FilterTable, interpolate, knot_spacing
from pyg_schnet.ops.filter_table import DEGREE, MARGIN

#: Values of the argument ``filters`` of a model.
FILTERS = ("exact", "table", "auto")


def worth_a_table(distance: Tensor, spacing: float) -> bool:
    """Whether a batch has so many pairs that a table takes less time: at least twice its knots.

    Args:
        distance: Distances of the pairs in Angstrom [P].
        spacing: Distance between knots in Angstrom.

    Returns:
        True on a CPU with that many pairs.
    """
    if distance.device.type != "cpu" or distance.numel() < 64:
        return False
    low, high = torch.aminmax(distance.detach())
    return distance.numel() * spacing > 2.0 * float(high - low)


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
    matrix: Tensor,
    place: tuple[float, float],
    like: Tensor,
) -> list[FilterTable]:
    """Tables of the filter networks, without the cutoff function, over the distances of a batch.

    The networks are evaluated in float64 at the knots; gradients flow through the tables into their weights.

    Args:
        basis: The radial basis.
        blocks: Interaction blocks.
        knots: All knots in Angstrom [K'] float64, see :func:`~pyg_schnet.ops.filter_table.knots_of`.
        matrix: From values there to coefficients, see :func:`~pyg_schnet.ops.filter_table.interpolation`.
        place: First knot and distance between knots in Angstrom.
        like: A tensor whose dtype the tables get.

    Returns:
        A table for each block.
    """
    edge_attr = _in_float64(basis, knots)  # the same for all blocks
    tables = []
    for block in blocks:
        values = _in_float64(block.conv.nn, edge_attr)  # type: ignore[union-attr, arg-type]
        tables.append(FilterTable((matrix @ values).to(like.dtype), *place))
    return tables


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
    intervals = math.ceil(cutoff / spacing)
    knots = torch.arange(-MARGIN, intervals + MARGIN + 1, dtype=torch.float64) * (cutoff / intervals)
    edge_attr = _in_float64(basis, knots)
    tables = [interpolate(_in_float64(block.conv.nn, edge_attr)) for block in blocks]  # type: ignore[union-attr, arg-type]
    return torch.stack(tables) if tables else torch.zeros(0, intervals + 2 * MARGIN + DEGREE, num_filters)


def frozen_tables(coefficients: Tensor, cutoff: float) -> list[FilterTable]:
    """The tables that :func:`frozen_coefficients` made; their number of rows tells their spacing.

    Args:
        coefficients: Coefficients of the splines [T, K, F].
        cutoff: Largest distance in Angstrom.

    Returns:
        A table for each block.
    """
    spacing = frozen_spacing(coefficients, cutoff)
    return [FilterTable(c, -MARGIN * spacing, spacing) for c in coefficients.unbind()]


def frozen_spacing(coefficients: Tensor, cutoff: float) -> float:
    """Distance between the knots of frozen tables.

    Args:
        coefficients: Coefficients of the splines [T, K, F].
        cutoff: Largest distance in Angstrom.

    Returns:
        Spacing in Angstrom.
    """
    return cutoff / (coefficients.size(1) - DEGREE - 2 * MARGIN)


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
    least = DEGREE + 2 * MARGIN + 1
    shape = list(coefficients.shape)
    if len(shape) != 3 or shape[0] != blocks or shape[1] < least or shape[2] != num_filters:
        raise ValueError(f"frozen tables must be [{blocks}, at least {least}, {num_filters}], got {shape}")
    return coefficients


def _in_float64(module: nn.Module, value: Tensor) -> Tensor:
    """What a module computes with its weights, and the value, in float64 where the value is."""
    state = dict(module.named_parameters()) | dict(module.named_buffers())
    wide = {name: tensor.to(value.device).double() for name, tensor in state.items()}
    result: Tensor = functional_call(module, wide, value)
    return result
