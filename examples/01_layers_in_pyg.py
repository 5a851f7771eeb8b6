"""Compose CFConv with other PyG layers: a small network of your own that learns the energy of ethanol.

    python examples/01_layers_in_pyg.py

A continuous-filter convolution stands beside graph attention in one ``torch_geometric.nn.Sequential``. The data are
bundled with the package.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GATConv, Sequential, global_add_pool

from pyg_schnet import CFConv, FilterNetwork, GaussianSmearing, ShiftedSoftplus
from pyg_schnet.datasets import MD17, random_split
from pyg_schnet.ops import edge_vectors
from pyg_schnet.transforms import RadiusGraph
from pyg_schnet.units import conversion


class MyModel(nn.Module):
    """Embedding, CFConv, graph attention, CFConv, sum over the atoms."""

    def __init__(self, channels: int = 64, cutoff: float = 5.0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(100, channels)
        self.basis = GaussianSmearing(0.0, cutoff, num_gaussians=25)

        def conv() -> CFConv:
            return CFConv(channels, channels, channels, FilterNetwork(25, channels), cutoff)

        edges = "x, edge_index, edge_weight, edge_attr"
        self.layers = Sequential(
            edges,
            [
                (conv(), f"{edges} -> x"),
                (ShiftedSoftplus(), "x -> x"),
                (GATConv(channels, channels // 4, heads=4, edge_dim=25), "x, edge_index, edge_attr -> x"),
                (ShiftedSoftplus(), "x -> x"),
                (conv(), f"{edges} -> x"),
                (nn.Linear(channels, 1), "x -> x"),
            ],
        )

    def forward(self, z: Tensor, pos: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        """Energy of each molecule [B]."""
        distance = edge_vectors(pos, edge_index).norm(dim=-1)
        y = self.layers(self.embedding(z), edge_index, distance, self.basis(distance))
        return global_add_pool(y, batch).squeeze(-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="results/data", help="folder for processed data")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--frames", type=int, default=2000, help="frames to use")
    args = parser.parse_args()
    torch.manual_seed(0)

    dataset = MD17(f"{args.root}/graphs", "ethanol_xtb", pre_transform=RadiusGraph(cutoff=5.0))[: args.frames]
    split = random_split(len(dataset), num_train=len(dataset) * 3 // 4, num_val=0)
    train, test = dataset[split["train"]], dataset[split["test"]]
    mean = train.energy.mean()  # energies are float64: subtract the mean before float32 loses their digits

    model = MyModel()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(args.epochs):
        for batch in DataLoader(train, batch_size=32, shuffle=True):
            energy = model(batch.z, batch.pos, batch.edge_index, batch.batch)
            loss = nn.functional.mse_loss(energy, (batch.energy - mean).float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1:2d}  loss {loss.item():.4f} eV²", flush=True)

    batch = next(iter(DataLoader(test, batch_size=len(test))))
    with torch.no_grad():
        energy = model(batch.z, batch.pos, batch.edge_index, batch.batch) + mean
    kcal = conversion("eV", "kcal/mol")
    spread = float((batch.energy - mean).abs().mean()) * kcal
    error = float((batch.energy - energy).abs().mean()) * kcal
    print(f"mean absolute error {error:.2f} kcal/mol; always predicting the mean: {spread:.2f} kcal/mol")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
