"""The main job in four minutes: learn a force field of ethanol from bundled data, measure its errors, run dynamics.

    python examples/demo.py        (or: make demo)

Runs examples 03, 04 and 05 one after the other and sums them up.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def run(script: str, *options: str | Path) -> None:
    """Run one of the examples; end the demo with its exit status if it fails."""
    command = [sys.executable, str(HERE / script), *map(str, options)]
    print("\n$ python", script, *map(str, options), flush=True)
    status = subprocess.run(command, check=False).returncode
    if status:
        sys.exit(status)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0, help="time to train")
    parser.add_argument("--max-steps", type=int, default=-1, help="end training after so many steps")
    parser.add_argument("--picoseconds", type=float, default=2.0, help="length of the dynamics")
    parser.add_argument(
        "--out", type=Path, default=Path("results/demo"), help="folder; an earlier demo in it is replaced"
    )
    args = parser.parse_args()

    shutil.rmtree(args.out / "run", ignore_errors=True)
    folder, root = args.out / "run", args.out / "data"
    limits = ["--max-minutes", str(args.minutes), "--max-steps", str(args.max_steps)]
    # a short run wants large steps first and small ones soon; the paper's are 1e-3 and 100,000 for two million steps
    schedule = ["--learning-rate", "4e-3", "--decay-steps", "50", "--validate-every", "200"]
    run("03_train_md17.py", "--root", root, "--out", folder, *limits, *schedule)
    run("04_evaluate.py", "--run", folder, "--root", root)
    run("05_molecular_dynamics.py", "--run", folder, "--root", root, "--picoseconds", str(args.picoseconds))

    training, errors, dynamics = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("training", "errors", "nve")
    )
    unit = errors["unit"]
    rows = [
        ("energy error", f"{errors['energy_mae']:.3f}", f"{errors['energy_rmse']:.3f}", f"{unit} (MAE, RMSE)"),
        ("force error", f"{errors['forces_mae']:.3f}", f"{errors['forces_rmse']:.3f}", f"{unit}/Å (MAE, RMSE)"),
        ("training", f"{training['steps']}", f"{training['steps_per_second']:.1f}", "steps, steps/s"),
        ("dynamics", f"{dynamics['steps']}", f"{dynamics['steps_per_second']:.0f}", "steps, steps/s"),
        ("energy drift", f"{dynamics['drift_mev_per_atom_per_ps']:+.4f}", "", "meV/atom/ps"),
    ]
    print("\nSchNet, T=3, F=64, 1000 frames of ethanol (GFN2-xTB, 500 K)")
    for name, first, second, meaning in rows:
        print(f"  {name:14}{first:>10}{second:>10}  {meaning}")
    for figure in ("parity.png", "nve.png"):
        print(f"  {folder / figure}")


if __name__ == "__main__":
    main()
