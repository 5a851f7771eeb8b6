"""One table, and learning curves as in figure 3 of the paper, of many runs of ``pyg-schnet``.

pyg-schnet fit --config examples/configs/md17.yaml ... ; pyg-schnet test --config results/md17-ethanol/config.yaml
python examples/10_collect_results.py results/md17-* --curve curve.png
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yaml

from pyg_schnet.analysis import learning_curve
from pyg_schnet.units import conversion


def read(folder: Path, part: str) -> dict[str, Any]:
    """Report and settings of a run."""
    report = json.loads((folder / part / "report.json").read_text())
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    model = settings["model"]["init_args"]["model"]
    return report | {"folder": folder.name, "model": model["class_path"].split(".")[-1], "sizes": model["init_args"]}


def in_unit(value: float, unit: str, wanted: str) -> float:
    return value if unit == wanted else value * conversion(unit, wanted)


def rows_of(report: dict[str, Any]) -> list[list[str]]:
    """A row for each target: run, model, examples, steps, minutes, error, the paper's."""
    facts, sizes = report["facts"], report["sizes"]
    head = [report["folder"], f"{report['model']} T={sizes.get('num_interactions')}", f"{facts['num_train']:,}"]
    head += [f"{facts.get('steps', 0):,}", f"{facts.get('seconds', 0) / 60:.0f}"]
    rows = []
    for name, target in report["targets"].items():
        published = target.get("published")
        paper = ""
        if published:
            value = in_unit(published["value"], published["unit"], target["unit"])
            paper = f"{value:.3g} (N = {published['num_train']:,})"
        rows.append([*head, name, target["unit"], f"{target['mae']:.3g}", f"{target['mae_of_mean']:.3g}", paper])
    return rows


def curves_of(reports: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Errors of the first target against the number of training examples, for each number of interaction blocks."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for report in sorted(reports, key=lambda one: one["facts"]["num_train"]):
        label = f"{report['model']}, T = {report['sizes'].get('num_interactions')}"
        error = next(iter(report["targets"].values()))["mae"]
        curves.setdefault(label, []).append((report["facts"]["num_train"], error))
    return dict(sorted(curves.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs that were tested")
    parser.add_argument("--part", default="test", help="which report")
    parser.add_argument("--curve", type=Path, help="PNG of learning curves to write")
    args = parser.parse_args()

    tested = [folder for folder in args.runs if (folder / args.part / "report.json").exists()]
    if not tested:
        raise FileNotFoundError(f"none of the folders has {args.part}/report.json; run `pyg-schnet test` first")
    reports = [read(folder, args.part) for folder in tested]
    head = ["run", "model", "N", "steps", "min", "target", "unit", "MAE", "of the mean", "paper"]
    for row in [head, ["---"] * len(head), *(row for report in reports for row in rows_of(report))]:
        print("| " + " | ".join(row) + " |")
    if args.curve:
        (name, target), *_ = reports[0]["targets"].items()
        print(learning_curve(curves_of(reports), args.curve, unit=target["unit"], target=name))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
