"""SchNet as a model of TorchSim (extra ``torchsim``), which moves many structures at once."""

from typing import Any

import torch
from torch import Tensor

from pyg_schnet.models import CommitteePotential
from pyg_schnet.simulation.prepared import checked_dtype, energy_unit_of, first_of, own_potential, potential_of
from pyg_schnet.units import ENERGY

try:
    from torch_sim.models.interface import ModelInterface
except ImportError as error:
    raise ImportError('the model needs TorchSim; install it with pip install "pyg_schnet[torchsim]"') from error


class SchNetModel(ModelInterface):
    """Energies, forces and stresses of all structures of a TorchSim state, in one evaluation.

    Energies are in eV, forces in eV/Angstrom, stresses in eV/Angstrom^3. A structure has a stress if its cell has a
    volume, whatever its periodic axes, as with ASE; all others have zeros.

    Args:
        model: What :class:`~pyg_schnet.simulation.ase.SchNetCalculator` takes: a model of energies, a committee, a
            potential of either, a file, a folder or the name of a trained model. Of a committee, results are means,
            and there are ``energy_std``, ``forces_std``.
        device: Where to evaluate.
        dtype: Floating-point type; ``None`` for the model's own.
        compute_forces: True to return forces.
        compute_stress: True to return stresses.
        energy_unit: Unit of the model's energies; ``None`` for what the model or its file says, else eV.
        frozen: True if filters are read from tables; ``None`` for: in float32 on a CPU.
        strict: True if elements that no training example had are refused; otherwise there is a warning.

    Raises:
        TypeError: If ``model`` is none of these.
        ValueError: If it has no energy to simulate, or there is no such unit or device.
    """

    _memory_scales_with = "n_atoms_x_density"

    def __init__(
        self,
        model: Any,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        *,
        compute_forces: bool = True,
        compute_stress: bool = True,
        energy_unit: str | None = None,
        frozen: bool | None = None,
        strict: bool = False,
    ) -> None:
        super().__init__()
        given = potential_of(model)
        self.unit = ENERGY[energy_unit_of(given, energy_unit)]
        self.potential = own_potential(given, device or "cpu", checked_dtype(dtype), frozen)
        self.potential.strict = strict
        weight = first_of(self.potential).embedding.weight
        self._device, self._dtype = weight.device, weight.dtype
        self._compute_forces, self._compute_stress = compute_forces, compute_stress

    @property
    def compute_forces(self) -> bool:
        """True if forces are returned."""
        return self._compute_forces

    @compute_forces.setter
    def compute_forces(self, compute_forces: bool) -> None:
        self._compute_forces = compute_forces

    @property
    def compute_stress(self) -> bool:
        """True if stresses are returned."""
        return self._compute_stress

    @compute_stress.setter
    def compute_stress(self, compute_stress: bool) -> None:
        self._compute_stress = compute_stress

    def forward(self, state: Any, **_: Any) -> dict[str, Tensor]:
        """Evaluate a state.

        Args:
            state: A ``SimState`` of TorchSim, or a dictionary with what makes one.
            **_: What other models of TorchSim take; not looked at.

        Returns:
            ``energy`` [B] in eV, ``forces`` [N, 3] in eV/Angstrom, ``stress`` [B, 3, 3] in eV/Angstrom^3, those asked
            for, detached, in the dtype of this model.

        Raises:
            ValueError: If there is an element that the model does not know, or a structure is an impossible one.
        """
        if isinstance(state, dict):
            from torch_sim.state import SimState  # noqa: PLC0415

            state = SimState(**{"masses": torch.ones_like(state["positions"][:, 0])} | state)
        pbc, count = torch.as_tensor(state.pbc).reshape(-1), len(state.cell)  # one answer for all structures
        periodic, lattice = bool(pbc.any()), {}
        if periodic or self._compute_stress:
            cell = state.row_vector_cell.detach().to(self._dtype)  # [B, 3, 3]
        if periodic:
            lattice = {"cell": cell, "pbc": pbc.to(cell.device).expand(count, 3)}
        z, pos, batch = state.atomic_numbers.long(), self._near(state, count, periodic), state.system_idx
        out = self.potential(z, pos, batch, **lattice, batch_size=count, virials=periodic and self._compute_stress)
        forces = out["forces"]
        results = {"energy": out["energy"]}
        if isinstance(self.potential, CommitteePotential):
            results |= {name: out[name] for name in ("energy_std", "forces_std")}
        if self._compute_forces:
            results["forces"] = forces
        if self._compute_stress:
            # an open structure's energy depends on nothing but its positions: their virial is that of the forces
            shares = out["virials"] if periodic else forces.unsqueeze(2) * pos.unsqueeze(1)  # [N, 3, 3]
            virial = shares.new_zeros(count, 3, 3).index_add(0, batch, shares)
            volume = torch.linalg.det(cell).abs().view(-1, 1, 1)
            stress = -(virial + virial.mT) / (2.0 * volume)
            results["stress"] = torch.where(volume > torch.finfo(cell.dtype).eps, stress, 0.0)
        if self.unit != 1.0:
            results = {name: self.unit * value for name, value in results.items()}
        return {name: value.to(self._dtype).detach() for name, value in results.items()}

    def _near(self, state: Any, count: int, periodic: bool) -> Tensor:
        """Positions [N, 3]; those of open structures near the origin, whole Angstroms away from where they are.

        Where the state has no more digits than the model, none are lost, and positions stay.
        """
        pos = state.positions.detach()
        if not periodic and pos.dtype != self._dtype:
            index = state.system_idx
            atoms = torch.bincount(index, minlength=count).clamp(min=1).unsqueeze(1)
            centre = pos.new_zeros(count, 3).index_add(0, index, pos) / atoms
            pos = pos - centre.round()[index]
        return pos.to(self._dtype)
