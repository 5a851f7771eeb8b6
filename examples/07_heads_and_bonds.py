"""A head of your own: SchNet's geometry and RDKit's bonds fused, read out by Set2Set.

    python examples/07_heads_and_bonds.py

Molecules come from SMILES strings; RDKit gives them three dimensions, bonds, and a property to learn (the molar
refractivity of Wildman and Crippen). SchNet's features of the atoms meet a graph attention over the bonds; Set2Set
makes one vector of each molecule. The same network without bonds stands beside it.
"""

import argparse
import sys
from pathlib import Path

import torch
from rdkit.Chem import Crippen, MolFromSmiles
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GATv2Conv
from torch_geometric.nn.aggr import Set2Set
from tqdm import tqdm

from pyg_schnet import SchNet
from pyg_schnet.datasets import from_smiles, random_split

HEADS = ["C", "CC", "N", "O", "F", "Cl", "CO", "CN", "c1ccccc1", "C1CC1", "C#N", "CS"]
MIDDLES = ["C", "CC", "C(C)", "C=C", "c1ccc(cc1)", "C(=O)", "C(=O)N", "CC(O)", "COC", "C#C"]


class FusedModel(nn.Module):
    """SchNet's features, optionally attention over chemical bonds, Set2Set, a small network."""

    def __init__(self, bonds: bool, channels: int = 48) -> None:
        super().__init__()
        self.schnet = SchNet(channels, channels, 2, 25, cutoff=5.0)
        self.bond_type = nn.Embedding(32, 8) if bonds else None
        self.attention = GATv2Conv(channels, channels // 4, heads=4, edge_dim=8)
        self.pool = Set2Set(channels, processing_steps=3)
        self.head = nn.Sequential(nn.Linear(2 * channels, channels), nn.SiLU(), nn.Linear(channels, 1))

    def forward(self, batch: Batch) -> Tensor:
        """Property of each molecule [B]."""
        x = self.schnet.features(batch.z, batch.pos, batch.batch)  # [N, F] from distances
        if self.bond_type is not None:
            x = x + self.attention(x, batch.edge_index, self.bond_type(batch.edge_attr[:, 0]))  # along bonds
        return self.head(self.pool(x, batch.batch)).squeeze(-1)


def molecules(count: int) -> list[Data]:
    """Molecules put together from pieces, with their molar refractivity."""
    smiles = [f"{head}{middle}{tail}" for head in HEADS for middle in MIDDLES for tail in ("C", "O", "N", "CCl", "CF")]
    valid = sorted({one for one in smiles if MolFromSmiles(one) is not None})
    chosen = [valid[i] for i in torch.randperm(len(valid))[:count].tolist()]
    data = [from_smiles(one) for one in tqdm(chosen, desc="conformers", leave=False)]
    for one in data:
        one.y = torch.tensor([Crippen.MolMR(MolFromSmiles(one.smiles))])
    return data


def learn(model: nn.Module, train: list[Data], test: list[Data], epochs: int) -> float:
    """Train; return the mean absolute error on the test set."""
    y = torch.cat([one.y for one in train])
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in tqdm(range(epochs), desc="epochs", leave=False):
        for batch in DataLoader(train, batch_size=32, shuffle=True):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(batch), (batch.y - y.mean()) / y.std()).backward()
            optimizer.step()
    batch = Batch.from_data_list(test)
    with torch.no_grad():
        return float((model(batch) * y.std() + y.mean() - batch.y).abs().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=40)
    args = parser.parse_args()
    torch.manual_seed(0)
    data = molecules(args.molecules)
    split = random_split(len(data), num_train=len(data) * 3 // 4, num_val=0)
    train, test = ([data[i] for i in split[name].tolist()] for name in ("train", "test"))
    spread = float(torch.cat([one.y for one in test]).std())
    print(f"{len(train)} molecules to learn from, {len(test)} unseen, their standard deviation {spread:.2f}")
    for name, bonds in (("distances", False), ("distances and bonds", True)):
        print(f"{name:22} mean absolute error {learn(FusedModel(bonds), train, test, args.epochs):.2f}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
