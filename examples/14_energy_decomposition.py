"""Which atoms hold a molecule together? The contributions of the atoms to the energy, drawn on molecules.

    python examples/14_energy_decomposition.py

A SchNet's energy is a sum of contributions of the atoms. Most of a contribution is that of the element; what is left
once the single-atom values are taken off tells atoms of an element apart by their surroundings. Equivalent atoms, as
those of benzene, must have equal contributions, and all of them add up to the prediction, which the titles show. How
the energy is divided is the network's own choice: no label says so.
"""

import argparse
import sys
from pathlib import Path

from ase.build import molecule
from ase.collections import g2

from pyg_schnet import load
from pyg_schnet.analysis import draw_decomposition
from pyg_schnet.analysis.decomposition import BASELINES, energy_decomposition
from pyg_schnet.analysis.figure import panel_grid, save_figure
from pyg_schnet.simulation.ase import atoms_to_data
from pyg_schnet.units import SYMBOLS

MOLECULES = ("C6H6", "CH3CH2OH", "C4H4NH", "CH3COOH", "CH3CONH2", "CH3CN")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model of energies (default: the bundled one of QM9)")
    parser.add_argument("--molecules", nargs="+", default=MOLECULES, help=f"names in ASE, such as {g2.names[20]}")
    parser.add_argument("--less", choices=BASELINES, default="auto", help="what is taken off the contributions")
    parser.add_argument("--out", type=Path, default=Path("results/decomposition.png"))
    args = parser.parse_args()
    if unknown := set(args.molecules) - set(g2.names):
        raise ValueError(f"ASE has no molecule {', '.join(sorted(unknown))}; its names are in ase.collections.g2.names")
    model = load(args.model or "qm9-schnet")
    dtype = next(model.parameters()).dtype

    structures = {name: atoms_to_data(molecule(name), dtype) for name in args.molecules}
    found = {name: energy_decomposition(model, data, less=args.less) for name, data in structures.items()}
    most = max(float((one.contributions - one.baseline).abs().max()) for one in found.values())
    figure, panels = panel_grid(len(found), 4.3, 3.6)
    for panel, (name, one) in zip(panels, found.items(), strict=True):
        data = structures[name]
        draw_decomposition(one, data, panel, limits=(-most, most))  # the same colours in all panels
        title = f"{name}: {panel.get_title()}"
        panel.set_title(title, fontsize=8)
        print(title.replace("\n", ", "))
        shown = one.contributions - one.baseline
        for number in data.z.unique().tolist():
            values = shown[data.z == number]
            spread = f"{float(values.min()):8.3f} to {float(values.max()):7.3f} {one.unit}"
            print(f"  {len(values):2} {SYMBOLS[number]:2} {spread}")
    print(save_figure(figure, args.out))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
