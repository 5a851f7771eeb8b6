"""Crystals, slabs and molecules in one batch: exact periodic graphs and SchNet for materials.

    python examples/06_crystals.py

Builds graphs of diamond, graphite, a copper slab (periodic along two axes) and ethanol, shows how many neighbours their
atoms have, and predicts all of them with one SchNet; the weights are random. The last lines show that the choice of the
unit cell does not matter.
"""

import argparse
import sys
from pathlib import Path

import torch
from ase import Atoms
from ase.build import bulk, fcc111, graphene, molecule
from torch_geometric.loader import DataLoader

from pyg_schnet import Potential, SchNet, radius_graph
from pyg_schnet.simulation.ase import atoms_to_data
from pyg_schnet.transforms import RadiusGraph


def graphite() -> Atoms:
    """Two layers of graphene, stacked AB."""
    layer = graphene(a=2.46, vacuum=None)
    layer.set_cell([*layer.cell.array[:2], [0, 0, 6.7]])
    upper = layer.copy()
    upper.positions += (layer.cell[0] + 2 * layer.cell[1]) / 3 + [0, 0, 3.35]
    atoms = layer + upper
    atoms.pbc = True
    return atoms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cutoff", type=float, default=5.0, help="in Angstrom")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)

    structures = {
        "diamond": bulk("C", "diamond", a=3.567),
        "graphite": graphite(),
        "copper slab": fcc111("Cu", (2, 2, 3), vacuum=8.0),
        "ethanol": molecule("CH3CH2OH"),
    }
    print(f"{'':14}{'atoms':>6}{'periodic':>10}{'neighbours':>12}{'nearest':>10}")
    for name, atoms in structures.items():
        data = atoms_to_data(atoms)
        graph = radius_graph(data.pos, args.cutoff, cell=data.cell, pbc=data.pbc)
        source, target = graph.edge_index
        vectors = data.pos[source] - data.pos[target] + graph.edge_shift.to(data.pos.dtype) @ data.cell[0]
        axes = "".join(axis if periodic else "-" for axis, periodic in zip("abc", atoms.pbc, strict=True))
        degree = graph.rowptr.diff().double().mean()
        print(f"{name:14}{len(atoms):6}{axes:>10}{degree:12.1f}{vectors.norm(dim=1).min():8.3f} Å")

    # graphs can be made once, before training, and are collated like everything else
    model = SchNet.preset("jcp2018-materials", cutoff=args.cutoff).eval()
    potential, transform = Potential(model), RadiusGraph(args.cutoff)
    batch = next(iter(DataLoader([transform(atoms_to_data(atoms)) for atoms in structures.values()], batch_size=4)))
    out = potential(batch)
    print("\nenergy per atom", dict(zip(structures, (round(e, 6) for e in out["energy"].tolist()), strict=True)))

    crystal = structures["diamond"]
    for name, other in {
        "2x2x2 supercell": crystal.repeat(2),
        "cubic cell": bulk("C", "diamond", 3.567, cubic=True),
    }.items():
        difference = potential(atoms_to_data(other))["energy"] - potential(atoms_to_data(crystal))["energy"]
        print(f"{name} less primitive cell {difference.item():+.1e}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
