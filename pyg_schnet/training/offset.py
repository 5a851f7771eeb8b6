"""Fine-tuning: what a trained model keeps, and what of its references is fitted to new labels."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyg_schnet.datasets import StructureLoader
from pyg_schnet.datasets.targets import Target
from pyg_schnet.models import AtomisticModel, properties
from pyg_schnet.models.charges import UnknownChargeWarning
from pyg_schnet.models.elements import UnknownCompositionWarning, UnknownElementWarning
from pyg_schnet.training.casting import in_dtype_of
from pyg_schnet.units import SYMBOLS

#: Combinations of elements that are rarer than this part of the commonest one are not determined.
_DETERMINED = 1e-9


class Offset(NamedTuple):
    """What is added to the references of one target.

    Attributes:
        mean: To the mean, per atom where the readout adds up atoms.
        elements: To single-atom values, by atomic number; empty if the compositions do not determine them.
    """

    mean: float
    elements: dict[int, float]


def is_trained(model: AtomisticModel) -> bool:
    """True if a model has learnt something, so that its scale is part of it.

    True if its output network has biases, which start at zero.

    Args:
        model: The model.

    Returns:
        True if it is trained.

    Example:
        >>> from pyg_schnet import SchNet
        >>> model = SchNet(16, 16, 1, mean=-3.0)
        >>> untrained = is_trained(model)
        >>> _ = torch.nn.init.ones_(model.output.lin1.bias)
        >>> untrained, is_trained(model)
        (False, True)
    """
    return any(bool(value.any()) for name, value in model.output.named_parameters() if name.endswith("bias"))


def fit_offset(model: AtomisticModel, dataset: Any, targets: Sequence[Target], batch_size: int = 32) -> list[Offset]:
    r"""Move the references of a trained model to new labels; its scale stays, and so do its forces.

    .. math:: \mu = \frac{\sum_s n_s d_s}{\sum_s n_s^2}, \qquad
        \min_\epsilon \sum_s \Big(d_s - n_s \mu - \sum_{i \in s} \epsilon_{Z_i}\Big)^2 + \lambda\,\|\epsilon\|^2

    with the differences d of labels and predictions and the numbers of atoms n. Single-atom values are fitted only
    where the structures differ in composition. The weight :math:`\lambda` is the variance of what such values cannot
    explain divided by the mean square of d per atom, so that elements which the data hardly tell apart get the same
    offset. Where the readout takes the mean over atoms, numbers of atoms are parts of the structure; elsewhere the mean
    of the structure alone is fitted.

    Args:
        model: The model, whose references are changed; its readout has some.
        dataset: The training examples.
        targets: Targets in the order of the model's outputs. Values that are not known (NaN) do not count.
        batch_size: Structures that are predicted at a time.

    Returns:
        What was added for each target.
    """
    reference: Any = model.reference
    design, rests = _rests(model, dataset, targets, batch_size)
    offsets = [_offset(design, rest, reference.how != "once") for rest in rests.T]
    for column, offset in enumerate(offsets):
        reference.mean[column] += offset.mean
        for number, value in offset.elements.items():
            reference.atomref[number, column] += value
    return offsets


def in_words(model: AtomisticModel, targets: Sequence[Target], offsets: Sequence[Offset]) -> str:
    """One line about a fine-tuned model.

    Args:
        model: The model.
        targets: Its targets.
        offsets: What :func:`fit_offset` returned.

    Returns:
        The line.
    """
    per = " per atom" if model.reference.how == "add" else ""
    parts = []
    for target, offset, scale in zip(targets, offsets, model.reference.std.tolist(), strict=True):
        unit = f" {target.unit}" if target.unit else ""
        elements = ", ".join(f"{SYMBOLS[number]} {value:+.4g}" for number, value in offset.elements.items())
        beside = f" (and by element {elements})" if elements else ""
        parts.append(
            f"{target.name} keeps the scale {scale:.4g}{unit} and moves by {offset.mean:+.6g}{unit}{per}{beside}"
        )
    return f"fine-tuning a trained model: {'; '.join(parts)}, to the labels of the training set"


def _rests(model: AtomisticModel, dataset: Any, targets: Sequence[Target], batch_size: int) -> tuple[Tensor, Tensor]:
    """How elements count in each structure [B, max_z + 1], and labels less predictions [B, C], both float64."""
    designs, rests, reference = [], [], model.reference
    device, elements, mode = reference.mean.device, reference.atomref.size(0), model.training
    model.eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UnknownElementWarning)  # they are about to be learnt
        warnings.simplefilter("ignore", UnknownChargeWarning)
        warnings.simplefilter("ignore", UnknownCompositionWarning)
        for batch in StructureLoader(dataset, batch_size):
            moved = in_dtype_of(model, batch.to(device))
            labels = torch.stack([target.values(moved).double() for target in targets], dim=1)
            rests.append((labels - properties(model, moved)).cpu())
            counts = torch.bincount(moved.batch * elements + moved.z, minlength=labels.size(0) * elements)
            counts = counts.view(-1, elements).double()
            designs.append((counts / counts.sum(1, True) if reference.how == "mean" else counts).cpu())
    model.train(mode)
    return torch.cat(designs), torch.cat(rests)


def _offset(design: Tensor, rest: Tensor, by_element: bool) -> Offset:
    known = rest.isfinite()
    design, rest = design[known], rest[known]
    sizes = design.sum(1) if by_element else torch.ones_like(rest)
    if not sizes.any():
        return Offset(0.0, {})
    mean = float((sizes * rest).sum() / sizes.square().sum())
    if not by_element:
        return Offset(mean, {})
    present = design.any(0).nonzero().flatten()
    values = _deviations(design[:, present], rest - sizes * mean, (rest / sizes.clamp(min=1e-300)).square().mean())
    return Offset(mean, {} if values is None else dict(zip(present.tolist(), values.tolist(), strict=True)))


def _deviations(design: Tensor, rest: Tensor, scale: Tensor) -> Tensor | None:
    """Single-atom values beside the mean, drawn towards none; ``None`` if compositions do not tell elements apart."""
    left, sizes, right = torch.linalg.svd(design, full_matrices=False)
    determined = sizes > _DETERMINED * sizes.max()
    rank = int(determined.sum())
    if rank < 2 or rest.numel() <= rank:
        return None
    amounts = left.T @ rest
    noise = (rest.square().sum() - amounts[determined].square().sum()).clamp(min=0) / (rest.numel() - rank)
    factors = torch.where(determined, sizes / (sizes.square() + noise / scale.clamp(min=1e-300)), 0.0)
    return right.T @ (factors * amounts)
