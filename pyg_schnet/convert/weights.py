"""Weights by name: every name and shape is checked before a number is copied."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from pyg_schnet.models.atomistic import AtomisticModel
from pyg_schnet.models.contents import check_values
from pyg_schnet.models.schnet import SchNet
from pyg_schnet.units import ENERGY, conversion


def need(tensors: Mapping[str, Tensor], name: str, what: str) -> Tensor:
    """A tensor by its name.

    Args:
        tensors: Tensors by name.
        name: The name.
        what: What the tensors should belong to, for the message.

    Returns:
        The tensor.

    Raises:
        ValueError: If there is none of this name.

    Example:
        >>> need({"lin.weight": torch.ones(2, 2)}, "lin.weight", "the model").shape
        torch.Size([2, 2])
    """
    if name not in tensors:
        raise ValueError(f"expected {name!r} of {what}, got {_listed(tensors)}")
    return tensors[name]


def need_matrix(tensors: Mapping[str, Tensor], name: str, what: str) -> Tensor:
    """A tensor with two dimensions by its name, as :func:`need`.

    Args:
        tensors: Tensors by name.
        name: The name.
        what: What the tensors should belong to.

    Returns:
        The tensor.

    Raises:
        ValueError: If there is none of this name, or it has another number of dimensions.
    """
    value = need(tensors, name, what)
    if value.dim() != 2:
        raise ValueError(f"expected {name!r} of {what} with two dimensions, got shape {list(value.shape)}")
    return value


def fill(model: nn.Module, values: Mapping[str, Tensor], origin: Mapping[str, str], what: str) -> None:
    """Copy tensors into a model.

    Args:
        model: The model to write to.
        values: Tensors by their name in the model.
        origin: For messages: how a tensor is called where it comes from, by its name in the model.
        what: What the tensors belong to, for messages.

    Raises:
        ValueError: If a shape does not fit, or a number is complex or not finite.

    Example:
        >>> layer = torch.nn.Linear(2, 1)
        >>> fill(layer, {"weight": torch.ones(1, 2)}, {}, "the model")
        >>> layer.weight.tolist()
        [[1.0, 1.0]]
    """
    check_values({origin.get(name, name): value for name, value in values.items()}, what)
    if isinstance(model, AtomisticModel):
        model.trained_elsewhere = True
    slots = model.state_dict()
    for name, value in values.items():
        if slots[name].shape != value.shape:
            raise ValueError(
                f"expected {origin.get(name, name)!r} of {what} with shape {list(slots[name].shape)}, as its other "
                f"weights have it, got {list(value.shape)}"
            )
    with torch.no_grad():
        for name, value in values.items():
            slots[name].copy_(value)


def refuse_rest(names: Collection[str], used: Collection[str], what: str) -> None:
    """Refuse weights that nothing has read: a model without them would compute something else.

    Args:
        names: Names that were there.
        used: Names that were read.
        what: What the model was expected to be.

    Raises:
        ValueError: If a name was not read.
    """
    rest = set(names) - set(used)
    if rest:
        raise ValueError(f"expected {what} and nothing else, got also {_listed(rest)}")


def rescale(model: SchNet, factor: float) -> SchNet:
    """Multiply the property that a model predicts; its references change, its weights do not.

    Args:
        model: The model; changed in place.
        factor: A positive factor.

    Returns:
        The model.

    Example:
        >>> float(rescale(SchNet(8, 8, 1, mean=2.0), 0.5).reference.mean)
        1.0
    """
    reference = model.reference
    reference.set(reference.mean * factor, reference.std * factor, reference.atomref * factor)
    if model.repulsion is not None:
        model.repulsion.scale *= factor
    return model


def to_unit(model: SchNet, source_unit: str | None, energy_unit: str | None) -> SchNet:
    """Convert the energies of a model.

    Args:
        model: The model; changed in place.
        source_unit: Unit of its energies.
        energy_unit: Unit wanted, ``None`` to leave them as they are.

    Returns:
        The model.

    Raises:
        ValueError: If a unit is no unit of energy.
        TypeError: If ``energy_unit`` is given without ``source_unit``.
    """
    for unit in (source_unit, energy_unit):
        if unit is not None and unit not in ENERGY:
            raise ValueError(f"expected a unit of energy, one of {', '.join(ENERGY)}, got {unit!r}")
    if energy_unit is not None:
        if source_unit is None:
            raise TypeError(f"`energy_unit={energy_unit!r}` needs `source_unit`, the unit the model's energies are in")
        rescale(model, conversion(source_unit, energy_unit))
    if unit := energy_unit or source_unit:
        model.units = {"energy": unit, "pos": "Ang"}
    return model


def check_arguments(given: Collection[str], allowed: Collection[str], function: str) -> None:
    """Refuse keyword arguments that a function does not have.

    Args:
        given: Names given.
        allowed: Names allowed.
        function: Name of the function.

    Raises:
        TypeError: If a name is not allowed.
    """
    for name in given:
        if name not in allowed:
            raise TypeError(f"{function} has no argument {name!r}; expected one of {', '.join(sorted(allowed))}")


def _listed(names: Collection[str], most: int = 3) -> str:
    ordered = sorted(map(str, names))
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(map(repr, ordered[:most])) + more if ordered else "nothing"
