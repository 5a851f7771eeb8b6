"""Kernel ridge regression on sine and Ewald sum matrices of crystals, for the other rows of table II.

    python examples/baselines/kernel_ridge_crystals.py                                   # bundled data, no download
    python examples/baselines/kernel_ridge_crystals.py --name megnet2018 --num-train 3000 --num-val 1000

Needs the package dscribe (``pip install dscribe``). Descriptors and kernel are those of Faber et al., Int. J. Quantum
Chem. 115, 1094 (2015), whose errors table II repeats: k(a, b) = exp(-|a - b| / width), with the sum of absolute
differences. A matrix enters as its eigenvalues, largest first and padded with zeros, or whole, with rows sorted by
their norm (``--rows``, which needs ``--max-atoms``). Writes ``kernel_ridge.json``.
"""

import argparse
import itertools
import json
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from pyg_schnet.datasets import MaterialsProject, random_split

try:
    from ase import Atoms
    from dscribe.descriptors import EwaldSumMatrix, SineMatrix
    from scipy.linalg import cho_factor, cho_solve
    from scipy.spatial.distance import cdist
except ImportError as error:
    MISSING: ImportError | None = error
else:
    MISSING = None

NAMES = ("sine matrix", "Ewald sum matrix")
#: Table II, N = 3000, in eV/atom.
PAPER = {"extended Coulomb matrix": 0.64, "Ewald sum matrix": 0.49, "sine matrix": 0.37, "SchNet": 0.127}
#: Widths of the kernel in medians of the distances between crystals.
WIDTHS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)
RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
EWALD_ACCURACY = 1e-3  # dscribe's default, 1e-5, takes 1.6 times as long


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="bundled", help="megnet2018, matbench, or bundled, which needs no download")
    parser.add_argument("--source", help="file of the snapshot or folder with it, instead of a download")
    parser.add_argument("--root", default="results/data", help="folder for data")
    parser.add_argument("--num-train", type=int, default=300)
    parser.add_argument("--num-val", type=int, default=100, help="crystals on which width and ridge are chosen")
    parser.add_argument("--max-test", type=int, help="test on so many of the crystals left (default: all)")
    parser.add_argument("--max-atoms", type=int, help="leave out crystals of more atoms in the cell")
    parser.add_argument("--rows", action="store_true", help="whole matrices with sorted rows instead of eigenvalues")
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    parser.add_argument("--out", type=Path, help="folder of the result (default: results/kernel_ridge_NAME)")
    args = parser.parse_args()
    args.out = args.out or Path("results") / f"kernel_ridge_{args.name}"
    return args


def describe(crystals: MaterialsProject, name: str, size: int, rows: bool) -> NDArray:
    """Descriptors [M, features] of crystals of at most ``size`` atoms."""
    maker = (SineMatrix if name == "sine matrix" else EwaldSumMatrix)(size, "sorted_l2" if rows else "eigenspectrum")
    options: dict[str, float] = {} if name == "sine matrix" else {"accuracy": EWALD_ACCURACY}
    described = []
    for data in tqdm(crystals, name, unit="crystal", leave=False):
        crystal = Atoms(data.z.numpy(), data.pos.double().numpy(), cell=data.cell[0].double().numpy(), pbc=True)
        # dscribe 2.1.2 passes it by position, where ASE 3.29 takes velocities
        crystal.info = None  # type: ignore[assignment]
        described.append(maker.create(crystal, **options))
    return np.stack(described)


def learn(x: dict[str, NDArray], y: dict[str, NDArray]) -> dict[str, Any]:
    """Choose width and ridge by the error on the validation set, and test them."""
    mean, count = y["train"].mean(), len(y["train"])
    distances = {part: cdist(x[part], x["train"], "cityblock") for part in ("train", "val")}
    widths = float(np.median(distances["train"])) * np.array(WIDTHS)
    best: dict[str, Any] = {"val_mae": np.inf}
    weights = np.zeros(count)
    grid = list(itertools.product(widths, RIDGES))
    for width, ridge in tqdm(grid, "choosing width and ridge", leave=False):
        k = {part: np.exp(-distance / width) for part, distance in distances.items()}
        try:
            factor = cho_factor(k["train"] + ridge * np.eye(count), overwrite_a=True)
        except np.linalg.LinAlgError:  # the ridge is too small for so wide a kernel
            continue
        tried = cho_solve(factor, y["train"] - mean)
        error = float(np.abs(k["val"] @ tried + mean - y["val"]).mean())
        if error < best["val_mae"]:
            best, weights = {"val_mae": error, "width": float(width), "ridge": ridge}, tried
    pieces = np.array_split(x["test"], 1 + len(x["test"]) // 1000)
    kernels = (np.exp(-cdist(piece, x["train"], "cityblock") / best["width"]) for piece in pieces)
    predicted = np.concatenate([k @ weights for k in kernels]) + mean
    return {"test_mae": float(np.abs(predicted - y["test"]).mean()), **best}


def table(report: dict[str, Any]) -> str:
    """Mean absolute errors for reading, beside those of the paper if as many crystals were learnt from."""
    limit = f"; {report['left_out']} of more than {report['max_atoms']} atoms left out" if report["max_atoms"] else ""
    lines = [
        f"{report['num_train']} crystals of {report['name']} to train, {report['num_test']} to test{limit}",
        f"{'MAE in eV/atom, ' + report['form']:38}{'validation':>12}{'test':>8}{'width':>10}{'ridge':>8}",
    ]
    for name in NAMES:
        one = report[name]
        lines.append(f"{name:38}{one['val_mae']:12.3f}{one['test_mae']:8.3f}{one['width']:10.3g}{one['ridge']:8.0e}")
    lines.append(f"{'mean of the training set':50}{report['mean_predictor_mae']:8.3f}")
    if report["name"] != "bundled" and report["num_train"] == 3000:
        lines += [f"{'paper: ' + name:50}{error:8.3g}" for name, error in PAPER.items()]
    return "\n".join(lines)


def main() -> None:
    args = arguments()
    if MISSING is not None:
        raise ImportError("this baseline needs the package dscribe; install it with pip install dscribe") from MISSING
    warnings.filterwarnings("ignore", category=FutureWarning, module="dscribe")
    dataset = MaterialsProject(args.root, args.name, source=args.source)
    sizes = dataset.slices["z"].diff()
    size = int(sizes.max()) if args.max_atoms is None else args.max_atoms
    if args.rows and args.max_atoms is None:
        raise ValueError(f"whole matrices of up to {size} atoms are too large; set --max-atoms, for example to 25")
    kept = dataset[sizes <= size]
    split = random_split(len(kept), args.num_train, args.num_val, args.seed)
    if args.num_val < 1 or not len(split["test"]):
        raise ValueError(f"no crystal of {len(kept)} is left to validate or to test; use other --num-train, --num-val")
    if args.max_test is not None and args.max_test < len(split["test"]):
        split["test"] = split["test"][torch.linspace(0, len(split["test"]) - 1, args.max_test).long()]
    crystals = {part: kept[chosen] for part, chosen in split.items()}
    y = {part: np.array([float(data.formation_energy) for data in of]) for part, of in crystals.items()}
    report: dict[str, Any] = {
        "name": args.name,
        **{f"num_{part}": len(chosen) for part, chosen in split.items()},
        "max_atoms": args.max_atoms,
        "left_out": len(dataset) - len(kept),
        "seed": args.seed,
        "form": "sorted rows" if args.rows else "eigenvalues",
        "mean_predictor_mae": float(np.abs(y["test"] - y["train"].mean()).mean()),
        "versions": {name: version(name) for name in ("dscribe", "ase", "numpy", "scipy")},
    }
    for name in NAMES:
        start = time.perf_counter()
        x = {part: describe(of, name, size, args.rows) for part, of in crystals.items()}
        described = time.perf_counter()
        report[name] = learn(x, y)
        seconds = {"described_s": described - start, "learnt_s": time.perf_counter() - described}
        report[name] |= {what: round(duration, 1) for what, duration in seconds.items()}
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "kernel_ridge.json").write_text(json.dumps(report, indent=2))
    print(table(report))


if __name__ == "__main__":
    try:
        main()
    except (ImportError, ValueError, OSError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
