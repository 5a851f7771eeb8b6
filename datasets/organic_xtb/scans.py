"""Frames of stiff bonds turned all the way, and close to minima: barriers and vibrations."""

import numpy as np
from ase import Atoms
from ase.optimize import BFGS
from classical import HIGHEST, STIFF, far_side, start, turned
from labels import Frame, labelled, rng_of
from numpy.typing import NDArray
from rdkit import Chem
from smiles import SIMPLEST, listed

#: Angles of a full turn, stiff bonds of a molecule, and largest number of heavy atoms of a small one.
ANGLES, BONDS, SMALL = 4, 2, 4
#: Bonds that conjugation makes stiff, beside those of amides, acids and esters: of enols, enamines, amidines, their
#: relatives. What it costs to turn formamide can be learnt from them.
CONJUGATED = Chem.MolFromSmarts("[#6X3;!a](=[#6,#7])!@[#7X3,#8X2]")
#: The same with nitrogen in the middle, of hydrazones, oximes, nitrites.
NITROGEN = Chem.MolFromSmarts("[#7X2](=[#6,#7,#8])!@[#7X3,#8X2]")
#: Heavy atoms of molecules of which these are turned, and how often.
CONJUGATED_SCANS = {3: 8, 4: 8, 5: 2}
#: Small relatives of the simplest amides and acids, more than are enumerated: what formyl, carbamoyl, carboxyl,
#: amidine, enamine and enol groups carry; and how often each of them, and of the simplest molecules, is scanned.
RELATIVES, RELATIVE_SCANS = listed("relatives.smi"), 12
#: How often small molecules are scanned in all: those without stiff bonds, those with, and of these the smallest, which
#: have too few relatives to learn from.
SMALL_SCANS, STIFF_SCANS, SMALL_STIFF_SCANS = 4, 5, 17
#: Heavy atoms of a small molecule with stiff bonds.
STIFF_SMALL = 6
#: Frames close to the minimum of a small molecule and of others, and how far atoms are moved there, in Angstrom.
CLOSE, CLOSE_OF_OTHERS, MOVED = 5, 1, (0.01, 0.05)


def times_scanned(molecule: str) -> int:
    """How often a molecule is scanned, each time from other angles: amides, acids and esters, and small molecules.

    Args:
        molecule: SMILES.

    Returns:
        The number.
    """
    described = Chem.MolFromSmiles(molecule)
    heavy, stiff = described.GetNumAtoms(), described.HasSubstructMatch(STIFF)
    if stiff:
        return SMALL_STIFF_SCANS if heavy <= SMALL else STIFF_SCANS if heavy <= STIFF_SMALL else 1
    return SMALL_SCANS if 1 < heavy <= SMALL else 0


def times_conjugated(molecule: str) -> int:
    """How often the conjugated bonds of a molecule are turned that has no stiffer ones.

    Args:
        molecule: SMILES.

    Returns:
        The number.
    """
    described = Chem.MolFromSmiles(molecule)
    if described.HasSubstructMatch(STIFF) or not described.HasSubstructMatch(CONJUGATED):
        return 0
    return CONJUGATED_SCANS.get(described.GetNumAtoms(), 0)


def relative_scans(count: int) -> list[tuple[str, int, bool]]:
    """Arguments of :func:`scan_frames` for the simplest molecules and the relatives, each often.

    Args:
        count: The largest number of molecules.

    Returns:
        Molecule, number of the scan, and whether conjugated bonds are turned.
    """
    every = [*SIMPLEST, *RELATIVES][:count]
    stiff = {one: Chem.MolFromSmiles(one).HasSubstructMatch(STIFF) for one in every}
    return [(one, number, not stiff[one]) for one in every for number in range(RELATIVE_SCANS)]


def scan_frames(molecule: str, number: int = 0, conjugated: bool = False) -> list[Frame]:
    """Some nine frames of a molecule.

    Args:
        molecule: SMILES.
        number: Which of its scans; each has random numbers of its own.
        conjugated: True to turn conjugated bonds instead of those of amides, acids and esters.

    Returns:
        The frames that are worth learning from; none if GFN2-xTB does not converge.

    Raises:
        ValueError: If RDKit finds no conformer.
    """
    rng = rng_of(molecule, (70 if conjugated else 50) + number)
    atoms = start(molecule, int(rng.integers(2**31)))
    if labelled(atoms, atoms.positions.copy(), molecule, "start") is None:
        return []
    BFGS(atoms, logfile=None, maxstep=0.1).run(fmax=0.03, steps=25)
    lowest = labelled(atoms, atoms.positions.copy(), molecule, "relaxed")
    if lowest is None:
        return []
    described = Chem.AddHs(Chem.MolFromSmiles(molecule))
    frames: list[Frame | None] = [lowest]
    for _ in range(CLOSE if described.GetNumHeavyAtoms() <= SMALL else CLOSE_OF_OTHERS):
        moved = rng.uniform(*MOVED) * rng.standard_normal(lowest.positions.shape)
        frames.append(labelled(atoms, lowest.positions + moved, molecule, "close"))
    pattern = STIFF if not conjugated else CONJUGATED if described.HasSubstructMatch(CONJUGATED) else NITROGEN
    for i, _, j in list(described.GetSubstructMatches(pattern))[:BONDS]:
        side = far_side(described, i, j)
        if side is not None:
            frames += _turn(atoms, lowest.positions, (i, j), side, molecule, rng)
    allowed = lowest.energy + HIGHEST * len(atoms)
    return [one for one in frames if one is not None and one.energy < allowed]


def _turn(
    atoms: Atoms, rest: NDArray, bond: tuple[int, int], side: list[int], molecule: str, rng: np.random.Generator
) -> list[Frame | None]:
    """A full turn in a few steps from some angle on, and a frame on the way back from one of them."""
    first = rng.uniform(0, 2 * np.pi / ANGLES)
    places = [turned(rest, *bond, side, first + 2 * np.pi * k / ANGLES) for k in range(ANGLES)]
    frames = [labelled(atoms, place, molecule, "scan") for place in places]
    back = int(rng.integers(ANGLES))
    if frames[back] is not None:
        atoms.positions = places[back]
        BFGS(atoms, logfile=None, maxstep=0.05).run(fmax=0.3, steps=int(rng.integers(1, 8)))
        frames.append(labelled(atoms, atoms.positions.copy(), molecule, "scan, relaxing"))
    return frames
