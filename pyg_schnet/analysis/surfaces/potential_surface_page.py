"""Local chemical potentials on surfaces to turn with the mouse: an interactive figure, and a page (extra ``plot``)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyg_schnet.analysis.molecule import bonds, view_of
from pyg_schnet.analysis.page import Page
from pyg_schnet.analysis.surfaces.potential_surface import PotentialSurface
from pyg_schnet.analysis.surfaces.potential_surface_figure import check_surface, colour_limits, extent_of
from pyg_schnet.units import SYMBOLS

#: How much of the surface is seen, by what the buttons say.
VEILS = {"solid": 1.0, "translucent": 0.65, "atoms only": 0.0}
_TRACES = 3
#: Room for a colour bar between scenes, in widths of the figure.
GAP = 0.1
#: How large the longest molecule is at the beginning.
ZOOM = 1.5
#: Where the camera begins, in units of plotly's.
EYE = {"x": 0.3, "y": -0.7, "z": 0.85}


def potential_surface_plot(surfaces: PotentialSurface | Mapping[str, Mapping[str, PotentialSurface]]) -> Any:
    """An interactive figure of surfaces, to be turned and zoomed, with the numbers beneath the mouse.

    One scene for each model, beside one another and to one scale; a menu chooses the molecule for all of them. Buttons
    make surfaces translucent, so that the atoms inside are seen. Numbers are those beyond the reference of the probe.

    Args:
        surfaces: What :func:`~pyg_schnet.analysis.potential_surface` returned, or many of it by name of the molecule,
            by name of the model; the same molecules for each model.

    Returns:
        Figure of plotly.

    Raises:
        ImportError: If plotly or ASE is missing.
        TypeError: If these are no surfaces.
        ValueError: If there is nothing to draw, or models have different molecules.

    Example:
        >>> import torch
        >>> from torch_geometric.data import Data
        >>> from pyg_schnet import SchNet
        >>> from pyg_schnet.analysis.surfaces.potential_surface import potential_surface
        >>> water = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
        >>> figure = potential_surface_plot(potential_surface(SchNet(16, 16, 1), water, spacing=0.2))
        >>> [trace.type for trace in figure.data]
        ['mesh3d', 'scatter3d', 'scatter3d']
    """
    rows = {"": {"": surfaces}} if isinstance(surfaces, PotentialSurface) else surfaces
    molecules = _molecules(rows)
    try:
        from plotly.subplots import make_subplots  # noqa: PLC0415
    except ImportError as error:
        raise ImportError('interactive figures need plotly; install it with pip install "pyg_schnet[plot]"') from error
    specs = [[{"type": "scene"}] * len(rows)]
    figure = make_subplots(1, len(rows), specs=specs, subplot_titles=list(rows), horizontal_spacing=GAP)
    for column, row in enumerate(rows.values()):
        limits = colour_limits(list(row.values()))
        bar = (column + 1) * (1.0 + GAP) / len(rows) - GAP  # beside the scene
        for number, molecule in enumerate(molecules):
            for trace in _traces(row[molecule], limits, bar, shown=number == 0):
                figure.add_trace(trace, row=1, col=column + 1)
    half = max(extent_of(surface) for row in rows.values() for surface in row.values())
    side = {"visible": False, "range": [-half, half]}
    zoom = dict.fromkeys("xyz", ZOOM)
    figure.update_scenes(aspectratio=zoom, xaxis=side, yaxis=side, zaxis=side, camera=_camera())
    figure.update_layout(
        margin={"l": 0, "r": 90, "t": 70, "b": 0},
        showlegend=False,
        updatemenus=[_veil_buttons(len(rows) * len(molecules))]
        + ([_molecule_menu(molecules, len(rows))] if len(molecules) > 1 else []),
    )
    return figure


def potential_surface_page(
    surfaces: PotentialSurface | Mapping[str, Mapping[str, PotentialSurface]],
    path: str | Path,
    title: str = "Local chemical potentials",
) -> Path:
    """Write the figure of :func:`potential_surface_plot` as one HTML file, which needs no network.

    Args:
        surfaces: As there.
        path: File to write, folders included.
        title: Heading of the page.

    Returns:
        The path.

    Raises:
        ImportError: If plotly or ASE is missing.
        TypeError, ValueError: As :func:`potential_surface_plot`.
    """
    figure = potential_surface_plot(surfaces)
    first = surfaces if isinstance(surfaces, PotentialSurface) else next(iter(next(iter(surfaces.values())).values()))
    symbol = SYMBOLS[first.probe]
    page = Page(
        title,
        f"What a probe atom ({symbol}) feels on a surface around a molecule, less the reference of {symbol}: it senses "
        "the atoms and does not influence them, see Schütt et al., J. Chem. Phys. 148, 241722 (2018), figure 5.",
    )
    page.section("Surfaces")
    page.interactive(figure, "Drag to turn, scroll to zoom; the mouse shows the potential.", height=640)
    return page.write(path)


def _molecules(rows: Any) -> list[str]:
    if not isinstance(rows, Mapping) or not all(isinstance(row, Mapping) for row in rows.values()):
        raise TypeError(
            "`surfaces` must be what potential_surface(model, data) returns, or {model: {molecule: surface}}, got "
            f"{type(rows).__name__}"
        )
    molecules = list(next(iter(rows.values()), {}))
    if not molecules:
        raise ValueError("there is no surface to draw; expected at least one")
    for model, row in rows.items():
        if list(row) != molecules:
            raise ValueError(
                f"`surfaces` must be of the same molecules for each model: {molecules}, got {list(row)} for {model!r}"
            )
        for surface in row.values():
            check_surface(surface)
    return molecules


def _traces(surface: PotentialSurface, limits: tuple[float, float], bar: float, shown: bool) -> list[Any]:
    """The surface, its bonds and its atoms, the plane of largest extent horizontal."""
    from plotly.graph_objects import Mesh3d, Scatter3d  # noqa: PLC0415

    view = view_of(surface.data)
    vertices = ((surface.vertices - view.origin) @ view.axes.T).float().numpy()
    x, y, z = vertices.T
    i, j, k = _far_ones_first(vertices, surface.triangles.int().numpy()).T
    values = (surface.values - surface.reference).float().numpy()
    name = f"Ω<sub>{SYMBOLS[surface.probe]}</sub>"
    title = name + (f" ({surface.unit})" if surface.unit else "")
    said = f"{name} %{{customdata:.3f}} {surface.unit}<br>(%{{x:.2f}}, %{{y:.2f}}, %{{z:.2f}}) Å<extra></extra>"
    mesh = Mesh3d(
        x=x, y=y, z=z, i=i, j=j, k=k, intensity=values, customdata=values, visible=shown,
        cmin=limits[0], cmax=limits[1], colorscale="RdYlBu", reversescale=True,
        colorbar={"title": {"text": title}, "len": 0.7, "x": bar, "thickness": 14},
        lighting={"ambient": 0.55, "diffuse": 0.6, "specular": 0.15, "roughness": 0.6},
        hovertemplate=said,
    )  # fmt: skip
    pos = ((surface.pos - view.origin) @ view.axes.T).numpy()
    gap = np.full((1, 3), np.nan)
    lines = np.concatenate([np.concatenate([pos[pair], gap]) for pair in bonds(surface.data).T.tolist()] or [gap])
    style = {"color": "#4a5568", "width": 6}
    sticks = Scatter3d(
        x=lines[:, 0], y=lines[:, 1], z=lines[:, 2], mode="lines", line=style, hoverinfo="skip", visible=shown
    )
    symbols = [SYMBOLS[number] for number in surface.z.tolist()]
    balls = Scatter3d(
        x=pos[:, 0], y=pos[:, 1], z=pos[:, 2], mode="markers+text", text=symbols, visible=shown,
        marker={"size": 9, "color": _colours(surface.z.numpy()), "line": {"color": "#2d3748", "width": 1}},
        hovertemplate="%{text} (%{x:.2f}, %{y:.2f}, %{z:.2f}) Å<extra></extra>",
    )  # fmt: skip
    return [mesh, sticks, balls]


def _colours(z: Any) -> list[str]:
    from ase.data.colors import jmol_colors  # noqa: PLC0415

    rows = (255 * jmol_colors[np.minimum(z, len(jmol_colors) - 1)]).round().astype(int)
    return [f"rgb({r},{g},{b})" for r, g, b in rows]


def _far_ones_first(vertices: NDArray, triangles: NDArray) -> NDArray:
    """Triangles in the order in which translucent ones have to be drawn, seen from where the camera begins."""
    depth = vertices[triangles].mean(1) @ np.array(list(EYE.values()))
    return triangles[np.argsort(depth, kind="stable")]


def _camera() -> dict[str, Any]:
    return {"eye": EYE, "projection": {"type": "orthographic"}}


def _veil_buttons(surfaces: int) -> dict[str, Any]:
    """Buttons for how much of the surfaces is seen; they change every surface, shown or not."""
    meshes = [_TRACES * number for number in range(surfaces)]
    buttons = [
        {"label": label, "method": "restyle", "args": [{"opacity": veil}, meshes]} for label, veil in VEILS.items()
    ]
    place = {"x": 0.5, "xanchor": "center", "y": 1.12, "yanchor": "top"}
    return {"type": "buttons", "direction": "right", "buttons": buttons, **place}


def _molecule_menu(molecules: list[str], models: int) -> dict[str, Any]:
    """A menu that shows one molecule by all models."""
    buttons = []
    for chosen in range(len(molecules)):
        shown = [number == chosen for _ in range(models) for number in range(len(molecules)) for _ in range(_TRACES)]
        buttons.append({"label": molecules[chosen], "method": "restyle", "args": [{"visible": shown}]})
    return {"buttons": buttons, "x": 0.0, "xanchor": "left", "y": 1.12, "yanchor": "top"}
