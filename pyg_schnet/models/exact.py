"""A model as exact as it can be: in float64, with its filter networks instead of tables, energies in eV.

Second derivatives, and small differences of forces, need all the digits there are: the soft modes of a molecule are
lost in what float32 rounds off.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.fast.tabulated import TabulatedFilters
from pyg_schnet.models.atomistic import AtomisticModel, check_unit
from pyg_schnet.models.committee import Committee, CommitteePotential
from pyg_schnet.models.potential import Potential
from pyg_schnet.threads import alone_if
from pyg_schnet.units import ENERGY, target_unit

#: Atoms that one thread computes as fast as several do.
_FEW = 32


def exact_copy(model: AtomisticModel) -> AtomisticModel:
    """A copy of a model in float64, in evaluation mode, whose filters are evaluated; the model stays as it is.

    Args:
        model: The model.

    Returns:
        The copy, on the same device, or on the CPU if that has no float64.
    """
    with torch.inference_mode(False):  # or its derivatives were none
        own: Any = copy.deepcopy(model)
        if isinstance(own, TabulatedFilters):
            own.unfreeze()
            own.filters = "exact"
        device = own.embedding.weight.device
        own.to(device="cpu" if device.type == "mps" else device, dtype=torch.float64)
        copied: AtomisticModel = own.eval().requires_grad_(False)
    return copied


class ExactPotential:
    """Energies, forces and Hessians of a copy in float64 with exact filters, whatever the model is.

    Of a committee they are those of the mean of its members. Models of an energy per atom (``readout="mean"``) are
    multiplied by the number of atoms, so that forces and Hessians are those of the structure.

    Args:
        model: A potential, a model of energies, or a committee of them and its potential.
        energy_unit: Unit of the model's energies; ``None`` for what the model says (``model.units``), eV if it says
            nothing.

    Raises:
        TypeError: If ``model`` is none of these.
        ValueError: If it predicts something else than one energy, or the unit is none of energy or not
            that of its repulsion.

    Example:
        >>> from pyg_schnet import SchNet
        >>> water = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
        >>> potential = ExactPotential(SchNet.preset("jcp2018"))
        >>> potential.hessian(water).shape, potential.hessian(water).dtype
        (torch.Size([3, 3, 3, 3]), torch.float64)
    """

    def __init__(self, model: Any, energy_unit: str | None = None) -> None:
        strict = getattr(model, "strict", False)
        if isinstance(model, (Potential, CommitteePotential)):
            model = model.model
        if not isinstance(model, (AtomisticModel, Committee)):
            raise TypeError(
                "expected a Potential, a model of energies such as a SchNet or a committee of them, got "
                f"{type(model).__name__}"
            )
        members: list[Any] = list(model) if isinstance(model, Committee) else [model]
        for member in members:
            Potential(member)  # raises unless it has an energy to differentiate
        self.potentials = [Potential(exact_copy(member), strict=strict) for member in members]
        self.per_atom = members[0].config.get("readout") == "mean"
        unit = energy_unit or target_unit(members[0].units) or "eV"
        unit = unit.removesuffix("/atom") if self.per_atom else unit
        if unit not in ENERGY:
            raise ValueError(
                f"the energy of the model must be in one of {', '.join(ENERGY)}, got {unit!r}; pass `energy_unit` if "
                "that is not so"
            )
        for member in members:
            check_unit(member, unit)
        self.unit_factor = ENERGY[unit]
        self.device = self.potentials[0].model.embedding.weight.device

    @property
    def cutoff(self) -> float:
        """The largest cutoff in Angstrom."""
        return max(potential.model.cutoff for potential in self.potentials)

    def __call__(self, data: Data) -> tuple[Tensor, Tensor]:
        """Energies and forces.

        Args:
            data: Structures, a ``Data`` or ``Batch``, of any dtype and on any device.

        Returns:
            Energies in eV [B] and forces in eV/Angstrom [N, 3], on the device of the model.

        Raises:
            TypeError, ValueError: As :meth:`pyg_schnet.Potential.forward`.
        """
        data = self._here(data)
        every = self._of_each(lambda potential: potential(data), data)
        energy = torch.stack([out["energy"] for out in every]).mean(0)
        forces = torch.stack([out["forces"] for out in every]).mean(0)
        if self.per_atom:
            batch = torch.zeros_like(data.z) if data.batch is None else data.batch
            count = torch.bincount(batch, minlength=len(energy))
            energy, forces = energy * count, forces * count[batch].unsqueeze(1)
        return self.unit_factor * energy, self.unit_factor * forces

    def hessian(self, data: Data) -> Tensor:
        """Second derivatives of the energy of one structure.

        Args:
            data: The structure.

        Returns:
            The Hessian [n, 3, n, 3] in eV/Angstrom^2, symmetric, on the device of the model.

        Raises:
            TypeError, ValueError: As :meth:`pyg_schnet.Potential.hessian`.
        """
        data = self._here(data)
        hessian = torch.stack(self._of_each(lambda potential: potential.hessian(data)[0], data)).mean(0)
        hessian = (hessian + hessian.permute(2, 3, 0, 1)) / 2  # what rounding has left
        return self._scale(data) * hessian

    def _of_each(self, function: Callable[[Potential], Any], data: Data) -> list[Any]:
        """What a function gives for each potential, in one thread if the structures are few atoms."""
        with alone_if(data.z.size(0) <= _FEW):
            return [function(potential) for potential in self.potentials]

    def _scale(self, data: Data) -> float:
        return self.unit_factor * (data.z.size(0) if self.per_atom else 1)

    def _here(self, data: Data) -> Data:
        """The structures in float64 on the device of the model."""
        data = copy.copy(data).to(str(self.device))
        for name in ("pos", "cell"):
            if isinstance(data.get(name), Tensor):
                data[name] = data[name].double()
        return data
