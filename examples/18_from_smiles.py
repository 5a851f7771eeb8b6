"""A molecule from its SMILES, with a model that comes with the package: relaxed, its vibrations, stable dynamics.

    python examples/18_from_smiles.py
    python examples/18_from_smiles.py "O=C(O)c1ccccc1" --picoseconds 10
    python examples/18_from_smiles.py CCO --model md17-ethanol

RDKit builds a start, the model relaxes it, its analytic Hessian gives wavenumbers, and a trajectory at constant energy
shows that the surface has no holes. Seconds, without a network. Writes ``modes.png``, ``dynamics.png``, ``relaxed.xyz``
and ``dynamics.extxyz``. The model knows neutral molecules of H, C, N, O and F as GFN2-xTB describes them; its card
(``pyg-schnet models organic-xtb``) has its errors.
"""

import argparse
import sys
import time
from pathlib import Path

from ase.io import write
from ase.units import kB

from pyg_schnet import load
from pyg_schnet.analysis import draw_spectrum, energy_drift, energy_plot, normal_modes, relaxed
from pyg_schnet.analysis.figure import save_figure
from pyg_schnet.datasets import from_smiles
from pyg_schnet.simulation import Dynamics, data_to_atoms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("smiles", nargs="?", default="CC(=O)NC", help="the molecule; N-methylacetamide by default")
    parser.add_argument("--model", default="organic-xtb", help="name, file or folder of a model of energies")
    parser.add_argument("--temperature", type=float, default=300.0, help="of the dynamics, in K")
    parser.add_argument("--picoseconds", type=float, default=5.0, help="length of the dynamics")
    parser.add_argument("--timestep", type=float, default=0.5, help="in fs")
    parser.add_argument("--out", type=Path, default=Path("results/from_smiles"), help="folder for results")
    args = parser.parse_args()

    started = time.perf_counter()
    model, start = load(args.model), from_smiles(args.smiles)
    minimum = relaxed(model, start)
    atoms = data_to_atoms(minimum)
    args.out.mkdir(parents=True, exist_ok=True)
    write(args.out / "relaxed.xyz", atoms)
    moved = float((minimum.pos - start.pos).norm(dim=1).max())
    print(f"{args.smiles}, {atoms.get_chemical_formula()}: relaxed, no atom moved farther than {moved:.2f} Å")

    modes = normal_modes(model, minimum)
    values = ", ".join(f"{value:.0f}" for value in modes.vibrations)
    print(f"{len(modes.vibrations)} vibrations: {values} cm^-1")
    print(save_figure(draw_spectrum(modes).figure, args.out / "modes.png"))

    # at the minimum there is no potential energy yet: half of twice the temperature will go there
    dynamics = Dynamics(model, atoms, timestep=args.timestep, temperature=2 * args.temperature, friction=0.0)
    steps, interval = round(1000 * args.picoseconds / args.timestep), 10
    record = dynamics.run(steps, interval=interval, trajectory=args.out / "dynamics.extxyz")
    times, potential, kinetic = record.time / 1000, record.potential[:, 0], record.kinetic[:, 0]
    kelvin = (
        2 * kinetic[len(times) // 5 :].mean() / (kB * (3 * len(atoms) - 6))
    )  # it neither moves nor turns as a whole
    drift = 1000 * energy_drift(times, record.total[:, 0], len(atoms))
    print(f"{args.picoseconds:g} ps at constant energy: {kelvin:.0f} K, drift {drift:+.4f} meV/atom/ps")
    print(energy_plot(times, potential, kinetic, len(atoms), args.out / "dynamics.png"))
    print(f"{time.perf_counter() - started:.1f} s in all")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
