"""Histograms of errors and parity plots, one panel for each target (extra ``plot``)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyg_schnet.analysis.figure import BLUE, GREY, ORANGE, panel_grid, save_figure
from pyg_schnet.analysis.target_errors import TargetErrors

#: Above this number points would hide each other, and their density is drawn.
_MOST_POINTS = 4000
_SIGNS = {"Ang": "Å", "^2": "²", "^3": "³", "a0": "a₀"}


def error_histograms(errors: Sequence[TargetErrors], path: str | Path) -> Path:
    """Draw how many predictions are how far off, on a logarithmic scale that shows the tails.

    As figures 9 and 10 of Schütt et al., J. Chem. Phys. 148, 241722 (2018): absolute errors on a linear axis, their
    number on a logarithmic one. A line marks the mean.

    Args:
        errors: The targets, one panel each.
        path: PNG file to write.

    Returns:
        The path.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there is no target.
    """
    figure, panels = panel_grid(len(errors), height=2.7)
    for panel, target in zip(panels, errors, strict=True):
        metrics, unit = target.metrics(), shown_unit(target.unit)
        panel.hist(np.abs(target.errors), bins=_bins(metrics["count"]), range=(0, metrics["max"] or 1.0), color=BLUE)
        panel.axvline(metrics["mae"], color=ORANGE, linewidth=1.2)
        panel.set_yscale("log")
        panel.set_ylim(bottom=0.7)
        panel.set(ylabel="values", xlim=(0, None))
        panel.set_xlabel(f"absolute error of {shown_name(target.name)}{_in(unit)}", fontsize=9)
        panel.locator_params(axis="x", nbins=5)
        _title(panel, f"mean (line) {metrics['mae']:.3g}, largest {metrics['max']:.3g}, {metrics['count']:,} values")
    return save_figure(figure, path)


def parity_panels(errors: Sequence[TargetErrors], path: str | Path) -> Path:
    """Draw predicted against true values.

    Args:
        errors: The targets, one panel each.
        path: PNG file to write.

    Returns:
        The path.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there is no target.
    """
    figure, panels = panel_grid(len(errors), height=3.3)
    for panel, target in zip(panels, errors, strict=True):
        draw_parity(panel, target)
    return save_figure(figure, path)


def draw_parity(panel: Any, target: TargetErrors, title: str | None = None, centred: bool | None = None) -> None:
    """Draw predicted against true values into one panel, as points or, where there are many, as their density.

    Args:
        panel: A panel of matplotlib.
        target: The values.
        title: What to call the target; ``None`` for its name.
        centred: True if the mean of the true values is taken off both; ``None`` if their spread is small beside it.
    """
    true, predicted = target.true.ravel(), target.predicted.ravel()
    mean = true.mean()
    if centred is None:
        centred = bool(abs(mean) > 20 * true.std()) and true.size > 1
    if centred:
        true, predicted = true - mean, predicted - mean
    low, high = _limits(np.concatenate([true, predicted]))
    panel.plot([low, high], [low, high], color=GREY, linewidth=0.8, zorder=3 if true.size > _MOST_POINTS else 1)
    if true.size > _MOST_POINTS:
        extent = (low, high, low, high)
        panel.hexbin(true, predicted, gridsize=90, bins="log", mincnt=1, vmin=0.02, cmap="Blues", extent=extent)
    else:
        panel.scatter(true, predicted, s=5, color=BLUE, alpha=0.4, linewidths=0, rasterized=True, zorder=2)
    name, unit = title or shown_name(target.name), shown_unit(target.unit)
    less = " less its mean" if centred and title is None else ""
    panel.set(
        xlabel=f"true {name}{less}{_in(unit)}", ylabel=f"predicted{_in(unit)}", xlim=(low, high), ylim=(low, high)
    )
    panel.set_aspect("equal")
    panel.locator_params(nbins=4 if max(abs(low), abs(high)) >= 1000 else 5)  # labels of four digits are wide
    metrics = target.metrics()
    _title(panel, f"MAE {metrics['mae']:.3g}, RMSE {metrics['rmse']:.3g}{f' {unit}' if unit else ''}")


def shown_name(name: str) -> str:
    """A target as it is printed in figures.

    Args:
        name: Name in the dataset.

    Returns:
        The same without underscores.

    Example:
        >>> shown_name("formation_energy")
        'formation energy'
    """
    return name.replace("_", " ")


def shown_unit(unit: str) -> str:
    """A unit as it is printed in figures.

    Args:
        unit: As written in :mod:`pyg_schnet.units`.

    Returns:
        The same with its proper signs.

    Example:
        >>> shown_unit("kcal/mol/Ang"), shown_unit("a0^3")
        ('kcal/mol/Å', 'a₀³')
    """
    for written, sign in _SIGNS.items():
        unit = unit.replace(written, sign)
    return unit


def _limits(values: NDArray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = 0.04 * (high - low) or 0.5
    return low - margin, high + margin


def _in(unit: str) -> str:
    return f" ({unit})" if unit else ""


def _title(panel: Any, text: str) -> None:
    panel.set_title(text, fontsize=8.5, loc="left")


def _bins(count: float) -> int:
    """More bins for more values, but not so many that a panel could not show them."""
    return int(np.clip(2 * count**0.5, 10, 60))
