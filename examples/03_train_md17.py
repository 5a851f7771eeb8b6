"""Train SchNet on energies and forces of a molecular dynamics trajectory, as in section III.D of the paper.

    python examples/03_train_md17.py                                       # bundled data, no download
    python examples/03_train_md17.py --molecule aspirin --max-steps 200000 # MD17

Interrupt it with Ctrl-C whenever you like; the same command with ``--resume`` goes on from the last validation.
"""

import argparse
import json
import logging
import sys
import warnings
from pathlib import Path

import torch

from pyg_schnet import SchNet
from pyg_schnet.datasets import MD17, random_split
from pyg_schnet.training import PotentialTask, SplitDataModule, fit


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("data")
    data.add_argument("--molecule", default="ethanol_xtb", help="a molecule of MD17, or ethanol_xtb, which is bundled")
    data.add_argument("--source", help="npz file or folder with it, instead of a download")
    data.add_argument("--root", default="results/data", help="folder for data")
    data.add_argument("--num-train", type=int, default=1000)
    data.add_argument("--num-val", type=int, default=500)
    model = parser.add_argument_group("model")
    model.add_argument("--blocks", type=int, default=3, help="interaction blocks T")
    model.add_argument("--features", type=int, default=64, help="feature maps F")
    model.add_argument(
        "--filters", choices=["exact", "table", "auto"], default="auto", help="how filters are evaluated"
    )
    run = parser.add_argument_group("training")
    run.add_argument("--rho", type=float, default=0.01, help="trade-off of energies and forces, equation (5)")
    run.add_argument("--learning-rate", type=float, default=1e-3)
    run.add_argument("--decay-steps", type=int, default=100_000, help="steps in which the rate falls by 0.96")
    run.add_argument("--batch-size", type=int, default=32)
    run.add_argument("--max-steps", type=int, default=-1, help="end after so many steps")
    run.add_argument("--max-minutes", type=float, help="end after so many minutes")
    run.add_argument("--validate-every", type=int, default=500, help="steps between validations")
    run.add_argument("--accelerator", default="auto", help="cpu, gpu, ...")
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--out", type=Path, help="folder of the run (default: results/MOLECULE)")
    run.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    args = parser.parse_args()
    if args.max_steps == -1 and args.max_minutes is None:
        args.max_steps = 10_000
    args.out = args.out or Path("results") / args.molecule
    return args


def main() -> None:
    args = arguments()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=UserWarning, module="lightning")
    torch.manual_seed(args.seed)

    dataset = MD17(args.root, args.molecule, source=args.source)
    split = random_split(len(dataset), args.num_train, args.num_val, args.seed)
    data = SplitDataModule(dataset, split, args.batch_size, args.seed)
    sizes = {"num_interactions": args.blocks, "hidden_channels": args.features, "num_filters": args.features}
    model = SchNet.preset("jcp2018", filters=args.filters, **sizes)
    model.reference.set(*data.energy_per_atom())
    task = PotentialTask(model, args.rho, args.learning_rate, decay_steps=args.decay_steps)
    result = fit(
        task,
        data,
        args.out,
        max_steps=args.max_steps,
        max_minutes=args.max_minutes,
        validate_every=args.validate_every,
        resume=args.resume,
        info={"dataset": "MD17", "molecule": args.molecule},
        accelerator=args.accelerator,
    )
    summary = {"steps": result.steps, "best_step": result.best_step, "steps_per_second": result.steps_per_second}
    (args.out / "training.json").write_text(json.dumps(summary, indent=2))
    print(f"{result.steps} steps, {result.steps_per_second:.1f} steps/s; best model of step {result.best_step}:")
    print(result.model)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
