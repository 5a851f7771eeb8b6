"""Features of atoms after all interactions in one compiled call, and the gradients of all weights in a second.

Training on properties asks for no derivatives with respect to positions. What is between the first features and the
output network then is one compiled call forwards and one backwards: any head, readout and number of targets takes the
features, and any loss may follow. Atoms are done in groups between which there are no pairs; threads share the groups.
Gradients of tables go on to the filter networks by autograd.

Sums over atoms are done in parts whose number does not depend on the threads, so neither do the results.
"""

import functools
from typing import Any, NamedTuple

import torch
from numpy import ndarray
from torch import Tensor
from torch.func import functional_call

from pyg_schnet.compiling import loops_of
from pyg_schnet.fast import convolution, ways
from pyg_schnet.fast.groups import pairs_of
from pyg_schnet.fast.plain import has_numbers, is_plain
from pyg_schnet.fast.tables import FilterTables
from pyg_schnet.fast.tabulated import TabulatedFilter, TabulatedFilters
from pyg_schnet.fast.weights import alike, locate_blocks
from pyg_schnet.graph import Edges, can_inspect
from pyg_schnet.sizes import SIZES

#: Names of the weights of a block, in the order in which loops know them.
_BLOCK = ("conv.lin1.weight", "conv.lin2.weight", "conv.lin2.bias", "lin.weight", "lin.bias")


class _Given(NamedTuple):
    """What a pass needs beside first features, tables and weights.

    Attributes:
        model: The model.
        edges: The edges.
        edge_weight: Distances of the pairs in Angstrom [P].
        factor: Cutoff function of each pair [P]; ``None`` for ones.
        norm: Factor of each atom [N, 1]; ``None`` for ones.
        tables: Filters of the blocks.
        groups: First atom of each group, and the number of atoms [C + 1].
        pairs: Targets and sources as loops take them [P].
    """

    model: Any
    edges: Edges
    edge_weight: Tensor
    factor: Tensor | None
    norm: Tensor | None
    tables: FilterTables
    groups: ndarray
    pairs: tuple[ndarray, ndarray]


def features_at_once(model: Any, x: Tensor, edges: Edges, edge_weight: Tensor) -> Tensor | None:
    """Features of the atoms after all interactions.

    Args:
        model: A model of interaction blocks.
        x: First features [N, A].
        edges: The edges.
        edge_weight: Distances of the pairs in Angstrom [P].

    Returns:
        Features [N, A], differentiable with respect to the first features and to all weights, any number of times;
        ``None`` unless filters come from tables, the blocks are the papers', all is on a CPU with the compiled loops,
        atoms interact in small groups, and nobody differentiates with respect to distances.
    """
    if not ways.enabled("pass") or not _suits(model, x, edge_weight) or not model.reads_tables(edge_weight):
        return None
    weights = [weight for block in locate_blocks(model) for weight in block]
    if not weights or not all(map(has_numbers, weights)) or (groups := _groups(edges, len(x))) is None:
        return None
    first = model.interactions[0].conv
    factor = first.factor(edge_weight)
    norm = first.normalize(edges.edge_index, edge_weight, edges.edge_pair, len(x))
    tables = model.tables(edge_weight)
    if tables is None or any(one is not None and one.requires_grad for one in (factor, norm)):
        return None
    if not alike([*weights, x, *(one for one in (edge_weight, factor, norm, tables.coefficients) if one is not None)]):
        return None
    ways.note("pass")
    given = _Given(model, edges, edge_weight.detach(), factor, norm, tables, *groups)
    features: Tensor = _Features.apply(given, x, tables.coefficients, *weights)
    return features


def _suits(model: Any, x: Tensor, edge_weight: Tensor) -> bool:
    """True if all are ordinary numbers on a CPU, and nobody asks for derivatives with respect to distances."""
    if torch.compiler.is_compiling() or edge_weight.requires_grad or not can_inspect(edge_weight):
        return False
    if type(model).expanded is not TabulatedFilters.expanded or "expanded" in vars(model):  # nobody would ask it
        return False
    if not is_plain(edge_weight) or not is_plain(x) or convolution.cpu_loops() is None:
        return False
    return has_numbers(edge_weight) and has_numbers(x) and not torch.is_autocast_enabled("cpu")


def _groups(edges: Edges, atoms: int) -> tuple[ndarray, tuple[ndarray, ndarray]] | None:
    """Atoms that are done at once, and the ends of pairs; ``None`` if more interact than a group may have."""
    _, target, source = pairs_of(edges, atoms)
    groups = _sorting().groups_of(target, source, atoms, SIZES.atoms_per_group)
    return None if (groups[1:] - groups[:-1]).max() > SIZES.max_atoms else (groups, (target, source))


@functools.cache
def _loops() -> Any:
    """The compiled loops of :mod:`pyg_schnet.fast.cpu.features`."""
    return loops_of("pyg_schnet.fast.cpu.features")


@functools.cache
def _sorting() -> Any:
    """Those of :mod:`pyg_schnet.fast.cpu.sorted_pairs`."""
    return loops_of("pyg_schnet.fast.cpu.sorted_pairs")


class _Features(torch.autograd.Function):
    """From first features, tables and weights to features."""

    @staticmethod
    def forward(ctx: Any, given: _Given, x: Tensor, coefficients: Tensor, *weights: Tensor) -> Tensor:
        result, kept = _loops().forwards(given, x, coefficients, weights, keep=any(ctx.needs_input_grad))
        ctx.given, ctx.kept = given, kept
        ctx.save_for_backward(x, coefficients, *weights)
        features: Tensor = result
        return features

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        inputs, needed = ctx.saved_tensors, ctx.needs_input_grad[1:]
        if torch.is_grad_enabled() or not is_plain(g):  # gradients are to be differentiated again
            wanted = [tensor for tensor, need in zip(inputs, needed, strict=True) if need]
            result = _reference(ctx.given, *inputs)
            found = iter(torch.autograd.grad(result, wanted, g, create_graph=torch.is_grad_enabled()))
            return None, *(next(found) if need else None for need in needed)
        slopes = _loops().backwards(ctx.given, g, ctx.kept)
        return None, *(slope if need else None for slope, need in zip(slopes, needed, strict=True))


def _reference(given: _Given, x: Tensor, coefficients: Tensor, *weights: Tensor) -> Tensor:
    """The same by the layers of the model with these weights, which autograd differentiates as often as it is asked."""
    (edge_index, _, edge_pair, pair_index), distance = given.edges, given.edge_weight
    tables, own = given.tables._replace(coefficients=coefficients).each(), len(coefficients)
    with torch.enable_grad():
        for step, block in enumerate(given.model.blocks):
            dense = dict(zip(_BLOCK, weights[5 * (step % own) :][:5], strict=True))
            read = TabulatedFilter(tables[step % own], pair_index, distance, given.factor, edge_pair is not None)
            x = x + functional_call(block, dense, (x, edge_index, distance, read, edge_pair))
    return x
