"""Energies of structures and their slopes in one compiled pass, and all gradients of weights in a second.

A step of training on energies and forces goes forwards, backwards to the forces, and through both once more for the
gradients of the weights. For a batch of small structures autograd takes as long for its records as the sums do, and
threads wait for each other at every step. Here small structures are done in groups, which threads share, each in one
compiled call for either pass; large ones in tiles, layer by layer. Between the passes, features stay in memory.
Gradients of tables go on to the filter networks by autograd. Inference is the first pass, with nothing kept.

Sums over structures are done in parts whose number does not depend on the threads, so neither do the results.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from pyg_schnet.compat import phase
from pyg_schnet.fast import convolution
from pyg_schnet.fast.bspline import FilterTable
from pyg_schnet.fast.groups import energies_of
from pyg_schnet.fast.plain import is_plain
from pyg_schnet.fast.tabulated import TabulatedFilter
from pyg_schnet.fast.tiles import Division, divide
from pyg_schnet.fast.weights import LocatedWeights, alike, locate, with_knots
from pyg_schnet.graph import Edges, can_inspect
from pyg_schnet.ops import gradient

#: Names of the weights of a block and of the output network, in the order in which loops know them.
_BLOCK = ("conv.lin1.weight", "conv.lin2.weight", "conv.lin2.bias", "lin.weight", "lin.bias")
_OUTPUT = ("lin1.weight", "lin1.bias", "lin2.weight", "lin2.bias")


def energies_and_slopes(
    model: Any, z: Tensor, batch: Tensor, batch_size: int, edges: Edges, differentiable: bool
) -> tuple[Tensor, Tensor] | None:
    """Energies without their references, and slopes, of structures.

    Args:
        model: A SchNet.
        z: Atomic numbers [N].
        batch: Structure of each atom [N].
        batch_size: Number of structures B.
        edges: The edges.
        differentiable: True if weights are to have gradients; a frozen model has none.

    Returns:
        Energies [B, 1] float64, and the derivatives of their sum with respect to ``edges.edge_vec`` [P, 3], both
        differentiable with respect to the weights, any number of times; ``None`` unless filters come from tables, the
        model has the papers' layers, one target and a sum or mean over atoms, on a CPU with the compiled loops,
        and nobody differentiates through their positions. Weights have gradients only if a
        normalisation, if any, does not depend on distances.
    """
    if not _suits(model, batch, edges):
        return None
    if model.filter_tables is not None:
        return _with_frozen_tables(model, z, batch, batch_size, edges)
    distance = edges.edge_vec.detach().norm(dim=1)
    located = locate(model) if model.wants_tables(distance) else None
    division = None if located is None else divide(model, located, batch, edges)
    if located is None or division is None:
        return None
    with torch.enable_grad():
        norm = _normalization(model, edges, distance.requires_grad_(), batch.numel())
    if norm is not None and norm.requires_grad:
        return None
    known = distance.detach(), located, division, norm
    return _with_new_tables(model, z, batch, batch_size, edges, known, differentiable)


def _normalization(model: Any, edges: Edges, distance: Tensor, atoms: int) -> Tensor | None:
    """Factor of each atom [N, 1]; ``None`` for ones."""
    norm: Tensor | None = model.interactions[0].conv.normalize(edges.edge_index, distance, edges.edge_pair, atoms)
    return norm


def _with_frozen_tables(
    model: Any, z: Tensor, batch: Tensor, batch_size: int, edges: Edges
) -> tuple[Tensor, Tensor] | None:
    """By frozen tables, nothing kept for gradients of weights."""
    located = locate(model)
    division = None if located is None else divide(model, located, batch, edges)
    if located is None or division is None:
        return None
    vec, norm = edges.edge_vec.detach(), None
    if located.convolutions[0].norm is not None:
        with torch.enable_grad():
            distance = vec.norm(dim=1).requires_grad_()
            norm = _normalization(model, edges, distance, batch.numel())
    with torch.no_grad(), phase("pass forwards"):
        x, slope = model.embedding(z), torch.empty_like(vec)
        contributions, of_norm = division.forward_and_backward(located.network, x, norm, slope)
    if norm is not None and norm.requires_grad:
        radial = torch.autograd.grad(norm, distance, torch.from_numpy(of_norm).view_as(norm))[0]
        slope += (radial / distance.detach()).unsqueeze(1) * vec
    return energies_of(contributions, batch, batch_size), slope


def _with_new_tables(
    model: Any,
    z: Tensor,
    batch: Tensor,
    batch_size: int,
    edges: Edges,
    known: tuple[Tensor, LocatedWeights, Division, Tensor | None],
    differentiable: bool,
) -> tuple[Tensor, Tensor] | None:
    """By tables that are made for the batch; ``None`` where they cannot be made."""
    distance, located, division, norm = known
    with torch.set_grad_enabled(differentiable):
        tables = model.new_tables(distance)
        if tables is None:
            return None
        *blocks, output = located.weights
        of_blocks = ([*block, table.coefficients] for block, table in zip(blocks, tables.each(), strict=True))
        inputs = [model.embedding(z), *(weight for block in of_blocks for weight in block), *output]
        shapes, (_, start, spacing) = [tensor.shape for tensor in inputs], tables
        what = PassInputs(model, edges, batch, batch_size, norm, located, division, start, spacing, shapes)
        energy, slope = _EnergiesAndSlopes.apply(what, *inputs)
    return energy, slope


def _suits(model: Any, batch: Tensor, edges: Edges) -> bool:
    """True if all are ordinary numbers on a CPU."""
    vec = edges.edge_vec
    if not is_plain(vec) or not can_inspect(vec) or not can_inspect(batch) or convolution.cpu_loops() is None:
        return False
    return vec.dtype == model.embedding.weight.dtype and not torch.is_autocast_enabled("cpu")


class PassInputs(NamedTuple):
    """What a pass needs beside the weights."""

    model: Any
    edges: Edges
    batch: Tensor
    batch_size: int
    norm: Tensor | None
    located: LocatedWeights
    division: Division
    start: float
    spacing: float
    shapes: list[torch.Size]

    def fits(self, inputs: list[Tensor]) -> bool:
        """True if first features, weights and tables still are as loops can read them."""
        return [tensor.shape for tensor in inputs] == self.shapes and alike(inputs)

    def network(self, weights: tuple[Tensor, ...]) -> Any:
        """The network as loops see it, with weights of the shapes that were located, to be kept where they are."""
        network, own = self.located.network, len(weights) // 6
        places = np.array([weight.data_ptr() for weight in weights])
        repeated = places[:-4].reshape(own, 6)[np.arange(len(network.blocks)) % own]
        located = network._replace(blocks=repeated, output=places[-4:].copy())
        return with_knots(located, self.table(weights[5]))

    def table(self, coefficients: Tensor) -> FilterTable:
        """The table with such coefficients."""
        return FilterTable(coefficients, self.start, self.spacing)


class _EnergiesAndSlopes(torch.autograd.Function):
    """From first features, weights and tables to energies and slopes."""

    @staticmethod
    def forward(ctx: Any, what: PassInputs, x: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        network, slope = what.network(weights), torch.empty_like(what.edges.edge_vec)
        memory = what.division.memory(network, x) if any(ctx.needs_input_grad) else None
        with phase("pass forwards"):
            contributions, _ = what.division.forward_and_backward(network, x, what.norm, slope, memory)
        ctx.what = what
        ctx.save_for_backward(memory, x, *weights)
        return energies_of(contributions, what.batch, what.batch_size), slope

    @staticmethod
    def backward(ctx: Any, of_energy: Tensor, of_slope: Tensor) -> tuple[Tensor | None, ...]:
        what, (memory, *inputs), needed = ctx.what, ctx.saved_tensors, ctx.needs_input_grad[1:]
        if not what.fits(inputs):
            raise RuntimeError("weights have been replaced since energies and forces were computed; compute them anew")
        if torch.is_grad_enabled():  # gradients are to be differentiated again
            wanted = [tensor for tensor, need in zip(inputs, needed, strict=True) if need]
            results = _reference(what, *inputs)
            found = iter(torch.autograd.grad(results, wanted, (of_energy, of_slope), create_graph=True))
            return None, *(next(found) if need else None for need in needed)
        with phase("pass backwards"):
            given = of_energy[:, 0][what.batch], of_slope
            slopes = what.division.gradients(what.network(tuple(inputs[1:])), tuple(inputs), what.norm, memory, given)
        return None, *(slope if need else None for slope, need in zip(slopes, needed, strict=True))


def _reference(what: PassInputs, x: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
    """The same by the layers of the model with these weights, which autograd differentiates as often as it is asked."""
    model, (edge_index, edge_vec, edge_pair, pair_index) = what.model, what.edges
    vec = edge_vec.detach().requires_grad_()
    distance, own = vec.norm(dim=1), len(model.interactions)
    pairs = pair_index, distance, model.interactions[0].conv.factor(distance), edge_pair is not None
    for step, block in enumerate(model.blocks):
        *dense, coefficients = weights[6 * (step % own) :][:6]
        read = TabulatedFilter(what.table(coefficients), *pairs)
        x = x + functional_call(
            block, dict(zip(_BLOCK, dense, strict=True)), (x, edge_index, distance, read, edge_pair)
        )
    y = functional_call(model.output, dict(zip(_OUTPUT, weights[-4:], strict=True)), x)
    contributions = y[:, 0].double() * torch.from_numpy(what.division.shares)
    energy = contributions.new_zeros(what.batch_size).index_add(0, what.batch, contributions)
    return energy.unsqueeze(1), gradient(energy, vec, create_graph=True)
