"""Generate ``iso17.tar.gz``: isomers of C7O2H10 at 500 K with GFN2-xTB, in the layout of ISO17.

    pip install "pyg_schnet[md,chem]" tblite
    python datasets/iso17_xtb/generate.py

Molecular graphs are drawn at random (RDKit keeps the valid and distinct ones), embedded, relaxed, and driven by
Langevin dynamics. Trajectories are kept in the folder ``--work``, one file each, so that a run that was
stopped goes on where it was. The same seed gives the same data on the same machine and library versions.
"""

import argparse
import gzip
import io
import sqlite3
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.data import covalent_radii
from ase.db import connect
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import Stationary, ZeroRotation, thermalize_momenta
from ase.optimize import BFGS
from numpy.typing import NDArray
from rdkit import Chem, RDLogger
from rdkit.Chem import AllChem
from tblite.ase import TBLite
from tqdm import tqdm

#: Structures nobody would put on a shelf: peroxides, cumulenes, strained rings.
UNWANTED = ["OO", "*=*=*", "[r3,r4]=*", "[r5,r6,r7]#*", "[R2,R3,R4]", "[r4]", "[r7,r8,r9]"]
CARBONS, OXYGENS, RINGS_AND_DOUBLE_BONDS = 7, 2, 3


def isomers(rng: np.random.Generator) -> Iterator[str]:
    """SMILES of distinct isomers of C7H10O2, endlessly."""
    seen, unwanted = set(), [Chem.MolFromSmarts(pattern) for pattern in UNWANTED]
    while True:
        smiles = _random_graph(rng)
        molecule = Chem.MolFromSmiles(smiles) if smiles else None
        if molecule is None or smiles in seen or any(molecule.HasSubstructMatch(pattern) for pattern in unwanted):
            continue
        seen.add(smiles)
        yield smiles


def _random_graph(rng: np.random.Generator) -> str | None:
    """A tree of the heavy atoms with three more bonds, which close rings or make bonds multiple."""
    molecule, size = Chem.RWMol(), CARBONS + OXYGENS
    order = np.zeros((size, size), dtype=int)
    valence = np.array([4] * CARBONS + [2] * OXYGENS)
    for symbol in ["C"] * CARBONS + ["O"] * OXYGENS:
        molecule.AddAtom(Chem.Atom(symbol))
    for atom in range(1, size):
        free = np.flatnonzero(order.sum(axis=0)[:atom] < valence[:atom])
        partner = rng.choice(free)
        order[atom, partner] = order[partner, atom] = 1
    for _ in range(RINGS_AND_DOUBLE_BONDS):
        free = np.flatnonzero(order.sum(axis=0) < valence)
        if len(free) < 2:
            return None
        i, j = rng.choice(free, 2, replace=False)
        order[i, j] = order[j, i] = order[i, j] + 1
    if order.max() > 3:
        return None
    kinds = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}
    for i, j in zip(*np.nonzero(np.triu(order)), strict=True):
        molecule.AddBond(int(i), int(j), kinds[int(order[i, j])])
    try:
        Chem.SanitizeMol(molecule)
    except Chem.MolSanitizeException:
        return None
    return Chem.MolToSmiles(molecule)


def relaxed(smiles: str, seed: int) -> Atoms | None:
    """The isomer in its GFN2-xTB minimum, ``None`` if it does not keep its bonds there."""
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    if AllChem.EmbedMolecule(molecule, randomSeed=seed) != 0:
        return None
    AllChem.MMFFOptimizeMolecule(molecule)
    atoms = Atoms([a.GetAtomicNum() for a in molecule.GetAtoms()], molecule.GetConformer().GetPositions())
    bonds = {tuple(sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx()))) for b in molecule.GetBonds()}
    atoms.calc = TBLite(method="GFN2-xTB", accuracy=0.5, verbosity=0)
    if (
        not BFGS(atoms, logfile=None).run(fmax=0.005, steps=400)
        or bonded(atoms.numbers, atoms.positions, 1.25) != bonds
    ):
        return None
    atoms.positions -= atoms.get_center_of_mass()
    return atoms


def bonded(numbers: NDArray, positions: NDArray, factor: float) -> set[tuple[int, int]]:
    """Pairs of atoms closer than ``factor`` times the sum of their covalent radii."""
    radii = covalent_radii[numbers]
    near = np.linalg.norm(positions[:, None] - positions, axis=-1) < factor * (radii[:, None] + radii)
    return {(int(i), int(j)) for i, j in zip(*np.nonzero(np.triu(near, 1)), strict=True)}


def frame(atoms: Atoms) -> tuple[NDArray, float, NDArray]:
    return atoms.get_positions() - atoms.get_center_of_mass(), atoms.get_potential_energy(), atoms.get_forces()


def trajectory(
    atoms: Atoms, args: argparse.Namespace, rng: np.random.Generator
) -> list[tuple[NDArray, float, NDArray]]:
    """Frames of Langevin dynamics, an empty list if a bond broke."""
    bonds = bonded(atoms.numbers, atoms.positions, 1.25)
    thermalize_momenta(atoms, temperature_K=args.temperature, rng=rng)
    Stationary(atoms)
    ZeroRotation(atoms)
    thermostat = {"temperature_K": args.temperature, "friction": 0.01 / units.fs, "fixcm": False, "rng": rng}
    dynamics = Langevin(atoms, 0.5 * units.fs, **thermostat)
    dynamics.run(args.equilibration)
    frames = []
    for _ in range(args.frames):
        dynamics.run(args.stride)
        if not bonds <= bonded(atoms.numbers, atoms.positions, 1.6):
            return []
        frames.append(frame(atoms))
    return frames


def collected(args: argparse.Namespace) -> list[dict[str, NDArray]]:
    """For each isomer its minimum and, for the first ones, its trajectory; from ``--work`` where it is there."""
    rng, found = np.random.default_rng(args.seed), []
    moving, bar = args.known + args.other, tqdm(total=args.known + args.other + args.still, unit="isomer")
    stream = enumerate(isomers(rng))
    while len(found) < moving + args.still:
        number, smiles = next(stream)
        path = args.work / f"{number:03d}.npz"
        if not path.is_file():
            np.savez(path.with_suffix(".part.npz"), **_computed(smiles, number, len(found) < moving, args))
            path.with_suffix(".part.npz").replace(path)
        with np.load(path) as file:
            contents = dict(file)
        if len(contents["R"]):
            found.append(contents)
            bar.update()
    return found


def _computed(smiles: str, number: int, moves: bool, args: argparse.Namespace) -> dict[str, NDArray]:
    atoms = relaxed(smiles, args.seed + number)
    frames = []
    if atoms is not None:
        frames = [frame(atoms)]
        if moves:
            more = trajectory(atoms, args, np.random.default_rng([args.seed, number]))
            frames = frames + more if more else []
    R, E, F = (np.array([one[k] for one in frames]) for k in range(3))
    numbers = np.array([] if atoms is None else atoms.numbers)
    return {"smiles": np.array(smiles), "z": numbers, "R": R, "E": E, "F": F}


def database(folder: Path, name: str, rows: list[tuple[NDArray, NDArray, float, NDArray]]) -> bytes:
    """An ASE database with energies and forces where ISO17 has them; the same rows give the same bytes."""
    path = folder / f"{name}.db"
    path.unlink(missing_ok=True)
    with connect(path, append=False) as db:
        for z, R, E, F in rows:
            rounded = R.astype(np.float32).astype(float)
            data = {"atomic_forces": np.round(F, 5).tolist()}
            db.write(Atoms(z, rounded), key_value_pairs={"total_energy": float(E)}, data=data)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE systems SET ctime = 0, mtime = 0, username = '', unique_id = printf('%032x', id)")
    connection.commit()
    connection.execute("VACUUM")
    connection.close()
    return path.read_bytes()


def parts(found: list[dict[str, NDArray]], args: argparse.Namespace) -> dict[str, list]:
    """The rows of each part: frames of known isomers, later ones of them, unknown isomers, and minima."""

    def rows(isomer: dict[str, NDArray], which: slice) -> list[tuple]:
        return [(isomer["z"], R, E, F) for R, E, F in zip(*(isomer[key][which] for key in "REF"), strict=True)]

    known, other, still = np.split(np.arange(len(found)), [args.known, args.known + args.other])
    learn = slice(1, 1 + args.frames - args.frames // 5)
    return {
        "reference": [row for i in known for row in rows(found[i], learn)],
        "test_within": [row for i in known for row in rows(found[i], slice(learn.stop, None))],
        "test_other": [row for i in other for row in rows(found[i], slice(1, None))],
        "reference_eq": [row for i in known for row in rows(found[i], slice(0, 1))],
        "test_eq": [row for i in [*other, *still] for row in rows(found[i], slice(0, 1))],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--known", type=int, default=12, help="isomers to learn from")
    parser.add_argument("--other", type=int, default=4, help="isomers only to test on")
    parser.add_argument("--still", type=int, default=24, help="further isomers of which only the minimum is kept")
    parser.add_argument("--frames", type=int, default=100, help="frames of each trajectory")
    parser.add_argument("--stride", type=int, default=20, help="steps of 0.5 fs between frames")
    parser.add_argument("--equilibration", type=int, default=800, help="steps before the first frame")
    parser.add_argument("--temperature", type=float, default=500.0, help="temperature in K")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("iso17_xtb_work"), help="folder of finished trajectories")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("iso17.tar.gz"))
    args = parser.parse_args()
    RDLogger.DisableLog("rdApp.*")
    args.work.mkdir(parents=True, exist_ok=True)

    found = collected(args)
    files = {}
    for name, rows in parts(found, args).items():
        files[f"{name}.db"] = database(args.work, name, rows)
        print(f"{name}: {len(rows)} structures")
    frames = args.known * (args.frames - args.frames // 5)
    ids = np.random.default_rng(args.seed).permutation(np.arange(1, frames + 1))  # rows are counted from 1
    for name, part in {"train_ids": ids[frames // 10 :], "validation_ids": ids[: frames // 10]}.items():
        files[f"{name}.txt"] = "".join(f"{i}\n" for i in sorted(part)).encode()
    files["isomers.txt"] = "".join(f"{isomer['smiles']}\n" for isomer in found).encode()
    with (
        args.out.with_suffix(".part").open("wb") as stream,
        gzip.GzipFile("", "wb", 9, stream, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for name, content in files.items():
            member = tarfile.TarInfo(f"iso17/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    args.out.with_suffix(".part").replace(args.out)


if __name__ == "__main__":
    main()
