"""SchNet as a model of TorchSim (extra ``torchsim``), which moves many structures at once."""

from typing import Any

import torch
from torch import Tensor

from pyg_schnet.models import CommitteePotential
from pyg_schnet.segments import add_up
from pyg_schnet.simulation.gpu_steps import GpuSteps
from pyg_schnet.simulation.prepared import checked_dtype, energy_unit_of, first_of, own_potential, potential_of
from pyg_schnet.simulation.same_values import SameValues
from pyg_schnet.units import ENERGY

try:
    from torch_sim.models.interface import ModelInterface
except ImportError as error:
    raise ImportError('the model needs TorchSim; install it with pip install "pyg_schnet[torchsim]"') from error


class SchNetModel(ModelInterface):
    """Energies, forces and stresses of all structures of a TorchSim state, in one evaluation.

    Energies are in eV, forces in eV/Angstrom, stresses in eV/Angstrom^3. A structure has a stress if its cell has a
    volume, whatever its periodic axes, as with ASE; all others have zeros. On a GPU, steps of the same atoms are
    recorded from the second evaluation on, see :class:`~pyg_schnet.simulation.RecordedPotential`.

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
        self._steps = GpuSteps(self.potential)
        self._axes: tuple[SameValues, Tensor] | None = None
        self._centre: tuple[int, Any, Tensor] = -1, None, torch.empty(0)

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
        pbc, count = self._periodic_axes(state.pbc), len(state.cell)  # one answer for all structures
        periodic, lattice = bool(pbc.any()), {}
        if periodic or self._compute_stress:
            cell = state.row_vector_cell.detach().to(self._dtype)  # [B, 3, 3]
        if periodic:
            lattice = {"cell": cell, "pbc": pbc.expand(count, 3)}
        pos, batch, virials = self._near(state, count, periodic), state.system_idx, periodic and self._compute_stress
        out = self._steps.on_device(state.atomic_numbers, pos, batch, count, **lattice, virials=virials)
        if out is None:
            z = state.atomic_numbers.long()
            out = self.potential(z, pos, batch, **lattice, batch_size=count, virials=virials)
        forces = out["forces"]
        results = {"energy": out["energy"]}
        if isinstance(self.potential, CommitteePotential):
            results |= {name: out[name] for name in ("energy_std", "forces_std")}
        if self._compute_forces:
            results["forces"] = forces
        if self._compute_stress:
            # an open structure's energy depends on nothing but its positions: their virial is that of the forces
            shares = out["virials"] if periodic else forces.unsqueeze(2) * pos.unsqueeze(1)  # [N, 3, 3]
            virial = add_up(shares, batch, count, ascending=True)
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
            atoms = add_up(torch.ones_like(pos[:, :1]), index, count, ascending=True)
            centre = add_up(pos, index, count, ascending=True) / atoms.clamp(min=1.0)
            pos = pos - self._steady(centre.round(), index)[index]
        return pos.to(self._dtype)

    def _steady(self, centre: Tensor, index: Tensor) -> Tensor:
        """Where structures are taken to be, the same from one search for pairs to the next: no atom jumps meanwhile."""
        if self._steps.rebuilds == 0:
            return centre
        rebuilds, seen, known = self._centre
        if rebuilds != self._steps.rebuilds or seen is not index or known.shape != centre.shape:
            self._centre = self._steps.rebuilds, index, centre
        return self._centre[2]

    def _periodic_axes(self, pbc: Any) -> Tensor:
        """Periodic axes on the CPU, looked at when they are others than the last time."""
        if not isinstance(pbc, Tensor):
            return torch.as_tensor(pbc).reshape(-1)
        if self._axes is None or not self._axes[0].as_before(pbc):
            self._axes = SameValues(pbc), pbc.cpu().reshape(-1)
        return self._axes[1]
