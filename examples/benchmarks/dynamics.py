"""Steps of molecular dynamics a second: ASE's loop with a frozen calculator against compiled steps.

    OMP_NUM_THREADS=1 python examples/benchmarks/dynamics.py
    OMP_NUM_THREADS=1 python examples/benchmarks/dynamics.py --json results/dynamics.json
    python examples/benchmarks/dynamics.py --quick                         # few steps
    OMP_NUM_THREADS=1 python examples/benchmarks/dynamics.py --only ASE TorchSim    # those ways alone

Ethanol with the bundled network (3 interactions, 64 features): velocity Verlet at 300 K, Langevin dynamics of one and
of many replicas and, where it is installed, TorchSim's velocity Verlet of 256 replicas, without stresses. Ways take
turns, the median of each counts; with one thread, in seconds of the processor, which others that use it change less. No
times are given where 100 steps in float64 are not those of ASE.
"""

import argparse
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.md.verlet import VelocityVerlet

from pyg_schnet import SchNet, load
from pyg_schnet.simulation import Dynamics
from pyg_schnet.simulation.ase import SchNetCalculator

#: Largest distance from ASE's positions after 100 steps in float64, in Angstrom, with which times are given.
LIMIT = 1e-10


def with_ase(model: SchNet, atoms: Atoms, dtype: torch.dtype, velocities: np.ndarray) -> tuple[Atoms, VelocityVerlet]:
    """ASE's atoms, and what moves them."""
    atoms = atoms.copy()
    atoms.calc = SchNetCalculator(model, dtype=dtype, frozen=True)
    atoms.set_velocities(velocities / units.fs)
    return atoms, VelocityVerlet(atoms, 0.5 * units.fs)


def distance_from_ase(model: SchNet, atoms: Atoms) -> float:
    """The largest one after 100 steps in float64."""
    ours = Dynamics(model, atoms, temperature=300, friction=0, dtype=torch.float64, frozen=True)
    theirs, verlet = with_ase(model, atoms, torch.float64, ours.velocities)
    verlet.run(100)
    ours.run(100)
    return float(np.abs(ours.positions - theirs.positions).max())


def with_torchsim(model: SchNet, atoms: Atoms, replicas: int) -> Callable[[int], None] | None:
    """What moves replicas by TorchSim, velocity Verlet in float32; ``None`` where it is not installed or too old."""
    try:
        ts = importlib.import_module("torch_sim")
    except ImportError:
        return None
    if not hasattr(ts, "nve_init"):  # before 0.6
        return None
    from pyg_schnet.simulation.torchsim import SchNetModel  # noqa: PLC0415

    own = SchNetModel(model, dtype=torch.float32, compute_stress=False)
    state = ts.io.atoms_to_state([atoms] * replicas, torch.device("cpu"), torch.float32)
    state = ts.nve_init(state, own, kT=torch.tensor(300 * units.kB))
    timestep = torch.tensor(0.5e-3 * ts.units.MetalUnits.time, dtype=torch.float32)

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state = ts.nve_step(state, own, dt=timestep)

    return run


def processor() -> str:
    """The name of the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown"


def measured(ways: dict[str, tuple[Callable[[int], Any], int, int]], repeats: int) -> dict[str, float]:
    """Steps a second of all replicas together, the median of each way."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + 1):
        for name, (run, steps, replicas) in ways.items():
            start = clock()
            run(steps)
            taken[name].append(replicas * steps / (clock() - start))
    return {name: statistics.median(found[1:]) for name, found in taken.items()}  # the first is for warming up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4000, help="steps of a turn")
    parser.add_argument("--repeats", type=int, default=5, help="turns")
    parser.add_argument("--replicas", type=int, default=64)
    parser.add_argument("--interval", type=int, default=100, help="steps between two frames")
    parser.add_argument("--only", nargs="*", metavar="WAY", help="beginnings of the names of the ways to measure")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--quick", action="store_true", help="few steps, for a test of this script")
    options = parser.parse_args()
    if options.quick:
        options.steps, options.repeats, options.replicas = 40, 1, 4
    model, atoms = load("md17-ethanol"), molecule("CH3CH2OH")
    off = distance_from_ase(model, atoms)
    if not off <= LIMIT:
        raise ValueError(f"after 100 steps positions are {off:.1e} Angstrom from those of ASE, expected {LIMIT:.0e}")
    constant = {"temperature": 300, "friction": 0}
    single, double = (
        Dynamics(model, atoms, **constant),
        Dynamics(model, atoms, **constant, dtype=torch.float64, frozen=True),
    )
    thermal = {count: Dynamics(model, atoms, temperature=300, replicas=count) for count in (1, options.replicas)}
    runs = {name: lambda steps, one=one: one.run(steps, interval=options.interval) for name, one in thermal.items()}
    ase_ways = {
        f"ASE, {name}": (with_ase(model, atoms, dtype, single.velocities)[1].run, options.steps // 4, 1)
        for name, dtype in (("float32", torch.float32), ("float64", torch.float64))
    }
    many = max(1, options.steps // options.replicas)
    ways: dict[str, tuple[Callable[[int], Any], int, int]] = ase_ways | {
        "velocity Verlet, float32": (lambda steps: single.run(steps, interval=options.interval), options.steps, 1),
        "velocity Verlet, float64": (lambda steps: double.run(steps, interval=options.interval), options.steps, 1),
        "Langevin, float32": (runs[1], options.steps, 1),
        f"Langevin, float32, {options.replicas} replicas": (runs[options.replicas], many, options.replicas),
    }
    batched = 4 if options.quick else 256
    torchsim = with_torchsim(model, atoms, batched)
    if torchsim is not None:
        ways[f"TorchSim, float32, {batched} replicas"] = torchsim, max(1, options.steps // batched), batched
    if options.only:
        kept = ("ASE, float32", *options.only)
        ways = {name: way for name, way in ways.items() if name.startswith(kept)}
    found = measured(ways, options.repeats)
    print(f"ethanol, {processor()}, {torch.get_num_threads()} thread(s); {off:.0e} Angstrom from ASE after 100 steps")
    for name, speed in found.items():
        print(f"{name:38s} {speed:10,.0f} steps/s {speed / found['ASE, float32']:7.1f} x ASE, float32")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        facts = {"processor": processor(), "threads": torch.get_num_threads(), "off": off, "steps_per_second": found}
        options.json.write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
