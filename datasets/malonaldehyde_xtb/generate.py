"""Generate ``malonaldehyde_xtb.npz``: the enol of malonaldehyde at 500 K with GFN2-xTB, in the npz layout of MD17.

    pip install "pyg_schnet[md]" tblite
    python datasets/malonaldehyde_xtb/generate.py

Langevin dynamics (ASE) of one gas-phase molecule; a frame is kept every ``--stride`` steps after equilibration. The
proton of the hydrogen bond hops between the two oxygens. The same seed gives the same trajectory on the same machine
and library versions.
"""

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import Stationary, ZeroRotation, thermalize_momenta
from ase.optimize import BFGS
from tblite.ase import TBLite
from tqdm import tqdm

from pyg_schnet.datasets.sgdml_npz import write_npz

THEORY = "GFN2-xTB (tblite)"
#: A sketch of the ring that the hydrogen bond closes, in Angstrom: the middle carbon, C-OH, C=O, two oxygens, the
#: hydrogens on the carbons, the proton.
SKETCH = [
    (0.00, 0.00),
    (-1.20, 0.65),
    (1.25, 0.65),
    (-1.25, 1.95),
    (1.30, 1.87),
    (0.00, -1.08),
    (-2.13, 0.10),
    (2.18, 0.05),
    (-0.30, 2.25),
]


def equilibrated(temperature: float, steps: int, rng: np.random.Generator) -> tuple[Atoms, Langevin]:
    """One relaxed molecule brought to ``temperature`` (K) and the dynamics that drives it."""
    atoms = Atoms("C3O2H4", positions=[(*xy, 0.0) for xy in SKETCH])
    atoms.calc = TBLite(method="GFN2-xTB", accuracy=0.1, verbosity=0)
    BFGS(atoms, logfile=None).run(fmax=0.01, steps=500)
    thermalize_momenta(atoms, temperature_K=temperature, rng=rng)
    Stationary(atoms)
    ZeroRotation(atoms)
    thermostat = {"temperature_K": temperature, "friction": 0.01 / units.fs, "fixcm": False, "rng": rng}
    dynamics = Langevin(atoms, 0.5 * units.fs, **thermostat)
    dynamics.run(steps)
    return atoms, dynamics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1200, help="frames to keep")
    parser.add_argument("--stride", type=int, default=30, help="steps of 0.5 fs between frames")
    parser.add_argument("--equilibration", type=int, default=3000, help="steps before the first frame")
    parser.add_argument("--temperature", type=float, default=500.0, help="temperature in K")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("malonaldehyde_xtb.npz"))
    args = parser.parse_args()

    atoms, dynamics = equilibrated(args.temperature, args.equilibration, np.random.default_rng(args.seed))
    kcal = units.kcal / units.mol
    R, E, F = (np.empty((args.frames, *shape)) for shape in ((len(atoms), 3), (1,), (len(atoms), 3)))
    for frame in tqdm(range(args.frames), desc=f"malonaldehyde, {args.temperature:g} K", unit="frame"):
        dynamics.run(args.stride)
        R[frame] = atoms.get_positions() - atoms.get_center_of_mass()
        E[frame], F[frame] = atoms.get_potential_energy() / kcal, atoms.get_forces() / kcal
    write_npz(args.out, z=atoms.numbers, R=R, E=E, F=F, name="malonaldehyde", theory=THEORY)


if __name__ == "__main__":
    main()
