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


def check_layers(model: AtomisticModel, freeze: Sequence[str], backbone_rate: float, weight_decay: float) -> None:
    """Check what is asked of single layers.

    Args:
        model: The model.
        freeze: Names of layers that keep their weights.
        backbone_rate: Factor on the rate of all layers before the output network.
        weight_decay: Decay of the matrices of layers.

    Raises:
        ValueError: If there is no such layer, nothing would be left to learn, the factor is not positive or the decay
            is negative.
    """
    if not 0 <= weight_decay < math.inf:
        raise ValueError(f"`weight_decay` must be a number of at least 0, such as 0.01, got {weight_decay}")
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


def parameter_groups(
    task: nn.Module, model: AtomisticModel, rate: float, backbone_rate: float, weight_decay: float
) -> Any:
    """What the optimizer is given.

    Args:
        task: The task, all of whose weights learn.
        model: Its model.
        rate: Learning rate of the output network, and of all else beside the model.
        backbone_rate: Factor on the learning rate of all layers of the model before the output network.
        weight_decay: Decay of the matrices of layers; biases and embeddings do not decay.

    Returns:
        The weights, in groups if their rates or decays differ.
    """
    named = [(name, one) for name, one in model.named_parameters() if not _is_in(name, ("output", "readout"))]
    backbone = {id(one) for _, one in named} if backbone_rate != 1 else set[int]()
    decaying = _matrices(task) if weight_decay else set[int]()
    if not backbone and not decaying:
        return task.parameters()
    groups = dict[tuple[bool, bool], list[nn.Parameter]]()
    for one in task.parameters():
        groups.setdefault((id(one) in backbone, id(one) in decaying), []).append(one)
    return [
        {
            "params": weights,
            "lr": rate * backbone_rate if slower else rate,
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (slower, decays), weights in sorted(groups.items(), key=lambda group: group[0])
    ]


def _matrices(task: nn.Module) -> set[int]:
    layers = (layer for layer in task.modules() if not isinstance(layer, nn.Embedding))
    return {id(one) for layer in layers for one in layer.parameters(recurse=False) if one.dim() > 1}


def _is_in(name: str, layers: Sequence[str]) -> bool:
    return any(name == layer or name.startswith(f"{layer}.") for layer in layers)
