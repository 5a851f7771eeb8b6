"""Which weights of a model learn, and how fast: all of them unless somebody says otherwise."""

import math
from collections.abc import Sequence
from typing import Any

from torch import nn

from pyg_schnet.models import AtomisticModel
from pyg_schnet.training.say import say


def check_model(model: Any) -> None:
    """Refuse what cannot be trained by a task.

    Args:
        model: What was given as the model.

    Raises:
        TypeError: If it is no model.
    """
    if isinstance(model, AtomisticModel):
        return
    inner = getattr(model, "model", None)
    hint = "read it with pyg_schnet.load first"
    if isinstance(inner, AtomisticModel):
        hint = "pass the model inside it, its `model`"
    elif hasattr(model, "members"):
        hint = "train its `members` one by one"
    raise TypeError(f"`model` must be a model such as SchNet, got {type(model).__name__}; {hint}")


def check_layers(model: AtomisticModel, freeze: Sequence[str], backbone_rate: float) -> None:
    """Check what is asked of single layers.

    Args:
        model: The model.
        freeze: Names of layers that keep their weights.
        backbone_rate: Factor on the rate of all layers before the output network.

    Raises:
        ValueError: If there is no such layer, nothing would be left to learn, or the factor is not positive.
    """
    if not (backbone_rate > 0 and math.isfinite(backbone_rate)):
        raise ValueError(
            f"`backbone_rate` must be a positive factor, got {backbone_rate}; to keep layers as they are, name them in "
            "`freeze`"
        )
    own = {name for name, module in model.named_modules() if name and any(True for _ in module.parameters())}
    for name in freeze:
        if name not in own:
            first = [name for name, _ in model.named_children() if name in own]
            raise ValueError(
                f"`freeze` must name layers of the model, {', '.join(first)} or a part of one such as "
                f"'interactions.0', got {name!r}"
            )
    if all(_is_in(name, freeze) for name, _ in model.named_parameters()):
        raise ValueError(f"`freeze` leaves no weight to learn, got {list(freeze)}")


def make_ready(model: AtomisticModel, freeze: Sequence[str] = ()) -> None:
    """Bring a model into the state in which it learns, whatever it was used for before.

    Frozen tables are dropped and the model goes to training mode. If no weight at all wants a gradient, all do again;
    where only some do not, somebody has chosen them.

    Args:
        model: The model.
        freeze: Names of layers that keep their weights.
    """
    if getattr(model, "frozen", False):
        model.unfreeze()  # type: ignore[operator]
        say("the model is frozen for inference; it is unfrozen to be trained")
    model.train()
    parameters = dict(model.named_parameters())
    if not any(parameter.requires_grad for parameter in parameters.values()):
        for parameter in parameters.values():
            parameter.requires_grad_()
    for name, parameter in parameters.items():
        if _is_in(name, freeze):
            parameter.requires_grad_(False)


def parameter_groups(task: nn.Module, model: AtomisticModel, rate: float, backbone_rate: float) -> Any:
    """What the optimizer is given.

    Args:
        task: The task, all of whose weights learn.
        model: Its model.
        rate: Learning rate of the output network, and of all else beside the model.
        backbone_rate: Factor on the rate of all layers of the model before the output network.

    Returns:
        The weights, in two groups if their rates differ.
    """
    if backbone_rate == 1:
        return task.parameters()
    backbone = {
        id(parameter) for name, parameter in model.named_parameters() if not _is_in(name, ("output", "readout"))
    }
    rest = [parameter for parameter in task.parameters() if id(parameter) not in backbone]
    return [
        {"params": rest},
        {"params": [one for one in task.parameters() if id(one) in backbone], "lr": rate * backbone_rate},
    ]


def _is_in(name: str, layers: Sequence[str]) -> bool:
    return any(name == layer or name.startswith(f"{layer}.") for layer in layers)
