"""Evaluate a model on a dataset: energies, forces and stresses, or scalar properties."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset
from torch_geometric.data import Data, Dataset
from tqdm import tqdm

from pyg_schnet.analysis.target_errors import TargetErrors, unit_factor
from pyg_schnet.datasets import StructureLoader, as_dataset
from pyg_schnet.datasets.targets import Target, find_target
from pyg_schnet.models import AtomisticModel, Potential
from pyg_schnet.models.checkpoint import to_device
from pyg_schnet.models.inputs import check_volume
from pyg_schnet.models.properties import properties
from pyg_schnet.ops import stress_from_virials
from pyg_schnet.units import conversion, target_unit

#: Units of what a potential gives.
POTENTIAL_UNITS = {"energy": "eV", "forces": "eV/Ang", "stress": "eV/Ang^3"}

#: Names of the kinds of structures, of which there are errors by themselves.
GROUP = "config_type"

#: What can be evaluated; more in :func:`~pyg_schnet.datasets.as_dataset`.
Structures: TypeAlias = Dataset | Subset | ConcatDataset | Sequence[Data]


def evaluate(
    model: AtomisticModel,
    dataset: Structures,
    targets: Sequence[str] | None = None,
    *,
    batch_size: int = 100,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> list[TargetErrors]:
    """Predict what is known of all structures of a dataset.

    Without ``targets``, the model is a potential: ``energy``, ``forces`` and ``stress`` [1, 3, 3] are compared, those
    the structures have, NaN where they are not known. With ``targets``, column c of the model's output is compared with
    the c-th of them: a column of ``y`` by ``dataset.targets``, or a key of the structures with one number each. Edges
    stored in the structures are used as :class:`~pyg_schnet.Potential` uses them. Totals are float64, as the labels
    are. If the model knows its units (``model.units``), predictions are converted to those of the dataset.

    Args:
        model: The model; it is evaluated in evaluation mode and comes back in the mode it was in.
        dataset: The structures: a dataset, a subset, a list of ``Data``, several datasets after each other.
        targets: Names of scalar properties in the order of the model's outputs.
        batch_size: Structures evaluated at a time.
        device: Where to evaluate; the model is moved there. ``None`` for where it is.
        progress: True to show a progress bar.

    Returns:
        Predictions beside true values of each target, in the units of the dataset.

    Raises:
        TypeError: If ``model`` is no :class:`~pyg_schnet.models.AtomisticModel`.
        ValueError: If the dataset is empty or lacks a target, a shape does not fit, or the model cannot do a structure.

    Example:
        >>> import tempfile
        >>> from pyg_schnet import SchNet
        >>> from pyg_schnet.datasets import QM9
        >>> molecules = QM9(tempfile.mkdtemp(), "bundled", log=False)[:10]
        >>> (errors,) = evaluate(SchNet(16, 16, 1), molecules, ["gap"], progress=False)
        >>> errors.name, errors.unit, errors.true.shape
        ('gap', 'eV', (10,))
    """
    if not isinstance(model, AtomisticModel):
        raise TypeError(f"`model` must be an AtomisticModel, for example a SchNet, got {type(model).__name__}")
    dataset = as_dataset(dataset)
    if device is not None:
        model = to_device(model, device)
    with evaluation_mode(model):
        if targets is None:
            return _potential_errors(model, dataset, batch_size, progress)
        return _property_errors(model, dataset, targets, batch_size, progress)


def _potential_errors(
    model: AtomisticModel, dataset: Structures, batch_size: int, progress: bool
) -> list[TargetErrors]:
    pairs: dict[str, list[tuple[Tensor, Tensor]]] = {}
    about, factor = _About(), conversion(target_unit(model.units).removesuffix("/atom") or "eV", "eV")
    for batch, found in potential_pairs(model, dataset, batch_size, progress):
        about.add(batch, factor * _references(model, batch))
        for name, pair in found.items():
            pairs.setdefault(name, []).append(pair)
    known = [name for name in pairs if any(not bool(true.isnan().all()) for _, true in pairs[name])]
    units = getattr(dataset, "units", {})
    errors = []
    for name in known or pairs:
        unit = POTENTIAL_UNITS[name]
        more = about.of_structures(0) if name == "energy" else about.of_rows(name)
        errors.append(TargetErrors(name, unit, *joined(pairs[name]), **more).converted(units.get(name, unit)))
    return errors


def _property_errors(
    model: AtomisticModel, dataset: Structures, targets: Sequence[str], batch_size: int, progress: bool
) -> list[TargetErrors]:
    found = _found(dataset, targets)
    pairs: dict[str, list[tuple[Tensor, Tensor]]] = {target.name: [] for target in found}
    about, factors = _About(), torch.tensor([_factor(model, target) for target in found], dtype=torch.float64)
    for batch, moved in _batches(model, dataset, batch_size, progress):
        with torch.no_grad():
            y = properties(model, moved).cpu()  # [B, C] float64, which a call of the model would round
        _check_columns(y, list(pairs))
        about.add(batch, factors * _references(model, batch))
        for column, target in enumerate(found):
            predicted = y[:, column] * _factor(model, target)
            pairs[target.name].append((predicted, target.values(batch).double()))
    return [
        TargetErrors(target.name, target.unit, *joined(pairs[target.name]), **about.of_structures(column))
        for column, target in enumerate(found)
    ]


class _About:
    """What is known of the structures beside their targets."""

    def __init__(self) -> None:
        self.atoms: list[Tensor] = []
        self.references: list[Tensor] = []
        self.groups: list[str] = []

    def add(self, batch: Data, references: Tensor) -> None:
        """Add a batch and what references alone predict of it [B, C]."""
        self.atoms.append(batch.ptr.diff())
        self.references.append(references)
        names = batch.get(GROUP)
        named = isinstance(names, list) and len(names) == batch.num_graphs
        self.groups += [str(name) if name else "" for name in names] if named else [""] * batch.num_graphs

    def of_structures(self, column: int) -> dict[str, Any]:
        """Of a target with one value for each structure."""
        values = {"atoms": torch.cat(self.atoms).numpy(), "references": torch.cat(self.references)[:, column].numpy()}
        return values | self.of_rows("stress")

    def of_rows(self, name: str) -> dict[str, Any]:
        """Names of structures for each row of a target, of forces for each atom; if there are different ones."""
        if len(set(self.groups)) < 2:
            return {}
        groups = np.array(self.groups)
        return {"groups": groups.repeat(torch.cat(self.atoms).numpy()) if name == "forces" else groups}


def _references(model: AtomisticModel, batch: Data) -> Tensor:
    """What single-atom values and means alone predict [B, C]."""
    device = next(model.parameters()).device
    with torch.no_grad():
        values: Tensor = model.reference.of_structures(batch.z.to(device), batch.batch.to(device), batch.num_graphs)
    return values.cpu().double().expand(batch.num_graphs, -1)


def potential_pairs(
    model: AtomisticModel, dataset: Structures, batch_size: int, progress: bool
) -> Iterator[tuple[Data, dict[str, tuple[Tensor, Tensor]]]]:
    """Batches of a dataset, each with what a potential says of it and what is true.

    Args:
        model: A model of energies, in the unit it knows itself (``model.units``) or in eV; in evaluation mode.
        dataset: The structures.
        batch_size: Structures in a batch.
        progress: True to show a progress bar.

    Yields:
        The batch on the CPU and, of the labels it has (for ``stress``: if any is known), predicted and true ``energy``
        [B] in eV, ``forces`` [N, 3] in eV/Angstrom and ``stress`` [B, 3, 3] in eV/Angstrom^3, all float64 on the CPU.

    Raises:
        ValueError: If the dataset is empty or has none of these labels, or one has another shape.
    """
    potential = Potential(model)
    factor = conversion(target_unit(model.units).removesuffix("/atom") or "eV", "eV")
    for batch, moved in _batches(model, dataset, batch_size, progress):
        known = _known_stress(batch)
        names = [name for name in ("energy", "forces") if batch.get(name) is not None]
        if not names and known is None:
            raise ValueError(
                "the structures have no `energy`, `forces` or known `stress` to compare with; they have "
                f"{', '.join(sorted(batch.keys()))}: name scalar properties as `targets`"
            )
        out = potential(moved, virials=known is not None)
        if known is not None:
            names.append("stress")
            check_volume(batch.get("cell"), known)
            out["stress"] = stress_from_virials(out["virials"], moved.cell, moved.batch)
        predicted = {name: factor * out[name].detach().cpu().double() for name in names}
        yield batch, {name: (value, _label_like(batch, name, value)) for name, value in predicted.items()}


def _batches(
    model: AtomisticModel, dataset: Structures, batch_size: int, progress: bool
) -> Iterator[tuple[Data, Data]]:
    """Batches on the CPU and on the device of the model."""
    if len(dataset) == 0:
        raise ValueError("there is no structure to evaluate; expected at least one")
    loader, device = StructureLoader(dataset, batch_size), next(model.parameters()).device
    for batch in tqdm(loader, "evaluating", unit="batch", disable=not progress, leave=False):
        yield batch.to("cpu"), copy.copy(batch).to(device)


@contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode inside the ``with`` block; every module is in its former mode afterwards.

    Args:
        model: The model.

    Yields:
        Nothing.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _found(dataset: Structures, targets: Sequence[str]) -> list[Target]:
    if isinstance(targets, str) or not targets or len(set(targets)) < len(targets):
        raise ValueError(f"`targets` must be a list of different names, got {targets!r}")
    return [find_target(dataset, name) for name in targets]


def _check_columns(y: Tensor, names: Sequence[str]) -> None:
    if y.dim() != 2 or y.size(1) != len(names):
        raise ValueError(
            f"the model predicts {list(y.shape)} for a batch, but there are {len(names)} targets "
            f"({', '.join(names)}); expected one column for each, in this order"
        )


def _label_like(batch: Data, name: str, predicted: Tensor) -> Tensor:
    """True values of a target in float64, in the shape of what is predicted of them."""
    label = batch[name].double()
    if name == "energy" and label.numel() == predicted.numel():  # [B, 1] is meant as well
        label = label.flatten()
    if label.shape != predicted.shape:
        raise ValueError(f"`{name}` of the structures must have shape {list(predicted.shape)}, got {list(label.shape)}")
    return label


def _known_stress(batch: Data) -> Tensor | None:
    """Which structures have a stress [B]; ``None`` if none has."""
    stress = batch.get("stress")
    if stress is None:
        return None
    if stress.shape != (batch.num_graphs, 3, 3):
        raise ValueError(
            f"`stress` must have shape [{batch.num_graphs}, 3, 3], [1, 3, 3] in each Data, got {list(stress.shape)}"
        )
    known: Tensor = stress.isfinite().flatten(1).all(1)
    return known if bool(known.any()) else None


def joined(pairs: list[tuple[Tensor, Tensor]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predicted and true values of all batches.

    Args:
        pairs: Those of each batch.

    Returns:
        Predicted and true values.
    """
    predicted, true = (torch.cat(parts).numpy() for parts in zip(*pairs, strict=True))
    return predicted, true


def _factor(model: AtomisticModel, target: Target) -> float:
    """From the unit of the model to that of the data, where both are known."""
    unit = model.units.get(target.name)
    return unit_factor(unit, target.unit) if unit and target.unit else 1.0
