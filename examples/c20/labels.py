"""Frames of C20 at 500 K for table V, labelled by the paper's own networks, since its DFT data are not to be had.

Forces are those of the network that learnt forces, energies those of the network that learnt energies. These are two
potentials: no energy has both as its labels, so no model can be right in both. How far they are apart is measured, and
energies of the network that learnt forces, which belong to its forces, are kept beside them.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ase import Atoms
from ase.io import iread
from classical import simulate
from torch_geometric.data import Data
from tqdm import tqdm

from pyg_schnet import SchNet
from pyg_schnet.datasets import Split, as_dataset
from pyg_schnet.files.whole import replacing
from pyg_schnet.simulation.replicas import ReplicaPotential
from pyg_schnet.units import KCAL_PER_MOL

#: Temperature of the trajectory in K and its time step in fs, as in appendix B; steps between two frames.
TEMPERATURE, TIMESTEP, INTERVAL = 500.0, 1.0, 20
_BATCH = 50


class Labelled(NamedTuple):
    """Labelled frames.

    Attributes:
        dataset: The structures with ``energy`` in eV and ``forces`` in eV/Angstrom.
        split: Positions of the examples to train, validate and test with.
        gap: How far the two networks are from each other on these frames.
    """

    dataset: Any
    split: Split
    gap: dict[str, float]


def labelled(
    models: dict[str, SchNet], atoms: Atoms, counts: tuple[int, int, int], replicas: int, consistent: bool, out: Path
) -> Labelled:
    """The frames, simulated and labelled if that is not done yet.

    Args:
        models: The paper's networks.
        atoms: The cage.
        counts: Examples to train, validate and test with.
        replicas: Copies of the cage that are simulated.
        consistent: Whether energies are of the same network as forces.
        out: Where files are kept.

    Returns:
        Frames and split. Each part has copies of the cage of its own, so that no test frame is a neighbour in time of
        a training frame, where there are enough copies.
    """
    total, path = sum(counts), out / "labels.npz"
    if not path.exists():
        each = -(-total // replicas)
        options = {"temperature": TEMPERATURE, "interval": INTERVAL, "timestep": TIMESTEP, "seed": 5}
        frames = simulate(models["c20-force"], atoms, out / "frames.traj", replicas=replicas, frames=each, **options)
        _label(models, atoms, np.stack([one.positions for one in iread(frames)]), replicas, path)
    with np.load(path) as stored:
        keys = ("positions", "energy_of_forces" if consistent else "energy", "forces")
        arrays = dict(
            zip(("positions", "energy", "forces"), (torch.from_numpy(stored[key]) for key in keys), strict=True)
        )
        gap = json.loads(str(stored["gap"]))
    if len(arrays["energy"]) < total:
        raise ValueError(f"{path} has {len(arrays['energy'])} frames, {total} are wanted; remove it to make new ones")
    z = torch.from_numpy(atoms.numbers)
    data = [
        Data(z=z, pos=pos.float(), energy=energy.reshape(1), forces=forces)
        for pos, energy, forces in zip(*(arrays[name][:total] for name in arrays), strict=True)
    ]
    parts = np.split(np.arange(total), np.cumsum(counts)[:-1])
    positions = {name: torch.from_numpy(part) for name, part in zip(("train", "val", "test"), parts, strict=True)}
    return Labelled(as_dataset(data), Split(positions, total), gap)


def _label(models: dict[str, SchNet], atoms: Atoms, positions: np.ndarray, replicas: int, path: Path) -> None:
    """Energies and forces of frames, copy after copy."""
    positions = positions.reshape(-1, replicas, *positions.shape[1:]).swapaxes(0, 1).reshape(positions.shape)
    of_forces, of_energies = (
        ReplicaPotential(models[name], atoms.numbers, dtype=torch.float32) for name in ("c20-force", "c20-energy")
    )
    parts = []
    for first in tqdm(range(0, len(positions), _BATCH), "labels", unit=f" x {_BATCH} frames", leave=False):
        places = positions[first : first + _BATCH]
        one, other = of_forces(places), of_energies(places)
        parts.append((other.energy, one.forces, one.energy, other.forces))
    energy, forces, other_energy, other_forces = (np.concatenate(part) for part in zip(*parts, strict=True))
    shift = energy - other_energy
    gap = {
        "energy_mae_kcal": float(np.abs(shift - shift.mean()).mean()) / KCAL_PER_MOL,
        "forces_mae_kcal": float(np.abs(forces - other_forces).mean()) / KCAL_PER_MOL,
        "energy_spread_kcal": float(energy.std()) / KCAL_PER_MOL,
        "forces_spread_kcal": float(forces.std()) / KCAL_PER_MOL,
    }
    arrays = {"positions": positions, "energy": energy, "forces": forces.astype(np.float32)}
    with replacing(path) as part:
        np.savez(part, **arrays, energy_of_forces=other_energy, gap=np.array(json.dumps(gap)))
