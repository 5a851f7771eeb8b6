"""The C20 study of the paper (section III.E, appendix B, table V, figures 7, 8 and 11), by one command.

    python examples/c20/run.py --c20 FOLDER             # with the paper's networks, or --c20 download
    python examples/c20/run.py --c20 FOLDER --smoke     # all stages in less than a minute

1. The paper's own networks: the relaxed cage and its 54 vibrations.
2. Classical dynamics at 300 K, and path integrals with several numbers of beads by i-PI (extra ipi; --engine names the
   Python that has it, if it is another one): distances, energies by plain and by perturbed estimators.
3. Table V: frames at 500 K, labelled by the paper's networks, and seven SchNets trained for --minutes each (the paper's
   table has eight rows, of which two are the same network).

What is done is not done again: a study that was killed goes on with the same command. Expect bonds to be longer by some
tenths of a per cent with quantum nuclei and much more spread, and eight beads to be as good as thirty-two. Everything
goes to ``results/c20_study``: figures, ``report.md``, JSON files.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import cage
import classical
import figures
import labels
import path_integrals
import quantum
import report
import table5

from pyg_schnet import SchNet, load

#: Number of beads that the paper takes for converged; steps of a segment of a path integral with so many or fewer.
BEADS, STEPS = 8, 2500


def at_least(smallest: float, kind: type = float) -> Any:
    """What reads a number from the command line and refuses smaller ones."""

    def number(text: str) -> Any:
        value = kind(text)
        if value < smallest:
            raise argparse.ArgumentTypeError(f"expected {smallest:g} or more, got {text}")
        return value

    return number


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--c20", help='folder with the C20 networks, or "download"; PYG_SCHNET_DATA if not given')
    add("--out", type=Path, default=Path("results/c20_study"), help="folder of the study")
    add("--smoke", action="store_true", help="everything very short, to see that it works")
    add("--engine", default=sys.executable, help="the Python that has i-PI, and pyg_schnet")
    add("--beads", type=at_least(1, int), nargs="*", help="numbers of beads (default: 1 4 8 16 32)")
    how = "path integrals in ps, with more than 8 beads in proportion less"
    add("--picoseconds", type=at_least(0.05), default=25.0, help=how)
    add("--classical", type=at_least(0.2), default=100.0, help="classical dynamics in ps, of all copies")
    add("--minutes", type=at_least(0), default=60.0, help="training of each row of table V; 0 for no table V")
    frames, parts, rows = [20_000, 4_500, 4_500], ("TRAIN", "VAL", "TEST"), range(len(table5.ROWS))
    add("--frames", type=at_least(1, int), nargs=3, default=frames, metavar=parts, help="frames of table V")
    add("--replicas", type=at_least(1, int), default=58, help="copies of the cage that give them")
    add("--consistent", action="store_true", help="label energies, too, with the network that learnt forces")
    add("--rows", type=int, nargs="+", choices=rows, default=[*rows], help="rows of table V")
    args = parser.parse_args()
    args.beads = sorted(set(([2] if args.smoke else [1, 4, 8, 16, 32]) if args.beads is None else args.beads))
    if args.smoke:
        short = {"picoseconds": 0.1, "classical": 0.8, "minutes": 0.05, "frames": [64, 32, 32]}
        vars(args).update(short, replicas=8, rows=[0])
    return args


def quantum_nuclei(args: argparse.Namespace, files: dict[str, Path], model: SchNet, rest: dict[str, Any]) -> list[str]:
    """Stage 2, and its figures."""
    if not args.beads:
        return []
    atoms, out = cage.minimum_of(args.out), args.out
    replicas, interval = 8, 20
    frames = max(2, round(args.classical / replicas / (interval * path_integrals.TIMESTEP / 1000)))
    sizes = {"replicas": replicas, "frames": frames, "interval": interval, "timestep": path_integrals.TIMESTEP}
    trajectory = classical.simulate(model, atoms, out / "classical.traj", temperature=300.0, **sizes)
    runs, results = {}, {}
    for beads in args.beads:
        run = path_integrals.Run(out / f"beads_{beads:02d}", beads, 300.0)
        steps = round(min(STEPS, args.picoseconds * 1000 / path_integrals.TIMESTEP) * min(1, BEADS / beads))
        count = max(1, round(args.picoseconds * 1000 / path_integrals.TIMESTEP * min(1, BEADS / beads) / steps))
        common = (files["c20-force"], atoms, args.engine)
        path_integrals.extend(run, 1, min(1000, steps), *common)  # half a picosecond for the temperature
        runs[beads] = path_integrals.extend(run, 1 + count, steps, *common)
        results[beads] = quantum.path_integral(run, atoms)
    at_300 = quantum.classical_distances(trajectory, replicas)
    found = quantum.summary(runs, results, at_300, rest["c20-force"], out / "quantum.json")
    middle, most = BEADS if BEADS in results else max(results), max(results)
    best = results[most]["plain"].pair
    apart = {f"{beads} beads less {most}, {how}": quantum.overlap_error(result[how].pair, best)
             for beads, result in results.items() if beads != most
             for how in ("plain", "perturbed") if beads > 1 or how == "plain"}  # fmt: skip
    fewest = min(results)
    apart[f"classical less {fewest} beads, plain"] = quantum.overlap_error(at_300.pair, results[fewest]["plain"].pair)
    figures.draw_quantum_distances(at_300, results[middle]["plain"], middle, out / "c20_quantum_distances.png")
    figures.draw_convergence(results, at_300, found, out / "c20_beads.png")
    path = out / "times.json"
    if not path.exists():
        repetitions = 5 if args.smoke else 100
        times = {f"a call, {n}": quantum.time_of_the_network(model, atoms, n, repetitions) for n in (1, BEADS)}
        times["a step of classical dynamics, 1"] = quantum.time_of_dynamics(model, atoms, 20 * repetitions)
        path.write_text(json.dumps(times))
    times = json.loads(path.read_text())
    return [report.quantum_text(found, middle, apart), report.times_text(times)]


def table_five(args: argparse.Namespace, models: dict[str, SchNet]) -> list[str]:
    """Stage 3."""
    if args.minutes <= 0:
        return []
    atoms, counts = cage.minimum_of(args.out), tuple(args.frames)
    data = labels.labelled(models, atoms, counts, args.replicas, args.consistent, args.out)
    folder = args.out / ("table5_consistent" if args.consistent else "table5")
    rows = [table5.ROWS[number] for number in args.rows]
    found = [table5.trained(row, data, args.minutes, folder) for row in rows]
    return [report.table5_text(rows, found, data.gap, args.frames)]


def main() -> None:
    args = arguments()
    if args.beads:
        args.engine = path_integrals.check_engine(args.engine)
    args.out.mkdir(parents=True, exist_ok=True)
    files = cage.networks(args.c20, args.out)
    models = {name: load(path) for name, path in files.items()}
    rest = cage.vibrations(models, args.out)
    figures.draw_vibrations(rest, args.out / "c20_networks.png")
    parts = [report.vibrations_text(rest), *quantum_nuclei(args, files, models["c20-force"], rest)]
    parts += table_five(args, models)
    text = "\n\n".join(parts) + "\n"
    (args.out / "report.md").write_text(text)
    print(text)


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:  # ChildProcessError and FileNotFoundError too
        sys.exit(f"run.py: {error}")
