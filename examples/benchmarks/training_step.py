"""Is the data a bottleneck? Steps of training with the loader against steps with a fixed batch.

    python examples/benchmarks/training_step.py

Both are timed in turns in one run, so that a busy machine slows both; the goal is a ratio of at most 1.15.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any

import torch

from pyg_schnet import SchNet
from pyg_schnet.datasets import MD17, QM9, MaterialsProject, StructureLoader
from pyg_schnet.training import PotentialTask, PropertyTask

CASES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "ethanol, energies and forces": (
        lambda root: MD17(root, "ethanol_xtb", log=False),
        PotentialTask,
        {"num_interactions": 3},
    ),
    "small molecules, energies": (
        lambda root: QM9(root, "bundled", log=False),
        lambda model: PropertyTask(model, "U0"),
        {"num_interactions": 6},
    ),
    "alloys, formation energies": (
        lambda root: MaterialsProject(root, "bundled", log=False),
        lambda model: PropertyTask(model, "formation_energy"),
        {"num_interactions": 6, "cutoff": 5.0, "num_gaussians": 50, "readout": "mean", "normalization": "mean"},
    ),
}


def step(task: Any, optimizer: torch.optim.Optimizer, batch: Any) -> None:
    loss = task.loss_on(batch)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def seconds(task: Any, optimizer: torch.optim.Optimizer, batches: Iterator[Any], steps: int) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        step(task, optimizer, next(batches))
    return (time.perf_counter() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="results/data", help="folder for data")
    parser.add_argument("--steps", type=int, default=15, help="steps in a turn")
    parser.add_argument("--turns", type=int, default=11)
    parser.add_argument("--json", help="file to write")
    args = parser.parse_args()
    results = {}
    for name, (make_dataset, make_task, sizes) in CASES.items():
        torch.manual_seed(0)
        dataset = make_dataset(args.root)
        task = make_task(SchNet.preset("jcp2018", filters="auto", **sizes))
        task.log = lambda *_, **__: None
        if isinstance(task, PropertyTask):
            task.check(dataset)
        optimizer = torch.optim.Adam(task.parameters(), lr=1e-4, fused=True)
        loader = StructureLoader(dataset, 32, shuffle=True, seed=0, drop_last=True)
        fresh = chain.from_iterable(repeat(loader))
        seconds(task, optimizer, fresh, 5)
        ratios, fixed_times = [], []
        for _ in range(args.turns):
            with_loader = seconds(task, optimizer, fresh, args.steps)
            # the same batches again, held in memory: other sizes would be another amount of work
            held = [next(fresh) for _ in range(args.steps)]
            fixed = seconds(task, optimizer, iter(held), args.steps)
            ratios.append(with_loader / fixed)
            fixed_times.append(fixed)
        results[name] = {"ratio": statistics.median(ratios), "fixed_ms": 1000 * statistics.median(fixed_times)}
        print(f"{name:32}{results[name]['fixed_ms']:8.1f} ms/step fixed, with loader {results[name]['ratio']:.3f}x")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"threads": torch.get_num_threads(), "torch": torch.__version__, "results": results}, file)


if __name__ == "__main__":
    main()
