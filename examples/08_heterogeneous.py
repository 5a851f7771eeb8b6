"""CFConv on heterogeneous and bipartite graphs: a molecule over a metal surface.

    python examples/08_heterogeneous.py

Adsorbate and surface are node types of their own. Each of the three relations (within the adsorbate, within the
periodic slab, from surface to adsorbate) has its own continuous filters in a ``HeteroConv``; the last one is bipartite.
The network learns the energy of CO over copper at random heights and tilts from ASE's effective medium theory.
"""

import argparse

import torch
from ase import Atoms
from ase.build import fcc111
from ase.calculators.emt import EMT
from torch import Tensor, nn
from torch_geometric.data import HeteroData
from torch_geometric.loader import DataLoader
from torch_geometric.nn import HeteroConv, global_add_pool
from tqdm import tqdm

from pyg_schnet import CFConv, FilterNetwork, GaussianSmearing, ShiftedSoftplus, radius_graph
from pyg_schnet.ops import edge_vectors
from pyg_schnet.simulation.ase import atoms_to_data

CUTOFF, CHANNELS = 5.0, 32
RELATIONS = [("adsorbate", "near", "adsorbate"), ("surface", "near", "surface"), ("surface", "below", "adsorbate")]


def structure(height: float, tilt: float) -> HeteroData:
    """CO at this height (Angstrom) over a slab of copper, with its energy in eV."""
    slab, molecule = fcc111("Cu", (2, 2, 3), vacuum=8.0), Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.13]])
    molecule.rotate(tilt, "x")
    molecule.translate(slab.positions[-1] + [0, 0, height])
    atoms = slab + molecule
    atoms.calc = EMT()
    plain, first = atoms_to_data(atoms), len(slab)  # atoms of the adsorbate begin at `first`
    graph, data = radius_graph(plain.pos, CUTOFF, cell=plain.cell, pbc=plain.pbc), HeteroData()
    distance = edge_vectors(plain.pos, graph.edge_index, graph.edge_shift, plain.cell).norm(dim=1)
    for kind, z in (("surface", plain.z[:first]), ("adsorbate", plain.z[first:])):
        data[kind].z, data[kind].num_nodes = z, len(z)
    source, target = graph.edge_index
    for relation in RELATIONS:
        here = [(side < first) == (kind == "surface") for side, kind in ((source, relation[0]), (target, relation[2]))]
        chosen = here[0] & here[1]
        start = torch.tensor([[0 if kind == "surface" else first] for kind in (relation[0], relation[2])])
        data[relation].edge_index = graph.edge_index[:, chosen] - start
        data[relation].edge_weight = distance[chosen]
    data.y = torch.tensor([atoms.get_potential_energy()], dtype=torch.float32)
    return data


class SurfaceModel(nn.Module):
    """Two rounds of convolutions, then the energy from the adsorbate's atoms."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.basis = nn.Embedding(100, CHANNELS), GaussianSmearing(0.0, CUTOFF, 25)
        self.act, self.head = ShiftedSoftplus(), nn.Linear(CHANNELS, 1)

        def conv() -> CFConv:
            return CFConv(CHANNELS, CHANNELS, CHANNELS, FilterNetwork(25, CHANNELS), CUTOFF, normalization="smooth")

        self.rounds = nn.ModuleList(HeteroConv({relation: conv() for relation in RELATIONS}) for _ in range(2))

    def forward(self, data: HeteroData) -> Tensor:
        """Energy of each structure [B]."""
        x = {kind: self.embedding(data[kind].z) for kind in ("surface", "adsorbate")}
        edge_attr = {relation: self.basis(weight) for relation, weight in data.edge_weight_dict.items()}
        for convolve in self.rounds:
            change = convolve(x, data.edge_index_dict, edge_weight_dict=data.edge_weight_dict, edge_attr_dict=edge_attr)
            x = {kind: x[kind] + self.act(change[kind]) for kind in x}
        return global_add_pool(self.head(x["adsorbate"]), data["adsorbate"].batch).squeeze(-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=int, default=240)
    parser.add_argument("--epochs", type=int, default=40)
    args = parser.parse_args()
    torch.manual_seed(0)
    places = (torch.rand(args.structures, 2) * torch.tensor([2.5, 60.0]) + torch.tensor([1.6, 0.0])).tolist()
    data = [structure(height, tilt) for height, tilt in tqdm(places, desc="structures", leave=False)]
    train, test = data[: len(data) * 3 // 4], data[len(data) * 3 // 4 :]
    mean = torch.cat([one.y for one in train]).mean()
    model = SurfaceModel()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in tqdm(range(args.epochs), desc="epochs", leave=False):
        for batch in DataLoader(train, batch_size=16, shuffle=True):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(batch), batch.y - mean).backward()
            optimizer.step()
    (batch,) = DataLoader(test, batch_size=len(test))
    error, spread = (model(batch) + mean - batch.y).abs().mean(), batch.y.std()
    print(f"mean absolute error {1000 * error:.0f} meV on unseen structures; their spread {1000 * spread:.0f} meV")


if __name__ == "__main__":
    main()
