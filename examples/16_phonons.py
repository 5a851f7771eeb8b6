"""Phonons of copper: a SchNet learns a potential from rattled cells, and both have their phonons computed.

    python examples/16_phonons.py

The potential is ASE's effective medium theory, which labels small strained and rattled cells in a second. The network
learns from them; then all displaced supercells that phonopy asks for are evaluated in one batch, and the potential is
asked for the same cells, one by one. Expect bands that agree to some per cent of the highest frequency, and heat
capacities on top of each other that rise to 3 k an atom. Writes ``phonons.png``.
"""

import argparse
import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from pyg_schnet import SchNet, analysis
from pyg_schnet.analysis.figure import ORANGE, blank_figure, save_figure
from pyg_schnet.simulation.ase import SchNetCalculator, atoms_to_data
from pyg_schnet.training import PotentialTask, SplitDataModule, fit


def rattled(seed: int) -> Atoms:
    """Eight or sixteen atoms of the crystal, strained and rattled, with energy, forces and stress."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Cu").repeat(2) if seed % 2 else bulk("Cu", cubic=True).repeat((2, 2, 1))
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, 0.02, (3, 3))), scale_atoms=True)
    atoms.positions += rng.normal(0, rng.uniform(0.01, 0.15), atoms.positions.shape)
    atoms.calc = EMT()
    atoms.get_stress()
    return atoms


def trained(args: argparse.Namespace) -> SchNet:
    """A network for the crystal."""
    data = [atoms_to_data(rattled(seed), labels=True) for seed in range(args.structures)]
    cut = len(data) * 9 // 10
    parts = SplitDataModule(data, {"train": range(cut), "val": range(cut, len(data))}, batch_size=8)
    model = SchNet(args.features, args.features, 2, num_gaussians=50, cutoff=5.0, cutoff_function="cosine")
    task = PotentialTask(model, rho=0.1, rho_stress=100.0, learning_rate=2e-3, schedule="cosine", warmup_steps=50)
    fit(task, parts, args.out / "run", max_steps=args.steps, validate_every=max(1, args.steps // 8))
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=int, default=300, help="to learn from")
    parser.add_argument("--steps", type=int, default=2000, help="of training")
    parser.add_argument("--features", type=int, default=64, help="feature maps F")
    parser.add_argument("--supercell", type=int, default=4, help="primitive cells along each lattice vector")
    parser.add_argument("--out", type=Path, default=Path("results/phonons"), help="folder for results")
    args = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=UserWarning, module="lightning")
    torch.manual_seed(0)

    model, figure, kept = trained(args), blank_figure(10.0, 3.4), []
    left, middle, right = figure.subplots(1, 3, width_ratios=[2, 0.8, 1.2])
    kelvin, mesh = np.linspace(2, 500, 60), [24] * 3
    for name, calculator, colour, style in (("EMT", EMT(), "black", "-"), ("SchNet", None, ORANGE, "--")):
        atoms = bulk("Cu")
        atoms.calc = calculator or SchNetCalculator(model, dtype=torch.float64)
        BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-5, steps=100)  # each at its own lattice constant
        phonon = analysis.phonons(model, atoms_to_data(atoms, torch.float64), args.supercell)
        if calculator:  # the same cells, by the potential itself
            cells = [Atoms(c.symbols, c.positions, cell=c.cell, pbc=True) for c in phonon.supercells_with_displacements]
            phonon.forces = [calculator.get_forces(cell) for cell in cells]
            phonon.produce_force_constants(show_drift=False)
            phonon.symmetrize_force_constants(show_drift=False)
        bands, capacity = analysis.phonon_bands(phonon), analysis.phonon_heat_capacity(phonon, kelvin, mesh)
        analysis.draw_phonon_bands(bands, left, colour=colour, style=style, label=name)
        analysis.draw_phonon_density(analysis.phonon_density(phonon, mesh), middle, colour=colour, style=style)
        right.plot(kelvin, capacity * 1000, style, color=colour, label=name)
        kept.append(bands.frequencies)
        constant, room = atoms.cell.cellpar()[0] * 2**0.5, np.interp(298.15, kelvin, capacity) / units.kB
        print(f"{name:7} a = {constant:.4f} Å, up to {bands.frequencies.max():.3f} THz, at 298 K {room:.4f} k an atom")
    apart = np.abs(kept[1] - kept[0])
    print(f"bands differ by {apart.mean():.3f} THz on average, {apart.max():.3f} at most")
    right.legend(frameon=False, loc="lower right")
    right.set(xlabel="temperature (K)", ylabel="heat capacity (meV/K)", xlim=(0, 500), ylim=(0, None))
    print(save_figure(figure, args.out / "phonons.png"))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
