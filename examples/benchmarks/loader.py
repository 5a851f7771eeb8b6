"""Time of a mini-batch of StructureLoader against PyG's DataLoader, both in the same run.

    OMP_NUM_THREADS=1 python examples/benchmarks/loader.py
    python examples/benchmarks/loader.py --batch-size 32 --frames 2000 --json results/loader.json
    python examples/benchmarks/loader.py --device cuda       # ours assembled there, PyG's moved there

Epochs of both take turns, best of each; no time is given where a batch differs.
"""

import argparse
import importlib.metadata
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch_geometric.data import Data, InMemoryDataset
from torch_geometric.loader import DataLoader

from pyg_schnet.datasets import MD17, StructureLoader
from pyg_schnet.transforms import RadiusGraph


class Mixture(InMemoryDataset):
    """Molecules or crystals of 5 to 25 atoms."""

    def __init__(self, count: int, periodic: bool) -> None:
        super().__init__(None)
        graph = RadiusGraph(5.0)
        self.data, self.slices = self.collate([graph(self.structure(5 + n % 21, periodic)) for n in range(count)])

    def structure(self, atoms: int, periodic: bool) -> Data:
        """Atoms at random in a box."""
        side = (15.0 * atoms) ** (1 / 3)  # a box with 15 cubic Angstrom for each atom
        data = Data(z=torch.randint(1, 9, (atoms,)), pos=side * torch.rand(atoms, 3), energy=torch.rand(1).double())
        if periodic:
            data.cell, data.pbc = side * torch.eye(3)[None], torch.ones(1, 3, dtype=torch.bool)
        return data


def cases(root: str, frames: int) -> dict[str, InMemoryDataset]:
    """The datasets to measure."""
    ethanol = MD17(root, "ethanol_xtb", log=False)[:frames]
    count = min(frames, 500)
    return {
        "ethanol frames": ethanol,
        "ethanol frames, cached edges": MD17(root, "ethanol_xtb", pre_transform=RadiusGraph(5.0), log=False)[:frames],
        "5 to 25 atoms, cached edges": Mixture(count, False),
        "crystals, cached edges": Mixture(count, True),
    }


def epoch(loader: Callable, options: argparse.Namespace, dataset: InMemoryDataset) -> float:
    """Seconds for each batch of one epoch."""
    start, count = time.perf_counter(), 0
    for batch in loader(dataset):
        batch.to(options.device)
        count += 1
    if options.device != "cpu":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / count


def check(name: str, loaders: dict[str, Callable], dataset: InMemoryDataset) -> None:
    """Exit if the first batches are not the same."""
    torch.manual_seed(0)
    ours = next(iter(loaders["StructureLoader"](dataset))).to("cpu").to_dict()
    torch.manual_seed(0)
    pygs = next(iter(loaders["PyG DataLoader"](dataset))).to_dict()
    if list(ours) != list(pygs) or not all(torch.equal(ours[key], pygs[key]) for key in pygs):
        sys.exit(f"{name}: no times, because the batches differ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=32, help="structures in a batch")
    parser.add_argument("--frames", type=int, default=2000, help="structures of an epoch at most")
    parser.add_argument("--epochs", type=int, default=5, help="the best of so many is taken")
    parser.add_argument("--device", default="cpu", help="where the batches are wanted")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    torch.manual_seed(0)
    loaders: dict[str, Callable] = {
        "PyG DataLoader": lambda dataset: DataLoader(dataset, options.batch_size, shuffle=True),
        "StructureLoader": lambda dataset: StructureLoader(
            dataset, options.batch_size, shuffle=True, device=options.device
        ),
    }
    rows = []
    with tempfile.TemporaryDirectory() as root:
        for name, dataset in cases(root, options.frames).items():
            check(name, loaders, dataset)
            times = dict.fromkeys(loaders, float("inf"))
            for _ in range(options.epochs):
                for key, loader in loaders.items():
                    times[key] = min(times[key], epoch(loader, options, dataset))
            ratio = times["PyG DataLoader"] / times["StructureLoader"]
            printed = "".join(f"  {key} {1e3 * value:7.3f} ms" for key, value in times.items())
            print(f"{name:30}{printed}  {ratio:.1f}x faster", flush=True)
            rows.append({"case": name, "batch size": options.batch_size, "seconds": times, "ratio": ratio})
    machine = {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    if options.device != "cpu":
        machine["device"] = torch.cuda.get_device_name(options.device)
    versions = {name: importlib.metadata.version(name) for name in ("torch", "torch-geometric")}
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"machine": machine, "versions": versions, "cases": rows}, indent=1))


if __name__ == "__main__":
    main()
