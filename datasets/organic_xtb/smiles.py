"""The molecules: neutral, closed shells, of H, C, N, O and F, as canonical SMILES without stereochemistry.

Those to train with are enumerated (all with up to five heavy atoms) or joined from building blocks by single bonds. To
be tried with, and never trained with, are well-known molecules, and others of both kinds.
"""

import random
import sys
from pathlib import Path
from typing import NamedTuple

from rdkit import Chem, RDLogger

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "qm9_small"))
from molecules import UNSTABLE, enumerate_smiles  # of qm9_small


def listed(name: str) -> list[str]:
    """SMILES of a file beside this one, a line each."""
    return Path(__file__).with_name(name).read_text().split()


#: Molecules that people know and will try first.
KNOWN = listed("known.smi")

#: Of these nothing resembles the simplest, and some are too few to learn from: they are trained with after all.
SIMPLEST = listed("simplest.smi")

#: What is joined: at any two atoms that have a hydrogen, one of them carbon.
BLOCKS = listed("blocks.smi")

#: Pairs of these meet with hydrogen bonds, beside pairs of any small molecules.
BONDING = listed("bonding.smi")


class Molecules(NamedTuple):
    """The lists.

    Attributes:
        train: To train with.
        test: To be tried with, by where they come from.
    """

    train: list[str]
    test: dict[str, list[str]]


def canonical(smiles: str) -> str:
    """Canonical SMILES without stereochemistry.

    Args:
        smiles: Any SMILES.

    Returns:
        That of the same molecule, as RDKit writes it.
    """
    return str(Chem.MolToSmiles(Chem.MolFromSmiles(smiles), isomericSmiles=False))


def joined(rng: random.Random, heavy_atoms: int = 12) -> str | None:
    """Some building blocks, joined.

    Args:
        rng: Random numbers.
        heavy_atoms: The largest number of atoms other than hydrogen.

    Returns:
        The molecule; ``None`` if these blocks do not fit or it is hardly stable.
    """
    molecule = Chem.MolFromSmiles(rng.choice(BLOCKS))
    for _ in range(rng.choice((1, 1, 2, 3))):
        other = Chem.MolFromSmiles(rng.choice(BLOCKS))
        ends = [[atom.GetIdx() for atom in one.GetAtoms() if atom.GetTotalNumHs()] for one in (molecule, other)]
        if not all(ends):
            return None
        i, j = rng.choice(ends[0]), rng.choice(ends[1])
        if "C" not in (molecule.GetAtomWithIdx(i).GetSymbol(), other.GetAtomWithIdx(j).GetSymbol()):
            return None
        both = Chem.RWMol(Chem.CombineMols(molecule, other))
        j += molecule.GetNumAtoms()
        both.AddBond(i, j, Chem.BondType.SINGLE)
        for atom in (both.GetAtomWithIdx(i), both.GetAtomWithIdx(j)):
            if atom.GetNumExplicitHs():
                atom.SetNumExplicitHs(atom.GetNumExplicitHs() - 1)
        try:
            Chem.SanitizeMol(both)
        except Chem.MolSanitizeException:
            return None
        molecule = both.GetMol()
    unstable = any(molecule.HasSubstructMatch(Chem.MolFromSmarts(pattern)) for pattern in UNSTABLE)
    radical = any(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms())
    if unstable or radical or molecule.GetNumHeavyAtoms() > heavy_atoms:
        return None
    return canonical(Chem.MolToSmiles(molecule))


def chosen(count: int, tests: int = 60, seed: int = 1) -> Molecules:
    """The molecules to train and to be tried with.

    Args:
        count: How many to train with.
        tests: How many of each kind to be tried with, beside the known ones.
        seed: Of the random numbers.

    Returns:
        The lists; a part of the one to train with, from its beginning, has molecules of both kinds, too.
    """
    RDLogger.DisableLog("rdApp.*")
    rng = random.Random(seed)
    known = [canonical(one) for one in KNOWN]
    enumerated = sorted({canonical(one) for level in enumerate_smiles(5) for one in level} - set(known))
    rng.shuffle(enumerated)
    enumerated = enumerated[: tests + count // 3]
    taken, found = {*known, *enumerated}, list[str]()
    while len(found) < tests + count - (len(enumerated) - tests):
        one = joined(rng)
        if one is not None and one not in taken:
            found.append(one)
            taken.add(one)
    test = {"known": known, "enumerated": enumerated[:tests], "joined": found[:tests]}
    test = {name: [one for one in part if one not in SIMPLEST] for name, part in test.items()}
    train = enumerated[tests:] + found[tests:]
    rng.shuffle(train)
    return Molecules(train, test)
