"""Learning curves: errors against the number of training examples (extra ``plot``)."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyg_schnet.analysis.error_figures import shown_unit
from pyg_schnet.analysis.figure import BLUE, GREY, ORANGE, new_figure, save_figure

Curve = Sequence[tuple[int, float]]

_COLOURS = (BLUE, ORANGE, "#2f855a", "#6b46c1", "#b83280", "#975a16")
_MARKERS = "osD^vP"
#: Smallest distance of two labels, as a fraction of the height of the panel.
_LABEL_GAP = 0.055


def learning_curve(
    series: Mapping[str, Curve],
    path: str | Path,
    *,
    unit: str,
    target: str,
    reference: Mapping[str, Curve] | None = None,
) -> Path:
    """Draw mean absolute errors against the number of training examples, both on logarithmic axes.

    As figure 3 of Schütt et al., J. Chem. Phys. 148, 241722 (2018). Each line carries its name at its end.

    Args:
        series: For each name, for example ``"T = 2"``, pairs of number of training examples and error.
        path: PNG file to write.
        unit: Unit of the errors.
        target: Name of what is predicted.
        reference: Curves to compare with, drawn dashed in grey, for example of
            :func:`~pyg_schnet.analysis.published_rows`.

    Returns:
        The path.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there is nothing to draw, or a number or an error is not positive.
    """
    drawn = _checked(series, "series")
    grey = _checked(reference, "reference") if reference else {}
    longest = max(len(name) for name in (*drawn, *grey))
    figure, (panel,) = new_figure(width=4.9 + 0.09 * longest, height=4.0)  # names stand right of the panel
    ends = []
    for place, (name, curve) in enumerate(drawn.items()):
        colour, marker = _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]
        panel.plot(*zip(*curve, strict=True), color=colour, marker=marker, markersize=5, linewidth=1.5, zorder=3)
        ends.append((*curve[-1], name, colour))
    for name, curve in grey.items():
        panel.plot(*zip(*curve, strict=True), "--", color=GREY, marker="o", markersize=5, markerfacecolor="white")
        ends.append((*curve[-1], name, GREY))
    panel.set(xscale="log", yscale="log", xlabel="training examples")
    panel.set_ylabel(f"MAE of {target}" + (f" ({shown_unit(unit)})" if unit else ""))
    _ticks(panel, [point for curve in (*drawn.values(), *grey.values()) for point in curve])
    _labels(panel, ends)
    return save_figure(figure, path)


def _checked(curves: Mapping[str, Curve], argument: str) -> dict[str, list[tuple[int, float]]]:
    if not curves or not all(len(curve) for curve in curves.values()):
        raise ValueError(f"`{argument}` has a curve without points; expected pairs of (training examples, error)")
    for name, curve in curves.items():
        for number, error in curve:
            if not (number > 0 and 0 < error < math.inf):
                raise ValueError(
                    f"the curve {name!r} has the point ({number}, {error}); logarithmic axes need positive numbers"
                )
    return {name: sorted(curve) for name, curve in curves.items()}


def _ticks(panel: Any, points: Curve) -> None:
    """Round numbers on both axes, written out."""
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator  # noqa: PLC0415

    axes = (panel.xaxis, [number for number, _ in points], _thousands), (panel.yaxis, [y for _, y in points], _plain)
    for axis, values, text in axes:
        low, high = min(values), max(values)
        margin = (high / low) ** 0.06 if high > low else 1.5
        limits = low / margin, high * margin
        (panel.set_xlim if axis is panel.xaxis else panel.set_ylim)(*limits)
        axis.set_ticks(round_numbers(*limits, most=7))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(FuncFormatter(text))
    panel.grid(color="#e2e8f0", linewidth=0.6)
    panel.set_axisbelow(True)


def round_numbers(low: float, high: float, most: int) -> list[float]:
    """Round numbers in a range for a logarithmic axis, the finer the shorter the range.

    Args:
        low: Start of the range, positive.
        high: End of the range.
        most: Largest number of them.

    Returns:
        Numbers in ascending order.

    Example:
        >>> round_numbers(800, 130_000, most=7)
        [1000, 2000, 5000, 10000, 20000, 50000, 100000]
    """
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    found: list[float] = []
    for digits in ((1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [_times(digit, power) for power in range(first, last + 1) for digit in digits]
        found = [number for number in found if low <= number <= high]
        if len(found) <= most:
            return found
    return found[:: -(-len(found) // most)]


def _times(digit: float, power: int) -> float:
    """A digit times a power of ten, without the noise of binary fractions."""
    number = float(f"{digit}e{power}")
    return int(number) if number.is_integer() else number


def _thousands(value: float, _: int) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def _plain(value: float, _: int) -> str:
    return f"{value:g}"


def _labels(panel: Any, ends: list[tuple[int, float, str, str]]) -> None:
    """Names right of the panel, at the height of the last points but never on top of each other."""
    low, high = (math.log(limit) for limit in panel.get_ylim())
    ends = sorted(ends, key=lambda end: end[1])
    heights = spread([(math.log(end[1]) - low) / (high - low) for end in ends], _LABEL_GAP)
    for (number, error, name, colour), height in zip(ends, heights, strict=True):
        panel.annotate(
            name,
            (number, error),
            (1.03, height),
            textcoords="axes fraction",
            color=colour,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "alpha": 0.6, "shrinkA": 0, "shrinkB": 4},
        )


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Move heights apart until no two are closer than a gap, each group staying around its centre.

    Args:
        heights: Heights in ascending order.
        gap: Smallest distance.

    Returns:
        Heights in the same order.

    Example:
        >>> [round(height, 3) for height in spread([0.1, 0.5, 0.5, 0.9], 0.1)]
        [0.1, 0.45, 0.55, 0.9]
    """
    groups: list[tuple[float, int]] = []  # centre and size of labels that touch
    for height in heights:
        centre, size = height, 1
        while groups and centre - size * gap / 2 < groups[-1][0] + groups[-1][1] * gap / 2:
            other, others = groups.pop()
            centre, size = (centre * size + other * others) / (size + others), size + others
        groups.append((centre, size))
    return [centre + gap * (place - (size - 1) / 2) for centre, size in groups for place in range(size)]
