"""Drawing local chemical potentials on planes, figure 6 (extra ``plot``)."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from pyg_schnet.analysis.figure import blank_figure, new_axes
from pyg_schnet.analysis.surfaces.potential_cut import PotentialCut
from pyg_schnet.analysis.surfaces.potential_surface_figure import limits_of, potential_label
from pyg_schnet.units import SYMBOLS

#: What is left out is drawn in this colour.
LEFT_OUT = "#e2e8f0"


def draw_potential_cut(
    cut: PotentialCut,
    axes: Any = None,
    *,
    limits: tuple[float, float] | None = None,
    cmap: str = "viridis",
    symbols: bool = True,
    colorbar: bool = True,
) -> Any:
    """Draw what a probe feels on a plane, and the atoms in it.

    Numbers are those beyond the reference of the probe. Where the probe would be closer to an atom than ``cut.nearest``
    the picture is grey.

    Args:
        cut: What :func:`~pyg_schnet.analysis.potential_cut` returned.
        axes: Axes of matplotlib to draw into; ``None`` for new ones.
        limits: Numbers at the ends of the colours, in eV; ``None`` to leave out a hundredth of the points on either.
        cmap: Colour map.
        symbols: True to write the symbols of the atoms into their discs.
        colorbar: True to draw a colour bar.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib is missing.
        TypeError: If ``cut`` is none.

    Example:
        >>> import torch
        >>> from torch_geometric.data import Data
        >>> from pyg_schnet import SchNet
        >>> from pyg_schnet.analysis.surfaces.potential_cut import potential_cut
        >>> water = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
        >>> axes = draw_potential_cut(potential_cut(SchNet(16, 16, 1), water, size=4.0, resolution=0.5))
        >>> axes.get_xlabel(), [text.get_text() for text in axes.texts]
        ('x (Å)', ['O', 'H', 'H'])
    """
    if not isinstance(cut, PotentialCut):
        raise TypeError(f"`cut` must be what potential_cut(model, data) returns, got {type(cut).__name__}")
    axes = new_axes(axes, 5.0, 4.2)
    low, high = cut_limits(cut) if limits is None else limits
    values = np.ma.masked_invalid((cut.values - cut.reference).numpy())
    half_x, half_y = (0.5 * float(side[1] - side[0]) for side in (cut.x, cut.y))
    edges = [float(cut.x[0]) - half_x, float(cut.x[-1]) + half_x, float(cut.y[0]) - half_y, float(cut.y[-1]) + half_y]
    style: dict[str, Any] = {"cmap": cmap, "vmin": low, "vmax": high, "interpolation": "nearest"}
    image = axes.imshow(values, origin="lower", extent=edges, **style)
    axes.set_facecolor(LEFT_OUT)
    _draw_atoms(axes, cut, symbols)
    axes.set(xlim=edges[:2], ylim=edges[2:], aspect="equal", xlabel="x (Å)", ylabel="y (Å)")
    axes.spines[["top", "right"]].set_visible(True)
    if colorbar:
        extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
        beyond = (bool(values.min() < low), bool(values.max() > high))
        axes.figure.colorbar(image, ax=axes, label=potential_label(cut), extend=extend[beyond])
    return axes


def _draw_atoms(axes: Any, cut: PotentialCut, symbols: bool) -> None:
    """A disc for each atom in the plane, over what is left out around it."""
    from matplotlib.patches import Circle  # noqa: PLC0415

    square = 0.5 * math.hypot(float(cut.x[1] - cut.x[0]), float(cut.y[1] - cut.y[0]))  # whose middle is left out
    for place, number in zip(cut.atoms.tolist(), cut.z.tolist(), strict=True):
        axes.add_patch(Circle(place, cut.nearest + square, facecolor=LEFT_OUT, edgecolor="#2d3748", linewidth=0.8))
        if symbols:
            axes.text(*place, SYMBOLS[number], ha="center", va="center", fontsize=8, clip_on=True)


def draw_potential_cuts(cuts: Mapping[str, PotentialCut], figure: Any = None, **options: Any) -> Any:
    """Draw several cuts beside one another, as in figure 6, each with its own colours.

    Args:
        cuts: Cuts by what stands above them.
        figure: Figure of matplotlib to draw into; ``None`` for a new one.
        options: Options of :func:`draw_potential_cut`.

    Returns:
        The figure.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there is nothing to draw.
    """
    if not cuts:
        raise ValueError("there is no cut to draw; expected at least one")
    figure = blank_figure(5.0 * len(cuts), 4.2) if figure is None else figure
    for number, (name, cut) in enumerate(cuts.items()):
        panel = figure.add_subplot(1, len(cuts), number + 1)
        draw_potential_cut(cut, panel, **options).set_title(name)
    return figure


def cut_limits(cut: PotentialCut) -> tuple[float, float]:
    """Numbers at the ends of the colours: a hundredth of the points is beyond either of them.

    Args:
        cut: A cut.

    Returns:
        Lowest and highest number, less the reference of the probe; 0 and 1 where all points are left out.
    """
    values = (cut.values - cut.reference).numpy()
    return limits_of(values[np.isfinite(values)])
