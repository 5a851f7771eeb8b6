"""Time and memory of energies and forces with frozen filters, against exact ones and PyG's SchNet.

    OMP_NUM_THREADS=1 python examples/benchmarks/inference.py
    python examples/benchmarks/inference.py --threads 2 --repeats 20 --json results/inference.json
    python examples/benchmarks/inference.py --basis papers                 # 10 Gaussians per Angstrom, gamma 10
    python examples/benchmarks/inference.py --cases --scaling --plot results/inference.png   # cost against atoms
    python examples/benchmarks/inference.py --compiled                     # PyG's SchNet under torch.compile, too
    python examples/benchmarks/inference.py --quick                        # small systems, few repeats

The network is PyG's default (128 features and filters, 6 interactions, 50 Gaussians, cosine cutoff), float32, the same
weights in all. A molecule sees all its atoms, a water molecule some 60 neighbours. Our times include the search of the
neighbours, PyG's do not: it is handed finished edges. The models take turns, the median of each counts. Memory is the
peak of the process beyond what it held before, model and input included, each in a process of its own (Linux). Errors
are norms of differences relative to norms of the exact model in float64, energies and forces; no times are given where
results disagree. Of boxes of more than 5000 atoms the reference is the frozen model in float64, for lack of memory.

PyG's Gaussians far from a distance are denormal numbers, with which processors compute some ten times slower; ours are
zero. All times are thus given a second time with such numbers taken as zero by the processor, which helps PyG only.
"""

import argparse
import importlib.metadata
import json
import logging
import math
import multiprocessing
import platform
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pyg_schnet import Potential, SchNet, radius_graph
from pyg_schnet.analysis.figure import BLUE, GREY, ORANGE, new_figure, save_figure
from pyg_schnet.datasets import from_smiles
from pyg_schnet.models.convert import to_pyg
from pyg_schnet.ops import edge_vectors, gradient

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
#: Molecules of 18 atoms, the mean of QM9, nine of them heavy at most.
MOLECULES = ("CCc1ccccc1", "COc1ccccc1N", "CC1CCOC(=O)C1", "CC1=CC(=O)CCC1", "CN1CCOCC1", "NC(=O)c1ccc(N)cc1")
CASES = ("256 molecules", "water", "aspirin")
#: Cutoff of the box of water in Angstrom, and distance of its molecules at 1 g/cm^3.
WATER_CUTOFF, WATER_SPACING = 5.2, 3.104
#: Largest errors with which times are given: those of float32, and what tables may add.
LIMITS = {"energy": 1e-5, "forces": 1e-4}
#: Atoms of systems above which exact filters in float64 take more memory than many machines have.
LARGE = 5000
Step = Callable[[], dict[str, Tensor]]


class System(NamedTuple):
    """Structures with their cutoff."""

    cutoff: float
    z: Tensor
    pos: Tensor
    batch: Tensor
    periodic: dict[str, Tensor]


def molecules(smiles: tuple[str, ...], count: int) -> System:
    """Molecules in turns, with atoms displaced by 0.05 Angstrom."""
    kinds = [from_smiles(one) for one in smiles]
    chosen = [kinds[k % len(kinds)] for k in range(count)]
    pos = torch.cat([one.pos for one in chosen])
    pos = pos + 0.05 * torch.randn(pos.shape, generator=torch.Generator().manual_seed(0))
    batch = torch.arange(count).repeat_interleave(torch.tensor([len(one.z) for one in chosen]))
    return System(10.0, torch.cat([one.z for one in chosen]), pos, batch, {})


def water(edge: int) -> System:
    """A periodic box of edge^3 water molecules on a grid, turned at random."""
    generator = torch.Generator().manual_seed(0)
    grid = torch.cartesian_prod(*[torch.arange(edge)] * 3) * WATER_SPACING  # [M, 3]
    turns, _ = torch.linalg.qr(torch.randn(len(grid), 3, 3, generator=generator))
    molecule = torch.tensor([[0.0, 0, 0], [0.958, 0, 0], [-0.240, 0.927, 0]])
    pos = (grid.unsqueeze(1) + molecule @ turns).view(-1, 3)
    cell = edge * WATER_SPACING * torch.eye(3).unsqueeze(0)
    periodic = {"cell": cell, "pbc": torch.ones(1, 3, dtype=torch.bool)}
    z = torch.tensor([8, 1, 1]).repeat(len(grid))
    return System(WATER_CUTOFF, z, pos, torch.zeros_like(z), periodic)


def system_of(case: str, quick: bool) -> System:
    """The structures of a case."""
    if case == "aspirin":
        return molecules((ASPIRIN,), 1)
    if case == "256 molecules":
        return molecules(MOLECULES, 16 if quick else 256)
    return water(int(case.split()[1]) if " " in case else 5 if quick else 10)


def model_of(cutoff: float, basis: str) -> SchNet:
    """The network that is evaluated."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"num_gaussians": math.ceil(10 * cutoff), "gamma": 10.0} if basis == "papers" else {}
    return SchNet(cutoff=cutoff, act="ssp-pyg", max_z=99, **options).eval()


class GivenGraph(nn.Module):
    """An interaction graph for PyG's SchNet that has its edges already."""

    def __init__(self, system: System) -> None:
        super().__init__()
        graph = radius_graph(system.pos, system.cutoff, system.batch, **system.periodic)
        self.edges, self.cell = (graph.edge_index, graph.edge_shift), system.periodic.get("cell")

    def forward(self, pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Edges and distances."""
        return self.edges[0], edge_vectors(pos, *self.edges, self.cell, batch).norm(dim=-1)


def step_of(name: str, system: System, basis: str) -> Step:
    """Energies and forces by frozen and exact filters, PyG and PyG compiled; in float64 with ``"precise"``."""
    model = model_of(system.cutoff, basis)
    if name.startswith("pyg"):
        return step_of_pyg(model, system, name == "pyg compiled")
    if name.startswith("precise"):
        cells = {key: value.double() if value.is_floating_point() else value for key, value in system.periodic.items()}
        model, system = model.double(), system._replace(pos=system.pos.double(), periodic=cells)
    potential = Potential(model.freeze() if name.endswith("frozen") else model)
    return lambda: potential(system.z, system.pos, system.batch, **system.periodic)


def step_of_pyg(model: SchNet, system: System, compiled: bool) -> Step:
    """PyG's SchNet with the weights."""
    theirs = to_pyg(model).requires_grad_(False)
    theirs.interaction_graph = GivenGraph(system)
    if compiled:
        torch._logging.set_logs(dynamo=logging.ERROR)  # it breaks the graph at its readout
        theirs = torch.compile(theirs)

    def step() -> dict[str, Tensor]:
        moving = system.pos.detach().requires_grad_()
        energy = theirs(system.z, moving, system.batch).squeeze(-1)
        return {"energy": energy.detach(), "forces": -gradient(energy, moving)}

    return step


def errors(result: dict[str, Tensor], reference: dict[str, Tensor]) -> dict[str, float]:
    """Relative errors."""
    return {name: float((result[name].double() - value).norm() / value.norm()) for name, value in reference.items()}


def times(case: str, options: argparse.Namespace, names: tuple[str, ...], flush: bool) -> dict[str, Any]:
    """Medians of the times of some models that take turns, in a process of its own."""
    torch.set_flush_denormal(flush)
    torch.set_num_threads(options.threads)
    system = system_of(case, options.quick)
    kind = "precise" if len(system.z) <= LARGE else "precise frozen"
    reference = step_of(kind, system, options.basis)()
    steps = {name: step_of(name, system, options.basis) for name in names}
    off = {name: errors(step(), reference) for name, step in steps.items()}
    if any(not error <= LIMITS[kind] for found in off.values() for kind, error in found.items()):
        return {"disagree": off}
    steps_at_once = 10 if case == "aspirin" else 1  # one behind the other, as in dynamics
    taken: dict[str, list[float]] = {name: [] for name in names}
    clock = time.process_time if options.clock == "processor" else time.perf_counter
    for _ in range(options.repeats):
        for name, step in steps.items():
            start = clock()
            for _ in range(steps_at_once):
                step()
            taken[name].append((clock() - start) / steps_at_once)
    edges = radius_graph(system.pos, system.cutoff, system.batch, **system.periodic).edge_index.size(1)
    facts = {"atoms": len(system.z), "neighbours": round(edges / len(system.z), 1)}
    return facts | {"seconds": {name: statistics.median(found) for name, found in taken.items()}, "errors": off}


def peak(case: str, options: argparse.Namespace, name: str) -> float:
    """Peak memory of a model in MiB beyond what the process held, in a process of its own."""
    torch.set_num_threads(options.threads)
    step_of(name, molecules((ASPIRIN,), 1), options.basis)()  # compiled, loaded
    step = step_of(name, system_of(case, options.quick), options.basis)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = resident("VmRSS")
    for _ in range(2):
        step()
    return resident("VmHWM") - before


def resident(what: str) -> float:
    """Memory of this process in MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) / 1024


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def measure(case: str, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of a case; exits if results disagree."""
    others = ("pyg", "pyg compiled") if options.compiled else ("pyg",)
    kept = apart(times, case, options, ("frozen", "exact", *others), False)
    flushed = apart(times, case, options, ("frozen", *others), True)
    for found in (kept, flushed):
        if "disagree" in found:
            sys.exit(f"{case}: no times, because the results disagree: {found['disagree']}")
    row = {"case": case, **kept, "seconds, denormal numbers flushed": flushed["seconds"]}
    for found, what in ((kept, ""), (flushed, ", denormal numbers flushed")):
        row["ratio" + what] = {name: found["seconds"][name] / found["seconds"]["frozen"] for name in others}
    row["MiB"] = {name: apart(peak, case, options, name) for name in ("frozen", "pyg")}
    print(f"{case}: {row['atoms']} atoms, {row['neighbours']} neighbours each")
    columns = {name: 1e3 * value for name, value in kept["seconds"].items()}
    columns |= {f"{name}, flushed": 1e3 * value for name, value in flushed["seconds"].items()}
    for name, value in columns.items():
        kind, unit = name.split(",")[0], columns["frozen, flushed" if "flushed" in name else "frozen"]
        found = "  ".join(f"{what} {error:.1e}" for what, error in kept["errors"][kind].items())
        memory = f"{row['MiB'][name]:8.1f} MiB" if name in row["MiB"] else " " * 12
        print(f"  {name:22}{value:10.2f} ms  {value / unit:6.2f} x  {memory}  errors: {found}", flush=True)
    return row


def scale(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Times of boxes of water of several sizes; PyG's as far as its memory is a few gigabytes."""
    rows = []
    for edge in (2, 3, 4) if options.quick else (3, 4, 6, 8, 10, 14, 18):
        names = ("frozen", "pyg") if edge <= 10 else ("frozen",)
        row = apart(times, f"water {edge}", options, names, True)
        if "disagree" in row:
            sys.exit(f"{edge}^3 water molecules: no times, because the results disagree: {row['disagree']}")
        each = "  ".join(f"{name} {1e6 * seconds / row['atoms']:8.2f}" for name, seconds in row["seconds"].items())
        print(f"{row['atoms']:6} atoms of water, microseconds an atom:  {each}", flush=True)
        rows.append(row)
    return rows


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Time against atoms."""
    figure, (panel,) = new_figure()
    for name, label, colour in (("pyg", "PyG, denormal numbers flushed", ORANGE), ("frozen", "frozen", BLUE)):
        found = [(row["atoms"], row["seconds"][name]) for row in rows if name in row["seconds"]]
        panel.loglog(*zip(*found, strict=True), "o-", color=colour, label=label)
    ends = [rows[0]["atoms"], rows[-1]["atoms"]]
    last = rows[-1]["seconds"]["frozen"]
    panel.loglog(ends, [last * end / ends[1] for end in ends], "--", color=GREY, label="proportional to the atoms")
    panel.set(xlabel="atoms of water, 60 neighbours each", ylabel="time of energy and forces (s)")
    panel.legend(frameon=False)
    save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES), help="systems")
    parser.add_argument("--basis", choices=("pyg", "papers"), default="pyg", help="radial basis of the network")
    parser.add_argument("--repeats", type=int, default=10, help="evaluations of each model, of aspirin ten at a time")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of each process")
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall", help="processor on a busy machine")
    parser.add_argument("--scaling", action="store_true", help="boxes of water of several sizes, too")
    parser.add_argument("--compiled", action="store_true", help="PyG's SchNet also compiled (needs a C++ compiler)")
    parser.add_argument("--quick", action="store_true", help="small systems, three repeats")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--plot", type=Path, help="PNG file of --scaling")
    options = parser.parse_args()
    options.repeats = 3 if options.quick else options.repeats
    rows = [measure(case, options) for case in options.cases]
    sizes = scale(options) if options.scaling or options.plot else []
    if options.plot:
        plot(sizes, options.plot)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "threads": options.threads,
        "clock": options.clock,
    }
    versions = {name: importlib.metadata.version(name) for name in ("torch", "torch_geometric", "numba")}
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        facts = {"machine": machine, "versions": versions, "basis": options.basis, "cases": rows, "scaling": sizes}
        options.json.write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
