"""Time and memory of energies and forces with frozen filters, against exact ones and PyG's SchNet.

    OMP_NUM_THREADS=1 python examples/benchmarks/inference.py
    python examples/benchmarks/inference.py --threads 2 --repeats 20 --json results/inference.json
    python examples/benchmarks/inference.py --basis papers                 # 10 Gaussians per Angstrom, gamma 10
    python examples/benchmarks/inference.py --cases --plot results/inference.png   # cost: atoms, neighbours, features
    python examples/benchmarks/inference.py --compiled                     # PyG's SchNet under torch.compile, too
    python examples/benchmarks/inference.py --device cuda --scaling        # up to a million atoms of water
    python examples/benchmarks/inference.py --quick                        # small systems, few repeats

The network is PyG's default (128 features and filters, 6 interactions, 50 Gaussians, cosine cutoff), float32, the same
weights in all. A molecule sees all its atoms, a water molecule some 60 neighbours. Our times include the search of the
neighbours, those of peers do not: they are handed finished edges. SchNetPack is measured if it is installed. The models
take turns, the median of each counts. Memory is the peak beyond what was held before, model and input included: of a
process of its own (Linux), on a GPU of the tensors. Errors are norms of differences relative to norms of the exact
model in float64, energies and forces; no times are given where results disagree. Of boxes of more than 5000 atoms the
reference is the frozen model in float64, for lack of memory. One molecule on a GPU is bound by launches; steps that are
recorded as CUDA graphs are measured by ``recorded.py``.

PyG's Gaussians far from a distance are denormal numbers, with which processors compute some ten times slower; ours are
zero. All times are thus given a second time with such numbers taken as zero by the processor, which helps PyG only.
GPUs do not mind them.
"""

import argparse
import logging
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from common import Step, apart, disagree, errors, machine, on_gpu, peak_memory, ratios, take_turns, write_figures
from cost import Case, plot, series
from peers import peer_of, peers_of
from systems import System
from torch import Tensor

from pyg_schnet import Potential, SchNet
from pyg_schnet.ops import gradient

CASES = {"256 molecules": Case("molecules", 256, 10.0), "water": Case("water", 10), "aspirin": Case("aspirin", 1, 10.0)}
QUICK = CASES | {"256 molecules": Case("molecules", 16, 10.0), "water": Case("water", 5)}
#: Largest errors with which times are given: those of float32, and what tables may add.
LIMITS = {"energy": 1e-5, "forces": 1e-4}
#: Atoms of systems above which exact filters in float64 take more memory than many machines have.
LARGE = 5000
#: Molecules along the edge of boxes of water above which PyG's SchNet does, on a CPU and on a GPU.
PYG_UP_TO = {False: 10, True: 18}


def model_of(case: Case, basis: str) -> SchNet:
    """The network that is evaluated."""
    torch.manual_seed(0)
    size, papers = case.features, {"num_gaussians": math.ceil(10 * case.cutoff), "gamma": 10.0}
    options: dict[str, Any] = papers if basis == "papers" else {}
    return SchNet(size, size, cutoff=case.cutoff, act="ssp-pyg", max_z=99, **options).eval()


def step_of(name: str, case: Case, options: argparse.Namespace) -> Step:
    """Energies and forces by frozen and exact filters, and by peers; in float64 with ``"precise"``."""
    model, system = model_of(case, options.basis).to(options.device), case.system().to(options.device)
    if name in {"pyg", "pyg compiled", "schnetpack"}:
        return step_of_peer(name, model, system)
    if name.startswith("precise"):
        model, system = model.double(), system.double()
    potential = Potential(model.freeze() if name.endswith("frozen") else model)
    return lambda: potential(system.z, system.pos, system.batch, **system.periodic)


def step_of_peer(name: str, model: SchNet, system: System) -> Step:
    """The same by another package."""
    theirs: Any = peer_of(name.removesuffix(" compiled"), model, system).requires_grad_(False)
    if name.endswith("compiled"):
        logging.getLogger("torch._dynamo").setLevel(logging.ERROR)  # it breaks the graph at its readout
        theirs = torch.compile(theirs)

    def step() -> dict[str, Tensor]:
        moving = system.pos.detach().requires_grad_()
        energy = theirs(system.z, moving, system.batch).squeeze(-1)
        return {"energy": energy.detach(), "forces": -gradient(energy, moving)}

    return step


def times(case: Case, options: argparse.Namespace, names: tuple[str, ...], flush: bool) -> dict[str, Any]:
    """Medians of the times of some models that take turns, in a process of its own."""
    torch.set_flush_denormal(flush)
    torch.set_num_threads(options.threads)
    system = case.system().to(options.device)
    atoms, edges = len(system.z), system.graph().edge_index.size(1)
    reference = step_of("precise" if atoms <= LARGE else "precise frozen", case, options)()
    steps = {name: step_of(name, case, options) for name in names}
    off = {name: errors(step(), reference) for name, step in steps.items()}
    if disagree(off, LIMITS):
        return {"disagree": off}
    at_once = 10 if case.name == "aspirin" else 1  # one behind the other, as in dynamics
    clock = time.process_time if options.clock == "processor" else time.perf_counter
    taken = take_turns(steps, options.repeats, options.device, at_once, clock)
    facts = {"atoms": atoms, "neighbours": round(edges / atoms, 1), "features": case.features}
    return facts | {"seconds": {name: statistics.median(found) for name, found in taken.items()}, "errors": off}


def peak(case: Case, options: argparse.Namespace, name: str) -> float:
    """Peak memory of a model in MiB."""
    torch.set_num_threads(options.threads)
    step_of(name, CASES["aspirin"], options)()  # compiled, loaded
    return peak_memory(step_of(name, case, options), options.device)


def measured(what: str, case: Case, options: argparse.Namespace, names: tuple[str, ...], flush: bool) -> dict[str, Any]:
    """Times in a fresh process, unless it has to be quick; exits if results disagree."""
    arguments = (case, options, names, flush)
    row = times(*arguments) if options.quick else apart(times, *arguments)
    if "disagree" in row:
        sys.exit(f"{what}: no times, because the results disagree: {row['disagree']}")
    return row


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of a case, printed."""
    case = (QUICK if options.quick else CASES)[name]
    others = (*peers_of(model_of(case, options.basis)), *(["pyg compiled"] if options.compiled else []))
    row = {"case": name, **measured(name, case, options, ("frozen", "exact", *others), False)}
    row["ratio"] = ratios(row["seconds"], "frozen")
    if not on_gpu(options.device):
        flushed = measured(name, case, options, ("frozen", *others), True)["seconds"]
        row["seconds, denormal numbers flushed"], row["ratio, denormal numbers flushed"] = (
            flushed,
            ratios(flushed, "frozen"),
        )
    row["MiB"] = {one: apart(peak, case, options, one) for one in ("frozen", *others) if one != "pyg compiled"}
    row["ratio of MiB"] = ratios(row["MiB"], "frozen")
    show(row)
    return row


def show(row: dict[str, Any]) -> None:
    """A table of the case."""
    print(f"{row['case']}: {row['atoms']} atoms, {row['neighbours']} neighbours each")
    for kind, mark in (("", ""), (", denormal numbers flushed", ", flushed")):
        for name, seconds in row.get(f"seconds{kind}", {}).items():
            found = "  ".join(f"{what} {error:.1e}" for what, error in row["errors"][name].items())
            memory = f"{row['MiB'][name]:8.1f} MiB" if name in row["MiB"] and not kind else " " * 12
            line = f"  {name + mark:22}{1e3 * seconds:10.2f} ms  {row[f'ratio{kind}'][name]:6.2f} x  {memory}"
            print(f"{line}  errors: {found}", flush=True)


def scale(what: str, cases: list[Case], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Times of boxes of water of a series; PyG's as far as its memory is some gigabytes, or that of a large GPU."""
    gpu, rows = on_gpu(options.device), []
    for case in cases:
        names = ("frozen", "pyg") if case.size <= PYG_UP_TO[gpu] else ("frozen",)
        row = measured(f"{case.size}^3 water molecules", case, options, names, not gpu)
        row["atom-steps per second"] = {name: row["atoms"] / seconds for name, seconds in row["seconds"].items()}
        each = "".join(f"  {name} {rate:12,.0f}" for name, rate in row["atom-steps per second"].items())
        print(f"{row[what]:9,} {what}: atom-steps/s{each}", flush=True)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES), help="systems")
    parser.add_argument("--basis", choices=("pyg", "papers"), default="pyg", help="radial basis of the network")
    parser.add_argument("--repeats", type=int, default=10, help="evaluations of each model, of aspirin ten at a time")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of each process")
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall", help="processor on a busy machine")
    parser.add_argument("--scaling", action="store_true", help="boxes of water of several sizes, too")
    parser.add_argument("--compiled", action="store_true", help="PyG's SchNet also compiled (needs a C++ compiler)")
    parser.add_argument("--quick", action="store_true", help="small systems, three repeats")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--plot", type=Path, help="PNG file of --scaling, neighbours and features varied, too")
    options = parser.parse_args()
    gpu = on_gpu(options.device)
    if gpu and options.clock == "processor":
        parser.error("--clock processor does not count the time of a GPU")
    options.repeats = 3 if options.quick else options.repeats
    rows = [measure(name, options) for name in options.cases]
    chosen = series(options.quick, gpu)
    if not options.plot:
        chosen = {"atoms": chosen["atoms"]} if options.scaling else {}
    scaling = {what: scale(what, cases, options) for what, cases in chosen.items()}
    if options.plot:
        plot(scaling, "PyG" if gpu else "PyG, denormal numbers flushed", options.plot)
    facts = {**machine(options.device), "threads": options.threads, "clock": options.clock}
    write_figures(options.json, {"machine": facts, "basis": options.basis, "cases": rows, "scaling": scaling})


if __name__ == "__main__":
    main()
