"""A million ethanols through ``predict``: shards side by side, killed on the way, and joined.

    OMP_NUM_THREADS=1 python examples/benchmarks/screening.py --structures 1000000 --shards 2 --kill 60
    OMP_NUM_THREADS=1 python examples/benchmarks/screening.py --structures 40000 --kill 8 --unbroken

Ethanols with random displacements are written to a file. Each shard is a process with one thread; after ``--kill``
seconds all are killed and started again. Rows are counted, some energies are compared with those of the model itself,
and with ``--unbroken`` all bytes with those of a single process that nobody kills.
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from common import machine, write_figures

from pyg_schnet import Potential, load
from pyg_schnet.command.join import join
from pyg_schnet.command.predict import predict_file
from pyg_schnet.command.shards import Shard
from pyg_schnet.datasets.bundled import bundled_path
from pyg_schnet.simulation import atoms_to_data
from pyg_schnet.training import PotentialTask

MODEL = bundled_path("model_md17_ethanol")


def ethanol(number: int) -> Atoms:
    """One of the ethanols."""
    atoms = molecule("CH3CH2OH")
    atoms.positions = (atoms.positions + np.random.default_rng(number).normal(0, 0.03, (9, 3))).round(6)
    return atoms


def generate(path: Path, count: int) -> None:
    """Write ethanols."""
    first = molecule("CH3CH2OH")
    line = "".join(f"{symbol} %.6f %.6f %.6f\n" for symbol in first.get_chemical_symbols())
    with path.open("w") as file:
        for number in range(count):
            pos = first.positions + np.random.default_rng(number).normal(0, 0.03, (9, 3))
            file.write('9\nProperties=species:S:1:pos:R:3 pbc="F F F"\n' + line % tuple(pos.ravel().tolist()))


def predict(source: str, output: str, number: int, of: int, figures: str) -> None:
    """One shard, in a process of its own."""
    torch.set_num_threads(1)
    model = load(MODEL)
    predict_file(PotentialTask(model), model, Path(source), Path(output), shard=Shard(number, of))
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    Path(figures).write_text(json.dumps({"processor seconds": time.process_time(), "peak MiB": peak / 1024}))


def run(source: Path, output: Path, shards: int, kill: float | None) -> list[dict[str, Any]]:
    """All shards side by side; figures of each."""
    files = [output.with_name(f"{number}-of-{shards}.figures") for number in range(1, shards + 1)]
    for after in [kill, None] if kill else [None]:
        processes = [
            multiprocessing.get_context("spawn").Process(
                target=predict, args=(str(source), str(output), number, shards, str(file))
            )
            for number, file in enumerate(files, 1)
        ]
        for process in processes:
            process.start()
        end = time.monotonic() + (after or 0)
        for process in processes:
            process.join(max(end - time.monotonic(), 0) if after else None)
        for process in processes:
            if process.is_alive():
                process.kill()
                process.join()
                print("killed one of the processes", flush=True)
    return [json.loads(file.read_text()) for file in files]


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=int, default=2000)
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--kill", type=float, help="seconds after which all are killed once")
    parser.add_argument("--unbroken", action="store_true", help="compare with a run that is not killed")
    parser.add_argument("--suffix", default=".csv")
    parser.add_argument("--folder", type=Path, help="for the files, which are removed afterwards")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        source, output = Path(folder, "ethanols.xyz"), Path(folder, f"out{options.suffix}")
        generate(source, options.structures)
        start = time.monotonic()
        figures = run(source, output, options.shards, options.kill)
        wall = time.monotonic() - start
        join(str(output))
        for one in figures:
            print(f"processor time {one['processor seconds']:.0f} s, peak memory {one['peak MiB']:.0f} MiB")
        print(f"{options.structures:,} structures by {options.shards} shards: {wall / 60:.1f} min", flush=True)
        if output.suffix == ".csv":
            check(output, options.structures)
        if options.unbroken:
            (alone,) = run(source, Path(folder, f"alone{options.suffix}"), 1, None)
            same = output.read_bytes() == Path(folder, f"alone{options.suffix}").read_bytes()
            print(f"bytes as those of an unbroken run ({alone['processor seconds']:.0f} s): {same}")
            if not same:
                raise SystemExit(1)
        about = {"structures": options.structures, "wall seconds": wall, "shards": figures}
        write_figures(options.json, {"machine": machine("cpu"), "figures": about})


def check(path: Path, count: int) -> None:
    """Exit unless there is a row for each structure, in order, with the energies of the model."""
    potential, wrong, rows = Potential(load(MODEL)), 0.0, 0
    with path.open() as file:
        head = next(file).rstrip("\n").split(",")
        energy = head.index("predicted_energy [eV]")
        for number, line in enumerate(file):
            cells = line.rstrip("\n").split(",")
            rows += int(cells[0]) == number
            if number % max(count // 50, 1) == 0:
                truth = float(potential(atoms_to_data(ethanol(number)))["energy"].detach())
                wrong = max(wrong, abs(float(cells[energy]) - truth))
    print(f"{rows:,} rows in order; energies differ from the model's by {1e3 * wrong:.3f} meV at most")
    if rows != count or wrong > 0.01:
        raise SystemExit("rows are missing or wrong")


if __name__ == "__main__":
    main()
