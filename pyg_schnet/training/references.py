"""References of a model from its training set: means, standard deviations, single-atom values."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch_geometric.data import Dataset

from pyg_schnet.datasets import StructureLoader
from pyg_schnet.datasets.targets import Target
from pyg_schnet.models import AtomisticModel
from pyg_schnet.models.edges import find_edges
from pyg_schnet.models.structures import Structures
from pyg_schnet.nn import Reference, ZBLRepulsion
from pyg_schnet.segments import add_up
from pyg_schnet.training.offset import fit_offset, in_words, is_trained
from pyg_schnet.training.say import say

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


def set_references(
    model: AtomisticModel, dataset: Dataset, targets: Sequence[Target], rule: str, batch_size: int = 32
) -> None:
    """Set the references of a model from its training set, and from nothing else.

    ``"mean"``: mean and standard deviation of the property per atom where the readout adds up atoms, of the property
    itself elsewhere, as in the authors' code; if the model has single-atom values, of what they leave.
    ``"atomref"``: the dataset's values of free atoms, then mean and standard deviation of the rest. ``"fit"``:
    single-atom values by least squares, see :meth:`pyg_schnet.nn.Reference.fit`. ``"none"``: nothing is changed.
    ``"auto"``: ``"mean"`` if the model has no references yet, otherwise ``"none"``. Values that are not known (NaN) do
    not count. A readout without references, such as a dipole moment, keeps none. The energy of a repulsion that the
    model has is taken off the labels before.

    A model that is trained already keeps its standard deviation, which is the scale of all that it has learnt: by all
    rules but ``"none"`` only the offset to the new labels is fitted and said in one line, see
    :func:`~pyg_schnet.training.offset.fit_offset`.

    Args:
        model: The model.
        dataset: The training examples.
        targets: Targets in the order of the model's outputs.
        rule: See above.
        batch_size: Structures at a time of which a trained model predicts the targets.

    Raises:
        ValueError: If a target has no known value, or ``"atomref"`` is asked of a dataset that has none for it.
    """
    reference: Any = model.reference
    untouched = reference.trivial and bool((reference.std == 1).all())
    trained = is_trained(model)
    if rule == "none" or (rule == "auto" and not untouched and not trained) or reference.how is None:
        return
    z, batch, values = _training_values(dataset, targets)
    _check_known(values, targets)
    _check_numbers(z, reference.atomref.size(0) - 1)
    if trained:
        say(in_words(model, targets, fit_offset(model, dataset, targets, batch_size)))
        return
    if model.repulsion is not None:  # the rest is left to learn
        values = values - _repulsions(model.repulsion, dataset)
    if rule == "fit":
        reference.set(*_fitted(reference, z, batch, values))
        return
    if rule == "atomref":
        reference.set(atomref=_free_atoms(dataset, targets))
    counts = torch.bincount(batch, minlength=len(values)).unsqueeze(1)  # [B, 1]
    total = torch.zeros_like(values).index_add(0, batch, reference.atomref.cpu()[z])
    rest = values - (total / counts if reference.how == "mean" else total)
    reference.set(*_mean_and_std(rest / counts if reference.how == "add" else rest))


def check_elements(training: Dataset, validation: Dataset) -> None:
    """Refuse single-atom values by a fit where the training set lacks an element: they would be zero.

    Args:
        training: The training examples.
        validation: The validation examples.

    Raises:
        ValueError: If an element occurs in the validation examples only.
    """
    seen, met = (
        torch.cat([part.z.unique() for part in StructureLoader(one, batch_size=1000)]) for one in (training, validation)
    )
    missing = sorted(set(met.tolist()) - set(seen.tolist()))
    if missing:
        numbers = ", ".join(map(str, missing))
        raise ValueError(
            f"validation examples have atoms of number {numbers}, which no training example has, so that their values "
            "cannot be fitted; choose references 'atomref' or 'mean', or more training examples"
        )


def _fitted(reference: Reference, z: Tensor, batch: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [C], standard deviation [C] and single-atom values [max_z + 1, C], each target from its known values."""
    fits = []
    for column in values.T:
        known = column.isfinite()
        chosen = known[batch]
        one = Reference(reference.atomref.size(0) - 1, how=reference.how)
        one.fit(z[chosen], (known.cumsum(0) - 1)[batch[chosen]], column[known])
        fits.append(one)
    return (
        torch.cat([one.mean for one in fits]),
        torch.cat([one.std for one in fits]),
        torch.cat([one.atomref for one in fits], dim=1),
    )


def _training_values(dataset: Dataset, targets: Sequence[Target]) -> tuple[Tensor, Tensor, Tensor]:
    """Atomic numbers [N], structure of each atom [N] and targets [B, C] float64."""
    numbers, batches, values, count = [], [], [], 0
    for part in StructureLoader(dataset, batch_size=1000):
        numbers.append(part.z)
        batches.append(part.batch + count)
        values.append(torch.stack([target.values(part).double() for target in targets], dim=1))
        count += part.num_graphs
    return torch.cat(numbers).cpu(), torch.cat(batches).cpu(), torch.cat(values).cpu()


def _repulsions(repulsion: ZBLRepulsion, dataset: Dataset) -> Tensor:
    """Energies of a repulsion in eV [B, 1] float64, on the CPU."""
    energies, at = [], repulsion.reach.device
    for part in StructureLoader(dataset, batch_size=1000):
        z, batch, count = part.z.to(at), part.batch.to(at), part.num_graphs
        pos, cell = (None if one is None else one.to(at).double() for one in (part.pos, part.get("cell")))
        structures = Structures(z, pos, batch, count, cell=cell, pbc=part.get("pbc")).check()
        reach = min(2 * float(repulsion.reach[z].max()), repulsion.cutoff)
        energies.append(add_up(repulsion(z, find_edges(structures, reach)), batch, count, ascending=True).cpu())
    return torch.cat(energies)


def _check_numbers(z: Tensor, largest: int) -> None:
    low, high = int(z.min()), int(z.max())
    if low < 1 or high > largest:
        raise ValueError(
            f"`z` must hold atomic numbers from 1 to {largest}, got {low if low < 1 else high}; remove such atoms"
        )


def _check_known(values: Tensor, targets: Sequence[Target]) -> None:
    for column, target in zip(values.T, targets, strict=True):
        if not column.isfinite().any():
            raise ValueError(
                f"no training example has a known {target.name!r}; expected at least one finite value, or references "
                "'none'"
            )


def _mean_and_std(values: Tensor) -> tuple[Tensor, Tensor]:
    means, stds = [], []
    for column in values.T:
        known = column[column.isfinite()]
        std = known.std() if known.numel() > 1 else known.new_zeros(())
        means.append(known.mean())
        # all values equal: round-off is no scale, any other will do
        stds.append(std if std > 1e-10 * known.abs().max() else torch.ones_like(std))
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
