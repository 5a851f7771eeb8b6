"""The map of embeddings: figure 4 of J. Chem. Phys. 148, 241722 (2018) (extra ``plot``)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyg_schnet.analysis.embeddings.embeddings import EmbeddingMap
from pyg_schnet.analysis.embeddings.periodic_table import group_name
from pyg_schnet.analysis.figure import new_axes


def draw_embeddings(found: EmbeddingMap, axes: Any = None, *, components: tuple[int, int] = (0, 1)) -> Any:
    """Draw elements at their principal components, coloured by group.

    Args:
        found: What :func:`~pyg_schnet.analysis.embedding_map` returned.
        axes: Axes of matplotlib to draw into; ``None`` for new ones.
        components: Numbers of the components to the right and up; of two elements, which have one component, the
            second is zero.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there is no such component.

    Example:
        >>> from pyg_schnet import SchNet
        >>> from pyg_schnet.analysis.embeddings.embeddings import embedding_map
        >>> axes = draw_embeddings(embedding_map(SchNet(), ["Li", "Na", "F", "Cl"]))
        >>> [text.get_text() for text in axes.get_legend().get_texts()]
        ['IA', 'VIIA']
    """
    size = max(2, found.components.size(1))
    if len(components) != 2 or not all(0 <= number < size for number in components):
        raise ValueError(f"`components` must be two numbers from 0 to {size - 1}, got {components}")
    x, y = (_component(found, number) for number in components)
    axes = new_axes(axes, 6.4, 5.4)
    colours = _colours(found)
    for group, colour in colours.items():
        members = (found.groups == group).nonzero().squeeze(1)
        axes.scatter(x[members], y[members], s=36, color=colour, linewidths=0, label=group_name(group), zorder=2)
    for place, (symbol, side) in enumerate(zip(found.symbols, _free_sides(x, y), strict=True)):
        style = {"ha": "center", "va": "center", "fontsize": 9, "color": colours[int(found.groups[place])]}
        apart = (9.0 * side[0], 9.0 * side[1])
        axes.annotate(symbol, (x[place], y[place]), apart, textcoords="offset points", **style, zorder=3)
    axes.axhline(0.0, color="#e2e8f0", linewidth=0.8, zorder=0)
    axes.axvline(0.0, color="#e2e8f0", linewidth=0.8, zorder=0)
    axes.set(xlabel=_label(found, components[0]), ylabel=_label(found, components[1]))
    axes.margins(0.08)
    many = len(colours) > 8
    style = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "frameon": False}
    axes.legend(title="group", fontsize=8, ncols=1 + many, **style)
    return axes


def _free_sides(x: NDArray, y: NDArray) -> list[NDArray]:
    """On which side of each point its symbol is farthest from all points and from the symbols before it."""
    points = np.stack([x, y], axis=1)
    points = 330.0 * (points - points.min(0)) / np.maximum(np.ptp(points, axis=0), 1e-12)  # about the size in points
    angles = 0.25 * np.pi * np.array([0, 4, 2, 6, 1, 3, 5, 7])  # beside, above, below, then askew
    sides = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    taken, chosen = list(points), []
    for place, point in enumerate(points):
        others = np.array(taken[:place] + taken[place + 1 :])
        room = [np.linalg.norm(others - point - 9.0 * side, axis=1).min(initial=15.0) for side in sides]
        best = int(np.argmax(np.minimum(room, 14.0)))  # more room than a symbol needs is no better
        chosen.append(sides[best])
        taken.append(point + 9.0 * sides[best])
    return chosen


def _component(found: EmbeddingMap, number: int) -> NDArray:
    if number < found.components.size(1):
        return found.components[:, number].numpy()
    return np.zeros(len(found.elements))


def _label(found: EmbeddingMap, number: int) -> str:
    share = float(found.explained_variance_ratio[number]) if number < len(found.explained_variance_ratio) else 0.0
    return f"principal component {number + 1} ({100 * share:.0f} % of the variance)"


def _colours(found: EmbeddingMap) -> dict[int, Any]:
    """A colour for each group: ten that are told apart, more from a cycle of twenty."""
    from matplotlib import colormaps  # noqa: PLC0415

    groups = sorted(set(found.groups.tolist()))
    table = colormaps["tab10" if len(groups) <= 10 else "tab20"]
    return {group: table(place % table.N) for place, group in enumerate(groups)}
