"""Step after step of one small molecule, and of training on small batches: recorded steps against ordinary ones.

    OMP_NUM_THREADS=1 python examples/benchmarks/recorded.py
    python examples/benchmarks/recorded.py --device cuda --json results/recorded.json
    python examples/benchmarks/recorded.py --quick                         # small networks, few steps

On a GPU recorded steps are CUDA graphs; on a CPU the same function of fixed shape is called instead, so there the
figures tell what fixed shapes and the skin list cost or save, nothing more. Dynamics: energies and forces of aspirin,
whose atoms move by 0.01 Angstrom a step, by the ordinary potential and by the recorded one, with exact and with frozen
filters, and by PyG's SchNet with the same weights, which is handed finished edges. Training: a step on energies and
forces of 32 molecules with Adam. The network is PyG's default (128 features and filters, 6 interactions, 50 Gaussians),
float32. Ways take turns, the median of each counts; no times are given where results disagree.
"""

import argparse
import importlib.metadata
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from pyg_schnet import Potential, SchNet, radius_graph
from pyg_schnet.convert import to_pyg
from pyg_schnet.datasets import from_smiles
from pyg_schnet.ops import gradient
from pyg_schnet.simulation import RecordedPotential
from pyg_schnet.training import PotentialTask, RecordedTraining

ASPIRIN, ETHANOL = "CC(=O)Oc1ccccc1C(=O)O", "CCO"
#: Largest differences, relative to the norms, with which times are given: those of float32 and of tables.
LIMIT = 1e-3
Step = Callable[[Tensor], dict[str, Tensor]]


def model_of(quick: bool, device: str) -> SchNet:
    """The network."""
    torch.manual_seed(0)
    sizes = {"hidden_channels": 16, "num_filters": 16, "num_interactions": 2} if quick else {}
    return SchNet(cutoff=10.0, act="ssp-pyg", max_z=99, **sizes).to(device)


class AllPairs(nn.Module):
    """An interaction graph for PyG's SchNet that has its edges already: all atoms see each other."""

    def __init__(self, pos: Tensor) -> None:
        super().__init__()
        self.edge_index = radius_graph(pos, 1e3).edge_index

    def forward(self, pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Edges and distances."""
        return self.edge_index, (pos[self.edge_index[0]] - pos[self.edge_index[1]]).norm(dim=-1)


def step_of_pyg(model: SchNet, z: Tensor, pos: Tensor) -> Step:
    """PyG's SchNet with the weights."""
    theirs = to_pyg(model).requires_grad_(False)
    theirs.interaction_graph = AllPairs(pos)

    def step(pos: Tensor) -> dict[str, Tensor]:
        moving = pos.detach().requires_grad_()
        energy = theirs(z, moving).squeeze(-1)
        return {"energy": energy.detach(), "forces": -gradient(energy, moving)}

    return step


def dynamics(options: argparse.Namespace) -> dict[str, Any]:
    """Steps of aspirin."""
    data = from_smiles(ASPIRIN).to(options.device)
    ways: dict[str, Step] = {"PyG": step_of_pyg(model_of(options.quick, options.device), data.z, data.pos)}
    for kind in ("exact", "frozen"):
        model = model_of(options.quick, options.device).eval()
        potential = Potential(model.freeze() if kind == "frozen" else model)
        ways[kind] = lambda pos, potential=potential: potential(data.z, pos)
        ways[f"{kind}, recorded"] = RecordedPotential(model, data.z)
    walk = 0.01 * torch.randn(options.steps, *data.pos.shape, generator=torch.Generator().manual_seed(0))
    walk = data.pos + walk.cumsum(0).to(options.device)
    found = {name: [step(pos) for pos in walk[:6]] for name, step in ways.items()}  # warm-up, too
    off = {name: max(map(difference, results, found["exact"])) for name, results in found.items()}
    return measured("aspirin, energies and forces", ways, list(walk), options, off)


def difference(result: dict[str, Tensor], reference: dict[str, Tensor]) -> float:
    """Relative difference of the forces."""
    return float((result["forces"] - reference["forces"]).norm() / reference["forces"].norm())


def training(name: str, smiles: str, options: argparse.Namespace) -> dict[str, Any]:
    """Steps of training on 32 copies of a molecule with displaced atoms, recorded and ordinary ones."""
    generator, data = torch.Generator().manual_seed(0), from_smiles(smiles)
    batches = []
    for _ in range(4):
        shaken = [data.pos + 0.05 * torch.randn(data.pos.shape, generator=generator) for _ in range(options.count)]
        labels = [
            {"energy": torch.randn(1, generator=generator), "forces": torch.randn(data.pos.shape)} for _ in shaken
        ]
        batch = [Data(z=data.z, pos=pos, **label) for pos, label in zip(shaken, labels, strict=True)]
        batches.append(Batch.from_data_list(batch).to(options.device))
    ways: dict[str, Callable[[Any], Tensor]] = {}
    for filters in ("exact", "table"):
        tasks = [PotentialTask(model_of(options.quick, options.device)) for _ in range(2)]
        for task in tasks:
            task.model.filters, task.log = filters, lambda *_, **__: None
        first, second = (torch.optim.Adam(task.parameters(), lr=1e-4, fused=True) for task in tasks)
        ways[filters] = ordinary(tasks[0], first)
        ways[f"{filters}, recorded"] = RecordedTraining(tasks[1], second)
    losses = {way: [float(step(batch)) for batch in batches * 2] for way, step in ways.items()}  # warm-up, too
    off = {way: abs(found[-1] / losses["exact"][-1] - 1) for way, found in losses.items()}
    return measured(f"training on {options.count} times {name}", ways, batches, options, off)


def ordinary(task: PotentialTask, optimizer: torch.optim.Optimizer) -> Callable[[Any], Tensor]:
    """The step that Lightning makes."""

    def step(batch: Any) -> Tensor:
        loss = task.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def measured(
    case: str, ways: dict[str, Any], inputs: list[Any], options: argparse.Namespace, off: dict[str, float]
) -> dict[str, Any]:
    """Medians of the times of a step; exits if results disagree."""
    if not all(error < LIMIT for error in off.values()):
        sys.exit(f"{case}: no times, because the results disagree: {off}")
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(options.repeats):
        for way, step in ways.items():
            wait(options.device)
            start = time.perf_counter()
            for one in inputs:
                step(one)
            wait(options.device)
            taken[way].append((time.perf_counter() - start) / len(inputs))
    seconds = {way: statistics.median(times) for way, times in taken.items()}
    print(case)
    for way, time_of_step in seconds.items():
        print(f"  {way:18}{1e3 * time_of_step:10.3f} ms {1 / time_of_step:10.1f} steps/s   difference {off[way]:.1e}")
    return {"case": case, "seconds": seconds, "difference": off}


def wait(device: str) -> None:
    """For the GPU."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--steps", type=int, default=100, help="steps of aspirin in a turn")
    parser.add_argument("--count", type=int, default=32, help="molecules in a batch")
    parser.add_argument("--repeats", type=int, default=7, help="turns")
    parser.add_argument("--quick", action="store_true", help="small networks, few steps")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    if options.quick:
        options.steps, options.count, options.repeats = 10, 4, 2
    rows = [dynamics(options), training("ethanol", ETHANOL, options), training("aspirin", ASPIRIN, options)]
    machine = (
        torch.cuda.get_device_name() if options.device.startswith("cuda") else f"{torch.get_num_threads()} threads"
    )
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        versions = {name: importlib.metadata.version(name) for name in ("torch", "torch_geometric")}
        options.json.write_text(json.dumps({"machine": machine, "versions": versions, "cases": rows}, indent=1))


if __name__ == "__main__":
    main()
