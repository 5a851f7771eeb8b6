"""One structure, or replicas of it, as programs for simulations ask about them: arrays in, energies in eV out."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy import ndarray

from pyg_schnet.graph.centre import centred
from pyg_schnet.models import CommitteePotential, Potential
from pyg_schnet.simulation.gpu_steps import GpuSteps
from pyg_schnet.simulation.prepared import (
    check_numbers,
    checked_dtype,
    energy_unit_of,
    first_of,
    own_potential,
    potential_of,
)
from pyg_schnet.simulation.stepping import SteppedPotential
from pyg_schnet.sizes import SIZES
from pyg_schnet.units import ENERGY

_NOWHERE = np.zeros((3, 3))


class Evaluation(NamedTuple):
    """Energies of replicas and their derivatives, float64.

    Attributes:
        energy: In eV [B].
        forces: In eV/Angstrom [B, n, 3].
        virial: Minus the derivative with respect to a strain, in eV [B, 3, 3].
    """

    energy: ndarray
    forces: ndarray
    virial: ndarray


class ReplicaPotential:
    """The potential of one structure in any number of places at once, as engines of dynamics ask for it.

    It works on a frozen copy of the model where that is as accurate, answers in eV whatever the model's unit, brings
    structures near the origin before it rounds them, and keeps neighbours of a crystal, and of large structures each by
    itself, from step to step. Replicas of small structures are evaluated in one batch.

    Args:
        model: What :class:`~pyg_schnet.simulation.ase.SchNetCalculator` takes: a model of energies, a committee, a
            potential of either, a file, a folder or the name of a trained model.
        numbers: Atomic numbers [n].
        pbc: Periodic axes [3], or one answer for all of them.
        device: Where to evaluate.
        dtype: Floating-point type to evaluate in; ``None`` for the model's own.
        energy_unit: Unit of the model's energies; ``None`` for what the model or its file says, else eV.
        frozen: True if filters are read from tables; ``None`` for: in float32 on a CPU.
        strict: True if elements and charges that no training example had are refused; otherwise there is a warning.
        said: The ``charge`` and ``multiplicity`` of the structure, as far as they are known.

    Raises:
        TypeError: If ``model`` is none of these.
        ValueError: If it has no energy to simulate, there is no such unit, device or element, or no atom.

    Example:
        >>> from pyg_schnet import SchNet
        >>> potential = ReplicaPotential(SchNet.preset("jcp2018"), [8, 1, 1])
        >>> water = np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
        >>> [tuple(part.shape) for part in potential([water, 1.01 * water])]
        [(2,), (2, 3, 3), (2, 3, 3)]
    """

    def __init__(
        self,
        model: Any,
        numbers: Any,
        pbc: Any = False,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        energy_unit: str | None = None,
        frozen: bool | None = None,
        strict: bool = False,
        said: Mapping[str, float] | None = None,
    ) -> None:
        given = potential_of(model)
        self.unit = ENERGY[energy_unit_of(given, energy_unit)]
        self.potential = own_potential(given, device, checked_dtype(dtype), frozen, only_usual=True)
        weight = first_of(self.potential).embedding.weight
        self.dtype, self.device = weight.dtype, weight.device
        self.numbers = np.array(numbers, dtype=np.int64)
        if self.numbers.ndim != 1 or not len(self.numbers):
            raise ValueError(f"`numbers` must be at least one atomic number [n], got shape {list(self.numbers.shape)}")
        check_numbers(self.potential, torch.from_numpy(self.numbers), strict=strict, said=[said or {}])
        self.pbc = np.broadcast_to(np.asarray(pbc, dtype=bool), (3,)).copy()
        model_or_committee: Any = self.potential.model
        members = list(model_or_committee) if isinstance(self.potential, CommitteePotential) else [model_or_committee]
        self._members = [_Member(Potential(member), self.numbers, self.pbc) for member in members]

    @property
    def is_committee(self) -> bool:
        """True if there are several models, whose mean is what atoms feel."""
        return len(self._members) > 1

    def __call__(self, positions: Any, cells: Any = None) -> Evaluation:
        """Energies, forces and virials; of a committee, those of the mean.

        Args:
            positions: Positions in Angstrom of each replica [B, n, 3].
            cells: Lattice vectors as rows in Angstrom [B, 3, 3]; not looked at unless an axis is periodic.

        Returns:
            The results in eV and Angstrom.

        Raises:
            ValueError: If shapes do not fit, or positions or cells are impossible.
        """
        every = self.of_members(positions, cells)
        return (
            every[0] if len(every) == 1 else Evaluation(*(np.mean(part, axis=0) for part in zip(*every, strict=True)))
        )

    def of_members(self, positions: Any, cells: Any = None) -> list[Evaluation]:
        """The same of each member of a committee.

        Args:
            positions: Positions in Angstrom of each replica [B, n, 3].
            cells: Lattice vectors as rows in Angstrom [B, 3, 3].

        Returns:
            The results of each member; of the only one, if the model is no committee.

        Raises:
            ValueError: If shapes do not fit, or positions or cells are impossible.
        """
        places = np.asarray(positions, dtype=np.float64)
        if places.ndim != 3 or places.shape[1:] != (len(self.numbers), 3):
            raise ValueError(
                f"positions must have the shape [B, {len(self.numbers)}, 3], those of the structure's "
                f"{len(self.numbers)} atoms, got {list(places.shape)}"
            )
        if not np.isfinite(places).all():
            replica, atom, _ = np.argwhere(~np.isfinite(places))[0]
            raise ValueError(
                f"the position of atom {atom} is not finite, {places[replica, atom].tolist()}: the simulation came "
                "apart; shorten its time step or look at the step before"
            )
        lattices = np.broadcast_to(_NOWHERE, (len(places), 3, 3))
        if self.pbc.any():
            lattices = np.asarray(cells, dtype=np.float64)
            if cells is None or lattices.shape != (len(places), 3, 3):
                shape = "none" if cells is None else list(lattices.shape)
                raise ValueError(f"a periodic structure needs cells [{len(places)}, 3, 3] in Angstrom, got {shape}")
        found = [member(places, lattices) for member in self._members]
        return [Evaluation(*(self.unit * part for part in one)) for one in found]


class _Member:
    """Replicas as one model sees them, in its own unit."""

    def __init__(self, potential: Potential, numbers: ndarray, pbc: ndarray) -> None:
        self._potential, self._pbc = potential, pbc
        first = SteppedPotential(potential)
        self._stepped, self._dtype, self._device = [first], first.dtype, first.device
        self._z = torch.from_numpy(numbers).to(self._device)
        self._gpu = GpuSteps(potential)
        #: Atomic numbers and replica of each atom of all replicas.
        self._every: tuple[torch.Tensor, torch.Tensor] | None = None
        #: True if each replica has neighbours of its own, which are kept: together, small ones take less time without.
        self._alone = first.neighbors is not None and len(numbers) > SIZES.max_atoms

    def __call__(self, positions: ndarray, cells: ndarray) -> Evaluation:
        if len(positions) > 1 and not self._alone:
            return self._together(positions, cells)
        missing = range(len(self._stepped), len(positions))
        self._stepped += [SteppedPotential(self._potential) for _ in missing]
        places = enumerate(zip(positions, cells, strict=True))
        every = [self._one(self._stepped[number], *place) for number, place in places]
        return Evaluation(*(np.stack(part) for part in zip(*every, strict=True)))

    def _one(self, stepped: SteppedPotential, position: ndarray, cell: ndarray) -> Evaluation:
        periodic = bool(self._pbc.any())
        out = stepped(self._z, position, cell, self._pbc, stress=False, virials=periodic)
        forces = _array(out["forces"])
        virial = _array(out["virials"]).sum(0) if periodic else _open_virial(position[None], forces[None])[0]
        return Evaluation(_array(out["energy"])[0], forces, virial)

    def _together(self, positions: ndarray, cells: ndarray) -> Evaluation:
        count, atoms = positions.shape[:2]
        periodic, like = bool(self._pbc.any()), {"dtype": self._dtype, "device": self._device}
        near, lattice = positions - np.rint(positions.mean(1, keepdims=True)), {}
        if periodic:
            near = np.stack([centred(*place, self._pbc) for place in zip(positions, cells, strict=True)])
            pbc = torch.from_numpy(self._pbc).to(self._device).expand(count, 3)
            lattice = {"cell": torch.tensor(cells, **like), "pbc": pbc}
        if self._every is None or len(self._every[0]) != count * atoms:
            batch = torch.arange(count, device=self._device).repeat_interleave(atoms)
            self._every = self._z.repeat(count), batch
        z, batch = self._every
        axes = np.broadcast_to(self._pbc, (count, 3)).copy()
        out = self._gpu(z, near.reshape(-1, 3), cells if periodic else None, axes, batch, virials=periodic)
        if out is None:
            pos = torch.tensor(near.reshape(-1, 3), **like)
            out = self._potential(z, pos, batch, batch_size=count, **lattice, virials=periodic)
        forces = _array(out["forces"]).reshape(count, atoms, 3)
        virials = _array(out["virials"]).reshape(count, atoms, 3, 3).sum(1) if periodic else _open_virial(near, forces)
        return Evaluation(_array(out["energy"]), forces, virials)


def _open_virial(positions: ndarray, forces: ndarray) -> ndarray:
    r"""Virials of open structures, :math:`\sum_i f_i \otimes r_i` [B, 3, 3]; anywhere, as forces add up to zero."""
    arms = positions - positions.mean(1, keepdims=True)
    virial: ndarray = np.swapaxes(forces, 1, 2) @ arms
    return (virial + np.swapaxes(virial, 1, 2)) / 2.0  # what torques there are is rounding


def _array(tensor: torch.Tensor) -> ndarray:
    array: ndarray = tensor.detach().cpu().double().numpy()
    return array
