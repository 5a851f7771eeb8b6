"""Time of a radius graph against ASE, matscipy, vesin, torch_cluster and nvalchemi, all in the same run.

    OMP_NUM_THREADS=1 python examples/benchmarks/neighbors.py
    python examples/benchmarks/neighbors.py --atoms 1024 97336 --json results/neighbors.json
    python examples/benchmarks/neighbors.py --thresholds     # which back end is faster for which sizes
    python examples/benchmarks/neighbors.py --memory         # a million atoms, and how much memory they take

Times are of all directed edges with their images, best of several calls. Of ours, they include what peers do not give:
the order by target, row pointer and reverse edges. Peers without batches are called once per structure. No time is
given where the numbers of edges disagree.
"""

import argparse
import functools
import importlib
import importlib.metadata
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyg_schnet.graph.backends import BACKENDS
from pyg_schnet.graph.crosscheck import System

PACKAGES = {name: name for name in ("torch", "numba", "ase", "matscipy", "vesin", "torch_cluster")}
PACKAGES["nvalchemi-toolkit-ops"] = "nvalchemiops"
CSCL = 2.88  # lattice constant in Angstrom: 64 neighbors within 6 Angstrom, none close to 6


def crystal(atoms: int) -> System:
    """CsCl of about so many atoms, displaced by 0.02 Angstrom."""
    side = max(1, round((atoms / 2) ** (1 / 3)))
    corner = torch.cartesian_prod(*[torch.arange(side, dtype=torch.float64)] * 3)
    pos = CSCL * torch.cat([corner, corner + 0.5])
    return batch_of(pos.unsqueeze(0) + 0.02 * torch.randn(1, *pos.shape), CSCL * side * torch.eye(3), True, 6.0)


def molecules(count: int, atoms: int = 18) -> System:
    """Balls of the density of organic molecules."""
    pos = (
        1.1
        * atoms ** (1 / 3)
        * torch.nn.functional.normalize(torch.randn(count, atoms, 3), dim=2)
        * torch.rand(count, atoms, 1) ** 0.33
    )
    return batch_of(pos, torch.eye(3), False, 5.0)


def small_cells(count: int, atoms: int = 8) -> System:
    """Triclinic cells of some 5 Angstrom, smaller than the sphere of the cutoff."""
    cell = (atoms / 8) ** (1 / 3) * (5 * torch.eye(3) + torch.rand(count, 3, 3))
    return batch_of(torch.rand(count, atoms, 3) @ cell, cell, True, 5.0)


def water(atoms: int) -> System:
    """A cubic box of the density of water, oxygens on a jittered grid."""
    side = round((atoms / 3) ** (1 / 3))
    oxygen = 3.1 * torch.cartesian_prod(*[torch.arange(side, dtype=torch.float64)] * 3) + 0.3 * torch.rand(side**3, 3)
    bonds = 0.97 * torch.nn.functional.normalize(torch.randn(side**3, 2, 3), dim=2)
    pos = torch.cat([oxygen.unsqueeze(1), oxygen.unsqueeze(1) + bonds], dim=1).view(1, -1, 3)
    return batch_of(pos, 3.1 * side * torch.eye(3), True, 5.0)


def batch_of(pos: Tensor, cell: Tensor, periodic: bool, cutoff: float) -> System:
    count, atoms, _ = pos.shape
    cells = cell.double().expand(count, 3, 3).contiguous()
    batch = torch.arange(count).repeat_interleave(atoms)
    return System(pos.double().reshape(-1, 3), batch, cells, torch.full((count, 3), periodic), cutoff)


def edges_by(backend: str, system: System) -> int:
    return system.graph(backend).edge_index.size(1)


def peers(system: System, on: System) -> dict[str, Callable[[], int]]:
    """For each installed peer a function that searches and returns the number of directed edges."""
    count, cutoff, periodic = len(system.pbc), system.cutoff, bool(system.pbc.any())
    found: dict[str, Callable[[], int]] = {}
    singles = list(zip(system.pos.view(count, -1, 3).numpy(), system.cell.numpy(), system.pbc.numpy(), strict=True))
    if (ase := optional("ase")) and (ase_list := optional("ase.neighborlist")):
        atoms = [ase.Atoms(f"H{len(pos)}", positions=pos, cell=cell, pbc=pbc) for pos, cell, pbc in singles]
        found["ase"] = lambda: sum(len(ase_list.neighbor_list("ijS", one, cutoff)[0]) for one in atoms)
        if matscipy := optional("matscipy.neighbours"):
            found["matscipy"] = lambda: sum(len(matscipy.neighbour_list("ijS", one, cutoff)[0]) for one in atoms)
    if vesin := optional("vesin"):
        search = vesin.NeighborList(cutoff=cutoff, full_list=True)
        found["vesin"] = lambda: sum(len(search.compute(*one, quantities="PS")[0]) for one in singles)
    if not periodic and (cluster := optional("torch_cluster")):
        most = len(on.pos) // count
        found["torch_cluster"] = lambda: cluster.radius_graph(on.pos, cutoff, on.batch, max_num_neighbors=most).size(1)
    if nvalchemi := optional("nvalchemiops.torch.neighbors"):
        options = {"batch_idx": on.batch.int(), "max_neighbors": 200, "return_neighbor_list": True}
        options |= {"cell": on.cell, "pbc": on.pbc} if periodic else {}
        found["nvalchemi"] = lambda: nvalchemi.neighbor_list(on.pos, cutoff, **options)[0].size(1)
    return found


def optional(module: str) -> Any:
    """The module, or None if its package is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def seconds(call: Callable[[], int], budget: float) -> float:
    """Best time of a call, repeated for as long as the budget lasts."""
    best, end = float("inf"), time.perf_counter() + budget
    while best == float("inf") or time.perf_counter() < end:
        start = time.perf_counter()
        call()  # reads a number of edges, so a GPU has finished
        best = min(best, time.perf_counter() - start)
    return best


def measure(name: str, system: System, options: argparse.Namespace) -> dict:
    """Time all searches of one system; exits if they do not find equally many edges."""
    on = system.to(options.device)
    able = [key for key, one in BACKENDS.items() if one.installed() and one.suits(on.pos.device, bool(on.pbc.any()))]
    searches = {
        key: functools.partial(edges_by, key, on) for key in (able if options.thresholds else ["torch", "auto"])
    }
    searches |= {} if options.thresholds else peers(system, on)
    edges = {key: call() for key, call in searches.items()}  # warms up, too
    if len(set(edges.values())) > 1:
        sys.exit(f"{name}: no times, because the numbers of edges disagree: {edges}")
    times = {key: seconds(call, options.budget) for key, call in searches.items()}
    ratios = {key: value / times["torch"] for key, value in times.items()}
    print(f"{name:28} {edges['torch']:>9} edges  torch {1e3 * times['torch']:9.2f} ms", end="")
    print("".join(f"  {key} {ratio:.2f}x" for key, ratio in ratios.items() if key != "torch"), end="")
    row = {"case": name, "atoms": len(system.pos), "edges": edges["torch"], "seconds": times, "ratio to torch": ratios}
    others = [key for key in times if key not in ("torch", "auto")]
    if "auto" in times and others:
        best = min(others, key=times.__getitem__)
        row["auto to best peer"] = times["auto"] / times[best]
        print(f"  | auto takes {row['auto to best peer']:.2f}x the time of {best}", end="")
    print(flush=True)
    return row


def measure_memory(atoms: int, backend: str) -> dict:
    """Time and peak memory of one search, everything else included."""
    system = crystal(atoms)
    start = time.perf_counter()
    edges = edges_by(backend, system)
    passed, resource = time.perf_counter() - start, importlib.import_module("resource")  # not on Windows
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"CsCl, {len(system.pos)} atoms, {edges} edges, {backend}: {passed:.1f} s, at most {peak:.2f} GiB")
    return {"case": "memory", "atoms": len(system.pos), "edges": edges, "seconds": {backend: passed}, "GiB": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--atoms", type=int, nargs="+", default=[128, 1024, 4394, 16000, 97336], help="sizes of CsCl crystals"
    )
    parser.add_argument("--batch", type=int, nargs=2, default=[1000, 256], help="number of molecules and small cells")
    parser.add_argument("--device", default="cpu", help="of ours, torch_cluster and nvalchemi")
    parser.add_argument("--budget", type=float, default=0.5, help="seconds to repeat each measurement for")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--thresholds", action="store_true", help="compare our back ends on small systems")
    parser.add_argument("--memory", action="store_true", help="only search a crystal of a million atoms, once")
    parser.add_argument("--backend", default="auto", help="who searches it")
    options = parser.parse_args()
    torch.manual_seed(0)
    cases = {f"CsCl, {len(s.pos)} atoms": s for s in map(crystal, options.atoms)}
    count, cells = options.batch
    cases |= {f"{count} molecules of 18": molecules(count), f"{cells} triclinic cells of 8": small_cells(cells)}
    cases["water-like, 3000 atoms"] = water(3000)
    if options.thresholds:
        cases = {f"{count} x molecule of {n}": molecules(count, n) for n in (16, 64, 256) for count in (1, 8, 64)}
        cases |= {f"{count} x cell of {n}": small_cells(count, n) for n in (2, 16, 64) for count in (1, 8, 64)}
    if options.memory:
        rows = [measure_memory(1_000_000, options.backend)]
    else:
        rows = [measure(name, system, options) for name, system in cases.items()]
    machine = {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    if options.device != "cpu":
        machine["device"] = torch.cuda.get_device_name(options.device)
    versions = {name: importlib.metadata.version(name) for name, module in PACKAGES.items() if optional(module)}
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"machine": machine, "versions": versions, "cases": rows}, indent=1))


if __name__ == "__main__":
    main()
