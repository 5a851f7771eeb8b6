"""Normal modes of ethanol, or of the fullerene C20 with the network of the paper (figure 7).

    python examples/15_normal_modes.py
    python examples/15_normal_modes.py --c20 /work/data      # folder with the paper's C20 networks, and C20.xyz

The molecule is relaxed with the model, its Hessian is analytic, rigid motions are projected out. Prints wavenumbers,
their degeneracies, zero-point energy and thermochemistry; writes ``modes.png``, ``modes.json`` and films of the softest
and the stiffest mode in extended xyz. Expect the O-H stretch of ethanol alone at the top, the C-H stretches below it, a
gap of more than a thousand cm^-1, the bends, and the torsions at the bottom; the degeneracies of C20, one and two, are
those of its point group D3d, which the network has found by itself.
"""

import argparse
import json
import sys
from itertools import pairwise
from pathlib import Path

from ase.build import molecule
from ase.io import read

from pyg_schnet import SchNet, load
from pyg_schnet.analysis import draw_spectrum, infrared_intensities, normal_modes, relaxed, write_animation
from pyg_schnet.analysis.figure import save_figure
from pyg_schnet.simulation.ase import atoms_to_data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="another model of energies than the bundled one of ethanol")
    parser.add_argument("--structure", type=Path, help="another molecule than ethanol, any file of ASE")
    parser.add_argument("--dipole", type=Path, help="a model with a dipole readout, for infrared intensities")
    parser.add_argument("--c20", type=Path, metavar="FOLDER", help="the paper's network of C20 in this folder")
    parser.add_argument("--temperature", type=float, default=298.15, help="in K")
    parser.add_argument("--width", type=float, default=10.0, help="of a line, in cm^-1")
    parser.add_argument("--out", type=Path, default=Path("results/normal_modes"), help="folder for results")
    args = parser.parse_args()

    model = SchNet.from_pretrained("c20-force", source=args.c20) if args.c20 else None
    model = model or load(args.model or "md17-ethanol")
    if args.structure or args.c20:
        atoms = read(args.structure or next(args.c20.rglob("C20.xyz")))
    else:
        atoms = molecule("CH3CH2OH")
    minimum = relaxed(model, atoms_to_data(atoms))
    modes = normal_modes(model, minimum)
    print(modes)
    levels = modes.levels(tolerance=1.0)
    print("\nlevels", ", ".join(f"{value:.0f} x {count}" if count > 1 else f"{value:.0f}" for value, count in levels))
    values = [value for value, _ in levels]
    below, above = max(pairwise(values), key=lambda pair: pair[1] - pair[0])
    print(f"from {values[0]:.1f} to {values[-1]:.1f} cm^-1, largest gap between {below:.1f} and {above:.1f} cm^-1")

    kelvin, kcal = args.temperature, 23.060548
    report = {
        "energy_eV": modes.energy,
        "largest_force_eV_per_Ang": modes.largest_force,
        "levels_cm": levels,
        "largest_gap_cm": [below, above],
        "zero_point_energy_eV": modes.zero_point_energy,
        "heat_capacity_cal_per_mol_K": 1000 * kcal * modes.heat_capacity(kelvin),
        "entropy_cal_per_mol_K": 1000 * kcal * modes.entropy(kelvin),
    }
    print(f"at {kelvin:g} K: heat capacity {report['heat_capacity_cal_per_mol_K']:.2f}, entropy of vibration "
          f"{report['entropy_cal_per_mol_K']:.2f} cal/mol/K")  # fmt: skip
    intensities = infrared_intensities(modes, load(args.dipole), minimum) if args.dipole else None
    axes = draw_spectrum(modes, intensities=intensities, width=args.width)
    axes.set_title(f"{atoms.get_chemical_formula()}, {len(modes.vibrations)} vibrations", loc="left", fontsize="medium")
    print(save_figure(axes.figure, args.out / "modes.png"))
    for name, mode in (("softest", int(modes.rigid.sum())), ("stiffest", -1)):
        print(write_animation(modes, mode, args.out / f"{name}.xyz", temperature=kelvin))
    (args.out / "modes.json").write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
