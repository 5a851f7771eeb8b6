"""sGDML (symmetric gradient domain machine learning) on the frames SchNet learns from, beside tables III and IV.

    python examples/baselines/sgdml_md17.py --molecule ethanol                     # MD17
    python examples/baselines/sgdml_md17.py --molecule ethanol_xtb --num-train 50  # bundled data, no download

Needs the package sgdml (``pip install sgdml``). The split is the one ``examples/03_train_md17.py`` makes of the same
numbers and seed. The model learns from forces alone, as GDML in the paper; energies follow by integration. The length
scale is chosen with fewer frames (``--select``), as a model of 1000 frames of 9 atoms takes 12 GB of memory and some
eight minutes of one CPU core. Writes ``sgdml.json``.
"""

import argparse
import json
import logging
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from pyg_schnet.analysis import Predictions, error_summary
from pyg_schnet.datasets import MD17, StructureLoader, random_split

PARTS = ("energy_mae", "energy_rmse", "forces_mae", "forces_rmse")
#: Tables III and IV, N = 1000: MAE of energies and forces of GDML, then of SchNet, in kcal/mol and kcal/mol/Angstrom.
PAPER = {
    "benzene": (0.07, 0.23, 0.08, 0.31),
    "toluene": (0.12, 0.24, 0.12, 0.57),
    "malonaldehyde": (0.16, 0.80, 0.13, 0.66),
    "salicylic_acid": (0.12, 0.28, 0.20, 0.85),
    "aspirin": (0.27, 0.99, 0.37, 1.35),
    "ethanol": (0.15, 0.79, 0.08, 0.39),
    "uracil": (0.11, 0.24, 0.14, 0.56),
    "naphthalene": (0.12, 0.23, 0.16, 0.58),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--molecule", default="ethanol_xtb", help="a molecule of MD17, or ethanol_xtb, which is bundled"
    )
    parser.add_argument("--source", help="npz file or folder with it, instead of a download")
    parser.add_argument("--root", default="results/data", help="folder for data")
    parser.add_argument("--num-train", type=int, default=1000)
    parser.add_argument("--num-val", type=int, default=1000, help="frames on which the length scale is chosen")
    parser.add_argument("--max-test", type=int, help="test on so many of the frames left (default: all)")
    parser.add_argument(
        "--sigmas", type=int, nargs="+", default=[10, 15, 20], help="length scales of the kernel to try"
    )
    parser.add_argument("--select", type=int, default=250, help="learn from so many frames to choose the length scale")
    parser.add_argument("--processes", type=int, default=1, help="CPU cores")
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    parser.add_argument("--out", type=Path, help="folder of the result (default: results/sgdml_MOLECULE)")
    args = parser.parse_args()
    args.out = args.out or Path("results") / f"sgdml_{args.molecule}"
    return args


def package(processes: int) -> tuple[Any, Any]:
    """What trains, within the memory that is free, and what predicts."""
    try:
        import psutil  # noqa: PLC0415  a dependency of sgdml
        from sgdml.predict import GDMLPredict  # noqa: PLC0415
        from sgdml.train import GDMLTrain  # noqa: PLC0415
    except ImportError as error:
        raise ImportError("this baseline needs the package sgdml; install it with pip install sgdml") from error
    free = max(1, psutil.virtual_memory().available // 2**30)
    trainer = GDMLTrain(max_memory=free, max_processes=processes)
    trainer.log.setLevel(logging.WARNING)
    return trainer, GDMLPredict


def frames(dataset: MD17) -> dict[str, Any]:
    """Frames in sgdml's layout, in eV: it scales labels by their standard deviation, so units do not matter."""
    batch = next(iter(StructureLoader(dataset, batch_size=len(dataset))))
    pos, forces = (one.double().reshape(len(dataset), -1, 3).numpy() for one in (batch.pos, batch.forces))
    z = batch.z[: pos.shape[1]].numpy().astype(np.uint8)
    about = {"name": np.array("MD17"), "theory": np.array("as published"), "type": "d"}
    return {"z": z, "R": pos, "E": batch.energy.double().numpy(), "F": forces, **about}


def evaluate(predictor: Any, data: dict[str, Any], title: str) -> dict[str, float]:
    """Errors in kcal/mol and kcal/mol/Angstrom."""
    pos = data["R"].reshape(len(data["R"]), -1)
    pieces = tqdm(np.array_split(pos, 1 + len(pos) // 100), title, unit="batch", leave=False)
    parts = [predictor.predict(piece) for piece in pieces]
    energy, forces = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return error_summary(Predictions(energy, data["E"], forces.reshape(data["F"].shape), data["F"]))


def learn(trainer: Any, predictor_of: Any, data: dict[str, Any], args: argparse.Namespace) -> tuple[Any, Any, list]:
    """The model of the length scale of least force error on the validation frames, its predictor, all errors."""
    train, val = data["train"], data["val"]
    tried: list[dict[str, float]] = []
    shape = "{desc:52}{percentage:3.0f}%|{bar}| {elapsed}"
    with tqdm(total=1, bar_format=shape, mininterval=1, leave=False) as bar:

        def progress(current: int, total: int | None = None, disp_str: str = "", **_: Any) -> None:
            bar.set_description_str(disp_str.strip(), refresh=bar.desc != disp_str.strip())
            bar.update((current / total if total else 0.0) - bar.n)

        # all frames are taken: where sgdml 1.0.3 draws some, it calls a function that numpy 2.4 has no more
        task = trainer.create_task(train, len(train["E"]), val, len(val["E"]), sig=args.sigmas[0], callback=progress)
        step = -(-args.num_train // args.select)
        fewer = {name: task[name][::step] for name in ("R_train", "F_train", "E_train", "idxs_train")}
        for sigma in args.sigmas:
            model = trainer.train({**task, **fewer, "sig": sigma}, callback=progress)
            errors = evaluate(predictor_of(model, max_processes=args.processes), val, "validating")
            tried.append({"sigma": sigma, "frames": len(fewer["E_train"]), **errors})
        best = min(tried, key=lambda one: one["forces_mae"])
        model = trainer.train({**task, "sig": best["sigma"]}, callback=progress)
    predictor = predictor_of(model, max_processes=args.processes)
    tried.append({"sigma": best["sigma"], "frames": args.num_train, **evaluate(predictor, val, "validating")})
    return model, predictor, tried


def table(report: dict[str, Any]) -> str:
    """Errors for reading, beside those of the paper where it has some."""
    tried = report["validation"]
    rows = [(f"validation, sigma {one['sigma']}, {one['frames']} frames", one) for one in tried]
    rows.append((f"test, sigma {report['sigma']}, {report['num_train']} frames", report["test"]))
    lines = [f"{'kcal/mol, kcal/mol/Å':34}" + "".join(f"{part.replace('_', ' '):>13}" for part in PARTS)]
    lines += [f"{title:34}" + "".join(f"{errors[part]:13.3f}" for part in PARTS) for title, errors in rows]
    if report["num_train"] == 1000 and report["molecule"] in PAPER:
        energy, forces, ours, our_forces = PAPER[report["molecule"]]
        lines.append(f"{'paper: GDML':34}{energy:13.2f}{forces:26.2f}")
        lines.append(f"{'paper: SchNet':34}{ours:13.2f}{our_forces:26.2f}")
    return "\n".join(lines)


def main() -> None:
    args = arguments()
    if args.select < 1:
        raise ValueError(f"--select must be at least 1 frame, got {args.select}")
    trainer, predictor_of = package(args.processes)  # before any data are read
    dataset = MD17(args.root, args.molecule, source=args.source)
    split = random_split(len(dataset), args.num_train, args.num_val, args.seed)
    if args.num_val < 1 or not len(split["test"]):
        raise ValueError(f"no frame of {len(dataset)} is left to validate or to test; use other --num-train, --num-val")
    if args.max_test is not None and args.max_test < len(split["test"]):
        split["test"] = split["test"][torch.linspace(0, len(split["test"]) - 1, args.max_test).long()]
    data = {part: frames(dataset[chosen]) for part, chosen in split.items()}
    start = time.perf_counter()
    model, predictor, tried = learn(trainer, predictor_of, data, args)
    report = {
        "molecule": dataset.name,
        **{f"num_{part}": len(chosen) for part, chosen in split.items()},
        "seed": args.seed,
        "sigma": int(model["sig"]),
        "permutations": len(model["perms"]),
        "solver": model["solver_name"],
        "seconds": round(time.perf_counter() - start, 1),
        "validation": tried,
        "test": evaluate(predictor, data["test"], "testing"),
        "versions": {name: version(name) for name in ("sgdml", "numpy", "scipy")},
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "sgdml.json").write_text(json.dumps(report, indent=2))
    print(f"{dataset.name}: {report['num_train']} frames to train, {report['num_test']} to test")
    print(table(report))


if __name__ == "__main__":
    try:
        main()
    except (ImportError, ValueError, OSError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
