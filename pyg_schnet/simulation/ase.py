"""SchNet as an ASE calculator (extra ``md``)."""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from pyg_schnet.models import CapturedPotential, Committee, CommitteePotential, Potential, load
from pyg_schnet.models.captured import recordable
from pyg_schnet.models.checkpoint import to_device
from pyg_schnet.models.inputs import check_volume
from pyg_schnet.units import ENERGY

try:
    from ase import Atoms
    from ase.calculators.calculator import Calculator, all_changes
    from ase.outputs import Properties, all_outputs
    from ase.stress import full_3x3_to_voigt_6_stress
except ImportError as error:
    raise ImportError('the calculator needs ASE; install it with pip install "pyg_schnet[md]"') from error

#: What the calculator of a committee has beyond the properties of ASE.
SPREADS = ("energy_std", "forces_std", "stress_std", "energies_std")


def atoms_to_data(atoms: Atoms, dtype: torch.dtype | None = None, device: str | torch.device = "cpu") -> Data:
    """A structure of ASE as a ``Data`` of PyG.

    Args:
        atoms: The structure.
        dtype: Floating-point type; ``None`` for torch's default.
        device: Where to put the tensors.

    Returns:
        ``z`` [n], ``pos`` [n, 3] and ``cell`` [1, 3, 3] in Angstrom, ``pbc`` [1, 3].

    Example:
        >>> from ase.build import bulk
        >>> atoms_to_data(bulk("Fe")).pbc
        tensor([[True, True, True]])
    """
    dtype = torch.get_default_dtype() if dtype is None else dtype
    return Data(
        z=torch.as_tensor(atoms.numbers, dtype=torch.long, device=device),
        pos=torch.as_tensor(atoms.positions, dtype=dtype, device=device),
        cell=torch.as_tensor(atoms.cell.array, dtype=dtype, device=device).unsqueeze(0),
        pbc=torch.as_tensor(atoms.pbc, device=device).unsqueeze(0),
    )


class SchNetCalculator(Calculator):
    """Energy, forces and stress of a SchNet for all that ASE does: dynamics, relaxation of atoms and cell, vibrations.

    Energies are in eV, forces in eV/Angstrom, stresses in eV/Angstrom^3 in ASE's order (xx, yy, zz, yz, xz, xy). As
    with ASE's own calculators there is a stress wherever the cell has a volume, whatever the periodic axes, and it
    refers to the whole volume, vacuum included; ``stresses`` are the shares of the atoms and add up to it. Without a
    complete cell ASE raises its ``PropertyNotImplementedError``. ``energies``, the contributions of the atoms, exist
    for ``readout="add"``.

    Of a committee, all these are means over its members, and the results have standard deviations too, in the same
    shapes and units: ``energy_std``, ``forces_std``, ``stress_std`` and, with the energies, ``energies_std``; see
    :class:`~pyg_schnet.models.CommitteePotential`. ``calculator.results["forces_std"]`` is that of the last structure,
    ``calculator.get_property("forces_std", atoms)`` that of any.

    Args:
        model: A model of energies in eV, a :class:`~pyg_schnet.Potential`, or the path of a file written by
            :func:`pyg_schnet.save`; or a :class:`~pyg_schnet.models.Committee`, its potential, or the folder it was
            saved to. The calculator works on a copy.
        device: Where to evaluate, for example ``"cuda"``.
        dtype: Floating-point type to evaluate in, float32 or float64; ``None`` for the model's own.
        energy_unit: Unit of the model's energies, from which they are converted to eV; ``None`` for what the model or
            its file says (``model.units``), eV if they say nothing.
        captured: Whether steps of the same atoms are recorded by a GPU as one CUDA graph, with a skin list, for small
            systems in dynamics, see :class:`~pyg_schnet.models.CapturedPotential`.
        **kwargs: Passed to ASE's ``Calculator``: ``atoms``, ``label``, ``directory``, ``restart``.

    Raises:
        TypeError: If ``model`` is none of these or an argument is not known.
        ValueError: If it predicts a mean over the atoms or anything else than an energy, the unit is none of energy,
            there is no such device, or steps cannot be recorded, as those of a committee.

    Example:
        >>> from ase.build import molecule
        >>> from pyg_schnet import SchNet
        >>> water = molecule("H2O")
        >>> water.calc = SchNetCalculator(SchNet.preset("jcp2018"))
        >>> water.get_forces().shape
        (3, 3)
    """

    implemented_properties = [  # noqa: RUF012  ASE declares it so
        "energy",
        "free_energy",
        "forces",
        "stress",
        "stresses",
        "energies",
    ]

    def __init__(
        self,
        model: nn.Module | str | Path,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        energy_unit: str | None = None,
        captured: bool = False,
        **kwargs: Any,
    ) -> None:
        for argument in kwargs.keys() - {"atoms", "label", "directory", "restart"}:
            raise TypeError(f"SchNetCalculator has no argument {argument!r}; expected device, dtype or energy_unit")
        if dtype not in {None, torch.float32, torch.float64}:
            raise ValueError(f"`dtype` must be torch.float32 or torch.float64, got {dtype}")
        super().__init__(**kwargs)
        potential = _potential_of(model)
        bare: Any = potential.model[0] if isinstance(potential, CommitteePotential) else potential.model
        if bare.config["readout"] == "mean":
            raise ValueError("`model` has readout='mean' and predicts an energy per atom; dynamics need readout='add'")
        unit = energy_unit or bare.units.get("energy", "eV")
        if unit not in ENERGY:
            raise ValueError(f"`energy_unit` must be one of {', '.join(ENERGY)}, got {unit!r}")
        self.unit_factor = ENERGY[unit]
        if captured:
            _check_captured(potential)
        own = _potential_of(copy.deepcopy(potential.model)).eval().requires_grad_(False)
        self.potential = to_device(own, device, dtype)
        if isinstance(potential, CommitteePotential):
            self.implemented_properties = [*self.implemented_properties, *SPREADS]
        self._has_energies = bare.config["readout"] in {"add", "sum"}
        first = next(self.potential.parameters())
        self.device, self.dtype = first.device, first.dtype
        self.captured = captured
        self._steps: tuple[tuple[Any, ...], CapturedPotential] | None = None

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Evaluate energy, forces and, where there is a volume, stress; called by ASE.

        Args:
            atoms: The structure.
            properties: ``energies`` are evaluated if they are among these; all else comes from one evaluation.
            system_changes: Not looked at.
        """
        properties = properties or ["energy"]
        super().calculate(atoms, properties, system_changes)
        structure: Any = self.atoms
        data = atoms_to_data(structure, self.dtype, self.device)
        spanned = _spans_volume(structure)
        # virials cost next to nothing beside the forces, a second evaluation when ASE asks for the stress does
        evaluate = self._captured if self.captured else self.potential
        out = evaluate(data, stress=spanned, virials=spanned)
        out = {name: self.unit_factor * value for name, value in out.items()}
        energy = float(out["energy"])
        self.results = {"energy": energy, "free_energy": energy, "forces": out["forces"].cpu().numpy()}
        if spanned:
            shares = -out["virials"].cpu().numpy() / structure.get_volume()
            self.results["stress"] = full_3x3_to_voigt_6_stress(out["stress"][0].cpu().numpy())
            self.results["stresses"] = full_3x3_to_voigt_6_stress(shares)
        if "energy_std" in out:
            self.results["energy_std"] = float(out["energy_std"])
            self.results["forces_std"] = out["forces_std"].cpu().numpy()
            if spanned:
                self.results["stress_std"] = full_3x3_to_voigt_6_stress(out["stress_std"][0].cpu().numpy())
        if self._has_energies and not {"energies", "energies_std"}.isdisjoint(properties):
            self._add_energies(data)

    def _captured(self, data: Data, *, stress: bool, virials: bool) -> dict[str, Tensor]:
        """A step of the same atoms as last time, or the first one of others."""
        atoms: Any = self.atoms
        periodic = {"cell": data.cell, "pbc": data.pbc} if stress or atoms.pbc.any() else {}
        same = atoms.numbers.tobytes(), atoms.pbc.tobytes(), stress
        if self._steps is None or self._steps[0] != same:
            model = self.potential.model
            self._steps = same, CapturedPotential(model, data.z, **periodic, stress=stress, virials=virials)
        return self._steps[1](data.pos, periodic.get("cell"))

    def _add_energies(self, data: Data) -> None:
        with torch.no_grad():
            energies = self.potential.model.contributions(data.z, data.pos, cell=data.cell, pbc=data.pbc)
        one = isinstance(energies, Tensor)
        named = {"energies": energies} if one else {"energies": energies.mean, "energies_std": energies.std}
        for name, value in named.items():
            self.results[name] = self.unit_factor * value.squeeze(-1).cpu().numpy()

    def export_properties(self) -> Properties:
        """Those results that ASE has a name for; called by ASE."""
        return Properties({name: value for name, value in self.results.items() if name in all_outputs})


def _potential_of(model: Any) -> Potential | CommitteePotential:
    """The potential of whatever a calculator takes."""
    if isinstance(model, (str, Path)):
        model = Committee.load(model) if Path(model).is_dir() else load(model)
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a SchNet, a Potential, a Committee or a path, got {type(model).__name__}")
    if isinstance(model, (Potential, CommitteePotential)):
        return model
    return CommitteePotential(model) if isinstance(model, Committee) else Potential(model)


def _check_captured(potential: Potential | CommitteePotential) -> None:
    if isinstance(potential, CommitteePotential):
        raise ValueError("the steps of a committee cannot be recorded; leave out captured=True or pass one model")
    recordable(potential)


def _spans_volume(atoms: Atoms) -> bool:
    """Whether three finite lattice vectors are linearly independent, so that there is a stress."""
    if not atoms.cell.array.any():  # molecules, in each step of dynamics
        return False
    try:
        check_volume(torch.as_tensor(atoms.cell.array).unsqueeze(0))
    except ValueError:
        return False
    return True
