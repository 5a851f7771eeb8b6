"""Figures of normal modes (extra ``plot``)."""

from typing import Any

from torch import Tensor

from pyg_schnet.analysis.figure import BLUE, ORANGE, new_axes
from pyg_schnet.analysis.vibrations.modes import NormalModes
from pyg_schnet.analysis.vibrations.spectrum import spectrum


def draw_spectrum(
    modes: NormalModes,
    axes: Any = None,
    *,
    intensities: Tensor | None = None,
    width: float = 10.0,
    shape: str = "lorentz",
    points: int = 2000,
    tolerance: float = 1.0,
    colour: str = BLUE,
    label: str | None = None,
) -> Any:
    """Draw the vibrations as sticks, and the curve that they make when each is broadened.

    A stick is as high as its level is degenerate, or as intense as it is in the infrared; imaginary modes stand at
    negative wavenumbers. The curve is scaled to the sticks.

    Args:
        modes: The normal modes.
        axes: Axes of matplotlib to draw into; ``None`` for those of a new figure.
        intensities: Infrared intensities in km/mol [3n]; ``None`` to count modes.
        width: Full width of a line at half of its height in cm^-1.
        shape: ``"lorentz"`` or ``"gauss"``.
        points: Number of points of the curve.
        tolerance: Modes that are closer than this make one stick, in cm^-1.
        colour: Colour of curve and sticks.
        label: Name in a legend.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: As of :func:`~pyg_schnet.analysis.spectrum`.
    """
    found = spectrum(modes, intensities, width=width, shape=shape, points=points, tolerance=tolerance)
    axes = new_axes(axes, width=7.0, height=3.2)
    highest = float(found.strengths.max())
    peak = float(found.curve.max())
    if peak > 0:
        axes.plot(found.wavenumbers, found.curve * (highest / peak), color=colour, linewidth=0.8, alpha=0.55)
        axes.fill_between(found.wavenumbers, found.curve * (highest / peak), color=colour, alpha=0.12, linewidth=0)
    real = found.lines >= 0
    axes.vlines(found.lines[real], 0, found.strengths[real], color=colour, linewidth=1.0, label=label)
    if not bool(real.all()):
        strengths = found.strengths[~real]
        axes.vlines(found.lines[~real], 0, strengths, color=ORANGE, linewidth=1.4, label="imaginary")
        axes.legend(frameon=False)
    axes.set(xlabel="wavenumber (cm$^{-1}$)", ylim=(0, 1.08 * highest or 1.0))
    axes.set_xlim(min(0.0, 1.1 * float(found.lines.min())), float(found.wavenumbers[-1]))
    axes.set_ylabel("infrared intensity (km/mol)" if found.infrared else "modes of a level")
    if not found.infrared:
        axes.yaxis.get_major_locator().set_params(integer=True)
    return axes
