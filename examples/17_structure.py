"""The structure of simulated matter: a cluster as in figure 8 of the paper, and a liquid.

    python examples/17_structure.py
    python examples/17_structure.py --c20 download

C20: distances of nearest neighbours, opposite atoms and all pairs, and the density of states, of the bundled frames
(GFN2-xTB, 500 K) and, with ``--c20``, of a classical simulation at 300 K with the force network of the paper (from a
folder or the internet). Bonds of the cage are about 1.45 Angstrom long; the pair distribution has four peaks, of the 3,
6, 6 and, in one, 3 and 1 atoms around each atom of a dodecahedron. The liquid: copper (ASE's EMT, since no bundled
network knows a liquid), whose atoms have some twelve neighbours, no order beyond a few shells, and diffuse. Figures and
trajectories go to ``results/structure``.
"""

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from ase.optimize import BFGS
from tqdm import tqdm

from pyg_schnet import SchNet
from pyg_schnet.analysis.figure import panel_grid, save_figure
from pyg_schnet.analysis.structure import structure_figures as figures
from pyg_schnet.analysis.structure.cluster_distances import cluster_distances
from pyg_schnet.analysis.structure.density_of_states import density_of_states
from pyg_schnet.analysis.structure.displacement import diffusion_coefficient, mean_square_displacement
from pyg_schnet.analysis.structure.radial_distribution import radial_distribution
from pyg_schnet.datasets import MD17
from pyg_schnet.simulation.ase import SchNetCalculator


def simulate(atoms: Atoms, path: Path, stages: list[tuple[float, int]], timestep: float) -> Path:
    """Langevin dynamics in stages of temperature and steps; every other frame of the last one goes to a file."""
    rng, frames, every = np.random.default_rng(0), [], 2
    thermalize_momenta(atoms, temperature_K=stages[0][0], rng=rng)
    for number, (temperature, count) in enumerate(stages, start=1):
        friction = 0.001 if number == len(stages) else 0.02  # in 1/fs; weak in the end, for narrow lines
        options = {"temperature_K": temperature, "friction": friction / units.fs, "fixcm": False, "rng": rng}
        dynamics, frames = Langevin(atoms, timestep * units.fs, **options), []
        for block in tqdm(range(count // every), f"{atoms.get_chemical_formula()}, {temperature:g} K", leave=False):
            dynamics.run(every)
            frames.append(atoms.copy())
            frames[-1].info["time_fs"] = (block + 1) * every * timestep
    write(path, frames)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--c20", help='folder with the C20 networks of the paper, or "download"')
    parser.add_argument("--root", default="results/data", help="folder for data")
    parser.add_argument("--picoseconds", type=float, default=10.0, help="length of the C20 run")
    parser.add_argument("--liquid", type=float, default=3.0, help="length of the run of the liquid in ps")
    parser.add_argument("--cells", type=int, default=3, help="cubic cells of copper along each axis")
    parser.add_argument("--out", type=Path, default=Path("results/structure"), help="folder for figures")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    bundled = MD17(args.root, "c20_xtb", log=False)
    runs, steps_between = {"GFN2-xTB, 500 K": bundled}, {"GFN2-xTB, 500 K": 8.0}  # every 8 fs, says the card
    if args.c20:
        model = SchNet.from_pretrained("c20-force", source=None if args.c20 == "download" else args.c20)
        cage = Atoms(bundled[0].z.numpy(), bundled[0].pos.numpy(), calculator=SchNetCalculator(model, frozen=True))
        BFGS(cage, logfile=None).run(fmax=0.001, steps=200)
        steps = round(args.picoseconds * 1000)
        runs["paper's network, 300 K"] = simulate(cage, args.out / "c20.xyz", [(300, steps // 10), (300, steps)], 1.0)
    distances = {name: cluster_distances(run, neighbors=3) for name, run in runs.items()}
    for name, found in distances.items():
        print(f"{name}, {found.frames} frames: mean, its error and width in Angstrom; highest peak")
        for kind in ("nearest", "diameter", "antipodal", "pair"):
            one = getattr(found, kind)
            print(f"  {kind:10s} {one.mean:.4f} ± {one.mean_error:.4f}  {one.deviation:.4f}  {one.peak:.2f}")
    save_figure(figures.draw_cluster_distributions(distances), args.out / "c20_distances.png")
    states = {name: density_of_states(run, steps_between.get(name), resolution=10) for name, run in runs.items()}
    save_figure(figures.draw_density_of_states(states).figure, args.out / "c20_states.png")

    copper = bulk("Cu", a=3.77, cubic=True).repeat(args.cells)
    copper.calc = EMT()
    path = simulate(copper, args.out / "copper.xyz", [(3000, 200), (1600, 100), (1600, round(args.liquid * 200))], 5.0)
    found, motion = radial_distribution(path, r_max=7.0), mean_square_displacement(path, drift=False)
    diffusion = diffusion_coefficient(motion)
    peak, first = float(found.r[found.g.argmax()]), float(found.coordination[found.r < 3.5][-1])
    print(f"liquid copper: g(r) peaks at {peak:.2f} Angstrom, {first:.1f} neighbours within 3.5 Angstrom")
    print(f"D = {diffusion.coefficient:.2f} ± {diffusion.error:.2f} Angstrom^2/ps")
    figure, (left, right) = panel_grid(2, width=4.6, height=3.4)
    figures.draw_radial_distribution(found, left, coordination=True)
    figures.draw_displacement(motion, right, fit=diffusion)
    save_figure(figure, args.out / "liquid_copper.png")


if __name__ == "__main__":
    main()
