"""Frames of two molecules beside each other: hydrogen bonds, contacts, and distances at which nothing is felt."""

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from ase.optimize import BFGS
from classical import start
from labels import Frame, calculator, labelled, rng_of
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from smiles import BONDING

#: Closest distance in Angstrom between the atoms of one and of the other molecule, at the beginning.
NEAREST, FARTHEST = 1.5, 4.5


def pair_of(number: int, molecules: list[str]) -> tuple[str, str]:
    """Which molecules are beside each other.

    Args:
        number: Number of the pair.
        molecules: Molecules to train with.

    Returns:
        Two of those that make hydrogen bonds for every other number, else one of them and a molecule of the list.
    """
    rng = rng_of("pair", number)
    one, other = rng.choice(len(BONDING), 2)
    if number % 2 == 0:
        return BONDING[one], BONDING[other]
    return BONDING[one], molecules[int(rng.integers(len(molecules)))]


def beside(one: NDArray, other: NDArray, distance: float, rng: np.random.Generator) -> NDArray:
    """Two molecules in random orientations, the closest atoms of which are so far apart.

    Args:
        one: Positions in Angstrom [n, 3].
        other: Positions in Angstrom [m, 3].
        distance: In Angstrom.
        rng: Random numbers.

    Returns:
        Positions [n + m, 3].
    """
    first, second = (
        Rotation.random(random_state=int(rng.integers(2**31))).apply(part - part.mean(0)) for part in (one, other)
    )
    low, high = 0.0, 40.0
    for _ in range(40):
        middle = (low + high) / 2
        apart = np.linalg.norm(first[:, None] - (second + np.array([middle, 0, 0])), axis=-1).min()
        low, high = (middle, high) if apart < distance else (low, middle)
    return np.concatenate([first, second + np.array([high, 0, 0])])


def pair_frames(number: int, molecules: list[str]) -> list[Frame]:
    """Some six frames of a pair.

    Args:
        number: Number of the pair.
        molecules: Molecules to train with.

    Returns:
        The frames that are worth learning from.
    """
    pair, rng = pair_of(number, molecules), rng_of("frames of a pair", number)
    parts = []
    for molecule in pair:
        atoms = start(molecule, int(rng.integers(2**31)))
        if len(atoms) > 1:
            BFGS(atoms, logfile=None, maxstep=0.1).run(fmax=0.05, steps=25)
        parts.append(atoms)
    name, frames = ".".join(pair), list[Frame | None]()
    together = Atoms(np.concatenate([part.numbers for part in parts]))
    together.calc = calculator()
    places = [beside(*(part.positions for part in parts), rng.uniform(NEAREST, FARTHEST), rng) for _ in range(3)]
    for place in places:
        frames.append(labelled(together, place + 0.02 * rng.standard_normal(place.shape), name, "pair"))
    place = beside(*(part.positions for part in parts), rng.uniform(1.8, 2.4), rng)
    if labelled(together, place, name, "pair") is not None:
        BFGS(together, logfile=None, maxstep=0.1).run(fmax=0.05, steps=25)
        frames.append(labelled(together, together.positions.copy(), name, "pair, relaxed"))
        thermalize_momenta(together, 300, rng=rng)
        dynamics = Langevin(together, 1.0 * units.fs, temperature_K=300, friction=0.02 / units.fs, fixcm=False, rng=rng)
        for _ in range(2):
            dynamics.run(20)
            frames.append(labelled(together, together.positions.copy(), name, "pair, dynamics"))
    return [one for one in frames if one is not None]
