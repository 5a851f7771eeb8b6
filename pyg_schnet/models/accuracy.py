"""What filters from tables cost in accuracy, measured on structures of one's own."""

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from pyg_schnet.fast.tables import frozen_spacing
from pyg_schnet.models.potential import Potential
from pyg_schnet.models.schnet import SchNet


class Errors(NamedTuple):
    r"""Relative errors :math:`\lVert a - a_\mathrm{exact} \rVert / \lVert a_\mathrm{exact} \rVert`, Euclidean norms.

    Attributes:
        energy: Of the energies of all structures, less references: single-atom values and means are the same.
        forces: Of the forces on all atoms.
        gradients: Of the gradients of a loss with respect to all parameters; ``None`` for a frozen model.
    """

    energy: float
    forces: float
    gradients: float | None


class TableAccuracy(NamedTuple):
    """Errors of a model with filters from tables, against exact filters in float64.

    Attributes:
        tabulated: Errors with tables made for the batch, as in training with ``filters="table"``.
        frozen: Errors with frozen tables.
        rounding: Errors with exact filters in the dtype of the model: what remains with the finest tables.
        spacing: Distance between the knots of the frozen tables in Angstrom.
        dtype: That of the model.
        structures: Number of structures.
        atoms: Number of atoms.
    """

    tabulated: Errors
    frozen: Errors
    rounding: Errors
    spacing: float
    dtype: torch.dtype
    structures: int
    atoms: int

    def within(self, energy: float = 1e-6, forces: float = 1e-5, gradients: float = 1e-4) -> bool:
        """True if no error of tabulated and frozen filters exceeds these.

        Args:
            energy: Largest relative error of energies.
            forces: Largest relative error of forces.
            gradients: Largest relative error of gradients.

        Returns:
            True if so; an error that is NaN exceeds everything.
        """
        limits = energy, forces, gradients
        found = [pair for errors in (self.tabulated, self.frozen) for pair in zip(errors, limits, strict=True)]
        return all(error is None or error <= limit for error, limit in found)

    def __str__(self) -> str:
        """A table of the errors."""
        kind = str(self.dtype).removeprefix("torch.")
        lines = [
            f"relative errors of {self.structures} structures, {self.atoms} atoms, knots every {self.spacing:.4f} "
            "Angstrom; reference: exact filters in float64",
            f"{'filters':20}{'energy':>10}{'forces':>10}{'gradients':>11}",
        ]
        rows = {"tabulated": self.tabulated, "frozen": self.frozen, "exact": self.rounding}
        for name, (energy, forces, gradients) in rows.items():
            last = "-" if gradients is None else f"{gradients:.1e}"
            lines.append(f"{f'{name}, {kind}':20}{energy:10.1e}{forces:10.1e}{last:>11}")
        return "\n".join(lines)


def table_accuracy(model: SchNet, data: Data | Sequence[Data]) -> TableAccuracy:
    r"""Errors that filters from tables make in energies, forces and gradients of parameters.

    The gradients are those of :math:`\lVert E \rVert^2 / \lVert E_\mathrm{exact} \rVert^2
    + \lVert F \rVert^2 / \lVert F_\mathrm{exact} \rVert^2`, a loss in which energies and forces count the same. The
    model stays as it is: copies are measured. For the error of the tables without that of float32, pass a copy in
    float64: ``copy.deepcopy(model).double()``.

    Args:
        model: A SchNet that predicts energies, whatever its ``filters``. The tables of a frozen one are measured as
            they are, those of another are made.
        data: Structures with ``z``, ``pos`` and, for crystals, ``cell`` and ``pbc``: a ``Data``, a ``Batch`` or several
            ``Data``; like those that the model is for.

    Returns:
        The errors; print them, or ask whether they are ``within()`` limits.

    Raises:
        TypeError: If ``model`` is no SchNet.
        ValueError: If it predicts no energy, or there are no structures.

    Example:
        >>> from pyg_schnet import SchNet
        >>> water = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
        >>> table_accuracy(SchNet(16, 16, 2).double(), water).within(energy=1e-6, forces=1e-5, gradients=1e-4)
        True
    """
    if not isinstance(model, SchNet):
        raise TypeError(f"`model` must be a SchNet, others have no tables, got {type(model).__name__}")
    dtype, device = model.embedding.weight.dtype, model.embedding.weight.device
    batch = _cast(_batch_of(data).to(str(device)), dtype)
    frozen = copy.deepcopy(model) if model.frozen else copy.deepcopy(model).freeze()
    tables = cast(Tensor, frozen.filter_tables)
    reference = _results(_thawed(model, "exact").double(), _cast(batch, torch.float64))
    tabulated, exact = (_results(_thawed(model, filters), batch, reference) for filters in ("table", "exact"))
    return TableAccuracy(
        tabulated=_errors(tabulated, reference),
        frozen=_errors(_results(frozen, batch, reference), reference),
        rounding=_errors(exact, reference),
        spacing=frozen_spacing(tables, frozen.cutoff),
        dtype=dtype,
        structures=batch.num_graphs,
        atoms=batch.num_nodes,
    )


class _Results(NamedTuple):
    """Energies less references [B], forces [N, 3] and all gradients of a loss of both, float64."""

    energy: Tensor
    forces: Tensor
    gradients: Tensor | None


def _results(model: SchNet, batch: Batch, reference: _Results | None = None) -> _Results:
    """What a model gives; the loss is relative to the reference, to the results themselves without one."""
    if not model.frozen:
        model.train().requires_grad_()
    out = Potential(model)(batch)
    energy = out["energy"] - model.reference.of_structures(batch.z, batch.batch, batch.num_graphs).squeeze(1)
    results = _Results(energy.detach(), out["forces"].detach().double(), None)
    if model.frozen:
        return results
    scale = results if reference is None else reference
    weights = list(model.parameters())
    loss = _square(energy, scale.energy) + _square(out["forces"].double(), scale.forces)
    slopes = torch.autograd.grad(loss, weights, allow_unused=True)
    flat = [torch.zeros_like(w) if g is None else g for w, g in zip(weights, slopes, strict=True)]
    return results._replace(gradients=torch.cat([slope.flatten() for slope in flat]).double())


def _square(value: Tensor, scale: Tensor) -> Tensor:
    """Squared norm in units of another; as it is where that is zero, as forces on a single atom are."""
    unit = scale.square().sum()
    return value.square().sum() / torch.where(unit > 0, unit, 1.0)


def _errors(results: _Results, reference: _Results) -> Errors:
    pairs = zip(results, reference, strict=True)
    return Errors(*(None if one is None else _relative(one, other) for one, other in pairs))  # type: ignore[arg-type]


def _relative(value: Tensor, exact: Tensor) -> float:
    difference, norm = float((value - exact).norm()), float(exact.norm())
    if norm == 0.0:
        return math.inf if difference > 0.0 else difference
    return difference / norm


def _thawed(model: SchNet, filters: str) -> SchNet:
    """A copy that is not frozen, with filters of this kind."""
    model = copy.deepcopy(model).unfreeze()
    model.filters = filters
    return model


def _batch_of(data: Data | Sequence[Data]) -> Batch:
    if isinstance(data, Batch):
        return data
    structures = [data] if isinstance(data, Data) else list(data)
    if not structures:
        raise ValueError("there is no structure in `data`; expected at least one")
    return Batch.from_data_list(structures)


def _cast(batch: Batch, dtype: torch.dtype) -> Batch:
    """The batch with positions and cells of this kind."""
    batch = copy.copy(batch)
    for name in ("pos", "cell"):
        if batch.get(name) is not None:
            batch[name] = batch[name].to(dtype)
    return batch
