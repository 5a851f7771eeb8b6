"""Energies and forces by GFN2-xTB (tblite), and files of labelled frames."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # molecules are small: one thread each

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed
from numpy.typing import NDArray
from tblite.ase import TBLite
from tblite.exceptions import TBLiteRuntimeError

from pyg_schnet.files.whole import replacing

#: Frames with a larger force on an atom, in eV/Angstrom, or with closer atoms, in Angstrom, are left out.
LARGEST_FORCE, CLOSEST = 15.0, 0.5
#: What calculations raise that do not converge.
FAILURES = CalculationFailed, TBLiteRuntimeError


class Frame(NamedTuple):
    """A labelled structure.

    Attributes:
        molecule: SMILES; of two molecules with a dot between them.
        kind: How it came about.
        numbers: Atomic numbers [n].
        positions: In Angstrom [n, 3].
        energy: In eV.
        forces: In eV/Angstrom [n, 3].
    """

    molecule: str
    kind: str
    numbers: NDArray
    positions: NDArray
    energy: float
    forces: NDArray


def calculator() -> TBLite:
    """GFN2-xTB, which begins with the charges of the call before."""
    return TBLite(method="GFN2-xTB", accuracy=0.5, max_iterations=150, verbosity=0)


def rng_of(molecule: str, what: int) -> np.random.Generator:
    """Random numbers that follow from a molecule alone, not from the order in which molecules are done.

    Args:
        molecule: SMILES.
        what: Number of the purpose.

    Returns:
        The generator.
    """
    return np.random.default_rng([zlib.crc32(molecule.encode()), what])


def closest(positions: NDArray) -> float:
    """The smallest distance between two atoms, in Angstrom; infinity for one atom."""
    distances = np.linalg.norm(positions[:, None] - positions, axis=-1)
    return float(distances[np.triu_indices(len(positions), 1)].min(initial=np.inf))


def labelled(atoms: Atoms, positions: NDArray, molecule: str, kind: str) -> Frame | None:
    """A frame, if it is worth learning from.

    Args:
        atoms: The molecule with its calculator; it is moved.
        positions: In Angstrom [n, 3].
        molecule: SMILES.
        kind: How the frame came about.

    Returns:
        The frame; ``None`` if atoms are too close, the calculation does not converge, or forces are too large.
    """
    if not np.isfinite(positions).all() or closest(positions) < CLOSEST:
        return None
    atoms.positions = positions
    try:
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    except FAILURES:
        atoms.calc = calculator()  # without the charges that have led nowhere
        return None
    if not np.isfinite(forces).all() or np.linalg.norm(forces, axis=1).max() > LARGEST_FORCE:
        return None
    return Frame(molecule, kind, atoms.numbers.copy(), positions.copy(), float(energy), forces.copy())


def write_frames(path: Path, frames: Iterable[Frame]) -> None:
    """Write frames, all of them or nothing.

    Args:
        path: The npz file.
        frames: What to write.
    """
    every = list(frames)
    blocks = {
        "numbers": np.concatenate([[0], *(one.numbers for one in every)])[1:].astype(np.int8),
        "positions": np.concatenate([np.zeros((0, 3)), *(one.positions for one in every)]).astype(np.float32),
        "forces": np.concatenate([np.zeros((0, 3)), *(one.forces for one in every)]).astype(np.float32),
        "energy": np.array([one.energy for one in every]),
        "sizes": np.array([len(one.numbers) for one in every], dtype=np.int64),
        "molecule": np.array([one.molecule for one in every], dtype=np.str_),
        "kind": np.array([one.kind for one in every], dtype=np.str_),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        np.savez(part, **blocks)


def read_frames(paths: Iterable[Path]) -> list[Frame]:
    """Frames of several files.

    Args:
        paths: The files.

    Returns:
        The frames in the order of the files.
    """
    frames = []
    for path in paths:
        with np.load(path) as stored:
            ends = np.cumsum(stored["sizes"])
            blocks = [np.split(stored[name], ends[:-1]) for name in ("numbers", "positions", "forces")]
            words = zip(stored["molecule"].tolist(), stored["kind"].tolist(), stored["energy"].tolist(), strict=True)
            if len(ends):
                frames += [
                    Frame(molecule, kind, numbers.astype(np.int64), positions, energy, forces)
                    for (molecule, kind, energy), numbers, positions, forces in zip(words, *blocks, strict=True)
                ]
    return frames
