"""A general force field for small organic molecules, learnt from GFN2-xTB, from nothing to a model that is judged.

    pip install "pyg_schnet[chem,md]" tblite
    OMP_NUM_THREADS=1 python datasets/organic_xtb/make.py --out results/organic_xtb --processes 2
    OMP_NUM_THREADS=1 python datasets/organic_xtb/make.py --out results/smoke --smoke        # all stages in minutes

1. Molecules: enumerated and joined; those to be tried with are never trained with.
2. Frames by GFN2-xTB alone, pairs of molecules beside each other, scans of stiff bonds.
3. Rounds: train; let the model relax and drive molecules; label where it went; train on.
4. A long training with all frames; more scans, of small molecules, of conjugated bonds and of relatives of the simplest
   amides and acids; planar groups that are bent; the last training, with an absolute loss.
5. ``gates.py``: what the model can and cannot do, on molecules that no frame is of.

What is done is not done again: after an interruption the same command goes on. 4 hours of one core as it stands, most
of them training; more steps and molecules make a better model.
"""

import argparse
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from bends import bent_frames, lowest, turned_highest
from classical import classical_frames
from labels import FAILURES, Frame, read_frames, write_frames
from learning import FINAL, LAST_RHO, learnt
from on_policy import own_frames
from pairs import pair_frames
from scans import relative_scans, scan_frames, times_conjugated, times_scanned
from smiles import chosen
from tqdm import tqdm

from pyg_schnet import load
from pyg_schnet.files.whole import replacing

#: Molecules of a file of frames, and of a part of a round, which are driven together.
AT_ONCE = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", type=Path, default=Path("results/organic_xtb"), help="folder for all that is made")
    add("--molecules", type=int, default=8000, help="molecules to train with")
    add("--classical", type=int, default=1800, help="how many of them give frames by GFN2-xTB alone")
    add("--pairs", type=int, default=500, help="pairs of molecules")
    add("--scans", type=int, default=2000, help="small molecules, and those with stiff bonds, seen closely")
    add("--rounds", type=int, default=4, help="rounds of the model's own frames")
    add("--each", type=int, default=1500, help="molecules of a round")
    add(
        "--steps",
        type=int,
        nargs=4,
        default=[12_000, 5_000, 60_000, 110_000],
        metavar=("FIRST", "ROUND", "LONG", "LAST"),
        help="steps of the trainings",
    )
    add("--processes", type=int, default=1, help="processes that label")
    add("--smoke", action="store_true", help="everything very short")
    args = parser.parse_args()
    if args.smoke:
        vars(args).update(molecules=60, classical=20, pairs=4, scans=8, rounds=1, each=8, steps=[60, 20, 40, 40])
    molecules = _molecules(args.out / "molecules.json", args.molecules)
    files = _labelled(args, "classical", molecules[: args.classical], _classical)
    files += _labelled(args, "pairs", range(args.pairs), partial(_pairs, molecules))
    scanned = list(filter(times_scanned, molecules))[: args.scans]
    files += _labelled(args, "scans", [(one, 0) for one in scanned], _scans)
    model = learnt(read_frames(files), args.out / "round_0", args.steps[0])
    for number in range(1, args.rounds + 1):
        first = (number - 1) * args.each
        chosen_now = [molecules[k % len(molecules)] for k in range(first, first + args.each)]
        files += _labelled(args, f"own_{number}", chosen_now, partial(_own, model, number))
        model = learnt(read_frames(files), args.out / f"round_{number}", args.steps[1], model, 1e-3)
    model = learnt(read_frames(files), args.out / "long", args.steps[2], model, 1e-3, LAST_RHO)
    again = [(one, number) for one in scanned for number in range(1, times_scanned(one))]
    files += _labelled(args, "scans_again", again, _scans)
    conjugated = list(filter(times_conjugated, molecules))[: args.scans]
    turned = [(one, number, True) for one in conjugated for number in range(times_conjugated(one))]
    files += _labelled(args, "conjugated", turned, _scans)
    files += _labelled(args, "relatives", relative_scans(args.scans), _scans)
    frames = read_frames(files)
    files += _labelled(args, "bends", lowest(frames) + turned_highest(frames), _bends)
    model = learnt(read_frames(files), args.out / "last", args.steps[3], model, 1e-3, **FINAL)
    print(f"{model}: judge it with python {Path(__file__).with_name('gates.py')} {model} --out {args.out}")


def _molecules(path: Path, count: int) -> list[str]:
    """The molecules to train with, from the file if it is there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        lists = chosen(count)
        with replacing(path) as part:
            part.write_text(json.dumps(lists._asdict(), indent=1))
    train: list[str] = json.loads(path.read_text())["train"]
    if len(train) < count:
        raise ValueError(f"{path} has {len(train)} molecules, {count} are wanted; remove it to choose anew")
    return train


def _labelled(
    args: argparse.Namespace, name: str, what: Iterable, frames_of: Callable[[list], list[Frame]]
) -> list[Path]:
    """The files of a kind of frames, those that are not there yet made by several processes."""
    every = list(what)
    parts = [every[k : k + AT_ONCE] for k in range(0, len(every), AT_ONCE)]
    paths = [args.out / name / f"{number:05d}.npz" for number in range(len(parts))]
    todo = [(path, part) for path, part in zip(paths, parts, strict=True) if not path.exists()]
    with multiprocessing.get_context("spawn").Pool(args.processes, torch.set_num_threads, (1,)) as pool:
        done = pool.imap_unordered(partial(_write, frames_of), todo)
        for _ in tqdm(done, name, len(paths), initial=len(paths) - len(todo), unit=f" x {AT_ONCE}"):
            pass
    return paths


def _write(frames_of: Callable[[list], list[Frame]], job: tuple[Path, list]) -> None:
    write_frames(job[0], frames_of(job[1]))


def _frames_of(make: Callable[..., list[Frame]], jobs: list[tuple]) -> list[Frame]:
    frames = []
    for job in jobs:
        try:
            frames += make(*job)
        except (ValueError, *FAILURES):  # RDKit finds no conformer, or a calculation on the way fails
            continue
    return frames


def _classical(molecules: list[str]) -> list[Frame]:
    return _frames_of(classical_frames, [(one,) for one in molecules])


def _pairs(molecules: list[str], numbers: list[int]) -> list[Frame]:
    return [frame for number in numbers for frame in pair_frames(number, molecules)]


def _scans(jobs: list[tuple]) -> list[Frame]:
    return _frames_of(scan_frames, jobs)


def _bends(lowest: list[Frame]) -> list[Frame]:
    return _frames_of(bent_frames, [(one,) for one in lowest])


def _own(model: Path, number: int, molecules: list[str]) -> list[Frame]:
    return own_frames(load(model), molecules, number)


if __name__ == "__main__":
    main()
