"""Which pairs of atoms made the prediction? PyG's Explainer on a SchNet.

    python examples/09_explain.py

The network learns a property of random clusters of hydrogen, carbon and oxygen that by construction depends on one
kind of pairs alone, oxygen and hydrogen within 3 Angstrom. GNNExplainer then weighs the edges by what they contribute,
knowing nothing of this; its weights should single out the very pairs.
"""

import argparse

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.explain import Explainer, GNNExplainer
from torch_geometric.loader import DataLoader
from torchmetrics.functional.classification import binary_auroc
from tqdm import tqdm

from pyg_schnet import SchNet
from pyg_schnet.ops import edge_vectors
from pyg_schnet.transforms import RadiusGraph

CUTOFF = 4.0


class Explainable(nn.Module):
    """The SchNet in the form PyG's Explainer asks for: node features and edges in, prediction out."""

    def __init__(self, model: SchNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor, batch: Tensor) -> Tensor:
        """Property of each molecule [B, 1] from embedded atoms [N, F] and distances [E]."""
        edge_attr = self.model.basis(edge_weight)
        for interaction in self.model.interactions:
            x = x + interaction(x, edge_index, edge_weight, edge_attr)
        return self.model.readout(self.model.output(x), batch, int(batch.max()) + 1)


def true_pairs(z: Tensor, edge_index: Tensor, distance: Tensor) -> Tensor:
    """Whether an edge is one of those that count [E]."""
    kinds = z[edge_index].sort(dim=0).values
    return (kinds[0] == 1) & (kinds[1] == 8) & (distance < 3.0)


def cluster(atoms: int = 8) -> Data:
    """Atoms at random places, and the property to learn: a sum over the pairs that count."""
    pos = torch.empty(0, 3)
    while len(pos) < atoms:
        new = 4.5 * torch.rand(1, 3)
        if (torch.cdist(pos, new) > 0.9).all():
            pos = torch.cat([pos, new])
    data = RadiusGraph(CUTOFF)(Data(z=torch.tensor([1, 6, 8])[torch.randint(3, (atoms,))], pos=pos))
    data.distance = edge_vectors(pos, data.edge_index).norm(dim=1)
    near = true_pairs(data.z, data.edge_index, data.distance)
    data.y = torch.where(near, (3.0 - data.distance) ** 2, 0.0).sum().view(1, 1)
    return data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clusters", type=int, default=2000, help="clusters to learn from")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--explained", type=int, default=10, help="clusters to explain")
    args = parser.parse_args()
    torch.manual_seed(0)
    train, unseen = ([cluster() for _ in range(count)] for count in (args.clusters, args.explained))
    model = Explainable(SchNet(32, 32, 1, 20, CUTOFF))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in tqdm(range(args.epochs), desc="epochs", leave=False):
        for batch in DataLoader(train, batch_size=32, shuffle=True):
            x = model.model.embedding(batch.z)
            loss = nn.functional.mse_loss(model(x, batch.edge_index, batch.distance, batch.batch), batch.y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    explainer = Explainer(
        model.eval(),
        algorithm=GNNExplainer(epochs=200, lr=0.05, edge_size=0.05),
        explanation_type="model",
        edge_mask_type="object",
        model_config={"mode": "regression", "task_level": "graph", "return_type": "raw"},
    )
    weights, truth = [], []
    for data in tqdm(unseen, desc="explaining", leave=False):
        x, batch = model.model.embedding(data.z).detach(), torch.zeros_like(data.z)
        weights.append(explainer(x, data.edge_index, edge_weight=data.distance, batch=batch).edge_mask)
        truth.append(true_pairs(data.z, data.edge_index, data.distance))
    weight, near = torch.cat(weights), torch.cat(truth)
    print(f"mean weight of the pairs that count {weight[near].mean():.2f}, of all others {weight[~near].mean():.2f}")
    print(f"probability that a pair that counts outweighs another (ROC): {binary_auroc(weight, near.int()):.3f}")


if __name__ == "__main__":
    main()
