"""Arguments of models, written once: in the signature of the constructor."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

#: Arguments that are not part of the architecture: what is learnt about labels, and how filters are evaluated.
_NOT_ARCHITECTURE = {"self", "mean", "std", "atomref", "filters", "knot_spacing", "spellings"}
#: Arguments of the architecture that all models pass on to :class:`~pyg_schnet.models.AtomisticModel`.
_COMMON = (
    "hidden_channels",
    "cutoff",
    "readout",
    "readout_options",
    "out_channels",
    "zero_output",
    "max_z",
    "repulsion",
)


def architecture(model: type[nn.Module], values: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a model, which :func:`pyg_schnet.save` writes: arguments of its architecture by name.

    Args:
        model: The class.
        values: Local variables at the beginning of its constructor, ``locals()``.

    Returns:
        The arguments, in the order of the signature.

    Example:
        >>> class Model(nn.Module):
        ...     def __init__(self, size=3, mean=None):
        ...         self.config = architecture(Model, locals())
        >>> Model(size=5).config
        {'size': 5}
    """
    names = inspect.signature(model.__init__).parameters
    return {name: values[name] for name in names if name not in _NOT_ARCHITECTURE}


def common(config: Mapping[str, Any]) -> dict[str, Any]:
    """Those arguments of a configuration that all models pass on; one that a model has not keeps its default.

    Args:
        config: What :func:`architecture` returned.

    Returns:
        Arguments of :class:`~pyg_schnet.models.AtomisticModel`.
    """
    return {name: config[name] for name in _COMMON if name in config}


def unusual(model: nn.Module, config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a model that differ from their defaults, for printing.

    Args:
        model: The model.
        config: Its configuration.

    Returns:
        The arguments by name.
    """
    parameters = inspect.signature(type(model).__init__).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    return {
        name: value for name, value in config.items() if not _same(value, defaults.get(name, inspect.Parameter.empty))
    }


def _same(value: Any, default: Any) -> bool:
    return value is default or (type(value) is type(default) and bool(value == default))
