"""Frames of a molecule by GFN2-xTB alone: on the way to its minimum, in motion, and away from it in every usual way."""

import numpy as np
from ase import Atoms, units
from ase.data import covalent_radii
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from ase.optimize import BFGS
from labels import Frame, calculator, labelled, rng_of
from numpy.typing import NDArray
from rdkit import Chem
from scipy.spatial.transform import Rotation

from pyg_schnet.datasets import from_smiles

#: Single bonds that are turned: those that turn easily, and those of amides, acids and esters, which do not.
TURNED = Chem.MolFromSmarts("[*;!D1;!#1]-&!@[*;!#1]")
STIFF = Chem.MolFromSmarts("[#6](=O)-&!@[#7,#8]")
#: Temperatures of short dynamics in K, and energy above the minimum in eV per atom up to which frames are kept.
TEMPERATURES, HIGHEST = (300, 500, 800, 1200), 1.0


def start(molecule: str, seed: int = 0) -> Atoms:
    """A molecule as RDKit builds it.

    Args:
        molecule: SMILES.
        seed: Seed of the conformer.

    Returns:
        The atoms with GFN2-xTB as their calculator.

    Raises:
        ValueError: If no conformer is found.
    """
    data = from_smiles(molecule, seed=seed)
    atoms = Atoms(data.z.numpy(), data.pos.double().numpy())
    atoms.calc = calculator()
    return atoms


def far_side(molecule: Chem.Mol, i: int, j: int) -> list[int] | None:
    """The atoms on the side of j if the bond between i and j is cut.

    Args:
        molecule: With its hydrogens.
        i: An atom.
        j: Its neighbour.

    Returns:
        The atoms; ``None`` if the bond is in a ring.
    """
    side, todo = {j}, [j]
    while todo:
        here = todo.pop()
        for atom in molecule.GetAtomWithIdx(here).GetNeighbors():
            there = atom.GetIdx()
            if there == i and here != j:
                return None
            if there not in side and there != i:
                side.add(there)
                todo.append(there)
    return sorted(side)


def turned(positions: NDArray, i: int, j: int, side: list[int], angle: float) -> NDArray:
    """Positions with one side of a bond turned about it.

    Args:
        positions: In Angstrom [n, 3].
        i: An end of the bond.
        j: The other, on the side that turns.
        side: The atoms that turn.
        angle: In radians.

    Returns:
        New positions.
    """
    axis = positions[j] - positions[i]
    rotation = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis))
    moved = positions.copy()
    moved[side] = rotation.apply(positions[side] - positions[j]) + positions[j]
    return moved


def classical_frames(molecule: str) -> list[Frame]:
    """Some ten frames of a molecule.

    Args:
        molecule: SMILES.

    Returns:
        The frames that are worth learning from; none if GFN2-xTB makes another molecule of it or does not converge.
    """
    rng = rng_of(molecule, 0)
    atoms = start(molecule, int(rng.integers(2**31)))
    frames = [labelled(atoms, atoms.positions.copy(), molecule, "start")]
    if len(atoms) == 1 or frames[0] is None:
        return [one for one in frames if one is not None]
    path: list[NDArray] = []
    search = BFGS(atoms, logfile=None, maxstep=0.1)
    search.attach(lambda: path.append(atoms.positions.copy()))
    search.run(fmax=0.03, steps=25)
    lowest = labelled(atoms, path[-1], molecule, "relaxed")
    if lowest is None or frames[0].energy - lowest.energy > 5.0:
        return []
    frames += [lowest, labelled(atoms, path[int(rng.integers(len(path)))], molecule, "path")]
    frames += _in_motion(atoms, lowest, rng)
    rest = lowest.positions
    noise = rng.uniform(0.02, 0.1) * rng.standard_normal(rest.shape)
    frames.append(labelled(atoms, rest + noise, molecule, "noise"))
    described = Chem.AddHs(Chem.MolFromSmiles(molecule))
    frames += _turned(atoms, lowest, described, rng)
    frames.append(labelled(atoms, _stretched(rest, described, rng), molecule, "stretched"))
    for _ in range(3):  # most are too close
        contact = _contact(rest, lowest.numbers, rng)
        frames.append(None if contact is None else labelled(atoms, contact, molecule, "contact"))
        if frames[-1] is not None:
            break
    allowed = lowest.energy + HIGHEST * len(atoms)
    return [one for one in frames if one is not None and one.energy < allowed]


def _in_motion(atoms: Atoms, lowest: Frame, rng: np.random.Generator) -> list[Frame | None]:
    """Two frames of short dynamics from the minimum."""
    temperature = float(rng.choice(TEMPERATURES))
    atoms.positions = lowest.positions
    thermalize_momenta(atoms, 1.5 * temperature, rng=rng)  # a part of it goes into the potential
    thermostat = {"temperature_K": temperature, "friction": 0.02 / units.fs, "fixcm": False, "rng": rng}
    dynamics = Langevin(atoms, 1.0 * units.fs, **thermostat)
    frames = []
    for _ in range(2):
        dynamics.run(20)
        frames.append(labelled(atoms, atoms.positions.copy(), lowest.molecule, f"dynamics {temperature:g} K"))
    return frames


def _turned(atoms: Atoms, lowest: Frame, described: Chem.Mol, rng: np.random.Generator) -> list[Frame | None]:
    """A bond turned by some angle, and one of each stiff kind, with the rest relaxed a little."""
    bonds = list(described.GetSubstructMatches(TURNED))
    chosen = [bonds[int(rng.integers(len(bonds)))]] if bonds else []
    chosen += [(match[0], match[2]) for match in described.GetSubstructMatches(STIFF)][:2]
    frames: list[Frame | None] = []
    for i, j in chosen:
        side = far_side(described, i, j)
        if side is None:
            continue
        place = turned(lowest.positions, i, j, side, rng.uniform(0.3, 2 * np.pi - 0.3))
        begin = labelled(atoms, place, lowest.molecule, "turned")
        if begin is None:
            continue
        BFGS(atoms, logfile=None, maxstep=0.05).run(fmax=0.3, steps=int(rng.integers(8)))
        place = atoms.positions + 0.02 * rng.standard_normal(place.shape)
        frames.append(labelled(atoms, place, lowest.molecule, "turned"))
    return frames


def _stretched(rest: NDArray, described: Chem.Mol, rng: np.random.Generator) -> NDArray:
    """A bond made longer or shorter, with all that hangs on it."""
    bond = described.GetBondWithIdx(int(rng.integers(described.GetNumBonds())))
    i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
    if rng.random() < 0.5:
        i, j = j, i
    side, factor = far_side(described, i, j), rng.uniform(0.65, 1.45)
    moved = rest + 0.03 * rng.standard_normal(rest.shape)
    in_ring = 0.6 if side is None else 1.0
    moved[[j] if side is None else side] += in_ring * (factor - 1) * (rest[j] - rest[i])
    return moved


def _contact(rest: NDArray, numbers: NDArray, rng: np.random.Generator) -> NDArray | None:
    """Two atoms that are far from each other pushed together, neighbours drawn along."""
    distances = np.linalg.norm(rest[:, None] - rest, axis=-1)
    pairs = np.argwhere(np.triu(distances > 1.9, 1))
    if not len(pairs):
        return None
    i, j = pairs[int(rng.integers(len(pairs)))]
    wanted = rng.uniform(1.0, 2.2) * (covalent_radii[numbers[i]] + covalent_radii[numbers[j]])
    near = np.exp(-np.square(distances[i] / 1.1))[:, None]
    moved: NDArray = rest + near * (rest[j] - rest[i]) / distances[i, j] * (distances[i, j] - wanted)
    return moved
