"""Frames that a model leads to by itself, labelled by GFN2-xTB: where it relaxes molecules, and where it drives them.

A model learns least where it is wrong and goes there of its own accord: on its own paths it errs several times as much
as on frames of the reference, until it has learnt from such frames, too.
"""

import numpy as np
import torch
from ase import Atoms
from ase.optimize import BFGS
from classical import start
from labels import Frame, calculator, labelled, rng_of
from torch_geometric.data import Data

from pyg_schnet import SchNet
from pyg_schnet.simulation.ase import SchNetCalculator
from pyg_schnet.simulation.dynamics import Dynamics, DynamicsError

#: Temperatures in K, one for each molecule; steps of 1 fs between three frames.
TEMPERATURES, STEPS, FRAMES = (100.0, 300.0, 500.0, 800.0), 150, 3
#: Steps of BFGS to a minimum of the model, and from the last frame of dynamics towards another one.
TO_THE_MINIMUM, BACK = 60, 20


def own_frames(model: SchNet, molecules: list[str], number: int) -> list[Frame]:
    """Frames of a model's own paths.

    Args:
        model: The model.
        molecules: SMILES.
        number: Number of the round.

    Returns:
        Some five frames of each molecule, those that are worth learning from.
    """
    rngs = [rng_of(one, 100 + number) for one in molecules]
    begun: list[tuple[str, Atoms, np.random.Generator]] = []
    for molecule, rng in zip(molecules, rngs, strict=True):
        try:
            begun.append((molecule, start(molecule, int(rng.integers(2**31))), rng))
        except ValueError:
            continue
    learner = SchNetCalculator(model, dtype=torch.float32)
    found: list[tuple[int, str, np.ndarray]] = []
    for k, (_, atoms, _) in enumerate(begun):
        found.append((k, "own, relaxed", _relaxed(atoms, atoms.positions, learner, TO_THE_MINIMUM)))
    for temperature in TEMPERATURES:
        chosen = [k for k in range(len(begun)) if TEMPERATURES[k % len(TEMPERATURES)] == temperature]
        driven = _driven(model, [begun[k][1] for k in chosen], temperature, number)
        for k, places in zip(chosen, driven, strict=True):
            found += [(k, f"own, {temperature:g} K", place) for place in places]
            if places:
                found.append((k, "own, back", _relaxed(begun[k][1], places[-1], learner, BACK)))
    frames = []
    for k, kind, place in found:
        molecule, atoms, _ = begun[k]
        if not isinstance(atoms.calc, type(calculator())):
            atoms.calc = calculator()
        frames.append(labelled(atoms, place, molecule, kind))
    return [one for one in frames if one is not None]


def _relaxed(atoms: Atoms, place: np.ndarray, learner: SchNetCalculator, steps: int) -> np.ndarray:
    """Where a model relaxes a molecule to."""
    own = Atoms(atoms.numbers, place)
    own.calc = learner
    BFGS(own, logfile=None, maxstep=0.1).run(fmax=0.01, steps=steps)
    return own.positions.copy()


def _driven(model: SchNet, molecules: list[Atoms], temperature: float, seed: int) -> list[list[np.ndarray]]:
    """Frames of dynamics of each molecule; of one that breaks, those before, and the last one."""
    places = [one.positions.copy() for one in molecules]
    frames: list[list[np.ndarray]] = [[] for _ in molecules]
    left = [k for k, one in enumerate(molecules) if len(one) > 1]
    for part in range(FRAMES):
        while left:
            data = [Data(z=torch.from_numpy(molecules[k].numbers), pos=torch.from_numpy(places[k])) for k in left]
            options = {"timestep": 1.0, "temperature": temperature, "friction": 0.02, "seed": 1000 * seed + part}
            try:
                dynamics = Dynamics(model, data, dtype=torch.float32, **options)
                dynamics.run(STEPS, interval=STEPS, progress=False)
            except DynamicsError as error:
                lost = left.pop(error.structure)
                frames[lost].append(places[lost])
                continue
            sizes = np.cumsum([len(molecules[k]) for k in left])[:-1]
            for k, place in zip(left, np.split(dynamics.positions, sizes), strict=True):
                places[k] = place
                frames[k].append(place)
            break
    return frames
