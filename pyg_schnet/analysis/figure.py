"""What all figures of the package share (extra ``plot``)."""

from pathlib import Path
from typing import Any

from pyg_schnet.files import replacing

BLUE, ORANGE, GREY = "#2b6cb0", "#c05621", "#718096"


def new_figure(columns: int = 1, width: float = 5.0, height: float = 4.0) -> tuple[Any, list[Any]]:
    """A figure with a row of panels.

    Args:
        columns: Number of panels.
        width: Width of a panel in inches.
        height: Height in inches.

    Returns:
        Figure and panels of matplotlib.

    Raises:
        ImportError: If matplotlib is missing.
    """
    return panel_grid(columns, width, height, columns)


def panel_grid(
    count: int, width: float = 3.5, height: float = 3.0, columns: int | None = None
) -> tuple[Any, list[Any]]:
    """A figure with so many panels, in rows.

    Args:
        count: Number of panels.
        width: Width of a panel in inches.
        height: Height of a panel in inches.
        columns: Panels in a row; ``None`` for at most four.

    Returns:
        Figure and panels of matplotlib, row by row.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If ``count`` is not positive.
    """
    if count < 1:
        raise ValueError(f"there is no target to draw; expected at least one, got {count}")
    if columns is None:
        columns = {1: 1, 2: 2, 4: 2}.get(count, 3 if count <= 9 else 4)
    rows = -(-count // columns)
    figure = blank_figure(width * columns, height * rows)
    panels = [figure.add_subplot(rows, columns, place + 1) for place in range(count)]
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
    return figure, panels


def new_axes(axes: Any = None, width: float = 5.0, height: float = 4.0, projection: str | None = None) -> Any:
    """The axes to draw into: those given, or the only ones of a new figure.

    Args:
        axes: Axes of matplotlib, or ``None``.
        width: Width of a new figure in inches.
        height: Height of a new figure in inches.
        projection: Projection of new axes, for example ``"3d"``.

    Returns:
        Axes of matplotlib; their figure is ``axes.figure``.

    Raises:
        ImportError: If matplotlib is missing.
    """
    if axes is not None:
        return axes
    if projection is None:
        return panel_grid(1, width, height)[1][0]
    return blank_figure(width, height).add_subplot(projection=projection)


def blank_figure(width: float, height: float) -> Any:
    """A figure without panels, of no window: nothing global is changed.

    Args:
        width: Width in inches.
        height: Height in inches.

    Returns:
        Figure of matplotlib.

    Raises:
        ImportError: If matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise ImportError('figures need matplotlib; install it with pip install "pyg_schnet[plot]"') from error
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: str | Path) -> Path:
    """Write a figure to a PNG file, folders included.

    Args:
        figure: Figure of :func:`new_figure`.
        path: File to write.

    Returns:
        The path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        figure.savefig(part, dpi=150, format=path.suffix[1:] or "png")
    return path
