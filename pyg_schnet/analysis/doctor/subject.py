"""A model that is checked: as it comes, and a copy in float64 with exact filters."""

import copy
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.models.atomistic import AtomisticModel
from pyg_schnet.models.committee import Committee, CommitteePotential
from pyg_schnet.models.exact import exact_copy
from pyg_schnet.models.potential import Potential
from pyg_schnet.units import ENERGY, target_unit

#: Targets that are no energy of a structure at rest, though their unit is one of energy.
_NO_ENERGIES = {"homo", "lumo", "gap", "zpve"}


class Evaluator:
    """Values and forces of one copy of a model, in float64 whatever it computes in.

    Args:
        module: A potential, or a model without an energy.
        dtype: Kind of numbers that it computes with.
        device: Where it is.
    """

    def __init__(self, module: Any, dtype: torch.dtype, device: torch.device) -> None:
        self.module, self.dtype, self.device = module, dtype, device

    def values(self, data: Data) -> Tensor:
        """What is predicted, references included [B, C] float64 on the CPU; energies of a potential."""
        given = self._cast(data)
        if isinstance(self.module, (Potential, CommitteePotential)):
            return self.module(given)["energy"].detach().double().cpu().unsqueeze(1)
        with torch.no_grad():
            out = self.module(given)
        out = getattr(out, "mean", out) if isinstance(self.module, Committee) else out
        return out.detach().double().cpu()

    def energy(self, data: Data) -> float:
        """Energy of one structure, in the unit of the model."""
        return float(self.values(data))

    def both(self, data: Data) -> tuple[Tensor, Tensor]:
        """Energies [B] and forces [N, 3] float64 on the CPU."""
        out = self.module(self._cast(data))
        return out["energy"].detach().double().cpu(), out["forces"].detach().double().cpu()

    def stress(self, data: Data) -> Tensor:
        """Stress of one structure [3, 3] float64 on the CPU."""
        return self.module(self._cast(data), stress=True)["stress"][0].detach().double().cpu()

    def hessian(self, data: Data) -> Tensor:
        """Hessian of one structure [3n, 3n] float64 on the CPU."""
        size = 3 * data.z.size(0)
        return self.module.hessian(self._cast(data))[0].detach().double().cpu().reshape(size, size)

    def _cast(self, data: Data) -> Data:
        data = copy.copy(data).to(str(self.device))
        for name in ("pos", "cell"):
            if isinstance(data.get(name), Tensor):
                data[name] = data[name].to(self.dtype)
        return data


class Subject:
    """A model and what is known of it; the model itself stays as it is.

    Args:
        model: A model, a committee, or a potential of one, of whatever subclass.

    Raises:
        TypeError: If it is none of these.
    """

    def __init__(self, model: Any) -> None:
        #: Why there are no forces; ``None`` if there are.
        self.no_forces: str | None = None
        module = self._potential_of(model)
        self.network: Any = module.model if isinstance(module, (Potential, CommitteePotential)) else module
        self.members: list[Any] = list(self.network) if isinstance(self.network, Committee) else [self.network]
        weight = self.members[0].embedding.weight
        self.dtype: torch.dtype = weight.dtype
        with torch.inference_mode(False):
            self.given = Evaluator(copy.deepcopy(module).eval().requires_grad_(False), weight.dtype, weight.device)
            own = exact_module(module)
        place = (own.model if hasattr(own, "model") else own).to("cpu") if weight.device.type == "mps" else None
        device = torch.device("cpu") if place is not None else weight.device
        self.exact = Evaluator(own, torch.float64, device)

    def _potential_of(self, model: Any) -> Any:
        if isinstance(model, (Potential, CommitteePotential)):
            return model
        if not isinstance(model, (AtomisticModel, Committee)):
            raise TypeError(
                "`model` must be a Potential, a model of atoms such as SchNet or a committee of them, got "
                f"{type(model).__name__}; load() reads one from a file"
            )
        try:
            return CommitteePotential(model) if isinstance(model, Committee) else Potential(model)
        except (ValueError, TypeError) as error:
            self.no_forces = str(error)
            return model

    @property
    def cutoffs(self) -> list[float]:
        """Cutoffs of all members in Angstrom."""
        return sorted({float(member.cutoff) for member in self.members})

    @property
    def kind(self) -> str:
        """How a property grows with the structure: ``"add"``, ``"mean"``, or anything else."""
        readout = self.members[0].readout
        return "other" if hasattr(readout, "channels") else str(getattr(readout, "reference", None))

    @property
    def is_moment(self) -> bool:
        """True for properties that are measured by places of atoms, such as dipole moments."""
        return hasattr(self.members[0].readout, "channels")

    @property
    def jumps(self) -> bool:
        """True if the model says itself that it has no cutoff function, and so a step at the cutoff."""
        return all(member.config.get("cutoff_function", "not said") is None for member in self.members)

    @property
    def energy_unit(self) -> float | None:
        """Unit of the energy in eV; ``None`` if what is predicted is no energy of a whole structure."""
        member = self.members[0]
        name = next((one for one in member.units if one not in {"pos", "cell", "forces", "stress"}), "energy")
        unit = target_unit(member.units) or "eV"
        if self.no_forces or self.kind != "add" or unit not in ENERGY or name.lower() in _NO_ENERGIES:
            return None
        return ENERGY[unit]

    @property
    def trained(self) -> bool:
        """True if the weights surely come from a training."""
        return all(member.training_set is not None or member.trained_elsewhere for member in self.members)

    @property
    def elements(self) -> list[int] | None:
        """Atomic numbers that all members know; ``None`` if that is not known."""
        known: list[int] | None = self.network.elements
        return known

    def residual(self, evaluator: Evaluator, data: Data) -> Tensor:
        """What is predicted for one structure, less references [C]."""
        batch = torch.zeros_like(data.z)
        every = []
        for member in self.members:
            device = member.embedding.weight.device
            every.append(member.reference.of_structures(data.z.to(device), batch.to(device), 1)[0].double().cpu())
        return evaluator.values(data)[0] - torch.stack(every).mean(0)


def exact_module(module: Any) -> Any:
    """A copy in float64 with exact filters, of the same class.

    Args:
        module: A potential, model or committee.

    Returns:
        The copy, in evaluation mode.
    """
    if isinstance(module, AtomisticModel):
        return exact_copy(module)
    own = copy.deepcopy(module)
    if isinstance(own, Committee):
        own.members = torch.nn.ModuleList(exact_copy(member) for member in module)
    else:
        own.model = exact_module(module.model)
    return own.double().eval().requires_grad_(False)
