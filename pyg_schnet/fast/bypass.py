"""When tables may be used instead of the layers of a model: the layers are then not called, nor are their hooks.

The networks themselves are needed by interaction blocks of another class, overridden methods, hooks, masks of PyG's
Explainer and transforms of ``torch.func``. This is checked at every step, so the layers are looked up only once.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from torch import nn

from pyg_schnet.compat import in_transform
from pyg_schnet.fast.filter_networks import ELEMENTWISE
from pyg_schnet.fast.unchanged import Callees, Entry, Origin
from pyg_schnet.nn import CFConv, FilterNetwork, InteractionBlock

#: Methods of a block and of a convolution that tables do otherwise, or leave out.
_BLOCK, _CONVOLUTION = ("forward",), ("forward", "filters", "message", "factor", "normalize")


class _Layers(NamedTuple):
    """The layers that tables leave out, and the reasons against it: against any table, and against an unasked one."""

    origin: Origin
    callees: Callees
    convolutions: list[Any]
    against: str
    against_unasked: bool


_layers: WeakKeyDictionary[nn.Module, _Layers] = WeakKeyDictionary()


def may_stand_in(model: Any, unasked: bool = False) -> bool:
    """True if tables give what the layers would, for this call.

    Args:
        model: A model of interaction blocks.
        unasked: True if tables were not asked for. Filter networks must then be those of the papers, so that each
            distance surely has one filter.

    Returns:
        True if so.
    """
    if in_transform():
        return False
    layers = _layers_of(model)
    if layers.against or (unasked and layers.against_unasked) or layers.callees.disturbed():
        return False
    return not any(conv.explain for conv in layers.convolutions)


def against_tables(model: Any) -> str:
    """Why no table can be used instead of the layers, hooks aside.

    Args:
        model: A model of interaction blocks.

    Returns:
        What the model has; empty if there is no reason.
    """
    return _layers_of(model).against


def places_of(model: Any) -> Iterator[Entry]:
    """Where the layers that tables leave out are held.

    Args:
        model: A model of interaction blocks.

    Yields:
        Dictionary, key and layer.
    """
    yield model._modules, "basis", model.basis
    yield model._modules, "interactions", model.interactions
    for name, block in model.interactions._modules.items():
        yield model.interactions._modules, name, block
        if (conv := block._modules.get("conv")) is not None:
            yield block._modules, "conv", conv
            yield from (
                (conv._modules, part, conv._modules[part]) for part in ("nn", "cutoff") if part in conv._modules
            )


def _layers_of(model: Any) -> _Layers:
    layers = _layers.get(model)
    if layers is None or not (layers.origin.holds() and layers.callees.same()):
        _layers[model] = layers = _looked_up(model)
    return layers


def _looked_up(model: Any) -> _Layers:
    blocks = list(model.interactions)
    convolutions = [block.conv for block in blocks if isinstance(getattr(block, "conv", None), CFConv)]
    networks = [module for conv in convolutions for module in conv.nn.modules()]
    called = [model.basis, *blocks, *convolutions, *networks, *(conv.cutoff for conv in convolutions)]
    known = FilterNetwork, nn.Linear, *ELEMENTWISE
    return _Layers(
        Origin(places_of(model)),
        Callees(called),
        convolutions,
        _against(blocks),
        not all(isinstance(module, known) for module in networks),
    )


def _against(blocks: list[Any]) -> str:
    for number, block in enumerate(blocks):
        if not _keeps(block, InteractionBlock, _BLOCK) or not _keeps(block.conv, CFConv, _CONVOLUTION):
            return f"a layer of its own kind in interactions[{number}], {type(block).__name__},"
    return ""


def _keeps(layer: Any, kind: type, names: tuple[str, ...]) -> bool:
    """True if a layer does what its kind does."""
    same = isinstance(layer, kind) and all(getattr(type(layer), name) is getattr(kind, name) for name in names)
    return same and not any(name in vars(layer) for name in names)
