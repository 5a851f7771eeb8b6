"""Energies and their slopes of a frozen SchNet in one go, for small systems.

With a few hundred pairs, Python and the bookkeeping of autograd take longer than the sums. Here the network is written
out, forwards and backwards, as compiled loops that are called once for each block. What comes out are the energies and
their derivatives with respect to the vectors of pairs, of which forces and stresses are sums; whoever needs other
derivatives takes the ordinary network.
"""

import importlib
from collections.abc import Iterator
from operator import getitem, is_
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from pyg_schnet.models.edges import Edges
from pyg_schnet.models.filter_tables import frozen_tables
from pyg_schnet.nn import (
    Atomwise,
    CFConv,
    CosineCutoff,
    InteractionBlock,
    MollifierCutoff,
    NoCutoff,
    PolynomialCutoff,
    Readout,
    ShiftedSoftplus,
)
from pyg_schnet.ops import trilinear

#: Atoms above which torch's dense layers, which use all threads, save more than this pass.
SMALL = 256
#: Cutoff functions by the numbers that the loops know, see :mod:`pyg_schnet.ops.kernels.cutoff`.
_CUTOFFS = {NoCutoff: 0, CosineCutoff: 1, MollifierCutoff: 2, PolynomialCutoff: 3}


def frozen_pass(model: Any, z: Tensor, batch: Tensor, batch_size: int, edges: Edges) -> tuple[Tensor, Tensor] | None:
    """Energies without their references, and slopes, of a few atoms.

    Args:
        model: A frozen SchNet.
        z: Atomic numbers [N].
        batch: Structure of each atom [N].
        batch_size: Number of structures B.
        edges: The edges.

    Returns:
        Energies [B, 1] float64, and the derivatives of their sum with respect to ``edges.edge_vec`` [P, 3]; ``None``
        unless the model has the papers' layers, one target and a sum or mean over atoms, on a CPU with the compiled
        loops, and atoms are few.
    """
    plan = _plan_of(model) if _suits(model, batch, edges) else None
    if plan is None:
        return None
    vec, conv, atoms = edges.edge_vec.detach(), model.interactions[0].conv, batch.numel()
    norm = None
    if conv.norm is not None:
        with torch.enable_grad():
            distance = vec.norm(dim=1).requires_grad_()
            norm = conv.normalize(edges.edge_index, distance, edges.edge_pair, atoms)
    structures = batch.numpy()
    shares = np.full(atoms, float(model.reference.std))
    if model.readout.reference == "mean":
        shares /= np.bincount(structures)[structures]
    cpu, contributions, slope = trilinear.cpu_loops(), np.empty(atoms), torch.empty_like(vec)
    _, _, target, source = cpu.edges_of(vec[:, 0], None, edges.pair_index[1], edges.pair_index[0], atoms, atoms)
    x, pairs = cpu.flat(torch.embedding(model.embedding.weight.detach(), z)), (cpu.flat(vec), target, source)
    norms = x[:0] if norm is None else cpu.flat(norm)
    of_norm = np.zeros_like(norms)
    slopes = cpu.flat(slope), of_norm
    plan.loops(contributions, slopes, x, plan.network, pairs, norms, shares, edges.edge_pair is not None)
    if norm is not None and norm.requires_grad:
        radial = torch.autograd.grad(norm, distance, torch.from_numpy(of_norm).view_as(norm))[0]
        slope += (radial / distance.detach()).unsqueeze(1) * vec
    energy = np.bincount(structures, contributions, batch_size)[:, None]
    return torch.from_numpy(energy), slope


def _suits(model: Any, batch: Tensor, edges: Edges) -> bool:
    """Whether atoms are few, and ordinary numbers on a CPU."""
    vec = edges.edge_vec
    if batch.numel() > SMALL or len(vec) == 0 or vec.device.type != "cpu" or trilinear.cpu_loops() is None:
        return False
    if vec.dtype not in {torch.float32, torch.float64} or vec.dtype != model.filter_tables.dtype:
        return False
    return type(vec) is Tensor and not torch.compiler.is_compiling() and not torch.is_autocast_enabled("cpu")


class _Plan(NamedTuple):
    """What stays the same from call to call, and by what one sees whether it did.

    Attributes:
        holders: Dictionaries of modules and parameters.
        names: A key of each.
        values: What was there.
        listeners: Hooks, which must be empty.
        convolutions: Layers that must not be asked to explain themselves.
        weights: All weights and tables.
        addresses: Where they were.
        loops: The compiled loops.
        network: Addresses and sizes for them.
    """

    holders: list[dict[str, Any]]
    names: list[str]
    values: list[Any]
    listeners: list[dict[int, Any]]
    convolutions: list[CFConv]
    weights: list[Tensor]
    addresses: list[int]
    loops: Any
    network: Any


#: The plan of each model.
_plans: WeakKeyDictionary[nn.Module, _Plan] = WeakKeyDictionary()


def _plan_of(model: Any) -> _Plan | None:
    """The plan for a model; ``None`` for one with other layers than the papers'."""
    plan = _plans.get(model)
    if plan is not None and _holds(plan):
        return plan
    _plans.pop(model, None)
    blocks = list(model.interactions)
    if not blocks or not _has_the_papers_layers(model, blocks):
        return None
    plan = _new_plan(model, blocks)
    if plan is None or not _holds(plan):
        return None
    _plans[model] = plan
    return plan


def _has_the_papers_layers(model: Any, blocks: list[Any]) -> bool:
    """Whether nobody has replaced a layer by one that the loops do not know."""
    readout, every = model.readout, (*blocks, model.output)
    if model.out_channels != 1 or type(readout) is not Readout or readout.reference == "once":
        return False
    if type(model.output) is not Atomwise or type(blocks[0].conv.cutoff) not in _CUTOFFS:
        return False
    return all(map(_is_plain, every)) and len({(layers.act.shift, layers.act.linear_from) for layers in every}) == 1


def _holds(plan: _Plan) -> bool:
    """Whether all is where it was, and nobody listens to layers or masks messages."""
    try:
        same = all(map(is_, map(getitem, plan.holders, plan.names), plan.values))
    except KeyError:
        return False
    explained = any(plan.listeners) or any(conv.explain for conv in plan.convolutions)
    return same and not explained and [weight.data_ptr() for weight in plan.weights] == plan.addresses


def _new_plan(model: Any, blocks: list[Any]) -> _Plan | None:
    """The plan for plain layers; ``None`` if weights are not in one piece."""
    cpu, loops = trilinear.cpu_loops(), importlib.import_module("pyg_schnet.ops.kernels.network")
    tables = frozen_tables(model.filter_tables, model.cutoff)
    every = [_weights(layers) for layers in (*blocks, model.output)]
    weights = [weight for part in every for weight in part] + [model.filter_tables]
    if not all(weight.is_contiguous() for weight in weights):
        return None
    of_blocks = [[*part, table.coefficients] for part, table in zip(every, tables, strict=False)]
    places = [[weight.data_ptr() for weight in part] for part in (*of_blocks, every[-1])]
    repeated = [places[block % len(blocks)] for block in range(model.num_interactions)]
    (rows, width), start, spacing = tables[0].coefficients.shape, *tables[0][1:]
    sizes = model.embedding.embedding_dim, width, rows, model.output.lin1.out_features
    act = model.output.act
    cutoff = blocks[0].conv.cutoff  # one for all
    network = loops.Network(
        blocks=np.array(repeated),
        output=np.array(places[-1]),
        sizes=sizes,
        activation=(float(act.shift), float(act.linear_from)),
        cutoff=(_CUTOFFS[type(cutoff)], float(getattr(cutoff, "cutoff", model.cutoff)), getattr(cutoff, "exponent", 0)),
        table=(cpu.place_of(start, spacing, rows), cpu.pieces_at(0, spacing), cpu.pieces_at(1, spacing)),
    )
    holders, names, values = map(list, zip(*_held(model, blocks), strict=True))
    return _Plan(
        holders,
        names,
        values,
        [hooks for module in _called(model, blocks) for hooks in _hooks(module)],
        [block.conv for block in blocks],
        weights,
        [weight.data_ptr() for weight in weights],
        loops.pass_both_ways,
        network,
    )


def _held(model: Any, blocks: list[Any]) -> Iterator[tuple[dict[str, Any], str, Any]]:
    """Dictionaries, keys and values on which a plan depends."""
    output, first = model.output, blocks[0].conv
    yield from _entries(model, "embedding", "interactions", "output", "readout", "filter_tables")
    yield from _entries(model.embedding, "weight")
    yield from _entries(model.interactions, *model.interactions._modules)
    yield from _entries(first, "cutoff", "norm")
    yield from _entries(first.cutoff, *vars(first.cutoff).keys() & {"cutoff", "exponent"})
    yield from _entries(output, "lin1", "lin2", "act")
    for block in blocks:
        yield from _entries(block, "conv", "lin", "act")
        yield from _entries(block.conv, "lin1", "lin2")
    for layers in (*blocks, output):
        yield from _entries(layers.act, "shift", "linear_from")
        for layer in _dense(layers):
            yield from _entries(layer, "weight", "bias")


def _entries(module: nn.Module, *names: str) -> Iterator[tuple[dict[str, Any], str, Any]]:
    for name in names:
        places: tuple[dict[str, Any], ...] = (module._modules, module._parameters, module._buffers, vars(module))
        place = next(place for place in places if name in place)
        yield place, name, place[name]


def _called(model: Any, blocks: list[Any]) -> Iterator[nn.Module]:
    """Modules whose hooks the ordinary network would call."""
    yield from (model.embedding, model.output, model.readout)
    for layers in (*blocks, model.output):
        yield from (layers, layers.act, *_dense(layers))


def _hooks(module: nn.Module) -> list[dict[int, Any]]:
    return [module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks]


def _dense(layers: Any) -> list[Any]:
    """The atom-wise layers of a block or of the output."""
    return [layers.conv.lin1, layers.conv.lin2, layers.lin] if hasattr(layers, "conv") else [layers.lin1, layers.lin2]


def _weights(layers: Any) -> list[Tensor]:
    return [weight for one in _dense(layers) for weight in one._parameters.values() if weight is not None]


def _is_plain(layers: Any) -> bool:
    """Whether a block or the output has the layers of the papers."""
    block = type(layers) is InteractionBlock and type(layers.conv) is CFConv
    if not block and type(layers) is not Atomwise:
        return False
    biases = [one.bias is not None for one in _dense(layers) if type(one) is nn.Linear]
    return biases == ([False, True, True] if block else [True, True]) and type(layers.act) is ShiftedSoftplus
