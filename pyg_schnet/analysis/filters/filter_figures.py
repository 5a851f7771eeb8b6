"""Figures of filters: curves of the distance, cuts through space (extra ``plot``)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from pyg_schnet.analysis.checks import count
from pyg_schnet.analysis.distances import distances_in
from pyg_schnet.analysis.evaluate import Structures
from pyg_schnet.analysis.figure import GREY, blank_figure, new_axes
from pyg_schnet.analysis.filters.filters import FilterCurves, FilterCut, distinct_filters, filter_curves

#: Negative blue, positive red, as in the first paper.
COLOURS = "RdBu_r"


def draw_filter(
    curves: FilterCurves,
    axes: Any = None,
    *,
    block: int = 0,
    filters: Sequence[int] | int = 6,
    distances: NDArray | None = None,
) -> Any:
    """Draw filters of one interaction block over the distance, with the distances of data beneath.

    Args:
        curves: What :func:`~pyg_schnet.analysis.filter_curves` returned.
        axes: Axes of matplotlib to draw into; ``None`` for new ones.
        block: Number of the block.
        filters: Numbers of the filters to colour, or how many of the most distinct ones; all are drawn, in grey.
        distances: Distances in data in Angstrom [P], drawn as a histogram beneath. The most distinct filters are then
            those of the distances from the smallest to the largest one, and so is the scale: elsewhere filters are
            what chance and smoothness made them, often very large.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there is no such block or filter.

    Example:
        >>> from pyg_schnet import SchNet
        >>> axes = draw_filter(filter_curves(SchNet(16, 16, 1)), filters=[0, 3])
        >>> [text.get_text() for text in axes.get_legend().get_texts()]
        ['0', '3']
    """
    block = count("block", block, least=-len(curves.values), most=len(curves.values) - 1)
    values = curves.values[block].detach().cpu().double()  # [D, F]
    places = curves.distances.cpu().double().numpy()
    inside = _between(places, distances)
    chosen = _chosen(values[inside], filters)
    axes = new_axes(axes, 5.0, 3.6)
    axes.plot(places, values.numpy(), color=GREY, linewidth=0.4, alpha=0.35, zorder=1)
    for number in chosen:
        axes.plot(places, values[:, number].numpy(), linewidth=1.5, label=str(number), zorder=3)
    axes.axhline(0.0, color="black", linewidth=0.6, zorder=2)
    axes.set(xlabel="distance (Å)", ylabel="filter W", xlim=(places.min(), places.max()))
    if chosen:
        axes.legend(title="filter", fontsize=7, title_fontsize=7, ncols=2, loc="upper right")
    if distances is not None and len(distances):
        low, high = float(values[inside].min()), float(values[inside].max())
        margin = 0.08 * (high - low) or 1.0
        _draw_histogram(axes, distances, low - margin, high + margin)
    return axes


def draw_filters(
    model: nn.Module,
    data: Structures | NDArray | Tensor | None = None,
    *,
    filters: Sequence[int] | int = 6,
    cutoff: bool = True,
    longest: float | None = None,
    sample: int = 500,
    figure: Any = None,
) -> Any:
    """Draw the filters of every interaction block, with the distances in data beneath.

    Where data have no distances, filters are what chance and smoothness made them.

    Args:
        model: As in :func:`~pyg_schnet.analysis.filter_curves`.
        data: Structures (a dataset, a list of ``Data``) or distances in Angstrom [P]; ``None`` for no histogram.
        filters: Numbers of the filters to colour, or how many of the most distinct ones.
        cutoff: True to draw them as the model applies them, False to leave out the cutoff function.
        longest: Largest distance in Angstrom; ``None`` for that of the data or, without, of the model.
        sample: Largest number of structures whose distances are counted.
        figure: Figure of matplotlib to draw into; ``None`` for a new one.

    Returns:
        The figure.

    Raises:
        ImportError: If matplotlib is missing.
        TypeError, ValueError: As :func:`~pyg_schnet.analysis.filter_curves` and
            :func:`~pyg_schnet.analysis.distances.distances_in`.
    """
    curves = filter_curves(model, cutoff=cutoff)
    distances = None if data is None else distances_in(data, float(curves.distances[-1]), sample)
    if longest is None and distances is not None and len(distances):
        longest = min(1.1 * float(distances.max()), float(curves.distances[-1]))
    if longest is not None:
        curves = filter_curves(model, np.linspace(0.0, longest, 500), cutoff=cutoff)
    blocks = len(curves.values)
    columns = min(blocks, 3)
    rows = math.ceil(blocks / columns)
    figure = blank_figure(4.2 * columns, 3.2 * rows) if figure is None else figure
    for block in range(blocks):
        panel = figure.add_subplot(rows, columns, block + 1)
        panel.spines[["top", "right"]].set_visible(False)
        draw_filter(curves, panel, block=block, filters=filters, distances=distances)
        panel.set_title(f"block {block + 1} of {blocks}", fontsize=9)
    return figure


def draw_filter_cut(cut: FilterCut, axes: Any = None, *, number: int | None = None, limit: float | None = None) -> Any:
    """Draw one filter on the square, negative blue, positive red.

    Args:
        cut: What :func:`~pyg_schnet.analysis.filter_cut` returned.
        axes: Axes of matplotlib to draw into; ``None`` for new ones.
        number: Number of the filter; ``None`` for the largest one.
        limit: Value at the ends of the colours; ``None`` for the largest absolute one.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there is no such filter.
    """
    number = distinct_filters(cut.values, 1)[0] if number is None else number
    (number,) = _chosen(cut.values, [number])
    image = cut.values[..., number].detach().cpu().double().numpy()
    axes = new_axes(axes, 3.2, 3.0)
    _show(axes, image, cut, limit)
    axes.set(xlabel="Å", ylabel="Å", title=f"filter {number}")
    return axes


def draw_filter_cuts(cuts: Mapping[str, FilterCut], filters: Sequence[int] | int = 5, figure: Any = None) -> Any:
    """Draw the same filters in several surroundings: figure 2 of J. Chem. Phys. 148, 241722 (2018).

    Rows are the surroundings, columns the filters. The colours of each panel end at its own largest absolute value,
    which is printed: sums over images are larger than the filter of a single atom.

    Args:
        cuts: Cuts of the same block by the name of the surroundings, for example ``{"single atom": ..., "diamond":
            ...}``.
        filters: Numbers of the filters, or how many of the most distinct ones of the first cut.
        figure: Figure of matplotlib to draw into; ``None`` for a new one.

    Returns:
        The figure.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there is no cut or no such filter.
    """
    if not cuts:
        raise ValueError("there is no cut to draw; expected at least one")
    chosen = _chosen(next(iter(cuts.values())).values, filters)
    rows, columns = len(cuts), len(chosen)
    figure = blank_figure(1.55 * columns + 0.5, 1.75 * rows + 0.1) if figure is None else figure
    for row, (name, cut) in enumerate(cuts.items()):
        for column, number in enumerate(_chosen(cut.values, chosen)):
            panel = figure.add_subplot(rows, columns, row * columns + column + 1)
            draw_filter_cut(cut, panel, number=number)
            most = float(cut.values[..., number].abs().max())
            above = f"filter {number}\n" if row == 0 else ""
            panel.set_title(f"{above}±{most:.2g}", fontsize=8)
            panel.set(xlabel="", ylabel=name if column == 0 else "", xticks=[], yticks=[])
    side = next(iter(cuts.values())).coordinates
    figure.supxlabel(
        f"{float(side[-1] - side[0]):g} Å x {float(side[-1] - side[0]):g} Å, an atom in the middle", fontsize=8
    )
    return figure


def draw_all_filters(cut: FilterCut, axes: Any = None, *, common: bool = True) -> Any:
    """Draw all filters of a block side by side: figure 3 of the first paper (NIPS 2017), negative blue, positive red.

    Args:
        cut: What :func:`~pyg_schnet.analysis.filter_cut` returned; the paper's are 10 Å wide.
        axes: Axes of matplotlib to draw into; ``None`` for new ones.
        common: True if all have the same colours, with a colour bar; else each ends at its own largest absolute value.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib is missing.
    """
    values = cut.values.detach().cpu().double()
    side, size = len(cut.coordinates), values.size(-1)
    columns = _columns(size)
    rows, gap = math.ceil(size / columns), max(1, side // 25)
    mosaic = np.full((rows * (side + gap) - gap, columns * (side + gap) - gap), np.nan)
    scale = values.abs().amax((0, 1)).clamp(min=1e-300)
    shown = (values if common else values / scale).numpy()
    for number in range(size):  # the first filter top left, as one reads
        top, left = (place * (side + gap) for place in divmod(number, columns))
        mosaic[top : top + side, left : left + side] = shown[::-1, :, number]
    axes = new_axes(axes, 5.0, 5.0)
    # colours end where all but the largest percent of values do, or one filter would make all others pale
    limit = float(np.quantile(np.abs(shown), 0.99)) or 1.0 if common else 1.0
    image = axes.imshow(mosaic, cmap=COLOURS, vmin=-limit, vmax=limit, interpolation="nearest")
    width = float(cut.coordinates[-1] - cut.coordinates[0])
    axes.set(xticks=[], yticks=[], xlabel=f"{size} filters, {width:g} Å x {width:g} Å each")
    axes.spines[:].set_visible(False)
    if common:
        axes.figure.colorbar(image, ax=axes, shrink=0.7, label="filter W", extend="both")
    return axes


def _columns(size: int) -> int:
    """As square as it gets, without a row that is not full if that is possible."""
    least = math.ceil(math.sqrt(size))
    return next((number for number in range(least, 2 * least + 1) if size % number == 0), least)


def _show(axes: Any, image: NDArray, cut: FilterCut, limit: float | None) -> None:
    most = (float(np.abs(image).max()) or 1.0) if limit is None else limit
    low, high = float(cut.coordinates[0]), float(cut.coordinates[-1])
    extent = (low, high, low, high)
    axes.imshow(image, cmap=COLOURS, vmin=-most, vmax=most, origin="lower", extent=extent, interpolation="bilinear")


def _between(places: NDArray, distances: NDArray | None) -> NDArray:
    """Places from the smallest to the largest distance; all if there would be none."""
    if distances is None or len(distances) == 0:
        return np.ones(len(places), dtype=bool)
    inside = (places >= distances.min()) & (places <= distances.max())
    return inside if inside.any() else np.ones(len(places), dtype=bool)


def _draw_histogram(axes: Any, distances: NDArray, low: float, high: float) -> None:
    """Bars below the curves, where their axis has no numbers."""
    axes.set_ylim(low, high)
    ticks, floor = axes.get_yticks(), low - 0.33 * (high - low)
    counts, edges = np.histogram(distances, bins=150, range=axes.get_xlim())
    tops = floor + 0.25 * (high - low) * counts / max(1, counts.max())
    axes.fill_between(np.repeat(edges, 2)[1:-1], floor, np.repeat(tops, 2), color=GREY, linewidth=0, zorder=0)
    axes.set_yticks(ticks[(ticks >= low) & (ticks <= high)])
    axes.set_ylim(floor, high)
    place = {"transform": axes.transAxes, "ha": "right", "va": "bottom", "fontsize": 7}
    axes.text(0.995, 0.195, "distances in the data", **place, color="#4a5568")


def _chosen(values: Tensor, filters: Sequence[int] | int) -> list[int]:
    """Numbers of filters, checked; of the most distinct ones, in the order of their numbers."""
    size = values.size(-1)
    if isinstance(filters, int):
        return sorted(distinct_filters(values, filters))
    chosen = [int(number) for number in filters]
    if any(not 0 <= number < size for number in chosen):
        raise ValueError(f"`filters` must be numbers from 0 to {size - 1}, got {list(filters)}")
    return chosen
