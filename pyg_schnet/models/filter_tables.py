"""Filters of a whole batch from tables instead of one network evaluation for every pair."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pyg_schnet.nn import BesselBasis, GaussianSmearing
from pyg_schnet.ops import FilterTable, filter_table, knot_spacing

#: Values of the argument ``filters`` of a model.
FILTERS = ("exact", "table", "auto")


def worth_a_table(basis: GaussianSmearing | BesselBasis, distance: Tensor) -> bool:
    """Whether a batch has so many pairs that a table takes less time: at least twice its knots.

    Args:
        basis: The radial basis.
        distance: Distances of the pairs in Angstrom [P].

    Returns:
        True on a CPU with that many pairs.
    """
    if distance.device.type != "cpu" or distance.numel() < 64:
        return False
    low, high = torch.aminmax(distance.detach())
    return distance.numel() * spacing_of(basis) > 2.0 * float(high - low)


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


def filter_tables(basis: GaussianSmearing | BesselBasis, blocks: nn.ModuleList, distance: Tensor) -> list[FilterTable]:
    """Tables of the filter networks, without the cutoff function, over the distances of a batch.

    The networks are evaluated in float64 at the knots; gradients flow through the tables into their weights.

    Args:
        basis: The radial basis.
        blocks: Interaction blocks.
        distance: Distances of the pairs in Angstrom [P], at least one.

    Returns:
        A table for each block, in the dtype of the distances.
    """
    low, high = (float(end) for end in torch.aminmax(distance.detach()))
    spacing, known = spacing_of(basis), dict[str, Tensor]()

    def values_of(network: nn.Module, knots: Tensor) -> Tensor:
        if not known:  # the same knots for all blocks
            known["edge_attr"] = _in_float64(basis, knots)
        return _in_float64(network, known["edge_attr"])

    tables = []
    for block in blocks:
        function = partial(values_of, block.conv.nn)  # type: ignore[union-attr, arg-type]
        tables.append(filter_table(function, low, high, spacing, distance.dtype, distance.device))
    return tables


def _in_float64(module: nn.Module, value: Tensor) -> Tensor:
    state = dict(module.named_parameters()) | dict(module.named_buffers())
    result: Tensor = functional_call(module, {name: tensor.double() for name, tensor in state.items()}, value)
    return result
