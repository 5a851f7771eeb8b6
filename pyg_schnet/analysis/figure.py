"""What all figures of the package share (extra ``plot``)."""

from pathlib import Path
from typing import Any

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
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise ImportError('figures need matplotlib; install it with pip install "pyg_schnet[plot]"') from error
    figure = Figure(figsize=(width * columns, height), layout="constrained")
    panels = [figure.add_subplot(1, columns, column + 1) for column in range(columns)]
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
    return figure, panels


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
    figure.savefig(path, dpi=150)
    return path
