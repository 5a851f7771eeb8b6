"""What something was made of, and the answer to one question: is all of that as it was?

Compiled loops and recordings remember where weights are in memory, and frozen tables follow from weights. They are
worthless once a layer or tensor is replaced, or a weight has other memory, another layout or another size. To check
that takes a few microseconds.
"""

from collections.abc import Iterable
from operator import getitem, is_
from typing import Any

from torch import Tensor, nn

from pyg_schnet.compat import has_global_hooks, layout_check

#: A dictionary of a module, a key, and what was there.
Entry = tuple[dict[str, Any], str, Any]
_BYTES, _VERSION = Tensor.nbytes.__get__, Tensor._version.__get__  # type: ignore[attr-defined]


class Origin:
    """Entries of dictionaries, and where the tensors among them are in memory.

    Args:
        entries: What may be replaced, of which values in memory may change.
        constant: What may be replaced, of which values must stay, too: changes in place are noticed, except for those
            by way of ``weight.data`` or to tensors made in inference mode, which torch does not count.

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

    def __init__(self, entries: Iterable[Entry], constant: Iterable[Entry] = ()) -> None:
        entries, constant = list(entries), list(constant)
        held = {(id(holder), name): (holder, name, value) for holder, name, value in [*entries, *constant]}
        self._entries = list(held.values())
        self._constant = [one for one in _tensors(value for *_, value in constant) if not one.is_inference()]
        self._sort()
        self.renew()

    def _sort(self) -> None:
        """Dictionaries of layers, which are compared as a whole in one call, and entries, which are one by one."""
        holders = {id(holder): holder for holder, *_ in self._entries}
        kept: dict[int, dict[str, Any]] = {place: {} for place in holders}
        for holder, name, value in self._entries:
            kept[id(holder)][name] = value
        # not those of tensors, which torch would compare number by number
        layers = {place for place, values in kept.items() if not _tensors(values.values())}
        whole = {place for place in layers if holders[place].keys() == kept[place].keys()}
        self._whole, self._copies = [holders[place] for place in whole], [kept[place] for place in whole]
        apart = [one for one in self._entries if id(one[0]) not in whole]
        self._holders, self._names, self._values = map(list, zip(*apart, strict=True)) if apart else ([], [], [])
        self.tensors = _tensors(value for *_, value in self._entries)
        # those that may be laid out otherwise at the same place; vectors are only where matrices are
        self._wide = [tensor for tensor in self.tensors if tensor.dim() > 1] or self.tensors

    def holds(self) -> bool:
        """True if all is as it was."""
        try:
            same = self._whole == self._copies and all(map(is_, map(getitem, self._holders, self._names), self._values))
        except KeyError:
            return False
        return same and self._places() == self._seen and (self._same_layouts() or self._layouts() == self._laid_out)

    def renew(self) -> None:
        """Take tensors as they are now for those of the beginning."""
        self._seen, self._laid_out, self._same_layouts = self._places(), self._layouts(), layout_check(self._wide)

    def _places(self) -> list[int]:
        return [*map(Tensor.data_ptr, self.tensors), *map(_VERSION, self._constant)]

    def _layouts(self) -> list[Any]:
        return [*map(Tensor.stride, self._wide), *map(_BYTES, self._wide)]

    def __getstate__(self) -> tuple[Any, ...]:  # a copy is elsewhere in memory, and as old as its original
        return self._entries, self._constant, self.holds()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._entries, self._constant, held = state
        self._sort()
        self.renew()
        if not held:
            self._seen = []


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    return list({id(value): value for value in values if isinstance(value, Tensor)}.values())


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

    def same(self) -> bool:
        """True if each has as many attributes as before; a method that is set on a module adds one."""
        return [*map(len, self._attributes)] == self._numbers

    def disturbed(self) -> bool:
        """True if any of them has hooks, if hooks of all modules are set, or if the first has another ``forward``."""
        return any(self._hooks) or has_global_hooks() or "forward" in self._attributes[0]


def hooked(module: nn.Module) -> bool:
    """True if a call of the module does anything else than its class says.

    Args:
        module: The module.

    Returns:
        True if it has hooks or another ``forward``, or if hooks of all modules are set.
    """
    hooks = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    return bool(hooks) or has_global_hooks() or "forward" in vars(module)
