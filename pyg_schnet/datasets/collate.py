"""Structures gathered one by one and collated into tensors."""

import hashlib
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.datasets.base import Collated
from pyg_schnet.datasets.fields import Field, Kept, collate_fields
from pyg_schnet.datasets.rounding import LARGEST, NEAR
from pyg_schnet.graph.centre import FARTHEST, centred


class Frame(NamedTuple):
    """One structure in the units of this package.

    Attributes:
        z: Atomic numbers [n].
        pos: Positions [n, 3] in Angstrom.
        energy: In eV; ``None`` or NaN if it is not known.
        forces: [n, 3] in eV/Angstrom; ``None``, or NaN for atoms of which it is not known.
        stress: [3, 3] in eV/Angstrom^3.
        cell: Lattice vectors as rows [3, 3] in Angstrom.
        pbc: Periodic axes [3].
        further: Further fields by name.
    """

    z: NDArray
    pos: NDArray
    energy: float | None
    forces: NDArray | None
    stress: NDArray | None
    cell: NDArray
    pbc: NDArray
    further: dict[str, Field] = {}  # noqa: RUF012  never changed


class Frames:
    """Gathers structures in float64 and rounds them where float32 keeps their digits.

    Structures far from the origin are moved near it, see :func:`pyg_schnet.graph.centre.centred`; those whose largest
    coordinate is below 32 Angstrom, or at most twice their own extent, keep the positions of the file. Structures with
    positions or lattice vectors that are not finite are left out and counted; so are those beyond 1e9 Angstrom. Labels
    that are not there, not finite, or too large for float32 are NaN, and counted; structures that repeat are counted.

    Example:
        >>> frames = Frames()
        >>> none = np.zeros((3, 3)), np.zeros(3, dtype=bool)
        >>> frames.add(Frame(np.array([2]), np.zeros((1, 3)), -79.0, np.zeros((1, 3)), None, *none))
        >>> frames.collated("helium.xyz")[2]
        {'structures': 1, 'left out, not finite': 0, 'duplicates': 0, 'without stress': 0}
    """

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.seen: set[bytes] = set()
        self.not_finite = self.too_far = self.duplicates = 0
        #: Crystals that were not added because no arrangement of atoms is given.
        self.partly_occupied = 0
        #: Why a field of the files is left out, by its name; added to the report.
        self.dropped: dict[str, str] = {}

    def add(self, frame: Frame) -> None:
        """Gather one structure.

        Args:
            frame: The structure.
        """
        largest = max(np.abs(frame.pos).max(initial=0.0), np.abs(frame.cell).max(initial=0.0))
        if not np.isfinite(largest):
            self.not_finite += 1
            return
        if largest > FARTHEST:
            self.too_far += 1
            return
        same = b"".join(np.ascontiguousarray(part).tobytes() for part in (frame.z, frame.pos, frame.cell, frame.pbc))
        key = hashlib.md5(same, usedforsecurity=False).digest()
        self.duplicates += key in self.seen
        self.seen.add(key)
        energy = np.nan if frame.energy is None or not np.isfinite(frame.energy) else frame.energy
        pos = centred(frame.pos, frame.cell, frame.pbc, near=NEAR).astype(np.float32)
        rounded = frame._replace(pos=pos, energy=energy, forces=_rows(frame.forces), stress=_whole(frame.stress))
        self.frames.append(rounded)

    def collated(self, name: str) -> Collated:
        """All structures as tensors.

        Args:
            name: What to call the file when nothing is left.

        Returns:
            One ``Data``, where each structure begins by key, and the counts. Labels that no structure has are no keys.

        Raises:
            ValueError: If no structure is left, one has no or impossible atoms, or a weight is negative.
        """
        if not self.frames:
            left_out = self.not_finite + self.too_far
            if self.partly_occupied:
                raise ValueError(f"{name}: no structure is left, {self.partly_occupied} have sites partly occupied")
            raise ValueError(f"{name}: none of {left_out} structures has finite positions and lattice vectors")
        z = np.concatenate([frame.z for frame in self.frames])
        sizes = torch.tensor([len(frame.z) for frame in self.frames])
        if sizes.min() == 0 or z.min() < 1 or z.max() > 118:
            raise ValueError(
                f"{name}: expected atoms with atomic numbers from 1 to 118 in all structures; remove the rest"
            )
        values: dict[str, Any] = {
            "z": torch.from_numpy(z.astype(np.int64)),
            "pos": torch.from_numpy(np.concatenate([frame.pos for frame in self.frames])),
        }
        values |= self._labels()
        if any(frame.pbc.any() for frame in self.frames):
            values["cell"] = torch.from_numpy(np.stack([frame.cell for frame in self.frames])).float()
            values["pbc"] = torch.from_numpy(np.stack([frame.pbc for frame in self.frames]).astype(bool))
        taken = {*values, "energy", "forces", "stress"}
        try:
            kept = collate_fields([frame.further for frame in self.frames], sizes.tolist(), taken)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        values |= kept.values
        of_atoms = {"z", "pos", "forces"} | kept.of_atoms
        return Data(**values), _slices(values, sizes, of_atoms), self._report(values, kept)

    def _labels(self) -> dict[str, Tensor]:
        """Labels that some structure has."""
        labels = {}
        energies = torch.tensor([frame.energy for frame in self.frames], dtype=torch.float64)
        if not energies.isnan().all():
            labels["energy"] = energies
        if any(frame.forces is not None for frame in self.frames):
            unknown = [np.full(frame.pos.shape, np.nan, dtype=np.float32) for frame in self.frames]
            forces = [
                none if frame.forces is None else frame.forces for frame, none in zip(self.frames, unknown, strict=True)
            ]
            labels["forces"] = torch.from_numpy(np.concatenate(forces))
        if any(frame.stress is not None for frame in self.frames):
            nothing = np.full((3, 3), np.nan, dtype=np.float32)
            stress = [nothing if frame.stress is None else frame.stress for frame in self.frames]
            labels["stress"] = torch.from_numpy(np.stack(stress))
        return labels

    def _report(self, values: dict[str, Any], kept: Kept) -> dict[str, Any]:
        count = len(self.frames)
        report: dict[str, Any] = {
            "structures": count,
            "left out, not finite": self.not_finite,
            "duplicates": self.duplicates,
            "without stress": sum(frame.stress is None for frame in self.frames) if "stress" in values else 0,
        }
        some: dict[str, Any] = {
            "left out, too far from the origin": self.too_far,
            "left out, sites partly occupied": self.partly_occupied,
            "without energy": int(values["energy"].isnan().sum()) if "energy" in values else count,
            "without forces": sum(frame.forces is None for frame in self.frames),
            "atoms without forces": sum(
                int(np.isnan(frame.forces).any(axis=1).sum()) for frame in self.frames if frame.forces is not None
            ),
            "further fields": sorted(kept.values),
            "renamed": kept.renamed,
            "dropped": self.dropped | kept.dropped,
        }
        return report | {key: value for key, value in some.items() if value}


def _rows(forces: NDArray | None) -> NDArray | None:
    """Forces in float32, NaN for atoms of which one component is not known; ``None`` if none is known."""
    if forces is None:
        return None
    known = (np.abs(forces) <= LARGEST).all(axis=1, keepdims=True)
    return np.where(known, forces, np.nan).astype(np.float32) if known.any() else None


def _whole(stress: NDArray | None) -> NDArray | None:
    """A stress in float32, ``None`` if one component is not known."""
    return stress.astype(np.float32) if stress is not None and (np.abs(stress) <= LARGEST).all() else None


def _slices(values: dict[str, Any], sizes: Tensor, of_atoms: set[str]) -> dict[str, Tensor]:
    begins = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)])
    of_structures = torch.arange(len(sizes) + 1)
    return {key: begins if key in of_atoms else of_structures for key in values}
