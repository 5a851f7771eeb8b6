"""What the C20 study found, in words and tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from quantum import hours
from table5 import Row


def vibrations_text(found: Mapping[str, Any]) -> str:
    """The two networks beside each other."""
    force, energy = (np.array(found[name]["wavenumbers_cm"]) for name in ("c20-force", "c20-energy"))
    gap = 100 * np.abs(energy / force - 1)
    lines = ["## Vibrations", "", "| | force network | energy network |", "|---|---:|---:|"]
    of = [found[name] for name in ("c20-force", "c20-energy")]
    lines += [
        _line(
            "bonds, shortest to longest (Å)", *(f"{one['bonds_Ang'][0]:.4f} to {one['bonds_Ang'][2]:.4f}" for one in of)
        ),
        _line("vibrations (1/cm)", *(f"{len(w)}: {w[0]:.1f} to {w[-1]:.1f}" for w in (force, energy))),
        _line("zero-point energy (eV)", *(f"{one['zero_point_energy_eV']:.4f}" for one in of)),
    ]
    within = int((gap <= 1.0).sum())
    lines += [
        "",
        f"Of {len(gap)} wavenumbers {within} are within 1 % of each other; median {np.median(gap):.2f} %, largest "
        f"{gap.max():.1f} % (at {force[gap.argmax()]:.0f}/cm), largest above 200/cm {gap[force > 200].max():.2f} %.",
    ]
    return "\n".join(lines)


def quantum_text(report: Mapping[str, Any], beads: int, apart: Mapping[str, tuple[float, float]]) -> str:
    """Classical and quantum nuclei, convergence with beads, statements of the paper."""
    lines = ["## Quantum nuclei at 300 K", ""]
    lines += ["| distances (Å): mean, width | classical | " + " | ".join(f"{p} beads" for p in report["beads"]) + " |"]
    lines += ["|---|" + "---:|" * (1 + len(report["beads"]))]
    for kind in ("nearest", "diameter", "antipodal", "pair"):
        every = [report["classical"][kind], *(one["plain"][kind] for one in report["beads"].values())]
        lines.append(_line(f"{kind}, plain", *(_distance(one) for one in every)))
        more = [_distance(one["perturbed"][kind]) if p != "1" else "" for p, one in report["beads"].items()]
        lines.append(_line(f"{kind}, perturbed", "", *more))
    lines += ["", "| energies (eV) | " + " | ".join(f"{p} beads" for p in report["beads"]) + " |"]
    lines += ["|---|" + "---:|" * len(report["beads"])]
    names = ("total", "perturbed_total", "potential", "perturbed_potential", "kinetic", "kinetic_primitive")
    for name in (*names, "perturbed_kinetic", "perturbation", "spread", "gyration"):
        every = [one["energies_eV"][name] for one in report["beads"].values()]
        lines.append(_line(name.replace("_", " "), *(f"{value:.3f} ± {error:.3f}" for value, error in every)))
    for name in ("plain", "perturbed"):
        lines.append(
            _line(f"harmonic, {name}", *(f"{one['harmonic_eV'][name]:.3f}" for one in report["beads"].values()))
        )
    lines.append(_line("frames, ps", *(f"{one['frames']}, {one['picoseconds']:g}" for one in report["beads"].values())))
    times = [1e3 * np.array(one["seconds_per_step"]) for one in report["beads"].values()]
    lines.append(_line("ms a step: wall, processor", *(f"{wall:.1f}, {processor:.1f}" for wall, processor in times)))
    years = [f"{hours(one['seconds_per_step'][1]):.1f}" for one in report["beads"].values()]
    lines.append(_line("hours of a core for 1.25 ns", *years))
    lines += ["", f"Exact energy of the harmonic oscillators: {report['harmonic_exact_eV']:.3f} eV.", ""]
    return "\n".join([*lines, *_statements(report, beads, apart)])


def _statements(report: Mapping[str, Any], beads: int, apart: Mapping[str, tuple[float, float]]) -> list[str]:
    classical, quantum = report["classical"], report["beads"][str(beads)]["plain"]
    one, other = classical["nearest"], quantum["nearest"]
    growth = 100 * (other["mean"] / one["mean"] - 1)
    error = 100 * np.hypot(one["mean_error"], other["mean_error"]) / one["mean"]
    wider = other["deviation"] / one["deviation"]
    lines = [
        f"- bonds are longer by {growth:.3f} ± {error:.3f} % with {beads} beads (paper: less than 0.5 %)",
        f"- their distribution is {wider:.2f} times as wide (paper: considerably delocalised)",
    ]
    for name, (gap, noise) in apart.items():
        lines.append(
            f"- h(r), {name}: {100 * gap:.2f} % of the pairs are elsewhere; errors alone give {100 * noise:.2f} %"
        )
    return lines


def times_text(times: Mapping[str, tuple[float, float]]) -> str:
    """Time of the network beside the paper's."""
    lines = ["## Time of the network", "", "| what, structures | ms, wall | ms, processor |", "|---|---:|---:|"]
    lines += [_line(name, f"{1e3 * wall:.2f}", f"{1e3 * processor:.2f}") for name, (wall, processor) in times.items()]
    return "\n".join([*lines, "", "The paper: 10 ms on a GTX 1080, and less than 7 h for 1.25 ns."])


def table5_text(rows: Sequence[Row], found: Sequence[Mapping[str, Any]], gap: Mapping[str, float], counts: Any) -> str:
    """Table V beside the paper's."""
    lines = [
        f"## Table V: {counts[0]} frames to train, {counts[1]} to validate, {counts[2]} to test",
        "",
        "| T | F | rho | energy | paper | forces | paper | steps | minutes |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row, one in zip(rows, found, strict=True):
        figures = (f"{one['energy_kcal']:.3f}", f"{row.energy:g}", f"{one['forces_kcal']:.3f}", f"{row.forces:g}")
        size = (str(row.blocks), str(row.features), f"{row.rho:g}")
        lines.append(_line(*size, *figures, str(one["steps"]), f"{one['minutes']:g}"))
    lines += [
        "",
        "Mean absolute errors in kcal/mol and kcal/mol/Å. The two networks of the labels are "
        f"{gap['energy_mae_kcal']:.3f} and {gap['forces_mae_kcal']:.3f} apart on these frames; labels scatter by "
        f"{gap['energy_spread_kcal']:.1f} and {gap['forces_spread_kcal']:.1f}.",
    ]
    return "\n".join(lines)


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _distance(one: Mapping[str, float]) -> str:
    return f"{one['mean']:.4f} ± {one['mean_error']:.4f}, {one['deviation']:.4f} ± {one['deviation_error']:.4f}"
