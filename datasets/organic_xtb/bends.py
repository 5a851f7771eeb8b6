"""Frames with planar groups bent out of their planes, which distances between atoms hardly show."""

import numpy as np
from ase import Atoms
from labels import Frame, calculator, labelled, rng_of
from numpy.typing import NDArray
from rdkit import Chem

#: Frames of a molecule; of one with so many heavy atoms at most, where fewer relatives say the same.
BENDS, SMALL_BENDS, SMALL = 3, 8, 5
#: Frames with a bond turned that are bent of each molecule, and its largest number of heavy atoms.
TURNED, SMALL_TURNED = 4, 4
#: How far atoms leave the plane of their neighbours, and everything is moved beside, in Angstrom.
BENT, MOVED = (0.05, 0.30), 0.01
#: Largest distance of an atom from the plane of its neighbours that still counts as planar, in Angstrom.
PLANAR = 0.25


def lowest(frames: list[Frame]) -> list[Frame]:
    """The frame of the lowest energy of each molecule, pairs left out.

    Args:
        frames: Frames of any molecules.

    Returns:
        One for each molecule, in the order in which they come.
    """
    found: dict[str, Frame] = {}
    for one in frames:
        if "." not in one.molecule and (one.molecule not in found or one.energy < found[one.molecule].energy):
            found[one.molecule] = one
    return list(found.values())


def turned_highest(frames: list[Frame]) -> list[Frame]:
    """Some frames of each small molecule with a stiff bond turned, among those of the highest energies.

    There a planar nitrogen costs most, which is what barriers of amides depend on.

    Args:
        frames: Frames of any molecules.

    Returns:
        A few for each molecule, the highest first.
    """
    found: dict[str, list[Frame]] = {}
    for one in frames:
        if one.kind == "scan" and int((one.numbers > 1).sum()) <= SMALL_TURNED:
            found.setdefault(one.molecule, []).append(one)
    chosen = []
    for some in found.values():
        highest = sorted(some, key=lambda one: -one.energy)[: max(len(some) // 3, 1)]
        chosen += highest[:: max(1, len(highest) // TURNED)][:TURNED]
    return chosen


def bent_frames(rest: Frame) -> list[Frame]:
    """Some frames with atoms of planar groups, and what hangs on them, moved along the normals of their planes.

    Args:
        rest: A frame of the molecule near its minimum.

    Returns:
        The frames that are worth learning from; none of a molecule without planar groups.
    """
    described = Chem.AddHs(Chem.MolFromSmiles(rest.molecule))
    normals = normals_of(described, rest.positions)
    if not normals:
        return []
    rng = rng_of(rest.molecule, 90)
    atoms = Atoms(rest.numbers, rest.positions)
    atoms.calc = calculator()
    frames = []
    for _ in range(SMALL_BENDS if described.GetNumHeavyAtoms() <= SMALL else BENDS):
        places = rest.positions + MOVED * rng.standard_normal(rest.positions.shape)
        size, share = rng.uniform(*BENT), rng.uniform(0.2, 1.0)
        for atom, normal in normals.items():
            if rng.random() < share:
                places[atom] += size * rng.standard_normal() * normal
        frames.append(labelled(atoms, places, rest.molecule, "bent"))
    return [one for one in frames if one is not None]


def normals_of(described: Chem.Mol, positions: NDArray) -> dict[int, NDArray]:
    """Normals of the planes of planar centres, for them and for hydrogen and fluorine that they carry.

    Args:
        described: The molecule with its hydrogens, atoms in the order of the positions.
        positions: In Angstrom [n, 3].

    Returns:
        Unit vectors [3] by atom.
    """
    found = {}
    for atom in described.GetAtoms():
        near = [one.GetIdx() for one in atom.GetNeighbors()]
        if len(near) != 3:
            continue
        a, b, c = positions[near]
        normal = np.cross(b - a, c - a)
        length = np.linalg.norm(normal)
        if length < 0.1 or abs((positions[atom.GetIdx()] - a) @ normal) / length > PLANAR:
            continue
        found[atom.GetIdx()] = normal / length
        for other in atom.GetNeighbors():
            if other.GetDegree() == 1:
                found[other.GetIdx()] = normal / length
    return found
