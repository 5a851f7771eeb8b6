"""Errors of a trained model on the frames it has not seen, as in tables III and IV of the paper.

    python examples/04_evaluate.py --run results/ethanol_xtb

Writes ``errors.json`` and ``parity.png`` into the folder of the run.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

from pyg_schnet import load
from pyg_schnet.analysis import error_summary, parity_plot, predict
from pyg_schnet.datasets import MD17
from pyg_schnet.models import read_header


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("results/ethanol_xtb"), help="folder of the training run")
    parser.add_argument("--root", default="results/data", help="folder for data")
    parser.add_argument("--source", help="npz file or folder with it, instead of a download")
    parser.add_argument("--unit", default="kcal/mol", help="unit of energies; forces are per Angstrom")
    parser.add_argument("--max-frames", type=int, help="evaluate only so many frames")
    args = parser.parse_args()

    model = load(args.run / "model.safetensors")
    training = read_header(args.run / "model.safetensors")["training"]
    dataset = MD17(args.root, training["molecule"], source=args.source)
    test = torch.from_numpy(np.load(args.run / "split.npz")["test"])[: args.max_frames]

    predictions = predict(model, dataset[test])
    errors = error_summary(predictions, args.unit)
    spread = float(np.abs(predictions.energy_target - predictions.energy_target.mean()).mean())
    report = {"unit": args.unit, "frames": len(test), "mean_predictor_ev": spread, **errors}
    (args.run / "errors.json").write_text(json.dumps(report, indent=2))
    figure = parity_plot(predictions, args.run / "parity.png", args.unit)

    print(f"{len(test)} frames of {training['molecule']}, {training['steps']} training steps")
    print(f"{'':8}{'MAE':>8}{'RMSE':>8}")
    print(f"{'energy':8}{errors['energy_mae']:8.3f}{errors['energy_rmse']:8.3f}  {args.unit}")
    print(f"{'forces':8}{errors['forces_mae']:8.3f}{errors['forces_rmse']:8.3f}  {args.unit}/Å")
    print(figure)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
