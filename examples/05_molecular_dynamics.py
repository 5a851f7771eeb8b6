"""Molecular dynamics with a trained model: NVE at 300 K through ASE, and how well the energy is conserved.

    python examples/05_molecular_dynamics.py --run results/ethanol_xtb

The molecule is relaxed, brought to the temperature by a Langevin thermostat, then left alone. Writes ``nve.extxyz``,
``nve.json`` and ``nve.png`` into the folder of the run.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from ase import Atoms, units
from ase.io import write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import Stationary, ZeroRotation, thermalize_momenta
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from tqdm import tqdm

from pyg_schnet.analysis import energy_drift, energy_plot
from pyg_schnet.datasets import MD17
from pyg_schnet.models import read_header
from pyg_schnet.simulation.ase import SchNetCalculator


def at_temperature(atoms: Atoms, temperature: float, timestep: float, steps: int, seed: int) -> None:
    """Relax the molecule and equilibrate it."""
    BFGS(atoms, logfile=None).run(fmax=0.01, steps=200)
    rng = np.random.default_rng(seed)
    thermalize_momenta(atoms, temperature_K=temperature, rng=rng)
    thermostat = {"temperature_K": temperature, "friction": 0.02 / units.fs, "fixcm": False, "rng": rng}
    Langevin(atoms, timestep, **thermostat).run(steps)
    Stationary(atoms)
    ZeroRotation(atoms)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("results/ethanol_xtb"), help="folder of the training run")
    parser.add_argument("--root", default="results/data", help="folder for data")
    parser.add_argument("--temperature", type=float, default=300.0, help="in K")
    parser.add_argument("--picoseconds", type=float, default=2.0, help="length of the NVE run")
    parser.add_argument("--equilibration", type=float, default=0.5, help="length of the Langevin run in ps")
    parser.add_argument("--timestep", type=float, default=0.5, help="in fs")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    path = args.run / "model.safetensors"
    frame = MD17(args.root, read_header(path)["training"]["molecule"])[0]
    atoms = Atoms(frame.z.numpy(), frame.pos.numpy())
    # filters from tables: forces still are the exact derivative of the energy, in a fraction of the time
    atoms.calc = SchNetCalculator(path, args.device, torch.float64, frozen=True)
    timestep = args.timestep * units.fs
    at_temperature(atoms, args.temperature, timestep, round(args.equilibration * 1000 / args.timestep), args.seed)

    steps, frames, rows, start = round(args.picoseconds * 1000 / args.timestep), [], [], time.perf_counter()
    dynamics = VelocityVerlet(atoms, timestep)
    for step in tqdm(range(steps + 1), "NVE", unit="step", mininterval=1):
        if step:
            dynamics.run(1)
        rows.append((step * args.timestep / 1000, atoms.get_potential_energy(), atoms.get_kinetic_energy()))
        if step % 20 == 0:
            frames.append(atoms.copy())
    speed = steps / (time.perf_counter() - start)
    times, potential, kinetic = np.array(rows).T
    write(args.run / "nve.extxyz", frames)

    report = {
        "drift_mev_per_atom_per_ps": 1000 * energy_drift(times, potential + kinetic, len(atoms)),
        "mean_temperature_K": float(2 * kinetic.mean() / (units.kB * (3 * len(atoms) - 6))),  # neither moves nor turns
        "steps": steps,
        "steps_per_second": speed,
    }
    (args.run / "nve.json").write_text(json.dumps(report, indent=2))
    print(f"drift {report['drift_mev_per_atom_per_ps']:+.4f} meV/atom/ps at {report['mean_temperature_K']:.0f} K")
    print(f"{speed:.0f} steps/s")
    print(energy_plot(times, potential, kinetic, len(atoms), args.run / "nve.png"))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
