"""What a carbon atom would feel around molecules and in crystals: figures 5 and 6 of the SchNet paper.

    python examples/11_local_chemical_potential.py

Writes into ``results/local_chemical_potential``:

- ``figure_5.png``: the local chemical potential on a surface around five molecules, by SchNet and by DTNN, both trained
  on QM9; ``figure_5.html``: the same to turn with the mouse, in one file that needs no network;
- ``figure_6.png``: cuts through graphite and diamond, by a SchNet trained on the Materials Project;
- ``benzene.cube``: the potential around benzene, for VMD, VESTA or Avogadro.

Expect the rings of benzene, toluene and pyrazine to stand out from all saturated carbon, the six-fold symmetry of
benzene and graphite, and more contrast from SchNet than from DTNN. The table has what carbon feels on
the surfaces, beyond what it is worth by itself: lowest, highest and standard deviation in eV, and the mean slope along
the surface in eV/Å; and how alike the two networks are.
"""

import argparse
import sys
from pathlib import Path

import torch
from ase.build import bulk
from ase.lattice.hexagonal import Graphite

from pyg_schnet import load
from pyg_schnet.analysis import (
    draw_potential_cuts,
    draw_potential_surfaces,
    potential_cut,
    potential_surface,
    potential_surface_page,
    write_potential_cube,
)
from pyg_schnet.analysis.figure import save_figure
from pyg_schnet.datasets import from_smiles
from pyg_schnet.simulation.ase import atoms_to_data

MOLECULES = {"benzene": "c1ccccc1", "toluene": "Cc1ccccc1", "methane": "C", "pyrazine": "c1cnccn1", "propane": "CCC"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schnet", help="model of molecules; a file or the folder of a run")
    parser.add_argument("--dtnn", help="another one, to compare")
    parser.add_argument("--crystals", help="model of crystals")
    parser.add_argument("--molecules", nargs="+", default=list(MOLECULES), help="names of the figure, or SMILES")
    parser.add_argument("--spacing", type=float, default=0.1, help="fineness of the surfaces in Angstrom")
    parser.add_argument("--resolution", type=float, default=0.05, help="fineness of the cuts in Angstrom")
    parser.add_argument("--out", type=Path, default=Path("results/local_chemical_potential"))
    args = parser.parse_args()

    models = {
        "DTNN": load(args.dtnn or "qm9-dtnn"),
        "SchNet": load(args.schnet or "qm9-schnet"),
    }
    molecules = {name: from_smiles(MOLECULES.get(name, name)) for name in args.molecules}
    rows = {
        model: {name: potential_surface(models[model], data, spacing=args.spacing) for name, data in molecules.items()}
        for model in models
    }
    print(f"{'':10}{'DTNN':^38}{'SchNet':^38}  same places:")
    print(f"{'':10}" + 2 * f"{'lowest':>9}{'highest':>9}{'spread':>9}{'slope':>9}  " + " correlation")
    for name in molecules:
        both = [rows[model][name] for model in models]
        felt = torch.stack([one.values - one.reference for one in both])
        numbers = [(*value.aminmax(), one.spread, one.steepness) for value, one in zip(felt, both, strict=True)]
        table = "  ".join("".join(f"{number:9.3f}" for number in row) for row in numbers)
        print(f"{name:10}{table}{torch.corrcoef(felt)[0, 1]:12.2f}")
    print(save_figure(draw_potential_surfaces(rows), args.out / "figure_5.png"))
    print(potential_surface_page(rows, args.out / "figure_5.html"))
    some, data = next(iter(molecules.items()))
    print(write_potential_cube(args.out / f"{some}.cube", models["SchNet"], data, spacing=max(0.2, args.spacing)))

    model = load(args.crystals or "materials-formation-energy")
    graphite = atoms_to_data(Graphite("C", latticeconstant={"a": 2.461, "c": 6.708}))
    diamond, fine = atoms_to_data(bulk("C", "diamond", 3.567, cubic=True)), {"resolution": args.resolution}
    cuts = {
        "graphite, in a layer": potential_cut(model, graphite, graphite.pos[0], [[1, 0, 0], [0, 1, 0]], **fine),
        "diamond, (110)": potential_cut(model, diamond, diamond.pos[0], [[1, -1, 0], [0, 0, 1]], **fine),
        "diamond, (100)": potential_cut(model, diamond, diamond.pos[0], [[0, 1, 0], [0, 0, 1]], **fine),
    }
    print(save_figure(draw_potential_cuts(cuts), args.out / "figure_6.png"))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
