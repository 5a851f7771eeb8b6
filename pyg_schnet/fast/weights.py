"""Where the weights of a SchNet are, looked up once and kept as long as nobody changes the model.

To ask every module for its weights would take longer than to evaluate a small molecule. So the answer is kept, together
with what it depends on: modules that may be replaced, hooks that may listen, memory that may move. To see that all of
it is as it was takes a few microseconds. Values of the weights may change, they are read where they are; frozen tables
are made anew if those of the filter networks have changed.
"""

import importlib
from collections.abc import Iterator
from operator import attrgetter
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from torch import Tensor, nn

from pyg_schnet.fast import convolution
from pyg_schnet.fast.bspline import FilterTable
from pyg_schnet.fast.plain import is_plain
from pyg_schnet.fast.tables import frozen_tables
from pyg_schnet.fast.unchanged import Callees, Entry, Origin
from pyg_schnet.nn import (
    AtomEmbedding,
    Atomwise,
    CFConv,
    CosineCutoff,
    InteractionBlock,
    MollifierCutoff,
    NeighborNormalization,
    NoCutoff,
    PolynomialCutoff,
    Readout,
    ShiftedSoftplus,
    ZBLRepulsion,
)

#: Cutoff functions by the numbers that the loops know, see :mod:`pyg_schnet.fast.cpu.cutoff`.
_CUTOFFS = {NoCutoff: 0, CosineCutoff: 1, MollifierCutoff: 2, PolynomialCutoff: 3}


class LocatedWeights(NamedTuple):
    """What stays the same from call to call, and what shows that it did.

    Attributes:
        origin: Layers, options and weights, and frozen tables.
        callees: All that the ordinary network would call, to which nobody must listen.
        convolutions: Layers that must not be asked to explain themselves.
        weights: Weights of each block, and of the output network.
        loops: The compiled loops, :mod:`pyg_schnet.fast.cpu.first_order`.
        network: Addresses and sizes for them; without tables unless these are frozen, see :func:`with_tables`.
    """

    origin: Origin
    callees: Callees
    convolutions: list[CFConv]
    weights: list[list[Tensor]]
    loops: Any
    network: Any


class BlockWeights(NamedTuple):
    """The same of the interaction blocks alone, whatever reads their features.

    Attributes:
        origin: Layers, options and weights.
        callees: Layers whose calls are left out, to which nobody must listen.
        number: Number of blocks.
        convolutions: Layers that must not be asked to explain themselves.
        weights: Weights of each block; none unless all are plain.
    """

    origin: Origin
    callees: Callees
    number: int
    convolutions: list[CFConv]
    weights: list[list[Tensor]]


_EXPLAIN = attrgetter("explain")
#: The located weights of each model; weak, so that copies and files never see them.
_located: WeakKeyDictionary[nn.Module, LocatedWeights] = WeakKeyDictionary()
_located_blocks: WeakKeyDictionary[nn.Module, BlockWeights] = WeakKeyDictionary()


def locate(model: Any) -> LocatedWeights | None:
    """Where the weights of a model are, as looked up the last time if nothing has changed.

    Args:
        model: A SchNet.

    Returns:
        The located weights; ``None`` for a model with other layers than the papers', or with hooks or masks on its
        layers.
    """
    located = _located.get(model)
    if located is not None and len(located.weights) == len(model.interactions) + 1 and _unchanged(located):
        return located
    _located.pop(model, None)
    model.follow_weights()
    blocks = list(model.interactions)
    if not blocks or not has_the_papers_layers(model, blocks):
        return None
    located = _looked_up(model, blocks)
    if located is None or not _unchanged(located):
        return None
    _located[model] = located
    return located


def locate_blocks(model: Any) -> list[list[Tensor]]:
    """Where the weights of a model's interaction blocks are, as looked up the last time if nothing has changed.

    Args:
        model: A model of interaction blocks.

    Returns:
        Weights of each block's three atom-wise layers, of one kind and in one piece; none for blocks with other layers
        than the papers', or with hooks or masks on them.
    """
    located, interactions = _located_blocks.get(model), model.interactions
    known = located is not None and located.number == len(interactions)
    if located is None or not (known and located.origin.holds() and located.callees.same()):
        _located_blocks[model] = located = _looked_up_blocks(interactions)
    watched = located.callees.disturbed() or any(map(_EXPLAIN, located.convolutions))
    return [] if watched else located.weights


def _looked_up_blocks(interactions: Any) -> BlockWeights:
    """Weights of plain blocks."""
    blocks: list[Any] = list(interactions)
    held = list(_entries(interactions, *interactions._modules))
    others = BlockWeights(Origin(held), Callees(blocks), len(blocks), [], [])
    if not blocks or not all(map(_is_plain, blocks)) or not _alike(blocks):
        return others
    layers = [layer for block in blocks for layer in (block, block.conv, block.act, *_dense(block))]
    weights = [_weights(block) for block in blocks]
    size, width = weights[0][1].shape
    shapes = [(width, size), (size, width), (size,), (size, size), (size,)]
    fit = all([tuple(weight.shape) for weight in block] == shapes for block in weights)
    if not fit or any("forward" in vars(layer) for layer in layers):
        return others
    origin = Origin([*held, *(entry for block in blocks for entry in _held_by(block))])
    usable = weights if alike([weight for block in weights for weight in block]) else []
    return BlockWeights(origin, Callees(layers), len(blocks), [block.conv for block in blocks], usable)


def _alike(blocks: list[Any]) -> bool:
    """True if blocks have one cutoff function, and differ by their weights only."""
    if any(type(block.conv.norm) not in {type(None), NeighborNormalization} for block in blocks):
        return False
    first, norms = blocks[0].conv, {getattr(block.conv.norm, "kind", None) for block in blocks}
    one = all(block.conv.cutoff is first.cutoff for block in blocks) and len(norms) == 1
    return one and len({(block.act.shift, block.act.linear_from) for block in blocks}) == 1


def has_the_papers_layers(model: Any, blocks: list[Any]) -> bool:
    """True if the loops know all layers.

    Args:
        model: A SchNet.
        blocks: Its interaction blocks, one at least.

    Returns:
        True if so.
    """
    readout, every, embedding = model.readout, (*blocks, model.output), model.embedding
    if model.out_channels != 1 or type(readout) is not Readout or readout.reference == "once":
        return False
    if type(model.repulsion) not in {type(None), ZBLRepulsion}:
        return False
    if type(embedding) is not AtomEmbedding or embedding.max_norm is not None or type(model.output) is not Atomwise:
        return False
    if not all(map(_is_plain, every)) or type(blocks[0].conv.cutoff) not in _CUTOFFS:
        return False
    first, norms = blocks[0].conv, {getattr(block.conv.norm, "kind", None) for block in blocks}
    alike = all(block.conv.cutoff is first.cutoff for block in blocks) and len(norms) == 1
    if any("forward" in vars(module) for module in _called(model, blocks)):
        return False
    return alike and len({(layers.act.shift, layers.act.linear_from) for layers in every}) == 1


def watched(model: Any, blocks: list[Any]) -> bool:
    """True if somebody listens to a layer of a model, or masks its messages.

    Args:
        model: A SchNet.
        blocks: Its interaction blocks.

    Returns:
        True if so.
    """
    return Callees(_called(model, blocks)).disturbed() or any(block.conv.explain for block in blocks)


def _unchanged(located: LocatedWeights) -> bool:
    """True if all is where it was, and nobody listens to layers or masks messages."""
    if located.callees.disturbed() or any(map(_EXPLAIN, located.convolutions)):
        return False
    return located.origin.holds() and located.callees.same()


def _looked_up(model: Any, blocks: list[Any]) -> LocatedWeights | None:
    """Those of plain layers; ``None`` unless all weights are numbers of one kind, in one piece, in their place."""
    loops, embedding = importlib.import_module("pyg_schnet.fast.cpu.first_order"), model.embedding.weight
    of_blocks, output = [_weights(block) for block in blocks], _weights(model.output)
    size, width, half = embedding.size(1), len(of_blocks[0][0]), len(output[1])
    shape_of_block = [(width, size), (size, width), (size,), (size, size), (size,)]
    shapes = [*(len(blocks) * shape_of_block), (half, size), (half,), (1, half), (1,)]
    weights = [weight for part in (*of_blocks, output) for weight in part]
    watched = [*weights, embedding, *([model.filter_tables] if model.frozen else [])]
    if [tuple(weight.shape) for weight in weights] != shapes or not alike(watched):
        return None
    cutoff, act = blocks[0].conv.cutoff, model.output.act  # one for all
    places = [[weight.data_ptr() for weight in part] for part in of_blocks]
    network = loops.Network(
        embedding=(embedding.data_ptr(), embedding.size(0)),
        blocks=np.array([places[block % len(blocks)] for block in range(model.num_interactions)]),
        output=np.array([weight.data_ptr() for weight in output]),
        sizes=(size, width, 0, half),
        activation=(float(act.shift), float(act.linear_from)),
        cutoff=(_CUTOFFS[type(cutoff)], float(getattr(cutoff, "cutoff", model.cutoff)), getattr(cutoff, "exponent", 0)),
        table=(),
    )
    if model.frozen:
        if model.filter_tables.shape[::2] != (len(blocks), width):
            return None
        network = with_tables(network, frozen_tables(model.filter_tables, model.cutoff).each())
    return LocatedWeights(
        Origin(_held(model, blocks), model.filter_networks() if model.frozen else ()),
        Callees(_called(model, blocks)),
        [block.conv for block in blocks],
        [*of_blocks, output],
        loops,
        network,
    )


def with_tables(network: Any, tables: list[FilterTable]) -> Any:
    """The network with its filters, one table for each block with weights of its own, to be kept where they are."""
    blocks = len(network.blocks)
    places = np.array([[tables[block % len(tables)].coefficients.data_ptr()] for block in range(blocks)])
    return with_knots(network._replace(blocks=np.concatenate([network.blocks, places], axis=1)), tables[0])


def with_knots(network: Any, table: FilterTable) -> Any:
    """The network with the knots of its tables, which are those of this one."""
    (rows, _), start, spacing = table.coefficients.shape, *table[1:]
    cpu, (size, width, _, half) = convolution.installed_cpu_loops(), network.sizes
    knots = cpu.place_of(start, spacing, rows), cpu.pieces_at(0, spacing), cpu.pieces_at(1, spacing)
    return network._replace(sizes=(size, width, rows, half), table=knots)


def alike(tensors: list[Tensor]) -> bool:
    """True if all are plain, in one piece and of the kind of the first, in the memory of the CPU."""
    plain = all(is_plain(one, weight=True) for one in tensors)
    return plain and all(one.is_contiguous() and one.dtype == tensors[0].dtype for one in tensors)


def _held(model: Any, blocks: list[Any]) -> Iterator[Entry]:
    """Dictionaries, keys and values on which located weights depend."""
    output, first = model.output, blocks[0].conv
    yield from _entries(model, "embedding", "basis", "interactions", "output", "readout", "filter_tables", "repulsion")
    yield from _entries(model.embedding, "weight")
    yield from _entries(model.interactions, *model.interactions._modules)
    yield from _entries(first.cutoff, *vars(first.cutoff).keys() & {"cutoff", "exponent"})
    yield from _entries(output, "lin1", "lin2", "act")
    for block in blocks:
        yield from _held_by(block)
    yield from _held_by_layers(output)


def _held_by(block: Any) -> Iterator[Entry]:
    """The same of a block."""
    yield from _entries(block, "conv", "lin", "act")
    yield from _entries(block.conv, "lin1", "lin2", "nn", "cutoff", "norm")
    if block.conv.norm is not None:
        yield from _entries(block.conv.norm, "kind", "cutoff")
    yield from _held_by_layers(block)


def _held_by_layers(layers: Any) -> Iterator[Entry]:
    """The same of atom-wise layers and their activation."""
    yield from _entries(layers.act, "shift", "linear_from")
    for layer in _dense(layers):
        yield from _entries(layer, "weight", "bias")


def _entries(module: nn.Module, *names: str) -> Iterator[Entry]:
    for name in names:
        places: tuple[dict[str, Any], ...] = (module._modules, module._parameters, module._buffers, vars(module))
        place = next(place for place in places if name in place)
        yield place, name, place[name]


def _called(model: Any, blocks: list[Any]) -> Iterator[nn.Module]:
    """Modules that the ordinary network would call."""
    yield from (model.embedding, model.output, model.readout, model.basis, model.output.act, *_dense(model.output))
    if model.repulsion is not None:
        yield model.repulsion
    for block in blocks:
        yield from (block, block.act, block.conv, *_dense(block), *block.conv.nn.modules(), block.conv.cutoff)


def _dense(layers: Any) -> list[Any]:
    """The atom-wise layers of a block or of the output."""
    return [layers.conv.lin1, layers.conv.lin2, layers.lin] if hasattr(layers, "conv") else [layers.lin1, layers.lin2]


def _weights(layers: Any) -> list[Tensor]:
    return [weight for one in _dense(layers) for weight in one._parameters.values() if weight is not None]


def _is_plain(layers: Any) -> bool:
    """True if a block or the output has the layers of the papers."""
    block = type(layers) is InteractionBlock and type(layers.conv) is CFConv
    if not block and type(layers) is not Atomwise:
        return False
    biases = [one.bias is not None for one in _dense(layers) if type(one) is nn.Linear]
    return biases == ([False, True, True] if block else [True, True]) and type(layers.act) is ShiftedSoftplus
