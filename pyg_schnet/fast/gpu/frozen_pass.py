"""Energies of a frozen SchNet and their slopes on a GPU, forwards and backwards by hand: fewer launches than autograd.

The network is that of the papers, see :func:`pyg_schnet.fast.weights.has_the_papers_layers`, without a normalisation.
All may be recorded: no value is looked at.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from pyg_schnet.fast import convolution
from pyg_schnet.fast.bypass import may_stand_in
from pyg_schnet.fast.gpu.edge_order import made_here
from pyg_schnet.fast.operands import Form, Pairs
from pyg_schnet.fast.plain import LOOPED
from pyg_schnet.fast.tables import frozen_tables
from pyg_schnet.fast.weights import has_the_papers_layers, watched
from pyg_schnet.graph import Edges
from pyg_schnet.segments import add_up, in_segments


def energies_and_slopes(
    model: Any, z: Tensor, structures: tuple[Tensor, int], edges: Edges
) -> tuple[Tensor, Tensor] | None:
    """Energies, references included, and slopes.

    Args:
        model: A SchNet whose filters are frozen.
        z: Atomic numbers [N].
        structures: Structure of each atom [N], and their number B.
        edges: The edges.

    Returns:
        Energies [B] float64, and the derivatives of their sum with respect to ``edges.edge_vec`` [P, 3]; ``None``
        where kernels are missing, or the model has other layers, a normalisation, a mean over atoms, or hooks.
    """
    vec = edges.edge_vec.detach()
    loops = convolution.gpu_loops() if in_segments(vec) and vec.dtype in LOOPED else None
    if loops is None or edges.edge_pair is None or vec.size(0) == 0 or not _suits(model):
        return None
    model.follow_weights()
    with torch.no_grad():
        return _both_ways(loops, model, z, structures, edges, vec)


def _suits(model: Any) -> bool:
    blocks, output = list(model.interactions), model.output
    if not blocks or not has_the_papers_layers(model, blocks) or not may_stand_in(model) or watched(model, blocks):
        return False
    weights = [*model.embedding.parameters(), *output.parameters(), *model.interactions.parameters()]
    alike = all(one.dtype == model.filter_tables.dtype for one in weights)
    return alike and blocks[0].conv.norm is None and model.readout.reference == "add"


def _both_ways(
    loops: Any, model: Any, z: Tensor, structures: tuple[Tensor, int], edges: Edges, vec: Tensor
) -> tuple[Tensor, Tensor]:
    blocks, tables = model.blocks, frozen_tables(model.filter_tables, model.cutoff).each()
    distance, atoms, steps = made_here(vec.norm(dim=1)), z.size(0), len(blocks)
    factor, along = _factor(blocks[0].conv, distance)
    pairs = Pairs(distance, factor, edges.pair_index[1], edges.pair_index[0])
    form, act = Form(tables[0].start, tables[0].spacing, 0, True), model.output.act
    x, kept = model.embedding(z), []
    for step, block in enumerate(blocks):
        h, c = x @ block.conv.lin1.weight.t(), tables[step % len(tables)].coefficients
        u = block.conv.lin2(loops.nodes(h, c, pairs, atoms, form))
        x = block.lin(softplus(u, threshold=act.linear_from).sub_(act.shift)).add_(x)
        kept.append((block, h, c, u))
    u = model.output.lin1(x)
    y = model.output.lin2(softplus(u, threshold=act.linear_from).sub_(act.shift))  # [N, 1]
    reference, std = model.reference, model.reference.std
    energy = add_up(torch.addcmul(reference(z), y, std), *structures, ascending=True).squeeze(-1)
    last = torch.mul(model.output.lin2.weight, std, out=torch.empty_like(model.output.lin2.weight))
    g = _through(last.expand_as(u), u, act.linear_from) @ model.output.lin1.weight  # [N, F]
    slopes = vec.new_empty(2, steps, vec.size(0))  # with respect to factors and to distances, of each step
    for step in reversed(range(steps)):
        block, h, c, u = kept[step]
        of_sums = _through(g @ block.lin.weight, u, act.linear_from) @ block.conv.lin2.weight
        loops.edges_and_slopes(of_sums, h, c, pairs, form, slopes[0, step], slopes[1, step])
        if step:
            of_h = loops.nodes(of_sums, c, pairs, atoms, form)
            g = torch.addmm(g, of_h, block.conv.lin1.weight)
    of_factor, of_distance = slopes.sum(1)
    if factor is not None and along is not None:
        with torch.enable_grad():
            (by_factor,) = torch.autograd.grad(along[0], along[1], of_factor)
        of_distance = torch.addcmul(by_factor, factor, of_distance)
    return energy, (of_distance / distance).unsqueeze(1) * vec


def _factor(conv: Any, distance: Tensor) -> tuple[Tensor | None, tuple[Tensor, Tensor] | None]:
    """Cutoff function, and what it takes to differentiate it."""
    with torch.enable_grad():
        own = distance.detach().requires_grad_()
        factor = conv.factor(own)
    return (None, None) if factor is None else (factor.detach(), (factor, own))


def _through(g: Tensor, u: Tensor, linear_from: float) -> Tensor:
    """Gradient with respect to what an activation was given."""
    slope: Tensor = torch.ops.aten.softplus_backward(g, u, 1.0, linear_from)
    return slope
