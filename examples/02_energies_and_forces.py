"""Energies and forces of SchNet: many molecules in one call, checked against finite differences and PyG's SchNet.

    python examples/02_energies_and_forces.py

The weights are random: this example is about calls and correctness. Train in the next one.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch_geometric.data import Batch, Data

from pyg_schnet import Potential, SchNet
from pyg_schnet.convert import to_pyg

WATER = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]]))
METHANE = Data(
    z=torch.tensor([6, 1, 1, 1, 1]),
    pos=torch.tensor(
        [[0.0, 0, 0], [0.63, 0.63, 0.63], [-0.63, -0.63, 0.63], [0.63, -0.63, -0.63], [-0.63, 0.63, -0.63]]
    ),
)
HELIUM = Data(z=torch.tensor([2]), pos=torch.zeros(1, 3))


def force_by_differences(potential: Potential, data: Data, step: float = 1e-4) -> torch.Tensor:
    """Forces [N, 3] from energies at displaced positions."""
    forces = torch.zeros_like(data.pos)
    for atom in range(data.num_nodes):
        for axis in range(3):
            energies = []
            for sign in (1, -1):
                pos = data.pos.clone()
                pos[atom, axis] += sign * step
                energies.append(potential(data.z, pos)["energy"].item())
            forces[atom, axis] = -(energies[0] - energies[1]) / (2 * step)
    return forces


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="jcp2018", choices=["jcp2018", "pyg"])
    args = parser.parse_args()
    torch.manual_seed(0)
    for data in (WATER, METHANE, HELIUM):
        data.pos = data.pos.double()

    model = SchNet.preset(args.preset).double().eval()
    potential = Potential(model)
    batch = Batch.from_data_list([WATER, METHANE, HELIUM])
    out = potential(batch)
    print("energy (eV)       ", [round(energy, 6) for energy in out["energy"].tolist()])
    print("largest force     ", f"{out['forces'].abs().max():.4f} eV/Å")
    print("sum of all forces ", f"{out['forces'].sum(dim=0).abs().max():.1e} eV/Å")

    single = torch.cat([potential(data)["energy"] for data in (WATER, METHANE, HELIUM)])
    print("batch less singles", f"{(out['energy'] - single).abs().max():.1e} eV")
    numerical = force_by_differences(potential, METHANE)
    print("finite differences", f"{(potential(METHANE)['forces'] - numerical).abs().max():.1e} eV/Å")
    if args.preset == "pyg":
        theirs = to_pyg(model)(batch.z, batch.pos, batch.batch).squeeze(-1)
        print("PyG's SchNet      ", f"{(out['energy'] - theirs).abs().max():.1e} eV")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
