"""Time and accuracy of the compiled loops behind the tabulated convolution against their plain twins.

    python examples/benchmarks/kernels.py                       # Triton on a GPU, Numba without one
    python examples/benchmarks/kernels.py --atoms 16384 --neighbors 64 --json results/kernels.json
    TRITON_INTERPRET=1 OMP_NUM_THREADS=1 python examples/benchmarks/kernels.py --atoms 8 --neighbors 4 --features 32

Measured are the three operations that energies, forces and training on forces consist of, with filters of a random
filter network, in float32. Errors are those against the twin in float64, root mean squares relative to that of the
results. No times are given where results disagree, and none of Triton's interpreter (the last line), which is there to
see errors without a GPU. All ways of one operation take turns, the best time of each counts. ``anew`` finds out the
order of the edges in each call, which all blocks and derivatives of a model otherwise do once.
"""

import argparse
import contextlib
import functools
import importlib
import importlib.metadata
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyg_schnet import CosineCutoff, FilterNetwork, GaussianSmearing
from pyg_schnet.fast import convolution_reference
from pyg_schnet.fast.bspline import FilterTable
from pyg_schnet.fast.gpu.edge_order import forgetting
from pyg_schnet.fast.knots import knot_spacing
from pyg_schnet.fast.operands import Form, Pairs
from pyg_schnet.fast.spline import filter_table

OPERATIONS = ("nodes", "edges", "table")
#: Largest errors with which times are given: of sums in float32, and of 16-bit storage, of tables in forces above all.
LIMITS = {"float32": 1e-4, "16 bits": 0.1}
CUTOFF = 5.0
Call = Callable[..., Tensor]


class System(NamedTuple):
    """A symmetric graph, each pair once, and its filters."""

    g: Tensor
    x: Tensor
    d: Tensor
    s: Tensor
    target: Tensor
    source: Tensor
    table: FilterTable

    def arguments(self, operation: str, order: int, dtype: torch.dtype) -> tuple[Any, ...]:
        """Of one operation."""
        g, x, d, s, c = (value.to(dtype) for value in (*self[:4], self.table.coefficients))
        pairs, form = Pairs(d, s, self.target, self.source), Form(*self.table[1:], order, True)
        if operation == "nodes":
            return x, c, pairs, len(x), form
        if operation == "edges":
            return g, x, c, pairs._replace(s=None), form
        return g, x, pairs, len(c), form


def system(atoms: int, neighbors: int, features: int, device: torch.device) -> System:
    """Atoms with neighbours of close numbers, as in files of molecules and crystals; pairs sorted by target."""
    pairs = atoms * neighbors // 2
    target = torch.randint(atoms, (pairs,)).sort()[0]
    source = (target + torch.randint(1, 4 * neighbors, (pairs,))) % atoms
    d = CUTOFF * (0.01 + 0.99 * torch.rand(pairs)) ** (1 / 3)  # as many as there is room for
    basis, network = GaussianSmearing(0.0, CUTOFF, 25).double(), FilterNetwork(25, features).double()
    spacing = knot_spacing(gamma=float(basis.gamma))
    with torch.no_grad():
        table = filter_table(lambda knots: network(basis(knots)), float(d.min()), CUTOFF, spacing, torch.float32)
        s = CosineCutoff(CUTOFF)(d)
    g, x = torch.randn(2, atoms, features)
    moved = (value.to(device) for value in (g, x, d, s, target, source))
    return System(*moved, FilterTable(table.coefficients.to(device), table.start, spacing))


def ways(operation: str, device: torch.device, interpreted: bool) -> dict[str, tuple[Call, str]]:
    """How to compute an operation, and which limit holds for it."""
    found: dict[str, tuple[Call, str]] = {"twin": (getattr(convolution_reference, f"{operation}_reference"), "float32")}
    if device.type == "cpu" and (cpu := optional("pyg_schnet.fast.cpu.convolution")):
        found["numba"] = getattr(cpu, operation), "float32"
    gpu: Any = importlib.import_module("pyg_schnet.fast.gpu.convolution")
    if not gpu.INSTALLED or not (interpreted or device.type == "cuda"):
        return found
    triton = getattr(gpu, operation)
    found["triton"] = triton, "float32"
    found["triton, anew"] = functools.partial(inside, forgetting, triton), "float32"
    for kind in (torch.float16, torch.bfloat16):
        name = str(kind).removeprefix("torch.")
        for options in ({"features": kind}, {"table": kind}, {"features": kind, "table": kind}):
            if operation != "table" or "table" not in options:
                context = functools.partial(gpu.storage, **options)
                found[f"triton, {' and '.join(options)} in {name}"] = (
                    functools.partial(inside, context, triton),
                    "16 bits",
                )
    return found


def inside(context: Callable[[], contextlib.AbstractContextManager[None]], call: Call, *arguments: Any) -> Tensor:
    with context():
        return call(*arguments)


def optional(module: str) -> Any:
    """The module, or None if what it needs is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def seconds(calls: dict[str, Call], arguments: tuple[Any, ...], repeats: int, device: torch.device) -> dict[str, float]:
    """Best times, of calls in turns."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    best = dict.fromkeys(calls, math.inf)
    for _ in range(repeats):
        for name, call in calls.items():
            wait()
            start = time.perf_counter()
            call(*arguments)
            wait()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def measure(one: System, operation: str, order: int, options: argparse.Namespace) -> dict[str, Any]:
    """Errors and times of one operation; exits if results disagree."""
    device, interpreted = one.x.device, options.interpreted
    expected = getattr(convolution_reference, f"{operation}_reference")(*one.arguments(operation, order, torch.float64))
    arguments = one.arguments(operation, order, torch.float32)
    errors, timed = {}, {}
    for name, (call, limit) in ways(operation, device, interpreted).items():
        off = call(*arguments).double() - expected  # compiles, too
        errors[name] = float(off.square().mean().sqrt() / expected.square().mean().sqrt())
        if not errors[name] < LIMITS[limit]:
            sys.exit(f"to_{operation}, order {order}: no times, because {name} is off by {errors[name]:.1e}")
        if not (interpreted and name.startswith("triton")):
            timed[name] = call
    times = seconds(timed, arguments, options.repeats, device)
    print(f"to_{operation}, order {order}: {len(one.x)} atoms, {len(one.d)} pairs, {one.x.size(1)} features")
    for name, error in errors.items():
        speed = f"{1e3 * times[name]:10.3f} ms {times['twin'] / times[name]:8.2f} x" if name in times else 24 * " "
        print(f"  {name:42}{speed}   error {error:.1e}", flush=True)
    ratios = {name: times["twin"] / value for name, value in times.items()}
    sizes = {"atoms": len(one.x), "pairs": len(one.d), "features": one.x.size(1), "knots": len(one.table.coefficients)}
    case = {"operation": f"to_{operation}", "order": order, **sizes}
    return case | {"seconds": times, "ratio of twin": ratios, "errors": errors}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atoms", type=int, nargs="+", default=[672, 4096], help="sizes of graphs")
    parser.add_argument("--neighbors", type=int, default=40, help="neighbours of an atom, on average")
    parser.add_argument("--features", type=int, default=128, help="size of the features")
    parser.add_argument("--orders", type=int, nargs="+", default=[0, 1], help="derivatives of the filters")
    parser.add_argument("--repeats", type=int, default=10, help="calls of each way")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where to compute")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    device = torch.device(options.device)
    options.interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    torch.manual_seed(0)
    systems = [system(atoms, options.neighbors, options.features, device) for atoms in options.atoms]
    rows = [measure(one, name, order, options) for one in systems for name in OPERATIONS for order in options.orders]
    machine = {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    if device.type == "cuda":
        machine["device"] = torch.cuda.get_device_name(device)
    versions = {name: importlib.metadata.version(name) for name in ("torch", "numba", "triton") if optional(name)}
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"machine": machine, "versions": versions, "cases": rows}, indent=1))


if __name__ == "__main__":
    main()
