"""Structures that move: what stays the same of them, and where they begin."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor
from torch_geometric.data import Batch, Data

from pyg_schnet.fast.random_numbers import normal_vectors
from pyg_schnet.models.charges import said_of
from pyg_schnet.units import ACCELERATION, BOLTZMANN

#: Step of the random numbers of velocities at the beginning, which no step of dynamics ever has.
_BEGINNING = -1
#: Kinetic energy of 1 u at 1 Angstrom/fs, in eV.
KINETIC = 1.0 / ACCELERATION


@dataclass(frozen=True)
class System:
    """What stays the same of structures that move.

    Attributes:
        numbers: Atomic numbers [N] int64.
        batch: Structure of each atom, sorted [N] int64.
        masses: In u [N].
        cell: Lattice vectors as rows in Angstrom, zero where there are none [B, 3, 3].
        pbc: Periodic axes [B, 3] bool.
        isotopes: True if masses are not those of the elements.
        said: ``charge`` and ``multiplicity`` of each structure, those that it says.
    """

    numbers: ndarray
    batch: ndarray
    masses: ndarray
    cell: ndarray
    pbc: ndarray
    isotopes: bool
    said: tuple[dict[str, float], ...] = ()

    @cached_property
    def parts(self) -> list[slice]:
        """Atoms of each structure."""
        return [slice(int(begin), int(end)) for begin, end in zip(self.first[:-1], self.first[1:], strict=True)]

    @property
    def count(self) -> int:
        """Number of structures."""
        return len(self.cell)

    @cached_property
    def first(self) -> ndarray:
        """First atom of each structure, and the number of all [B + 1]."""
        return np.searchsorted(self.batch, np.arange(self.count + 1))

    @cached_property
    def within(self) -> ndarray:
        """Number of each atom within its structure [N]."""
        return np.arange(len(self.batch)) - self.first[self.batch]

    def sums(self, values: ndarray) -> ndarray:
        """Sums over the atoms of each structure [B] of a number for each atom [N]."""
        sums: ndarray = np.bincount(self.batch, values, self.count)
        return sums

    def kinetic_energies(self, velocities: ndarray) -> ndarray:
        """Kinetic energies.

        Args:
            velocities: In Angstrom/fs [N, 3].

        Returns:
            In eV [B].
        """
        return self.sums(0.5 * KINETIC * self.masses * np.square(velocities).sum(1))

    def temperatures(self, velocities: ndarray) -> ndarray:
        """Temperatures, with three degrees of freedom for each atom, as ASE has them.

        Args:
            velocities: In Angstrom/fs [N, 3].

        Returns:
            In K [B].
        """
        return 2.0 * self.kinetic_energies(velocities) / (3.0 * BOLTZMANN * np.diff(self.first))


def system_of(structures: Any, replicas: int = 1) -> tuple[System, ndarray, ndarray | None]:
    """Structures as dynamics take them.

    Args:
        structures: A ``Data`` or ``Batch``, ASE's ``Atoms``, or a sequence of them.
        replicas: How many copies of each, one behind the other.

    Returns:
        What stays the same; positions in Angstrom [N, 3]; velocities in Angstrom/fs [N, 3], ``None`` unless all
        structures have them: ``velocities`` of a ``Data``, momenta of ``Atoms``.

    Raises:
        TypeError: If there is something else.
        ValueError: If there is no structure, or one is impossible.
    """
    if isinstance(replicas, bool) or not isinstance(replicas, (int, np.integer)) or replicas < 1:
        raise ValueError(f"`replicas` must be a whole number from 1, got {replicas!r}")
    parts = [part for part in _parts_of(structures) for _ in range(replicas)]
    if not parts:
        raise ValueError("there are no structures to move; pass at least one")
    sizes = [len(part["numbers"]) for part in parts]
    names = ("numbers", "masses", "positions")
    numbers, masses, positions = (np.concatenate([part[name] for part in parts]) for name in names)
    system = System(
        numbers,
        np.repeat(np.arange(len(parts)), sizes),
        masses,
        np.stack([part["cell"] for part in parts]),
        np.stack([part["pbc"] for part in parts]),
        any(part["isotopes"] for part in parts),
        tuple(part["said"] for part in parts),
    )
    every = [part["velocities"] for part in parts]
    velocities = None if any(one is None for one in every) else np.concatenate(every)
    return system, positions, velocities


def drawn_velocities(system: System, temperature: float, seed: int) -> ndarray:
    """Velocities of Maxwell and Boltzmann.

    Args:
        system: The structures.
        temperature: In K.
        seed: Seed of the random numbers.

    Returns:
        In Angstrom/fs [N, 3].
    """
    spread = np.sqrt(BOLTZMANN * temperature / (KINETIC * system.masses))
    return spread[:, None] * normal_vectors(seed, _BEGINNING, system.batch, system.within)


def without_rigid_motion(system: System, positions: ndarray, velocities: ndarray) -> ndarray:
    """Velocities less what moves each structure as a whole and, if it is open, what turns it.

    Args:
        system: The structures.
        positions: In Angstrom [N, 3].
        velocities: In Angstrom/fs [N, 3].

    Returns:
        Velocities [N, 3].
    """
    found = velocities.copy()
    for structure in range(system.count):
        part = system.parts[structure]
        masses = system.masses[part, None]
        found[part] -= (masses * found[part]).sum(0) / masses.sum()
        if not system.pbc[structure].any():
            arms = positions[part] - (masses * positions[part]).sum(0) / masses.sum()
            inertia = (masses * np.square(arms)).sum() * np.eye(3) - (masses * arms).T @ arms
            spin = np.linalg.pinv(inertia, rcond=1e-10) @ np.cross(arms, masses * found[part]).sum(0)
            found[part] -= np.cross(spin, arms)
    return found


def checked_velocities(velocities: Any, system: System) -> ndarray:
    """Velocities as they were given.

    Args:
        velocities: In Angstrom/fs, for all atoms [N, 3].
        system: The structures.

    Returns:
        Velocities [N, 3] float64.

    Raises:
        TypeError: If they are no numbers.
        ValueError: If there is not one finite velocity for each atom.
    """
    try:
        found = np.array(velocities.detach().cpu() if isinstance(velocities, Tensor) else velocities, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"`velocities` must be numbers in Angstrom/fs, got {type(velocities).__name__}") from None
    atoms = len(system.batch)
    if found.shape != (atoms, 3):
        raise ValueError(f"`velocities` must have the shape [{atoms}, 3], one for each atom, got {list(found.shape)}")
    if not np.isfinite(found).all():
        atom = int((~np.isfinite(found)).any(1).argmax())
        raise ValueError(f"`velocities` must be finite, got {found[atom].tolist()} for atom {atom}")
    return found


def _parts_of(structures: Any) -> Iterable[dict[str, Any]]:
    if isinstance(structures, Batch):
        structures = structures.to_data_list()
    if isinstance(structures, Data) or _is_atoms(structures):
        structures = [structures]
    if not isinstance(structures, Sequence) or isinstance(structures, str):
        raise TypeError(
            f"`structures` must be Data, Batch or Atoms, or a list of them, got {type(structures).__name__}"
        )
    return [_checked(_part_of(one, number), number) for number, one in enumerate(structures)]


def _is_atoms(structure: Any) -> bool:
    """True if it is ASE's ``Atoms``, without importing ASE."""
    return all(hasattr(structure, name) for name in ("get_positions", "get_atomic_numbers", "get_masses"))


def _part_of(structure: Any, number: int) -> dict[str, Any]:
    if isinstance(structure, Data):
        return _part_of_data(structure, number)
    if not _is_atoms(structure):
        raise TypeError(f"structure {number} must be a Data or Atoms, got {type(structure).__name__}")
    if structure.constraints:
        raise ValueError(
            f"structure {number} has constraints ({type(structure.constraints[0]).__name__}), which these dynamics do "
            "not know; remove them, or use ASE's dynamics with SchNetCalculator"
        )
    from ase import units  # noqa: PLC0415  an extra, which is there if its atoms are

    from pyg_schnet.simulation.structures import said_by  # noqa: PLC0415

    return {
        "numbers": structure.numbers.astype(np.int64),
        "positions": structure.positions.astype(np.float64),
        "masses": structure.get_masses().astype(np.float64),
        "cell": structure.cell.array.astype(np.float64),
        "pbc": structure.pbc.astype(bool),
        "velocities": structure.get_velocities() * units.fs if structure.has("momenta") else None,
        "isotopes": structure.has("masses"),
        "said": said_by(structure),
    }


def _part_of_data(data: Data, number: int) -> dict[str, Any]:
    z, pos = data.get("z"), data.get("pos")
    if not isinstance(z, Tensor) or not isinstance(pos, Tensor):
        raise ValueError(f"structure {number} lacks `z` or `pos`; expected Data with atomic numbers and positions")
    if z.dim() != 1 or pos.shape != (z.size(0), 3) or z.dtype != torch.long:
        raise ValueError(
            f"structure {number} must have `z` [n] int64 and `pos` [n, 3], got {z.dtype} {list(z.shape)} and "
            f"{list(pos.shape)}"
        )
    cell, pbc, velocities = data.get("cell"), data.get("pbc"), data.get("velocities")
    mass = next((data[name] for name in ("mass", "masses") if data.get(name) is not None), None)
    numbers = z.detach().cpu().numpy()
    return {
        "numbers": numbers,
        "positions": _array(pos),
        "masses": _standard(numbers, number) if mass is None else _array(mass).reshape(-1),
        "cell": np.zeros((3, 3)) if cell is None else _array(cell).reshape(3, 3),
        "pbc": np.zeros(3, bool) if pbc is None else pbc.detach().cpu().numpy().astype(bool).reshape(3),
        "velocities": None if velocities is None else _array(velocities),
        "isotopes": mass is not None,
        "said": said_of(data._store._mapping),
    }


def _array(tensor: Tensor) -> ndarray:
    return tensor.detach().cpu().double().numpy()


def _standard(numbers: ndarray, structure: int) -> ndarray:
    """Standard atomic weights in u, those of ASE."""
    try:
        from ase.data import atomic_masses  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(
            'standard masses need ASE; install it with pip install "pyg_schnet[md]" or give each Data its `mass`'
        ) from error
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < len(atomic_masses)):
        raise ValueError(f"structure {structure} has atomic numbers that no element has; correct `z`")
    return atomic_masses[numbers].astype(np.float64)


def _checked(part: dict[str, Any], number: int) -> dict[str, Any]:
    atoms, positions, masses, velocities = len(part["numbers"]), part["positions"], part["masses"], part["velocities"]
    if not atoms:
        raise ValueError(f"structure {number} has no atoms; leave it out")
    if not np.isfinite(positions).all():
        atom = int((~np.isfinite(positions)).any(1).argmax())
        raise ValueError(f"structure {number}: the position of atom {atom} is not finite, {positions[atom].tolist()}")
    if masses.shape != (atoms,) or not (np.isfinite(masses) & (masses > 0)).all():
        raise ValueError(f"structure {number} must have a positive mass for each of its {atoms} atoms, in u")
    if velocities is not None and (velocities.shape != (atoms, 3) or not np.isfinite(velocities).all()):
        raise ValueError(f"structure {number} must have a finite velocity for each of its {atoms} atoms, or none")
    return part
