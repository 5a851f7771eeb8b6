"""Steps of training on properties: beside PyG's SchNet, and with the loader beside a fixed batch.

    python examples/benchmarks/training_step.py                      # one core, then two
    python examples/benchmarks/training_step.py --threads 1 --data FOLDER      # molecules of QM9, crystals of MP
    python examples/benchmarks/training_step.py --flush              # PyG's denormal numbers taken as zero

A step beside PyG's: properties of 32 structures, squared loss, gradients of all weights, Adam. Both networks have the
same weights, in float32, and see the same edges, which ours searches in each step and PyG's is handed. Structures are
those of ``systems.py``, or the first of the mirror in ``--data``. No times are given where gradients of the first step,
relative to their norm, are off those of the exact network in float64 by more than 1e-5.

Is the data a bottleneck? Steps with the loader are timed against steps with batches that are held in memory.

All are timed in turns in one run, so that a busy machine slows all. Of steps the best counts.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import torch
from common import machine, take_turns, write_figures
from peers import pyg_of
from systems import MOLECULES, System, crystals, molecules
from torch import Tensor

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

PAPERS = {"gamma": 10.0, "activate_last": True, "cutoff_function": None}
#: Structures and arguments of the networks beside PyG's: the papers' for molecules and crystals, and PyG's own.
BESIDE: dict[str, tuple[str, dict[str, Any]]] = {
    "32 molecules, F = 64, 200 Gaussians": (
        "qm9",
        {"hidden_channels": 64, "num_filters": 64, "num_gaussians": 200, "cutoff": 20.0, **PAPERS},
    ),
    "32 molecules, F = 128, 50 Gaussians": ("qm9", {"num_gaussians": 50, "cutoff": 10.0}),
    "32 crystals, F = 64, 50 Gaussians": (
        "materials_project",
        {"hidden_channels": 64, "num_filters": 64, "num_gaussians": 50, "cutoff": 5.0, **PAPERS},
    ),
}
#: The largest error of gradients with which times are given.
LIMIT = 1e-5


def system_of(kind: str, cutoff: float, data: Path | None) -> System:
    """So many structures, of the mirror if there is one."""
    if data is None:
        return molecules(MOLECULES, 32, cutoff) if kind == "qm9" else crystals(32, cutoff)
    dataset: Any = QM9 if kind == "qm9" else MaterialsProject
    batch = next(iter(StructureLoader(dataset(data / "processed", source=data / kind, log=False), 32, shuffle=True)))
    periodic = {} if kind == "qm9" else {"cell": batch.cell, "pbc": batch.pbc}
    return System(cutoff, batch.z, batch.pos, batch.batch, periodic)


def step_of(model: torch.nn.Module, system: System, call: Callable[[], Tensor]) -> Callable[[], None]:
    """A step of training."""
    labels = torch.linspace(-1, 1, 32).unsqueeze(1).to(system.pos)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        (call() - labels).square().mean().backward()
        optimizer.step()

    return step


def gradients_of(model: torch.nn.Module) -> Tensor:
    """Those of all weights after a step, in ascending order, as PyG's stand in another one."""
    every = [w.grad.flatten() for w in model.parameters() if w.grad is not None]
    return torch.cat(every).double().sort()[0]


def evaluation_of(model: torch.nn.Module, system: System) -> Callable[[], Tensor]:
    """Properties of the structures; PyG's SchNet has its edges and takes no cells."""
    single, periodic = (system.z, system.pos, system.batch), system.periodic if isinstance(model, SchNet) else {}
    return lambda: model(*single, **periodic)


def networks_of(sizes: dict[str, Any], system: System) -> dict[str, torch.nn.Module]:
    """Both networks with the same weights, and the exact one in float64."""
    torch.manual_seed(0)
    ours = SchNet(act="ssp-pyg", max_z=99, **sizes)
    exact = SchNet(act="ssp-pyg", max_z=99, filters="exact", **sizes).double()
    exact.load_state_dict(ours.state_dict())
    theirs = pyg_of(ours, system)
    edges = theirs.interaction_graph(system.pos, system.batch)
    theirs.interaction_graph.forward = lambda *_: edges
    return {"ours": ours, "pyg": theirs, "exact": exact}


def beside_pyg(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Steps of both, in turns."""
    rows = []
    for name, (kind, sizes) in BESIDE.items():
        system = system_of(kind, sizes["cutoff"], options.data)
        networks, edges = networks_of(sizes, system), system.graph().edge_index.size(1)
        given = {who: system.double() if who == "exact" else system for who in networks}
        steps = {who: step_of(one, given[who], evaluation_of(one, given[who])) for who, one in networks.items()}
        for step in steps.values():
            step()
        exact = gradients_of(networks["exact"])
        del steps["exact"]
        for who in steps:
            off = float((gradients_of(networks[who]) - exact).norm() / exact.norm())
            if not off <= LIMIT:
                sys.exit(f"{name}: no times, because gradients of {who} are off by {off:.1e}")
        for threads in options.threads:
            torch.set_num_threads(threads)
            times = {
                who: min(found) for who, found in take_turns(steps, options.repeats, "cpu", options.at_once).items()
            }
            row = {"case": name, "atoms": len(system.z), "edges": edges, "threads": threads}
            rows.append(row | {"seconds": times, "ratio": times["pyg"] / times["ours"]})
            print(
                f"{name:38}{len(system.z):6} atoms {edges:6} edges {threads:2} threads"
                f"{1000 * times['ours']:8.1f} ms, PyG's {1000 * times['pyg']:7.1f} ms, {rows[-1]['ratio']:5.1f} x",
                flush=True,
            )
    return rows


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


def beside_a_fixed_batch(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Steps with the loader and with batches that are held in memory, in turns."""
    rows = []
    for name, (make_dataset, make_task, sizes) in CASES.items():
        torch.manual_seed(0)
        dataset = make_dataset(options.root)
        task = make_task(SchNet.preset("jcp2018", filters="auto", **sizes))
        task.log = lambda *_, **__: None
        if isinstance(task, PropertyTask):
            task.check(dataset)
        optimizer = torch.optim.Adam(task.parameters(), lr=1e-4, fused=True)
        loader = StructureLoader(dataset, 32, shuffle=True, seed=0, drop_last=True)
        fresh = chain.from_iterable(repeat(loader))
        seconds(task, optimizer, fresh, 5)
        ratios, fixed_times = [], []
        for _ in range(options.turns):
            with_loader = seconds(task, optimizer, fresh, options.steps)
            # the same batches again, held in memory: other sizes would be another amount of work
            held = [next(fresh) for _ in range(options.steps)]
            fixed = seconds(task, optimizer, iter(held), options.steps)
            ratios.append(with_loader / fixed)
            fixed_times.append(fixed)
        row = {"case": name, "ratio": statistics.median(ratios), "fixed_ms": 1000 * statistics.median(fixed_times)}
        print(f"{name:32}{row['fixed_ms']:8.1f} ms/step fixed, with loader {row['ratio']:.3f}x", flush=True)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default="results/data", help="folder for data")
    parser.add_argument("--data", type=Path, help="folder with a mirror of qm9 and materials_project")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="numbers of threads beside PyG's")
    parser.add_argument("--repeats", type=int, default=20, help="turns of each network beside PyG's")
    parser.add_argument("--at-once", type=int, default=5, help="steps of a turn, one behind the other as in training")
    parser.add_argument("--steps", type=int, default=15, help="steps in a turn with the loader")
    parser.add_argument("--turns", type=int, default=11, help="turns with the loader, 0 for none")
    parser.add_argument("--flush", action="store_true", help="take denormal numbers as zero")
    parser.add_argument("--json", type=Path, help="file to write")
    options = parser.parse_args()
    torch.set_flush_denormal(options.flush)
    print(f"{platform_name()}, denormal numbers {'flushed' if options.flush else 'kept'}")
    facts = {"machine": machine("cpu") | {"processor": platform_name()}, "beside PyG": beside_pyg(options)}
    if options.turns:
        facts["with the loader"] = beside_a_fixed_batch(options)
    write_figures(options.json, facts)


def platform_name() -> str:
    """The processor as Linux knows it, else what Python says."""
    found = Path("/proc/cpuinfo")
    lines = found.read_text().splitlines() if found.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else str(machine("cpu")["processor"])


if __name__ == "__main__":
    main()
