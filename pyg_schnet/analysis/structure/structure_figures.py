"""Figures of the structure and the motion of simulated matter (extra ``plot``)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pyg_schnet.analysis.figure import BLUE, GREY, ORANGE, new_axes, panel_grid
from pyg_schnet.analysis.structure.cluster_distances import ClusterDistances, Distribution
from pyg_schnet.analysis.structure.density_of_states import DensityOfStates
from pyg_schnet.analysis.structure.displacement import Diffusion, Displacement
from pyg_schnet.analysis.structure.radial_distribution import RadialDistribution
from pyg_schnet.units import SYMBOLS

#: Colours of curves in their order.
COLOURS = (BLUE, ORANGE, "#2f855a", "#6b46c1", "#b83280", "#975a16")
#: Part of the largest density below which the ends of an axis are cut off.
_FLAT = 1e-3


def draw_radial_distribution(
    distributions: RadialDistribution | Mapping[Any, RadialDistribution],
    axes: Any = None,
    *,
    coordination: bool = False,
) -> Any:
    """Draw radial distribution functions with their errors.

    Args:
        distributions: One, or several by name: what :func:`radial_distribution` or :func:`partial_distributions`
            returns (of the latter (a, b) and (b, a) are drawn once).
        axes: Axes of matplotlib, ``None`` for new ones.
        coordination: True to draw the running coordination numbers, dashed, on an axis at the right.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there is nothing to draw, or g(r) is mixed with h(r).

    Example:
        >>> from ase.build import bulk
        >>> from pyg_schnet.analysis.structure.radial_distribution import radial_distribution
        >>> draw_radial_distribution(radial_distribution(bulk("Cu"), r_max=5.0)).get_xlabel()
        'distance r (Å)'
    """
    named = _named(distributions, RadialDistribution)
    kinds = {one.density is None for one in named.values()}
    if len(kinds) > 1:
        raise ValueError("g(r) and h(r) have different units; draw them into axes of their own")
    axes = new_axes(axes, 6.0, 3.6)
    right = axes.twinx() if coordination else None
    for number, (name, one) in enumerate(named.items()):
        colour = COLOURS[number % len(COLOURS)]
        _band(axes, one.r, one.g, one.error, colour, name)
        if right is not None:
            right.plot(one.edges[1:].numpy(), one.coordination.numpy(), "--", color=colour, linewidth=1.0)
    if right is not None:
        right.set(ylabel="neighbours closer than r (dashed)")
        right.set_ylim(0, None)
        right.spines[["top"]].set_visible(False)
    if kinds == {False}:
        axes.axhline(1.0, color=GREY, linewidth=0.7, zorder=0)
    last = max(float(one.edges[-1]) for one in named.values())
    axes.set(xlabel="distance r (Å)", ylabel="h(r) (1/Å)" if kinds == {True} else "g(r)", xlim=(0, last))
    axes.set_ylim(0, None)
    _legend(axes, named)
    return axes


def draw_cluster_distributions(
    distances: ClusterDistances | Mapping[str, ClusterDistances], figure: Any = None, *, antipodal: bool = False
) -> Any:
    """Draw nearest-neighbour, diameter and pair distribution side by side, several trajectories above each other.

    As figure 8 of J. Chem. Phys. 148, 241722 (2018).

    Args:
        distances: What :func:`cluster_distances` returns, or several of them by name.
        figure: Figure of matplotlib to draw into, ``None`` for a new one.
        antipodal: True if the second panel shows the distances of opposite atoms in place of the largest one.

    Returns:
        The figure, whose axes are the three panels.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there is nothing to draw.

    Example:
        >>> from ase.build import molecule
        >>> from pyg_schnet.analysis.structure.cluster_distances import cluster_distances
        >>> len(draw_cluster_distributions(cluster_distances(molecule("C60"))).axes)
        3
    """
    named = _named(distances, ClusterDistances)
    if figure is None:
        figure, panels = panel_grid(3, width=3.6, height=3.2)
    else:
        panels = [figure.add_subplot(1, 3, place) for place in (1, 2, 3)]
    second = "antipodal" if antipodal else "diameter"
    titles = {
        "nearest": "nearest neighbours",
        second: "opposite atoms" if antipodal else "diameter",
        "pair": "all pairs",
    }
    for panel, (field, title) in zip(panels, titles.items(), strict=True):
        shown = {name: getattr(one, field) for name, one in named.items()}
        for number, (name, one) in enumerate(shown.items()):
            _band(panel, one.r, one.density, one.error, COLOURS[number % len(COLOURS)], name)
        panel.set(xlabel="distance (Å)", title=title, xlim=_range(list(shown.values())))
        panel.set_ylim(0, None)
    panels[0].set_ylabel("probability density (1/Å)")
    panels[2].set_ylabel("h(r) (1/Å)")
    if len(named) > 1:
        panels[2].legend(frameon=False, fontsize=8)
    return figure


def draw_displacement(
    displacement: Displacement,
    axes: Any = None,
    *,
    fit: Diffusion | None = None,
    elements: bool = True,
    logarithmic: bool = False,
) -> Any:
    """Draw the mean square displacement with its error, of all atoms and of each element.

    Args:
        displacement: What :func:`mean_square_displacement` returns.
        axes: Axes of matplotlib, ``None`` for new ones.
        fit: What :func:`diffusion_coefficient` returns; drawn as a line over the range of the fit.
        elements: True if each element has a curve, if there are several.
        logarithmic: True if both axes are logarithmic; on these diffusion has the slope one and free flight two.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib is missing.

    Example:
        >>> from pyg_schnet.analysis.structure.snapshot import Snapshot
        >>> from pyg_schnet.analysis.structure.displacement import mean_square_displacement
        >>> atoms = np.array([18]), np.zeros((1, 3)), np.eye(3), np.zeros(3, dtype=bool)
        >>> still = mean_square_displacement([Snapshot(*atoms)] * 3, 1.0)
        >>> draw_displacement(still).get_ylabel()
        'mean square displacement (Å²)'
    """
    axes = new_axes(axes, 5.0, 3.6)
    present = displacement.z.unique().tolist()
    _band(axes, displacement.time, displacement.msd, displacement.error, BLUE, "all atoms")
    if elements and len(present) > 1:
        for number, one in enumerate(present):
            part = displacement.of(one)
            _band(axes, part.time, part.msd, part.error, COLOURS[(number + 1) % len(COLOURS)], SYMBOLS[one])
    if fit is not None:
        time = np.linspace(*fit.fit, 50)
        error = "" if np.isnan(fit.error) else f" ± {fit.error:.1g}"
        label = f"D = {fit.coefficient:.3g}{error} Å²/ps"
        line = fit.intercept + 2 * displacement.dimensions * fit.coefficient * time
        axes.plot(time, line, "--", color="black", linewidth=1.4, label=label, zorder=4)
    axes.set(xlabel="time (ps)", ylabel="mean square displacement (Å²)")
    if logarithmic:
        axes.set(xscale="log", yscale="log")
    else:
        axes.set_xlim(0, float(displacement.time[-1]))
        axes.set_ylim(0, None)
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(frameon=False, fontsize=8)
    return axes


def draw_density_of_states(
    states: DensityOfStates | Mapping[str, DensityOfStates],
    axes: Any = None,
    *,
    modes: Tensor | NDArray | None = None,
    largest: float | None = None,
) -> Any:
    """Draw vibrational densities of states; of a single one with the share of each element.

    Args:
        states: What :func:`density_of_states` returns, or several of them by name.
        axes: Axes of matplotlib, ``None`` for new ones.
        modes: Wavenumbers of normal modes in 1/cm to mark beneath, those of rigid motions (zero) left out.
        largest: Last wavenumber drawn, ``None`` for a tenth beyond the last one of any weight.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there is nothing to draw.

    Example:
        >>> import torch
        >>> flat = DensityOfStates(torch.arange(3.0), torch.ones(3), {"C": torch.ones(3)}, 1.0, 1)
        >>> draw_density_of_states(flat).get_xlabel()
        'wavenumber (1/cm)'
    """
    named = _named(states, DensityOfStates)
    axes = new_axes(axes, 6.0, 3.6)
    for number, (name, one) in enumerate(named.items()):
        axes.plot(one.wavenumber.numpy(), one.density.numpy(), color=COLOURS[number % len(COLOURS)], lw=1.0, label=name)
    first = next(iter(named.values()))
    if len(named) == 1 and len(first.of_elements) > 1:
        for number, (symbol, share) in enumerate(first.of_elements.items()):
            colour = COLOURS[(number + 1) % len(COLOURS)]
            axes.plot(first.wavenumber.numpy(), share.numpy(), color=colour, linewidth=0.9, label=symbol)
        axes.get_lines()[0].set_label("all atoms")
    top = max(float(one.density.max()) for one in named.values())
    if largest is None:
        ends = [float(one.wavenumber[one.density > 0.01 * top].max()) for one in named.values()]
        largest = min(1.1 * max(ends), max(float(one.wavenumber[-1]) for one in named.values()))
    axes.set(xlabel="wavenumber (1/cm)", ylabel="modes per 1/cm", xlim=(0, largest))
    low = 0.0
    if modes is not None:
        low = -0.08 * top
        real = np.asarray(modes, dtype=np.float64)
        axes.vlines(real[real > 0], low, 0.2 * low, color="black", linewidth=0.7, label="normal modes")
    axes.set_ylim(low or None, 1.05 * top)
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(frameon=False, fontsize=8)
    return axes


def _named(given: Any, kind: type) -> dict[str, Any]:
    """Curves by the names in the legend."""
    if isinstance(given, kind):
        return {"": given}
    if not isinstance(given, Mapping) or not given or not all(isinstance(one, kind) for one in given.values()):
        raise ValueError(f"expected {kind.__name__}, or several of them by name, got {type(given).__name__}")
    named: dict[str, Any] = {}
    for name, one in given.items():
        if isinstance(name, tuple):
            if "-".join(reversed(name)) in named:
                continue
            name = "-".join(name)  # noqa: PLW2901
        named[str(name)] = one
    return named


def _band(axes: Any, x: Tensor, y: Tensor, error: Tensor, colour: str, name: str) -> None:
    """A curve and, where it is known, its error to both sides."""
    axes.plot(x.numpy(), y.numpy(), color=colour, linewidth=1.2, label=name or None)
    if not bool(error.isnan().all()):
        axes.fill_between(x.numpy(), (y - error).numpy(), (y + error).numpy(), color=colour, alpha=0.3, linewidth=0)


def _range(shown: list[Distribution]) -> tuple[float, float]:
    """Where any density is not next to nothing, and a little more."""
    ends: list[float] = []
    for one in shown:
        full = one.r[one.density > _FLAT * one.density.max()]
        ends += [float(full[0]), float(full[-1])]
    margin = 0.06 * (max(ends) - min(ends)) + 0.02
    return max(0.0, min(ends) - margin), max(ends) + margin


def _legend(axes: Any, named: Mapping[str, Any]) -> None:
    if any(named):
        axes.legend(frameon=False, fontsize=8)
