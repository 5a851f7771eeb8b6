"""Classical dynamics of many copies of the cage at once; what is killed goes on where it was."""

from pathlib import Path

import torch
from ase import Atoms
from ase.io import read

from pyg_schnet import SchNet
from pyg_schnet.simulation import Dynamics

#: Friction of the thermostat in 1/fs.
FRICTION = 0.01


def simulate(
    model: SchNet,
    atoms: Atoms,
    path: Path,
    *,
    temperature: float,
    replicas: int,
    frames: int,
    interval: int,
    timestep: float,
    equilibration: float = 1000.0,
    seed: int = 0,
) -> Path:
    """Langevin dynamics with a number of frames of each copy, kept in a file of ASE, the copies one behind the other.

    Args:
        model: The network.
        atoms: Where all copies begin.
        path: The file (``.traj``); beside it stands what is needed to go on.
        temperature: In K.
        replicas: Number of copies.
        frames: Frames of each copy.
        interval: Steps between two frames.
        timestep: In fs.
        equilibration: Time before the first frame in fs.
        seed: Seed of the random numbers.

    Returns:
        The file.
    """
    checkpoint = path.with_suffix(".restart.npz")
    before = -(-round(equilibration / timestep) // interval) * interval
    last = before + (frames - 1) * interval
    if checkpoint.exists():
        dynamics = Dynamics.resume(model, checkpoint, dtype=torch.float32)
    else:
        path.unlink(missing_ok=True)
        options = {"timestep": timestep, "temperature": temperature, "friction": FRICTION, "seed": seed}
        dynamics = Dynamics(model, atoms, replicas=replicas, dtype=torch.float32, **options)
        dynamics.run(before, interval=max(before, 1))
    if dynamics.step < last or not path.exists():
        dynamics.run(last - dynamics.step, interval=interval, trajectory=path, checkpoint=checkpoint)
    return path


def replicas_of(path: Path, replicas: int) -> list[list[Atoms]]:
    """The frames of each copy."""
    return [read(path, f"{number}::{replicas}") for number in range(replicas)]
