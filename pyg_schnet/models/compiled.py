"""Methods that a compiler has made faster, and what becomes of them in copies of a model.

``torch.compile(model.represent)`` is bound to the model whose method it was, with its weights. A copy that took it
along would compute with the weights of the original.
"""

from typing import Any

import torch
from torch import Tensor, nn


@torch.compiler.disable
def not_compiled(potential: nn.Module, *inputs: Any, **options: Any) -> dict[str, Tensor]:
    """A call that a compiler does not follow: derivatives are taken in it.

    Args:
        potential: What is called.
        *inputs: Its inputs.
        **options: Its options.

    Returns:
        What it returns.
    """
    out: dict[str, Tensor] = potential.forward(*inputs, **options)  # in a call already, which may be compiled itself
    return out


def without_compiled_methods(module: nn.Module, state: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a module that a copy may have.

    Args:
        module: The module.
        state: Its attributes.

    Returns:
        Those without compiled methods of its own.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> without_compiled_methods(layer, {"number": 1})
        {'number': 1}
    """
    return {name: value for name, value in state.items() if not _is_compiled_method(type(module), name, value)}


def as_it_was_written(model: Any) -> Any:
    """A model without the methods that a compiler has made faster, whose derivatives can be differentiated again.

    Args:
        model: The model.

    Returns:
        The model itself if there are none, else one that shares all layers and weights with it.
    """
    kept = without_compiled_methods(model, vars(model))
    if len(kept) == len(vars(model)):
        return model
    plain = object.__new__(type(model))
    vars(plain).update(kept)
    return plain


def forget_foreign_methods(module: nn.Module) -> None:
    """Take compiled methods of the originals from a copy and from all of its layers.

    Args:
        module: The copy.
    """
    for layer in module.modules():
        for name, value in list(vars(layer).items()):
            if _is_compiled_method(type(layer), name, value) and value._torchdynamo_orig_callable.__self__ is not layer:
                delattr(layer, name)


def _is_compiled_method(kind: type, name: str, value: Any) -> bool:
    """True if a value is what a compiler has made of the method of this name."""
    method = getattr(value, "_torchdynamo_orig_callable", None)
    function = getattr(method, "__func__", None)
    return function is not None and function is getattr(kind, name, None)
