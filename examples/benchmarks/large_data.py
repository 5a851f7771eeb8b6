"""A file that does not fit into memory: how much of it conversion takes, and whether training from the disk is slower.

    OMP_NUM_THREADS=1 python examples/benchmarks/large_data.py --gigabytes 5 --folder /tmp/large
    OMP_NUM_THREADS=1 python examples/benchmarks/large_data.py --gigabytes 0.02 --kill 3
    OMP_NUM_THREADS=1 python examples/benchmarks/large_data.py --gigabytes 5 --suffix .aselmdb

The file is generated, converted in a process of its own, which may be killed some times on the way, and removed. Peak
memory is that of the process, pages of mapped files included (Linux). Then mini-batches, and training steps on
energies and forces, are taken in turns from the disk and from a copy in memory; best of each, processor time.
"""

import argparse
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from common import apart, machine, take_turns, write_figures

from pyg_schnet import Potential, SchNet
from pyg_schnet.datasets import StructureLoader, Trajectory


def structures(seed: int) -> Iterator[Atoms]:
    """Ethanols, benzenes and crystals of sodium chloride of 216 atoms, displaced at random, without end."""
    rng = np.random.default_rng(seed)
    kinds = [molecule("CH3CH2OH"), molecule("C6H6"), bulk("NaCl", "rocksalt", a=5.6, cubic=True) * (3, 3, 3)]
    for number in range(1 << 60):
        atoms = kinds[number % len(kinds)].copy()
        atoms.positions += rng.normal(0, 0.05, (len(atoms), 3))
        results = {"energy": -4000.0 + rng.normal(), "forces": rng.normal(size=(len(atoms), 3))}
        if atoms.pbc.any():
            results["stress"] = rng.normal(0, 1e-3, 6)
        atoms.calc = SinglePointCalculator(atoms, **results)
        atoms.info["config_type"] = f"run {number // 1000 % 50}"
        yield atoms


def generate(path: Path, size: float) -> int:
    """Write structures until a file is so large; those of extended xyz are a block that is repeated."""
    count, source = 0, structures(0)
    if path.suffix == ".xyz":
        block = [next(source) for _ in range(900)]
        ase.io.write(path, block, format="extxyz")
        text = path.read_bytes()
        with path.open("wb") as file:
            while file.tell() < size:
                file.write(text)
                count += len(block)
        return count
    with ase.db.connect(str(path), type=path.suffix[1:], use_lock_file=False) as database:
        while not count % 1000 or path.stat().st_size < size:
            atoms = next(source)
            database.write(atoms, data={"config_type": atoms.info["config_type"]})
            count += 1
    return count


def convert(root: str, path: str) -> tuple[float, float, int]:
    """Processor time in seconds, peak memory in MiB and number of structures."""
    start = time.process_time()
    dataset = Trajectory(root, path)
    seconds = time.process_time() - start
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return seconds, peak / 1024, len(dataset)


def kill_one(root: str, path: str, after: float) -> None:
    """Convert, and be killed on the way."""
    process = multiprocessing.get_context("spawn").Process(target=convert, args=(root, path))
    process.start()
    process.join(after)
    if process.is_alive():
        os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    print(f"killed after {after:.0f} s; {len(list(Path(root).rglob('parts/*.npz')))} parts are there", flush=True)


def training_speed(root: str, path: str, steps: int) -> dict[str, dict[str, float]]:
    """Time of mini-batches and of training steps in seconds, from the disk and from memory."""
    torch.set_num_threads(1)
    mapped, copied = Trajectory(root, path, log=False), Trajectory(root, path, log=False)
    copied._data = copied._data.clone()
    order = torch.randperm(len(mapped), generator=torch.Generator().manual_seed(0))[: 32 * steps]
    loaders = {
        name: StructureLoader(dataset[order], batch_size=32, shuffle=True, seed=0)
        for name, dataset in (("disk", mapped), ("memory", copied))
    }
    batches = [next(iter(loader)) for loader in loaders.values()]
    for one, other in zip(batches[0].to_dict().values(), batches[1].to_dict().values(), strict=True):
        same = torch.allclose(one, other, 0, 0, True) if isinstance(one, torch.Tensor) else one == other
        if not same:
            raise SystemExit("batches from the disk differ from those from memory")
    model = SchNet(64, 64, 3, 50, cutoff=5.0, cutoff_function="polynomial")
    optimizer = torch.optim.Adam(model.parameters())

    def train(loader: StructureLoader) -> None:
        potential = Potential(model)
        for batch in loader:
            out = potential(batch)
            loss = out["energy"].mean() / 1e3 + (out["forces"] - batch.forces).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    figures: dict[str, dict[str, float]] = {}
    for what, use, repeats in (("batches", list, 12), ("training", train, 4)):
        turns = {name: lambda loader=loader, use=use: use(loader) for name, loader in loaders.items()}
        times = take_turns(turns, repeats, "cpu", clock=time.process_time)
        figures[what] = {name: min(own) / steps for name, own in times.items()}
    return figures


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=0.02)
    parser.add_argument("--folder", type=Path, help="for the file and what becomes of it; removed afterwards")
    parser.add_argument("--suffix", choices=[".xyz", ".db", ".aselmdb"], default=".xyz")
    parser.add_argument("--kill", type=float, nargs="*", default=[], help="kill conversion after so many seconds each")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path, root = Path(folder, f"large{options.suffix}"), str(Path(folder, "root"))
        count = generate(path, options.gigabytes * 1e9)
        size = path.stat().st_size
        print(f"{count:,} structures, {size / 1e9:.2f} GB", flush=True)
        for after in options.kill:
            kill_one(root, str(path), after)
        seconds, peak, found = apart(convert, root, str(path))
        if found != count:
            raise SystemExit(f"expected {count} structures, got {found}")
        stored = sum(one.stat().st_size for one in Path(root).rglob("*") if one.is_file())
        print(f"converted: {seconds / 60:.1f} min of processor time, {1e6 * seconds / count:.0f} us a structure")
        print(f"peak memory {peak:.0f} MiB, stored {stored / 1e9:.2f} GB", flush=True)
        figures: dict[str, Any] = {"structures": count, "bytes": size, "seconds": seconds, "peak MiB": peak}
        figures |= apart(training_speed, root, str(path), options.steps)
        for what in ("batches", "training"):
            disk, memory = figures[what]["disk"], figures[what]["memory"]
            print(
                f"{what}: {1e3 * disk:.3f} ms from the disk, {1e3 * memory:.3f} from memory, ratio {disk / memory:.2f}"
            )
        write_figures(options.json, {"machine": machine("cpu"), "figures": figures})


if __name__ == "__main__":
    main()
