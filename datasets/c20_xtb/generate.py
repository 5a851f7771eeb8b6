"""Generate ``c20_xtb.npz``: the fullerene cage C20 at 500 K with GFN2-xTB, in the npz layout of MD17.

    pip install "pyg_schnet[md]" tblite
    python datasets/c20_xtb/generate.py

Langevin dynamics (ASE) of one gas-phase cage, from a relaxed dodecahedron; a frame is kept every ``--stride`` steps
after equilibration. The same seed gives the same trajectory on the same machine and library versions.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import Stationary, ZeroRotation, thermalize_momenta
from ase.optimize import BFGS
from numpy.typing import NDArray
from tblite.ase import TBLite
from tqdm import tqdm

from pyg_schnet.datasets.sgdml_npz import write_npz

THEORY = "GFN2-xTB (tblite)"


def dodecahedron(edge: float) -> NDArray:
    """The 20 corners of a regular dodecahedron [20, 3] with edges of the given length."""
    golden = (1 + 5**0.5) / 2
    cube = list(itertools.product((-1.0, 1.0), repeat=3))
    rest = [np.roll((0.0, a / golden, b * golden), shift) for a in (-1, 1) for b in (-1, 1) for shift in range(3)]
    return np.array([*cube, *rest]) * edge * golden / 2


def equilibrated(temperature: float, steps: int, rng: np.random.Generator) -> tuple[Atoms, Langevin]:
    """One relaxed cage brought to ``temperature`` (K) and the dynamics that drives it."""
    # a slight disorder lets the relaxation leave the symmetric cage, which is no minimum (Jahn-Teller)
    atoms = Atoms("C20", positions=dodecahedron(1.45) + rng.normal(scale=0.02, size=(20, 3)))
    atoms.calc = TBLite(method="GFN2-xTB", accuracy=0.1, verbosity=0)
    BFGS(atoms, logfile=None).run(fmax=0.05, steps=500)
    thermalize_momenta(atoms, temperature_K=temperature, rng=rng)
    Stationary(atoms)
    ZeroRotation(atoms)
    thermostat = {"temperature_K": temperature, "friction": 0.01 / units.fs, "fixcm": False, "rng": rng}
    dynamics = Langevin(atoms, 1.0 * units.fs, **thermostat)
    dynamics.run(steps)
    return atoms, dynamics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=500, help="frames to keep")
    parser.add_argument("--stride", type=int, default=8, help="steps of 1 fs between frames")
    parser.add_argument("--equilibration", type=int, default=1000, help="steps before the first frame")
    parser.add_argument("--temperature", type=float, default=500.0, help="temperature in K")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("c20_xtb.npz"))
    args = parser.parse_args()

    atoms, dynamics = equilibrated(args.temperature, args.equilibration, np.random.default_rng(args.seed))
    kcal = units.kcal / units.mol
    R, E, F = (np.empty((args.frames, *shape)) for shape in ((len(atoms), 3), (1,), (len(atoms), 3)))
    for frame in tqdm(range(args.frames), desc=f"C20, {args.temperature:g} K", unit="frame"):
        dynamics.run(args.stride)
        R[frame] = atoms.get_positions() - atoms.get_center_of_mass()
        E[frame], F[frame] = atoms.get_potential_energy() / kcal, atoms.get_forces() / kcal
    write_npz(args.out, z=atoms.numbers, R=R, E=E, F=F, name="C20", theory=THEORY)


if __name__ == "__main__":
    main()
