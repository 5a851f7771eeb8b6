"""References of a model from its training set: means, standard deviations, single-atom values."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch_geometric.data import Dataset

from pyg_schnet.datasets import StructureLoader
from pyg_schnet.datasets.targets import Target
from pyg_schnet.models import AtomisticModel

#: How references are found, see :func:`set_references`.
ReferenceRule = Literal["auto", "mean", "atomref", "fit", "none"]


def check_rule(rule: str) -> None:
    """Refuse a rule that does not exist.

    Args:
        rule: Name of the rule.

    Raises:
        ValueError: If it is not known.
    """
    names = get_args(ReferenceRule)
    if rule not in names:
        raise ValueError(f"unknown references {rule!r}; expected one of {', '.join(map(repr, names))}")


def set_references(model: AtomisticModel, dataset: Dataset, targets: Sequence[Target], rule: str) -> None:
    """Set the references of a model from its training set, and from nothing else.

    ``"mean"``: mean and standard deviation of the property per atom where the readout adds up atoms, of the property
    itself elsewhere, as in the authors' code. ``"atomref"``: the dataset's values of free atoms, then mean and standard
    deviation of the rest. ``"fit"``: single-atom values by least squares, see :meth:`pyg_schnet.nn.Reference.fit`.
    ``"none"``: nothing is changed. ``"auto"``: ``"mean"`` if the model has no references yet, otherwise ``"none"``.
    Structures whose target is not known (NaN) do not count.

    Args:
        model: The model.
        dataset: The training examples.
        targets: Targets in the order of the model's outputs.
        rule: See above.

    Raises:
        ValueError: If a target has no known value, or ``"atomref"`` is asked of a dataset that has none for it.
    """
    reference: Any = model.reference
    untouched = reference.trivial and bool((reference.std == 1).all())
    if rule == "none" or (rule == "auto" and not untouched) or reference.how is None:
        return
    z, batch, values = _training_values(dataset, targets)
    if rule == "fit":
        known = values.isfinite().all(1)
        chosen = known[batch]
        numbers = (known.cumsum(0) - 1)[batch[chosen]]
        reference.fit(z[chosen], numbers, values[known])
        return
    if rule == "atomref":
        reference.set(atomref=_free_atoms(dataset, targets))
        free = reference.atomref[z]
        total = torch.zeros_like(values).index_add(0, batch, free)
        values = values - (total / _counts(batch, values) if reference.how == "mean" else total)
    if reference.how == "add":
        values = values / _counts(batch, values)
    reference.set(*_mean_and_std(values, targets))


def _training_values(dataset: Dataset, targets: Sequence[Target]) -> tuple[Tensor, Tensor, Tensor]:
    """Atomic numbers [N], structure of each atom [N] and targets [B, C] float64."""
    numbers, batches, values, count = [], [], [], 0
    for part in StructureLoader(dataset, batch_size=1000):
        numbers.append(part.z)
        batches.append(part.batch + count)
        values.append(torch.stack([target.values(part).double() for target in targets], dim=1))
        count += part.num_graphs
    return torch.cat(numbers).cpu(), torch.cat(batches).cpu(), torch.cat(values).cpu()


def _counts(batch: Tensor, values: Tensor) -> Tensor:
    return torch.bincount(batch, minlength=len(values)).unsqueeze(1)


def _mean_and_std(values: Tensor, targets: Sequence[Target]) -> tuple[Tensor, Tensor]:
    means, stds = [], []
    for column, target in zip(values.T, targets, strict=True):
        known = column[column.isfinite()]
        if not known.numel():
            raise ValueError(f"no training example has a known {target.name!r}; expected at least one finite value")
        std = known.std() if known.numel() > 1 else known.new_zeros(())
        means.append(known.mean())
        stds.append(std if std > 0 else torch.ones_like(std))  # all values equal: any scale will do
    return torch.stack(means), torch.stack(stds)


def _free_atoms(dataset: Any, targets: Sequence[Target]) -> Tensor:
    columns = []
    for target in targets:
        values = dataset.atomref(target.name) if hasattr(dataset, "atomref") else None
        if values is None:
            raise ValueError(
                f"{type(dataset).__name__} has no values of free atoms for {target.name!r}; "
                "choose references 'fit' or 'mean'"
            )
        columns.append(values.reshape(-1))
    return torch.stack(columns, dim=1)
