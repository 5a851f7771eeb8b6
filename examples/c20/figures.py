"""Figures of the C20 study."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pyg_schnet.analysis import draw_cluster_distributions
from pyg_schnet.analysis.figure import BLUE, GREY, ORANGE, panel_grid, save_figure
from pyg_schnet.analysis.structure.structure_figures import COLOURS


def draw_vibrations(found: Mapping[str, Any], path: Path) -> Path:
    """Wavenumbers by both networks, and by how much they differ: as figure 7, of which DFT is not published."""
    force, energy = (np.array(found[name]["wavenumbers_cm"]) for name in ("c20-force", "c20-energy"))
    figure, (above, below) = panel_grid(2, width=6.0, height=2.6, columns=1)
    modes = np.arange(1, len(force) + 1)
    above.plot(modes, force, "o", color=BLUE, markersize=4, label="network for forces")
    above.plot(modes, energy, "x", color=ORANGE, markersize=4, label="network for energies")
    above.set(ylabel="wavenumber (1/cm)", xlim=(0, len(force) + 1))
    above.set_ylim(0, None)
    above.legend(frameon=False, fontsize=8)
    below.axhspan(-1, 1, color=GREY, alpha=0.25, linewidth=0)
    below.bar(modes, np.clip(100 * (energy / force - 1), -6, 6), color=ORANGE, width=0.7)
    below.set(xlabel="mode", ylabel="difference (%), cut at 6", xlim=(0, len(force) + 1), ylim=(-6.3, 6.3))
    return save_figure(figure, path)


def draw_quantum_distances(classical: Any, quantum: Any, beads: int, path: Path) -> Path:
    """Figure 8: distributions of classical and of quantum nuclei."""
    return save_figure(draw_cluster_distributions({"classical": classical, f"{beads} beads": quantum}), path)


def draw_convergence(
    results: Mapping[int, Mapping[str, Any]], classical: Any, report: Mapping[str, Any], path: Path
) -> Path:
    """Figure 11, and the energies: what changes with the number of beads."""
    figure, (left, right) = panel_grid(2, width=5.2, height=3.6)
    left.plot(classical.pair.r.numpy(), classical.pair.density.numpy(), color=GREY, linewidth=1.0, label="classical")
    for number, (beads, result) in enumerate(sorted(results.items())):
        pair, colour = result["plain"].pair, COLOURS[number % len(COLOURS)]
        left.plot(pair.r.numpy(), pair.density.numpy(), color=colour, linewidth=1.0, label=f"{beads} beads")
    left.set(xlabel="distance (Å)", ylabel="h(r) (1/Å)", xlim=(1.2, 4.7), title="pairs, plain estimator")
    left.set_ylim(0, None)
    left.legend(frameon=False, fontsize=8)
    numbers = sorted(int(beads) for beads in report["beads"])
    several = [beads for beads in numbers if beads > 1]  # with one bead, the perturbation is no small one
    for name, label, places, colour, marker in (
        ("total", "plain", numbers, BLUE, "o"),
        ("perturbed_total", "perturbed", several, ORANGE, "s"),
    ):
        value, error = zip(*(report["beads"][str(beads)]["energies_eV"][name] for beads in places), strict=True)
        right.errorbar(places, value, error, color=colour, marker=marker, linestyle="", capsize=2, label=label)
        curve = report["harmonic_by_beads_eV"][label][places[0] - 1 :]
        right.plot(range(places[0], places[0] + len(curve)), curve, "--", color=colour, linewidth=0.8,
                   label=f"{label}, harmonic")  # fmt: skip
    right.axhline(report["harmonic_exact_eV"], color=GREY, linewidth=0.8, label="exact, harmonic")
    right.set(xlabel="beads", ylabel="energy above the minimum (eV)", xscale="log", title="energy at 300 K")
    right.set_xticks(numbers, [str(beads) for beads in numbers])
    right.minorticks_off()
    right.legend(frameon=False, fontsize=8)
    return save_figure(figure, path)
