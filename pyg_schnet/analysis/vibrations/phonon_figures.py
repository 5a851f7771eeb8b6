"""Figures of phonons (extra ``plot``)."""

from typing import Any

from pyg_schnet.analysis.figure import BLUE, GREY, new_axes
from pyg_schnet.analysis.vibrations.phonon_bands import PhononBands, PhononDensity

#: Share of the largest below which a density, or an imaginary frequency, is not worth showing.
_NOTHING = 0.01


def draw_phonon_bands(
    bands: PhononBands, axes: Any = None, *, colour: str = BLUE, style: str = "-", label: str | None = None
) -> Any:
    """Draw phonon bands along their path; those of another model of the same crystal go into the same axes.

    Args:
        bands: What :func:`~pyg_schnet.analysis.phonon_bands` returned.
        axes: Axes of matplotlib to draw into; ``None`` for those of a new figure.
        colour: Colour of the lines.
        style: Style of the lines in matplotlib's notation, for example ``"--"``.
        label: Name in a legend.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib is missing.
    """
    axes = new_axes(axes, width=5.5, height=3.6)
    lines = []
    for begin, end in bands.pieces:
        rows = slice(begin, end)
        lines += axes.plot(bands.distances[rows], bands.frequencies[rows], style, color=colour, linewidth=1.1)
    lines[0].set_label(label)
    for tick in bands.ticks:
        axes.axvline(tick, color=GREY, linewidth=0.5, zorder=0)
    axes.axhline(0.0, color=GREY, linewidth=0.5, zorder=0)
    axes.set_xticks(bands.ticks, [name.replace("G", "Γ") for name in bands.labels])
    axes.set_xlim(bands.distances[0], bands.distances[-1])
    _reach(axes, float(bands.frequencies.min()), float(bands.frequencies.max()))
    axes.set_ylabel("frequency (THz)")
    return axes


def draw_phonon_density(
    density: PhononDensity, axes: Any = None, *, colour: str = BLUE, style: str = "-", label: str | None = None
) -> Any:
    """Draw a density of states with the frequency upwards, to stand beside bands.

    Args:
        density: What :func:`~pyg_schnet.analysis.phonon_density` returned.
        axes: Axes of matplotlib to draw into; ``None`` for those of a new figure.
        colour: Colour of the line.
        style: Style of the line in matplotlib's notation.
        label: Name in a legend.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib is missing.
    """
    axes = new_axes(axes, width=2.5, height=3.6)
    axes.plot(density.density, density.frequencies, style, color=colour, linewidth=1.1, label=label)
    axes.set(xlabel="states (1/THz)", ylabel="frequency (THz)")
    axes.set_xlim(left=0.0)
    there = density.frequencies[density.density > _NOTHING * density.density.max()]
    _reach(axes, float(there.min()), float(there.max()))
    return axes


def _reach(axes: Any, low: float, high: float) -> None:
    """Frequencies from zero, or from the lowest imaginary one, to the highest of all that were drawn."""
    known = (0.0, 0.0) if axes.get_autoscaley_on() else axes.get_ylim()
    below = 1.05 * low if low < -_NOTHING * high else 0.0
    axes.set_ylim(min(known[0], below), max(known[1], 1.05 * high))
