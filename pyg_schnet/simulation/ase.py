"""SchNet as an ASE calculator (extra ``md``)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor, nn

from pyg_schnet.models import CommitteePotential
from pyg_schnet.models.dipoles import Dipoles
from pyg_schnet.models.exact import ExactPotential
from pyg_schnet.models.inputs import check_volume
from pyg_schnet.models.recordable import recordable
from pyg_schnet.models.resolve import load
from pyg_schnet.simulation.near_origin import NearOrigin
from pyg_schnet.simulation.prepared import (
    check_numbers,
    checked_dtype,
    electrons_of,
    energy_unit_of,
    first_of,
    own_potential,
    potential_of,
)
from pyg_schnet.simulation.recorded import RecordedPotential
from pyg_schnet.simulation.spreads import SPREADS, keep_in_extxyz
from pyg_schnet.simulation.stepping import SteppedPotential
from pyg_schnet.simulation.structures import atoms_to_data, data_to_atoms, said_by
from pyg_schnet.units import ENERGY

try:
    from ase import Atoms
    from ase.calculators.calculator import Calculator, all_changes
    from ase.outputs import Properties, all_outputs
    from ase.stress import full_3x3_to_voigt_6_stress
except ImportError as error:
    raise ImportError('the calculator needs ASE; install it with pip install "pyg_schnet[md]"') from error

__all__ = ["SPREADS", "SchNetCalculator", "atoms_to_data", "data_to_atoms"]


class SchNetCalculator(Calculator):
    """Energy, forces and stress of a SchNet for all that ASE does: dynamics, relaxation of atoms and cell, vibrations.

    Energies are in eV, forces in eV/Angstrom, stresses in eV/Angstrom^3 in ASE's order (xx, yy, zz, yz, xz, xy). As
    with ASE's own calculators there is a stress wherever the cell has a volume, whatever the periodic axes, and it
    refers to the whole volume, vacuum included; ``stresses`` are the shares of the atoms and add up to it. Without a
    complete cell ASE raises its ``PropertyNotImplementedError``. ``energies``, the contributions of the atoms, exist
    for ``readout="add"``.

    The calculator works on a copy of the model. On a CPU in float32 the copy is frozen, see ``frozen``, so that a call
    takes a fraction of the time; its filters then come from tables, which are as accurate as float32 is. In crystals
    and large structures it keeps neighbours from step to step, see :mod:`pyg_schnet.simulation.stepping`; whatever
    happens between two calls, no pair is ever missing. Structures may be anywhere in space: they are brought near the
    origin before they are rounded to the numbers of the model.

    Of a committee, all results are means over its members, and there are standard deviations too, in the same shapes
    and units: ``energy_std``, ``forces_std``, ``stress_std`` and, with the energies, ``energies_std``; see
    :class:`~pyg_schnet.models.CommitteePotential`. ``calculator.results["forces_std"]`` is that of the last structure,
    ``calculator.get_property("forces_std", atoms)`` that of any. ``ase.io.write(..., format="extxyz")`` writes them as
    it does forces. ASE's other formats have no place for them; put :attr:`spreads` where they do:
    ``atoms.info.update(calculator.spreads)`` for trajectories, ``database.write(atoms, data=calculator.spreads)``.

    With a ``dipole_model`` there is the ``dipole`` of molecules, too, in e Angstrom, as ASE's ``Infrared`` wants it.

    Args:
        model: A model of energies in eV, a :class:`~pyg_schnet.Potential`, a :class:`~pyg_schnet.models.Committee` or
            its potential; or what :func:`pyg_schnet.load` reads: a file written by :func:`pyg_schnet.save`, the folder
            of a run or of a committee, a checkpoint, the name of a trained model (``pyg-schnet models`` lists them), or
            ``"hf://owner/name"``.
        device: Where to evaluate, for example ``"cuda"``.
        dtype: Floating-point type to evaluate in, float32 or float64; ``None`` for the model's own, float32 for one of
            half precision.
        energy_unit: Unit of the model's energies, from which they are converted to eV; ``None`` for what the model or
            its file says (``model.units``), eV if they say nothing.
        recorded: True if steps of the same atoms are steps of a
            :class:`~pyg_schnet.simulation.RecordedPotential`, one CUDA graph with a skin list, or an error says why
            that cannot be. Otherwise, a GPU records them by itself where that can be.
        frozen: True if filters are read from tables, see :meth:`~pyg_schnet.SchNet.freeze`; ``None`` for: in float32 on
            a CPU, if the model has filters and steps are not recorded, if the model is frozen already, and on a GPU for
            structures of 2,000 atoms and more, if its kernels pass a test. In float64
            filters are evaluated, exact to all digits, unless this is true: tables have relative errors of some 1e-10
            in energies and 1e-8 in forces, which :func:`~pyg_schnet.models.table_accuracy` measures.
        strict: True if elements that no training example had are refused, and such charges and multiplicities, where
            structures say them (:func:`~pyg_schnet.simulation.structures.said_by`); otherwise each is warned of once.
        dipole_model: A model of the dipole moment, a committee of such, or a file or folder of either, see
            :class:`~pyg_schnet.models.dipoles.Dipoles`; ``None`` for a calculator without dipoles.
        dipole_unit: Its unit, ``"D"`` or ``"e*Ang"``; ``None`` for what it says, Debye if it says nothing.
        **kwargs: Passed to ASE's ``Calculator``: ``atoms``, ``label``, ``directory``, ``restart``.

    Raises:
        TypeError: If ``model`` is none of these or an argument is not known.
        ValueError: If it predicts a mean over the atoms or anything else than an energy, the unit is none of energy,
            there is no such device, steps cannot be recorded, or the model cannot be frozen.

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
        recorded: bool = False,
        frozen: bool | None = None,
        strict: bool = False,
        dipole_model: Any = None,
        dipole_unit: str | None = None,
        **kwargs: Any,
    ) -> None:
        recorded = kwargs.pop("captured", recorded)  # the name it had before
        for argument in kwargs.keys() - {"atoms", "label", "directory", "restart"}:
            raise TypeError(f"SchNetCalculator has no argument {argument!r}; expected device, dtype or energy_unit")
        checked_dtype(dtype)
        super().__init__(**kwargs)
        potential = potential_of(model)
        bare: Any = first_of(potential)
        self.energy_unit = energy_unit_of(potential, energy_unit)
        self.unit_factor = ENERGY[self.energy_unit]
        if recorded:
            recordable(potential)
            frozen = getattr(bare, "frozen", None) if frozen is None else frozen  # recorded steps are as the model is
        self.potential = own_potential(potential, device, dtype, frozen, only_usual=recorded)
        self._has_energies = bare.config["readout"] in {"add", "sum"}
        if isinstance(potential, CommitteePotential):
            self.implemented_properties = [*self.implemented_properties, *SPREADS]
        dipole_model = load(dipole_model) if isinstance(dipole_model, (str, Path)) else dipole_model
        self._dipoles = None if dipole_model is None else Dipoles(dipole_model, dipole_unit)
        if self._dipoles is not None:
            self.implemented_properties = [*self.implemented_properties, "dipole"]
        keep_in_extxyz()
        self._stepped = SteppedPotential(self.potential)
        self.device, self.dtype = self._stepped.device, self._stepped.dtype
        self.recorded, self.strict = recorded, strict
        self._z: tuple[Any, Tensor] = None, torch.empty(0, dtype=torch.long)
        self._place = NearOrigin()
        self._steps: tuple[tuple[Any, ...], RecordedPotential] | None = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        recorded = state.pop("captured", False)  # the name it had before
        self.__dict__.update({"recorded": recorded, "_dipoles": None} | state)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Evaluate energy, forces and, where there is a volume, stress; called by ASE.

        Args:
            atoms: The structure; ``None`` for that of the last time.
            properties: ``energies`` and ``dipole`` are evaluated if they are among these; all else comes from one
                evaluation.
            system_changes: What changed since the last time; if nothing did, only what is missing is evaluated.

        Raises:
            ValueError: If there is no structure, or it is an impossible one. There are no results then.
        """
        properties = properties or ["energy"]
        if system_changes or atoms is None:
            self.results = {}  # whatever happens below, they are not those of this structure
        super().calculate(atoms, properties, system_changes)
        structure: Any = self.atoms
        if structure is None:
            raise ValueError("the calculator has no structure yet; pass `atoms`, or set atoms.calc and ask the atoms")
        z = self._checked_z(structure)
        if "energy" not in self.results:
            self.results = self._evaluated(structure, z)
        if self._has_energies and not {"energies", "energies_std"}.isdisjoint(properties):
            self.results |= self._energies(structure, z)
        if self._dipoles is not None and "dipole" in properties:
            self.results["dipole"] = self._dipole(structure, z)

    def get_hessian(self, atoms: Atoms | None = None) -> ndarray:
        """Second derivatives of the energy, of all atoms whatever their constraints.

        In the form of ASE's ``VibrationsData``, which turns them into vibrations; in a crystal, images of an atom move
        with it. They are analytic, in float64 and without tables, whatever the calculator evaluates forces with; of a
        committee, they are those of the mean energy.

        Args:
            atoms: The structure; ``None`` for that of the last time.

        Returns:
            The Hessian [n, 3, n, 3] in eV/Angstrom^2.

        Raises:
            ValueError: If there is no structure, or it is an impossible one.

        Example:
            >>> from ase.build import molecule
            >>> from ase.vibrations import VibrationsData
            >>> from pyg_schnet import SchNet
            >>> calculator, water = SchNetCalculator(SchNet.preset("jcp2018")), molecule("H2O")
            >>> VibrationsData(water, calculator.get_hessian(water)).get_frequencies().shape
            (9,)
        """
        structure: Any = self.atoms if atoms is None else atoms
        if structure is None:
            raise ValueError("the calculator has no structure yet; pass `atoms`, or set atoms.calc and ask the atoms")
        self._checked_z(structure)
        exact = ExactPotential(self.potential, self.energy_unit)
        return exact.hessian(atoms_to_data(structure, torch.float64)).cpu().numpy()

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What of a structure is not as it was in the last evaluation, to the last digit; called by ASE.

        Args:
            atoms: The structure.
            tol: Not looked at: the slightest move counts.

        Returns:
            Names of what changed, among those that energies depend on, and charges, which may be refused.
        """
        last = self.atoms
        if last is None:
            return list(all_changes)
        names = ("positions", "numbers", "cell", "pbc")
        changes = [name for name in names if not np.array_equal(getattr(last, name), getattr(atoms, name))]
        return changes if said_by(last) == said_by(atoms) else [*changes, "initial_charges"]

    @property
    def spreads(self) -> dict[str, Any]:
        """Standard deviations of the last results by name; empty for a single model."""
        return {name: self.results[name] for name in SPREADS if name in self.results}

    @property
    def rebuilds(self) -> int:
        """How often pairs of atoms that are kept from step to step have been searched.

        With ``recorded=True`` for the latest structure, else for all so far; 0 where each evaluation searches its own,
        see :class:`~pyg_schnet.simulation.stepping.SteppedPotential`.
        """
        if self.recorded:
            return 0 if self._steps is None else self._steps[1].rebuilds
        return self._stepped.rebuilds

    def _evaluated(self, structure: Any, z: Tensor) -> dict[str, Any]:
        """Results of one evaluation, in the units of ASE."""
        spanned = _spans_volume(structure)
        # virials cost next to nothing beside the forces, a second evaluation when ASE asks for the stress does
        if self.recorded:
            out = self._recorded(structure, z, spanned)
        else:
            place = structure.positions, structure.cell.array, structure.pbc
            out = self._stepped(z, *place, stress=spanned, virials=spanned)
        if self.unit_factor != 1.0:
            out = {name: self.unit_factor * value for name, value in out.items()}
        energy = float(out["energy"])
        results = {"energy": energy, "free_energy": energy, "forces": out["forces"].cpu().numpy()}
        if spanned and "stress" in out:  # a potential of one's own may know none
            results["stress"] = full_3x3_to_voigt_6_stress(out["stress"][0].cpu().numpy())
        if spanned and "virials" in out:
            shares = -out["virials"].cpu().numpy() / structure.get_volume()
            results["stresses"] = full_3x3_to_voigt_6_stress(shares)
        if "energy_std" in out:
            results["energy_std"] = float(out["energy_std"])
            results["forces_std"] = out["forces_std"].cpu().numpy()
            if spanned and "stress_std" in out:
                results["stress_std"] = full_3x3_to_voigt_6_stress(out["stress_std"][0].cpu().numpy())
        return results

    def _recorded(self, structure: Any, z: Tensor, spanned: bool) -> dict[str, Tensor]:
        """A step of the same atoms as last time, or the first one of others."""
        cell, pbc = structure.cell.array, structure.pbc
        near = self._place(structure.positions, cell, pbc)
        periodic: dict[str, Any] = {}
        if spanned or pbc.any():
            vectors = torch.tensor(cell, dtype=self.dtype).unsqueeze(0)
            periodic = {"cell": vectors, "pbc": torch.tensor(pbc).unsqueeze(0)}
        same = structure.numbers.tobytes(), pbc.tobytes(), spanned
        if self._steps is None or self._steps[0] != same:
            model = self.potential.model
            self._steps = same, RecordedPotential(model, z, **periodic, stress=spanned, virials=spanned)
        if self.device.type == "cuda":  # there and back at once
            return self._steps[1].of_numbers(near, cell[None] if periodic else None)
        return self._steps[1](torch.tensor(near, dtype=self.dtype), periodic.get("cell"))

    def _energies(self, structure: Any, z: Tensor) -> dict[str, ndarray]:
        """Contributions of the atoms, in the units of ASE."""
        pos, periodic = self._stepped.tensors(structure.positions, structure.cell.array, structure.pbc)
        with torch.no_grad():
            model: Any = self.potential.model
            energies: Any = model.contributions(z, pos, **periodic)
        one = isinstance(energies, Tensor)
        named = {"energies": energies} if one else {"energies": energies.mean, "energies_std": energies.std}
        return {name: self.unit_factor * value.squeeze(-1).cpu().numpy() for name, value in named.items()}

    def _dipole(self, structure: Any, z: Tensor) -> ndarray:
        """Dipole moment in e Angstrom [3], of positions near the origin, on which it does not depend."""
        if structure.pbc.any():
            raise ValueError("a dipole moment is not defined in periodic structures; ask for that of a molecule")
        dipoles: Any = self._dipoles
        with torch.no_grad():
            return dipoles(z, torch.from_numpy(structure.positions - structure.positions.mean(axis=0))).numpy()

    def _checked_z(self, structure: Any) -> Tensor:
        """Atomic numbers of the structure on the device; looked at when they, or charges, are others than last time."""
        numbers, said = structure.numbers, said_by(structure)
        asked = numbers.tobytes(), said
        if self._z[0] != asked or len(self._z[1]) != len(numbers):
            z = torch.tensor(numbers, dtype=torch.long)
            check_numbers(self.potential, z, strict=self.strict, said=[said])
            self._stepped.electrons = electrons_of([said])
            self._z = asked, z.to(self.device)
        return self._z[1]

    def export_properties(self) -> Properties:
        """Those results that ASE has a name for; called by ASE."""
        return Properties({name: value for name, value in self.results.items() if name in all_outputs})


def _spans_volume(atoms: Atoms) -> bool:
    """True if three finite lattice vectors are linearly independent, so that there is a stress."""
    if not atoms.cell.array.any():  # molecules, in each step of dynamics
        return False
    try:
        check_volume(torch.as_tensor(atoms.cell.array).unsqueeze(0))
    except ValueError:
        return False
    return True
