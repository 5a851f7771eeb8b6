"""What something was made of, and whether all of that is as it was.

Compiled loops and recordings remember where weights are in memory, and frozen tables follow from weights. Whoever
replaces a layer or a tensor, or gives a weight other memory, another layout or another kind, makes them worthless. To
see that nobody did takes a few microseconds.
"""

from collections.abc import Iterable
from operator import getitem, is_
from typing import Any

from torch import Tensor, nn

from pyg_schnet.models.filter_networks import hooked

#: A dictionary of a module, a key, and what was there.
Entry = tuple[dict[str, Any], str, Any]
_DTYPE, _VERSION = Tensor.dtype.__get__, Tensor._version.__get__  # type: ignore[attr-defined]


class Origin:
    """Entries of dictionaries, and where the tensors among them are in memory.

    Args:
        entries: What may be replaced.
        values_count: Whether values must be those of before, too: changes in place are noticed, except for those by way
            of ``weight.data``, which torch does not count.

    Example:
        >>> import torch
        >>> layer = nn.Linear(2, 2)
        >>> origin = Origin(entries_of([layer]))
        >>> layer.weight.data.zero_(), origin.holds()
        (tensor([[0., 0.],
                [0., 0.]]), True)
        >>> layer.weight.data = layer.weight.data.T
        >>> origin.holds()
        False
    """

    def __init__(self, entries: Iterable[Entry], values_count: bool = False) -> None:
        held = {(id(holder), name): (holder, name, value) for holder, name, value in entries}.values()
        self._holders, self._names, self._values = map(list, zip(*held, strict=True)) if held else ([], [], [])
        self._values_count = values_count
        self.tensors: list[Tensor] = [value for value in self._values if isinstance(value, Tensor)]
        self._seen: list[Any] = self._look()

    def holds(self) -> bool:
        """Whether all is as it was."""
        try:
            same = all(map(is_, map(getitem, self._holders, self._names), self._values))
        except KeyError:
            return False
        return same and self._look() == self._seen

    def renew(self) -> None:
        """Take tensors as they are now for those of the beginning."""
        self._seen = self._look()

    def _look(self) -> list[Any]:
        tensors = self.tensors
        seen: list[Any] = [*map(Tensor.data_ptr, tensors), *map(Tensor.stride, tensors)]
        seen += [*map(Tensor.numel, tensors), *map(_DTYPE, tensors)]
        return [*seen, *map(_VERSION, tensors)] if self._values_count else seen

    def __getstate__(self) -> tuple[Any, ...]:  # a copy is elsewhere in memory, and as old as its original
        return self._holders, self._names, self._values, self._values_count, self.holds()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._holders, self._names, self._values, self._values_count, held = state
        self.tensors = [value for value in self._values if isinstance(value, Tensor)]
        self._seen = self._look() if held else []


def entries_of(modules: Iterable[nn.Module]) -> list[Entry]:
    """All layers, parameters and buffers of modules and of their layers.

    Args:
        modules: The modules.

    Returns:
        An entry for each.
    """
    return [
        (kind, name, value)
        for module in modules
        for layer in module.modules()
        for kind in (layer._modules, layer._parameters, layer._buffers)
        for name, value in kind.items()
    ]


class Callees:
    """Modules that something else may stand in for, as long as nobody notices.

    Args:
        modules: The modules.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        every = list(dict.fromkeys(modules))
        self._hooks = [
            hooks
            for module in every
            for hooks in (
                module._forward_hooks,
                module._forward_pre_hooks,
                module._backward_hooks,
                module._backward_pre_hooks,
            )
        ]
        self._attributes = [vars(module) for module in every]
        self._numbers = [*map(len, self._attributes)]
        self._one = every[0]

    def same(self) -> bool:
        """Whether each has as many attributes as before: a method that somebody puts there is one more."""
        return [*map(len, self._attributes)] == self._numbers

    def disturbed(self) -> bool:
        """Whether somebody listens to their calls by hooks, to one or to all modules."""
        return any(self._hooks) or hooked(self._one)
