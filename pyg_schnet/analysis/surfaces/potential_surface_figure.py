"""Drawing local chemical potentials on surfaces around molecules, figure 5 (extras ``plot`` and ``md``)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyg_schnet.analysis.figure import blank_figure, new_axes
from pyg_schnet.analysis.molecule import bonds, view_of
from pyg_schnet.analysis.surfaces.potential_surface import PotentialSurface
from pyg_schnet.units import SYMBOLS

#: Share of the corners whose values are beyond either end of the colours.
BEYOND = 0.01
#: What varies less is constant: float32 knows no better.
CONSTANT = 1e-6
#: Where the light comes from, as seen by the viewer: right, up, towards; and how dark shadows are.
LIGHT, SHADOW = (-0.35, 0.55, 0.76), 0.45
#: From where molecules are seen, in degrees above the plane in which they extend most, and around its normal.
ELEVATION, AZIMUTH = 48.0, -70.0


def draw_potential_surface(
    surface: PotentialSurface,
    axes: Any = None,
    *,
    limits: tuple[float, float] | None = None,
    cmap: str = "RdYlBu_r",
    elevation: float = ELEVATION,
    azimuth: float = AZIMUTH,
    extent: float | None = None,
    colorbar: bool = True,
) -> Any:
    """Draw a surface around a molecule, coloured by what a probe feels on it, with its atoms and bonds above it.

    Numbers are those beyond the reference of the probe, which is as large as the energy of an atom.

    Args:
        surface: What :func:`~pyg_schnet.analysis.potential_surface` returned.
        axes: Three-dimensional axes of matplotlib to draw into; ``None`` for new ones.
        limits: Numbers at the ends of the colours, in eV; ``None`` to leave out a hundredth of the corners on either.
        cmap: Colour map.
        elevation: Angle in degrees above the plane in which the molecule extends most.
        azimuth: Angle in degrees around the normal of this plane.
        extent: Half the length of the axes in Angstrom; ``None`` for that of the surface.
        colorbar: True to draw a colour bar.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib or ASE is missing.
        TypeError: If ``axes`` are flat, or ``surface`` is none.

    Example:
        >>> import torch
        >>> from torch_geometric.data import Data
        >>> from pyg_schnet import SchNet
        >>> from pyg_schnet.analysis.surfaces.potential_surface import potential_surface
        >>> water = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
        >>> axes = draw_potential_surface(potential_surface(SchNet(16, 16, 1), water, spacing=0.2))
        >>> [text.get_text() for text in axes.texts]
        ['O', 'H', 'H']
    """
    check_surface(surface)
    axes = new_axes(axes, 5.5, 4.5, projection="3d")
    if not hasattr(axes, "plot_trisurf"):
        raise TypeError('`axes` must be three-dimensional, of figure.add_subplot(projection="3d"); got flat ones')
    mappable = _mappable([surface] if limits is None else limits, cmap)
    view = view_of(surface.data)
    turn, middle = view.axes.numpy(), view.origin.numpy()
    vertices = (surface.vertices.numpy() - middle) @ turn.T
    _draw_mesh(axes, surface, vertices, mappable, elevation, azimuth)
    _draw_skeleton(axes, surface, (surface.pos.numpy() - middle) @ turn.T)
    half = float(np.abs(vertices).max()) if extent is None else extent
    axes.set(xlim=(-half, half), ylim=(-half, half), zlim=(-half, half))
    axes.set_box_aspect((1, 1, 1), zoom=1.6)
    axes.set_proj_type("ortho")
    axes.view_init(elevation, azimuth)
    axes.set_axis_off()
    if colorbar:
        axes.figure.colorbar(mappable, ax=axes, label=potential_label(surface), shrink=0.7)
    return axes


def draw_potential_surfaces(
    rows: Mapping[str, Mapping[str, PotentialSurface]],
    figure: Any = None,
    *,
    limits: Sequence[tuple[float, float] | None] | None = None,
    cmap: str = "RdYlBu_r",
) -> Any:
    """Draw many molecules by one or several models beside one another, as in figure 5; each row has its own colours.

    All molecules are drawn to one scale.

    Args:
        rows: Surfaces by name of the molecule, by name of the model.
        figure: Figure of matplotlib to draw into; ``None`` for a new one.
        limits: Numbers at the ends of the colours of each row in eV; ``None`` for those of
            :func:`draw_potential_surface`, for all molecules of a row together.
        cmap: Colour map.

    Returns:
        The figure.

    Raises:
        ImportError: If matplotlib or ASE is missing.
        ValueError: If there is nothing to draw, or the number of limits is not that of the rows.
    """
    columns = max((len(row) for row in rows.values()), default=0)
    if columns == 0 or not all(rows.values()):
        raise ValueError("there is no surface to draw; expected at least one molecule for each model")
    if limits is not None and len(limits) != len(rows):
        raise ValueError(f"`limits` must be a pair for each of {len(rows)} models, got {len(limits)}")
    figure = blank_figure(2.3 * columns + 0.9, 2.3 * len(rows)) if figure is None else figure
    extent = max(extent_of(surface) for row in rows.values() for surface in row.values())
    for number, (model, row) in enumerate(rows.items()):
        given = None if limits is None else limits[number]
        mappable = _mappable(list(row.values()) if given is None else given, cmap)
        panels = []
        for column, (name, surface) in enumerate(row.items()):
            panel = figure.add_subplot(len(rows), columns, number * columns + column + 1, projection="3d")
            draw_potential_surface(surface, panel, limits=mappable.get_clim(), cmap=cmap, extent=extent, colorbar=False)
            panel.set_title(name if number == 0 else "", fontsize=10)
            panels.append(panel)
        panels[0].text2D(0.0, 0.5, model, transform=panels[0].transAxes, rotation=90, va="center", fontsize=11)
        figure.colorbar(mappable, ax=panels, label=potential_label(next(iter(row.values()))), fraction=0.05, pad=0.01)
    return figure


def potential_label(felt: Any) -> str:
    """What the numbers of a picture are.

    Args:
        felt: A surface or a cut, with ``probe`` and ``unit``.

    Returns:
        Their name and unit.
    """
    symbol = SYMBOLS[felt.probe]
    return f"$\\Omega_{{\\mathrm{{{symbol}}}}}$ less reference of {symbol}" + (f" ({felt.unit})" if felt.unit else "")


def check_surface(surface: Any) -> None:
    """Check that a surface is one.

    Args:
        surface: What :func:`~pyg_schnet.analysis.potential_surface` returned.

    Raises:
        TypeError: If it is not.
    """
    if not isinstance(surface, PotentialSurface):
        raise TypeError(f"`surface` must be what potential_surface(model, data) returns, got {type(surface).__name__}")


def colour_limits(surfaces: Sequence[PotentialSurface]) -> tuple[float, float]:
    """Numbers at the ends of the colours: a hundredth of the corners is beyond either of them.

    Args:
        surfaces: Surfaces that share their colours.

    Returns:
        Lowest and highest number, less the reference of the probe.
    """
    return limits_of(np.concatenate([(one.values - one.reference).numpy() for one in surfaces]))


def limits_of(values: NDArray) -> tuple[float, float]:
    """Numbers at the ends of the colours: a hundredth of the values is beyond either of them.

    Args:
        values: Any number of finite values.

    Returns:
        Lowest and highest number; those half a unit around a constant, of which only rounding is left to see.

    Example:
        >>> limits_of(np.arange(101.0)), limits_of(np.full(3, 7.0))
        ((1.0, 99.0), (6.5, 7.5))
    """
    low, high = np.quantile(values, [BEYOND, 1.0 - BEYOND]) if len(values) else (0.0, 1.0)
    middle = 0.5 * (low + high)
    return (float(low), float(high)) if high - low > CONSTANT else (float(middle) - 0.5, float(middle) + 0.5)


def _mappable(limits: Any, cmap: str) -> Any:
    from matplotlib import colormaps  # noqa: PLC0415
    from matplotlib.cm import ScalarMappable  # noqa: PLC0415
    from matplotlib.colors import Normalize  # noqa: PLC0415

    low, high = limits if isinstance(limits, tuple) else colour_limits(limits)
    return ScalarMappable(Normalize(low, high), colormaps[cmap])


def extent_of(surface: PotentialSurface) -> float:
    """How far a surface reaches from the middle of its atoms along its axes of largest extent.

    Args:
        surface: The surface.

    Returns:
        Distance in Angstrom.
    """
    view = view_of(surface.data)
    return float(((surface.vertices - view.origin) @ view.axes.T).abs().max())


def _draw_mesh(
    axes: Any, surface: PotentialSurface, vertices: NDArray, mappable: Any, elevation: float, azimuth: float
) -> None:
    """Triangles in their colours, lit from over the viewer's shoulder."""
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection  # noqa: PLC0415

    corners = vertices[surface.triangles.numpy()]  # [T, 3, 3]
    values = (surface.values - surface.reference).numpy()[surface.triangles.numpy()].mean(1)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-300)
    light = _lit_from(elevation, azimuth)
    brightness = 1.0 - SHADOW * (1.0 - (normals @ light).clip(0.0))
    colours = mappable.to_rgba(values)
    colours[:, :3] *= brightness[:, None]
    mesh = Poly3DCollection(corners, facecolors=colours, edgecolors=colours, linewidths=0.3)
    mesh.set_rasterized(True)
    axes.add_collection3d(mesh)


def _lit_from(elevation: float, azimuth: float) -> NDArray:
    """Direction to the light, from where it is as seen by the viewer."""
    up, around = np.radians([elevation, azimuth])
    towards = np.array([np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up)])
    right = np.array([-np.sin(around), np.cos(around), 0.0])
    light = np.array(LIGHT) @ np.stack([right, np.cross(towards, right), towards])
    return light / np.linalg.norm(light)


def _draw_skeleton(axes: Any, surface: PotentialSurface, pos: NDArray) -> None:
    """Bonds and symbols of the atoms, drawn over the surface that hides them."""
    for i, j in bonds(surface.data).T.tolist():
        axes.plot(*pos[[i, j]].T, color="black", linewidth=0.8, zorder=10)
    for place, number in zip(pos, surface.z.tolist(), strict=True):
        axes.text(*place, SYMBOLS[number], ha="center", va="center", fontsize=7, zorder=11)
