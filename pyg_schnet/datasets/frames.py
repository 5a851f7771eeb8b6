"""Structures gathered one by one and collated into tensors."""

import hashlib
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.datasets.base import Collated


class Frame(NamedTuple):
    """One structure in the units of this package.

    Attributes:
        z: Atomic numbers [n].
        pos: Positions [n, 3] in Angstrom.
        energy: In eV.
        forces: [n, 3] in eV/Angstrom.
        stress: [3, 3] in eV/Angstrom^3.
        cell: Lattice vectors as rows [3, 3] in Angstrom.
        pbc: Periodic axes [3].
    """

    z: NDArray
    pos: NDArray
    energy: float | None
    forces: NDArray | None
    stress: NDArray | None
    cell: NDArray
    pbc: NDArray


class Frames:
    """Gathers structures; those that are not finite are counted and left out, those that repeat are counted.

    Example:
        >>> frames = Frames()
        >>> none = np.zeros((3, 3)), np.zeros(3, dtype=bool)
        >>> frames.add(Frame(np.array([2]), np.zeros((1, 3)), -79.0, None, None, *none))
        >>> frames.collated("helium.xyz")[2]
        {'structures': 1, 'left out, not finite': 0, 'duplicates': 0, 'without stress': 0}
    """

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.seen: set[bytes] = set()
        self.not_finite = 0
        self.duplicates = 0

    def add(self, frame: Frame) -> None:
        """Gather one structure.

        Args:
            frame: The structure.
        """
        checked = [frame.pos, frame.cell, frame.energy, frame.forces]
        if not all(np.isfinite(values).all() for values in checked if values is not None):
            self.not_finite += 1
            return
        same = b"".join(np.ascontiguousarray(part).tobytes() for part in (frame.z, frame.pos, frame.cell, frame.pbc))
        key = hashlib.md5(same, usedforsecurity=False).digest()
        self.duplicates += key in self.seen
        self.seen.add(key)
        forces, stress = (None if part is None else part.astype(np.float32) for part in (frame.forces, frame.stress))
        self.frames.append(frame._replace(pos=frame.pos.astype(np.float32), forces=forces, stress=stress))

    def collated(self, name: str) -> Collated:
        """All structures as tensors.

        Args:
            name: What to call the file when nothing is left.

        Returns:
            One ``Data``, where each structure begins by key, and the counts.

        Raises:
            ValueError: If no structure is left, or one has no or impossible atoms.
        """
        if not self.frames:
            raise ValueError(f"{name}: none of {self.not_finite} structures has finite positions, energy and forces")
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
        if self.frames[0].energy is not None:
            values["energy"] = torch.tensor([frame.energy for frame in self.frames], dtype=torch.float64)
        if self.frames[0].forces is not None:
            values["forces"] = torch.from_numpy(np.concatenate([frame.forces for frame in self.frames]))
        without_stress = sum(frame.stress is None for frame in self.frames)
        if without_stress < len(self.frames):
            unknown = np.full((3, 3), np.nan, dtype=np.float32)
            stress = [unknown if frame.stress is None else frame.stress for frame in self.frames]
            values["stress"] = torch.from_numpy(np.stack(stress))
        if any(frame.pbc.any() for frame in self.frames):
            values["cell"] = torch.from_numpy(np.stack([frame.cell for frame in self.frames])).float()
            values["pbc"] = torch.from_numpy(np.stack([frame.pbc for frame in self.frames]).astype(bool))
        report = {
            "structures": len(self.frames),
            "left out, not finite": self.not_finite,
            "duplicates": self.duplicates,
            "without stress": without_stress if "stress" in values else 0,
        }
        return Data(**values), _slices(values, sizes), report


def _slices(values: dict[str, Any], sizes: Tensor) -> dict[str, Tensor]:
    of_atoms = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)])
    of_structures = torch.arange(len(sizes) + 1)
    return {key: of_atoms if key in {"z", "pos", "forces"} else of_structures for key in values}
