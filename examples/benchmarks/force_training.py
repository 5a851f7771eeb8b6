"""Time and memory of a training step on energies and forces: tabulated filters, exact ones, and PyG's SchNet.

    OMP_NUM_THREADS=1 python examples/benchmarks/force_training.py
    python examples/benchmarks/force_training.py --cases aspirin --repeats 20 --json results/force_training.json
    python examples/benchmarks/force_training.py --flush           # see below
    python examples/benchmarks/force_training.py --profile         # where the time of the tabulated step goes
    python examples/benchmarks/force_training.py --device cuda
    python examples/benchmarks/force_training.py --quick           # small batches, few repeats

A step is: energies, forces, the papers' loss and its gradients with respect to all parameters; no optimizer. All models
have the same weights, in float32, and see the same edges. Our times include the search of the neighbours, those of
peers do not: they are handed finished edges. What PyG takes with a search by nvalchemi (for crystals, if it is
installed; else by ours) is given on a line of its own. SchNetPack is measured if it is installed, where it can express
the model. Steps of all models take turns, the best of each counts. Memory is the peak of two steps beyond what was held
before, model and batch included: of a process of its own (Linux), on a GPU of the tensors. Accuracy is that against the
exact model in float64: of energies, forces and gradients relative to their norms. No times are given where results
disagree. Crystals are perovskites of 20 atoms, periodic in three directions, with the papers' network for crystals but
sums as readout and no normalization, which PyG does not have. Water is one periodic box of 1,029 atoms, by the network
for crystals with a cosine cutoff; its reference in float64 takes some 5 GiB.

There is no compiled PyG here: what torch.compile makes cannot be differentiated twice, as training on forces needs.
Steps that are recorded as CUDA graphs are measured by ``recorded.py``.

PyG's Gaussians far from a distance are denormal numbers, with which processors compute some ten times slower; ours are
zero. ``--flush`` tells the processor to take denormal numbers as zero, which helps PyG only. GPUs do not mind them.
"""

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import Step, apart, disagree, errors, machine, on_gpu, peak_memory, ratios, take_turns, write_figures
from peers import peer_of, peers_of, search_of
from systems import ASPIRIN, ETHANOL, System, crystals, molecules, water
from torch import Tensor

from pyg_schnet import Potential, SchNet
from pyg_schnet.ops import gradient
from pyg_schnet.training import energy_forces_loss

#: The papers' networks for molecules and for crystals, and PyG's with the papers' basis.
COSINE = {"activate_last": False, "cutoff_function": "cosine", "gamma": 10.0}
PAPERS = {"activate_last": True, "cutoff_function": None, "gamma": 10.0}
WIDE, NEAR = {"num_gaussians": 200, "cutoff": 20.0}, {"num_gaussians": 50, "cutoff": 5.0}
LARGE = {"hidden_channels": 128, "num_filters": 128, "num_interactions": 6, **WIDE}
SMALL = {"hidden_channels": 64, "num_filters": 64, "num_interactions": 3, **WIDE}
CRYSTALS = {"hidden_channels": 64, "num_filters": 64, "num_interactions": 6, **NEAR}
#: Structures, arguments of the model.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "aspirin": (ASPIRIN, LARGE | PAPERS),
    "ethanol": (ETHANOL, SMALL | PAPERS),
    "crystals": ("", CRYSTALS | PAPERS),
    "aspirin, cosine cutoff": (ASPIRIN, LARGE | COSINE),
    "ethanol, cosine cutoff": (ETHANOL, SMALL | COSINE),
    "crystals, cosine cutoff": ("", CRYSTALS | COSINE),
    "water": ("", CRYSTALS | COSINE),
}
#: Molecules of water along the edge of a box, of some 1,000 atoms, and of a small one.
BOX, SMALL_BOX = 7, 3
#: Largest errors with which times are given: those of float32, and what tables may add. Energies nearly cancel in one.
LIMITS = {"energy": 5e-5, "forces": 1e-4, "gradients": 1e-3}


def system_of(case: str, count: int, device: str) -> System:
    """So many structures of a case; water is one box, which is small for two structures or fewer."""
    smiles, arguments = CASES[case]
    if case == "water":
        return water(BOX if count > 2 else SMALL_BOX, arguments["cutoff"]).to(device)
    found = molecules((smiles,), count, arguments["cutoff"]) if smiles else crystals(count, arguments["cutoff"])
    return found.to(device)


def model_of(case: str, filters: str = "exact") -> SchNet:
    """The network of a case; the same weights every time."""
    torch.manual_seed(0)
    return SchNet(act="ssp-pyg", max_z=99, filters=filters, **CASES[case][1]).train()


def step_of(name: str, case: str, count: int, device: str) -> Step:
    """A training step, returning energies, forces and gradients; in float64 with ``"precise"``."""
    model = model_of(case, "table" if name == "tabulated" else "exact").to(device)
    system = system_of(case, count, device)
    if name == "precise":
        model, system = model.double(), system.double()
    evaluate = evaluate_ours(model, system)
    network: torch.nn.Module = model
    if name not in {"tabulated", "exact", "precise"}:
        network = peer_of(name, model, system)
        evaluate = evaluate_peer(network, system)
    generator = torch.Generator().manual_seed(1)
    energies = torch.randn(int(system.batch[-1]) + 1, generator=generator).to(system.pos)
    labels = torch.randn(system.pos.shape, generator=generator).to(system.pos)
    weights = [weight for weight in network.parameters() if weight.requires_grad]

    def step() -> dict[str, Tensor]:
        energy, forces = evaluate()
        loss = energy_forces_loss(energy, forces, energies, labels, system.batch, rho=0.01)
        slopes = torch.autograd.grad(loss, weights, allow_unused=True)
        flat = [torch.zeros_like(w) if g is None else g for w, g in zip(weights, slopes, strict=True)]
        gradients = torch.cat([g.flatten() for g in flat])
        return {"energy": energy.detach(), "forces": forces.detach(), "gradients": gradients}

    return step


def evaluate_ours(model: SchNet, system: System) -> Callable[[], tuple[Tensor, Tensor]]:
    """Energies and forces that can be differentiated again."""
    potential = Potential(model)

    def evaluate() -> tuple[Tensor, Tensor]:
        out = potential(system.z, system.pos, system.batch, **system.periodic)
        return out["energy"], out["forces"]

    return evaluate


def evaluate_peer(model: torch.nn.Module, system: System) -> Callable[[], tuple[Tensor, Tensor]]:
    """The same of a peer."""

    def evaluate() -> tuple[Tensor, Tensor]:
        moving = system.pos.detach().requires_grad_()
        energy = model(system.z, moving, system.batch).squeeze(-1)
        return energy, -gradient(energy, moving, create_graph=True)

    return evaluate


def comparable(result: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradients in ascending order, because parameters of peers stand in another one."""
    return {**result, "gradients": result["gradients"].sort()[0]}


def peak(name: str, case: str, count: int, device: str) -> float:
    """Peak memory of a step in MiB."""
    step_of(name, case, 1, device)()  # compiled, loaded
    return peak_memory(step_of(name, case, count, device), device)


def measure(case: str, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of a case, printed; exits if results disagree."""
    where = (case, options.count, options.device)
    peers = peers_of(model_of(case))
    steps = {name: step_of(name, *where) for name in ("tabulated", "exact", *peers)}
    reference = comparable(step_of("precise", *where)())
    off = {name: errors(comparable(step()), reference) for name, step in steps.items()}
    if disagree(off, LIMITS):
        sys.exit(f"{case}: no times, because the results disagree: {off}")
    system = system_of(*where)
    (searcher, search), edges = search_of(system), system.graph().edge_index.size(1)
    if search() != edges:
        sys.exit(f"{case}: no times, because {searcher} finds {search()} edges, expected {edges}")
    taken = take_turns({**steps, "search": search}, options.repeats, options.device)
    times = {name: min(found) for name, found in taken.items()}
    times["pyg and search"] = times["pyg"] + times.pop("search")
    row: dict[str, Any] = {
        "case": case,
        "structures": int(system.batch[-1]) + 1,
        "atoms": len(system.z),
        "edges": edges,
    }
    row |= {"seconds": times, "errors": off, "search": searcher}
    row["MiB"] = {name: apart(peak, name, *where) for name in ("tabulated", *peers)}
    for what in ("seconds", "MiB"):
        row[f"ratio of {what}"] = ratios(row[what], "tabulated")
    show(row)
    if options.profile:
        profile(steps["tabulated"], options.device)
    return row


def show(row: dict[str, Any]) -> None:
    """A table of the case."""
    print(
        f"{row['structures']} x {row['case']}: {row['atoms']} atoms, {row['edges'] / row['atoms']:.1f} neighbours each"
    )
    for name, seconds in row["seconds"].items():
        line = f"  {name:15}{1e3 * seconds:9.1f} ms  {row['ratio of seconds'][name]:6.2f} x"
        if name in row["MiB"]:
            line += f"{row['MiB'][name]:9.1f} MiB  {row['ratio of MiB'].get(name, math.nan):6.2f} x"
        elif name in row["errors"]:
            line += " " * 23
        if name in row["errors"]:
            line += "  errors: " + "  ".join(f"{kind} {value:.1e}" for kind, value in row["errors"][name].items())
        print(line if name in row["errors"] else f"{line}  searched by {row['search']}", flush=True)


def profile(step: Step, device: str) -> None:
    """Where the time of a step goes."""
    with torch.profiler.profile() as profiler:
        step()
    order = "self_device_time_total" if on_gpu(device) else "self_cpu_time_total"
    print(profiler.key_averages().table(sort_by=order, row_limit=25, max_name_column_width=40))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES), help="structures and models")
    parser.add_argument("--count", type=int, default=32, help="structures in a batch")
    parser.add_argument("--repeats", type=int, default=10, help="steps of each model")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--flush", action="store_true", help="take denormal numbers as zero (on a CPU)")
    parser.add_argument("--profile", action="store_true", help="show where the time of the tabulated step goes")
    parser.add_argument("--quick", action="store_true", help="two structures in a batch, three repeats")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    if options.flush and on_gpu(options.device):
        parser.error("--flush is for processors; GPUs compute with denormal numbers as fast as with others")
    if options.quick:
        options.count, options.repeats = 2, 3
    torch.set_flush_denormal(options.flush)
    rows = [measure(case, options) for case in options.cases]
    facts = machine(options.device)
    if not on_gpu(options.device):
        facts["denormal numbers"] = "flushed" if options.flush else "kept"
    write_figures(options.json, {"machine": facts, "cases": rows})


if __name__ == "__main__":
    main()
