"""Energies and their slopes of a frozen SchNet in one go, for small systems.

With a few hundred pairs, Python and the bookkeeping of autograd take longer than the sums. Here the network is written
out, forwards and backwards, as compiled loops that are called once for each block. What comes out are the energies and
their derivatives with respect to the vectors of pairs, of which forces and stresses are sums; whoever needs other
derivatives takes the ordinary network.
"""

import importlib
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor, nn

from pyg_schnet.models.edges import Edges
from pyg_schnet.models.filter_tables import frozen_tables
from pyg_schnet.nn import Atomwise, CFConv, InteractionBlock, Readout, ShiftedSoftplus
from pyg_schnet.ops import FilterTable, trilinear

#: Atoms above which torch's dense layers, which use all threads, save more than this pass.
SMALL = 256
#: Of each model, where its weights are and the arrays that share their memory.
_networks: WeakKeyDictionary[nn.Module, tuple[list[int], Any]] = WeakKeyDictionary()


def can_pass(model: Any, batch: Tensor, edges: Edges) -> bool:
    """Whether the pass is for this model and these atoms.

    Args:
        model: A frozen SchNet.
        batch: Structure of each atom [N].
        edges: The edges.

    Returns:
        True for models with the papers' layers, one target and a sum or mean over atoms, on CPUs with the
        compiled loops, and a few atoms.
    """
    vec = edges.edge_vec
    if batch.size(0) > SMALL or len(vec) == 0 or vec.device.type != "cpu" or trilinear.cpu_loops() is None:
        return False
    if vec.dtype not in {torch.float32, torch.float64} or vec.dtype != model.filter_tables.dtype:
        return False
    if type(vec) is not Tensor or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    readout, blocks, output = (model._modules[name] for name in ("readout", "interactions", "output"))
    if model.out_channels != 1 or type(readout) is not Readout or readout.reference == "once":
        return False
    return len(blocks) > 0 and type(output) is Atomwise and all(_is_plain(layers) for layers in (*blocks, output))


def frozen_pass(model: Any, z: Tensor, batch: Tensor, batch_size: int, edges: Edges) -> tuple[Tensor, Tensor]:
    """Energies without their references, and slopes.

    Args:
        model: A SchNet for which :func:`can_pass` is true.
        z: Atomic numbers [N].
        batch: Structure of each atom [N].
        batch_size: Number of structures B.
        edges: The edges.

    Returns:
        Energies [B, 1] float64, and the derivatives of their sum with respect to ``edges.edge_vec`` [P, 3].
    """
    vec, conv = edges.edge_vec.detach(), model.interactions[0].conv
    with torch.enable_grad():  # cutoff function and normalisation, which all blocks share
        distance = vec.norm(dim=-1).requires_grad_()
        factor = conv.factor(distance)
        norm = conv.normalize(edges.edge_index, distance, edges.edge_pair, z.size(0))
    with torch.no_grad():
        x = trilinear.cpu_loops().flat(model.embedding(z))
    structures = batch.numpy()
    shares = np.full(len(structures), float(model.reference.std))
    if model.readout.reference == "mean":
        shares /= np.bincount(structures)[structures]
    tables = frozen_tables(model.filter_tables, model.cutoff)
    contributions, slopes = _energies(model, x, distance, factor, norm, edges, tables, shares)
    energy = np.bincount(structures, contributions, batch_size)[:, None]
    slope = torch.from_numpy(slopes.distance)
    others = (factor, slopes.weight), (norm, slopes.norm[:, None])
    found = [(one, torch.from_numpy(by)) for one, by in others if one is not None and one.requires_grad]
    if found:
        functions, by = zip(*found, strict=True)
        slope += torch.autograd.grad(functions, distance, by)[0]
    return torch.from_numpy(energy), (slope / distance.detach()).unsqueeze(1) * vec


def _energies(
    model: Any,
    x: ndarray,
    distance: Tensor,
    factor: Tensor | None,
    norm: Tensor | None,
    edges: Edges,
    tables: list[FilterTable],
    shares: ndarray,
) -> Any:
    """The same in terms of arrays."""
    cpu, loops = trilinear.cpu_loops(), importlib.import_module("pyg_schnet.ops.kernels.network")
    (rows, _), start, spacing = tables[0].coefficients.shape, *tables[0][1:]
    table = cpu.place_of(start, spacing, rows), (cpu.pieces_at(0, spacing), cpu.pieces_at(1, spacing))
    graph = cpu.edges_of(distance, factor, edges.pair_index[1], edges.pair_index[0], len(shares), len(shares))
    norms = graph[0][:0] if norm is None else cpu.flat(norm)
    network = _network(loops.Network, model, tables)
    return loops.energies(network, x, graph, table, norms, shares, edges.edge_pair is not None)


def _network(kind: Any, model: Any, tables: list[FilterTable]) -> Any:
    """The weights as arrays; as long as they stay where they are in memory, those of the last time."""
    every = [_weights(layers) for layers in (*model.interactions, model.output)]
    place = [weight.data_ptr() for weights in every for weight in weights] + [model.filter_tables.data_ptr()]
    known = _networks.get(model)
    if known is not None and known[0] == place:
        return known[1]
    flat, act = trilinear.cpu_loops().flat, model.output.act
    arrays = [tuple(map(flat, weights)) for weights in every]
    blocks = [(*layers, flat(table.coefficients)) for layers, table in zip(arrays, tables, strict=False)]
    blocks = [blocks[block % len(blocks)] for block in range(model.num_interactions)]
    sizes = model.embedding.embedding_dim, tables[0].coefficients.size(1)
    network = kind(blocks, arrays[-1], (float(act.shift), float(act.linear_from)), sizes)
    if all(weight.is_contiguous() for weights in every for weight in weights):  # else the arrays are copies
        _networks[model] = place, network
    return network


def _dense(layers: Any) -> list[Any]:
    """The atom-wise layers of a block or of the output, past what modules do at each access."""
    modules = layers._modules
    if "conv" not in modules:
        return [modules["lin1"], modules["lin2"]]
    return [modules["conv"]._modules["lin1"], modules["conv"]._modules["lin2"], modules["lin"]]


def _weights(layers: Any) -> list[Tensor]:
    return [weight for one in _dense(layers) for weight in one._parameters.values() if weight is not None]


def _is_plain(layers: Any) -> bool:
    """Whether nobody has replaced a layer, listens to it or masks its messages."""
    conv = layers._modules.get("conv")
    block = type(layers) is InteractionBlock and type(conv) is CFConv and not conv.explain
    if not block and type(layers) is not Atomwise:
        return False
    dense, act = _dense(layers), layers._modules["act"]
    biases = [one._parameters["bias"] is not None for one in dense if type(one) is nn.Linear]
    plain = biases == ([False, True, True] if block else [True, True]) and type(act) is ShiftedSoftplus
    return plain and not any(_hooked(module) for module in (layers, act, *dense))


def _hooked(module: nn.Module) -> bool:
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(hooks)
