"""Drawing atoms and bonds on flat axes (extras ``plot`` and ``md``)."""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.analysis.figure import new_axes
from pyg_schnet.analysis.molecule import View, atoms_of, bonds, covalent_radii, view_of
from pyg_schnet.units import SYMBOLS

#: Radius of an atom drawn, in covalent radii; the smallest atoms keep room for their symbol.
SIZE, SMALLEST = 0.55, 0.27


def draw_molecule(
    data: Data,
    axes: Any = None,
    *,
    values: Tensor | ArrayLike | None = None,
    label: str | None = None,
    cmap: str = "RdBu_r",
    limits: tuple[float, float] | None = None,
    view: View | None = None,
    symbols: bool = True,
    scale_bar: bool = True,
) -> Any:
    """Draw atoms as discs and bonds as lines, seen from above the plane in which the structure extends most.

    Of a crystal, what stands in the cell is drawn.

    Args:
        data: One structure.
        axes: Axes of matplotlib to draw into; ``None`` for new ones.
        values: A number for each atom [N] that its colour tells; ``None`` for the colours of the elements.
        label: What the numbers are, with their unit, beside a colour bar; ``None`` for no colour bar.
        cmap: Colour map of the numbers.
        limits: Numbers at the ends of the colour map; ``None`` for the largest absolute value, both signs.
        view: How to look at it, of :func:`~pyg_schnet.analysis.molecule.view_of`.
        symbols: True to write the symbols of the elements.
        scale_bar: True to draw a bar of one Angstrom; for axes without a scale of their own.

    Returns:
        The axes.

    Raises:
        ImportError: If matplotlib or ASE is missing.
        TypeError, ValueError: As :func:`~pyg_schnet.analysis.molecule.atoms_of`; if ``values`` are no finite number
            for each atom.

    Example:
        >>> water = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
        >>> [text.get_text() for text in draw_molecule(water, scale_bar=False).texts]
        ['O', 'H', 'H']
    """
    z, _ = atoms_of(data)
    view = view_of(data) if view is None else view
    numbers = None if values is None else _checked_values(values, len(z))
    axes = new_axes(axes, 4.5, 4.0)
    low, high = _limits(numbers) if limits is None else limits
    colours, mappable = _colours(z, numbers, cmap, low, high)
    radii = np.maximum(SIZE * covalent_radii(z).numpy(), SMALLEST)
    _draw_bonds(axes, data, view)
    _draw_atoms(axes, z, view, radii, colours, symbols)
    axes.set_aspect("equal")
    if scale_bar:
        _fit(axes, view.points.numpy(), radii)
    if mappable is not None and label is not None:
        axes.figure.colorbar(mappable, ax=axes, shrink=0.8).set_label(label, labelpad=8, fontsize=9)
    return axes


def _checked_values(values: Any, atoms: int) -> NDArray:
    numbers = values.detach().cpu().double().numpy() if isinstance(values, Tensor) else np.asarray(values, dtype=float)
    if numbers.shape != (atoms,):
        raise ValueError(f"`values` must be a number for each atom [{atoms}], got {list(numbers.shape)}")
    if not np.isfinite(numbers).all():
        raise ValueError("`values` must be finite, got NaN or infinite numbers")
    return numbers


def _limits(numbers: NDArray | None) -> tuple[float, float]:
    most = 0.0 if numbers is None else float(np.abs(numbers).max())
    return (-most, most) if most > 0.0 else (-1.0, 1.0)


def _colours(z: Tensor, numbers: NDArray | None, cmap: str, low: float, high: float) -> tuple[NDArray, Any]:
    """Colours of the atoms [N, 4], and what a colour bar is made of."""
    from matplotlib import colormaps  # noqa: PLC0415
    from matplotlib.cm import ScalarMappable  # noqa: PLC0415
    from matplotlib.colors import Normalize, to_rgba_array  # noqa: PLC0415

    if numbers is None:
        from ase.data.colors import jmol_colors  # noqa: PLC0415, the radii were its, too

        return to_rgba_array(jmol_colors[np.minimum(z.numpy(), len(jmol_colors) - 1)]), None
    mappable = ScalarMappable(Normalize(low, high), colormaps[cmap])
    return mappable.to_rgba(numbers), mappable


def _draw_bonds(axes: Any, data: Data, view: View) -> None:
    depth = view.depth - view.depth.min()
    for i, j in bonds(data).T.tolist():
        ends = view.points[[i, j]].numpy()
        order = 2.0 + 0.1 * float(torch.minimum(depth[i], depth[j]))
        axes.plot(*ends.T, color="#4a5568", linewidth=2.5, solid_capstyle="round", zorder=order)


def _draw_atoms(axes: Any, z: Tensor, view: View, radii: NDArray, colours: NDArray, symbols: bool) -> None:
    from matplotlib.patches import Circle  # noqa: PLC0415

    depth = view.depth - view.depth.min()
    for atom, (x, y) in enumerate(view.points.tolist()):
        order = 2.05 + 0.1 * float(depth[atom])
        colour = colours[atom]
        axes.add_patch(Circle((x, y), radii[atom], facecolor=colour, edgecolor="#2d3748", linewidth=0.8, zorder=order))
        if symbols:
            dark = float(colour[:3] @ (0.299, 0.587, 0.114)) < 0.5
            style = {"color": "white" if dark else "black", "ha": "center", "va": "center", "fontsize": 8}
            axes.text(x, y, SYMBOLS[z[atom]], **style, zorder=order + 0.01, clip_on=True)


def _fit(axes: Any, points: NDArray, radii: NDArray) -> None:
    """Limits around the atoms, no ticks, and a bar of one Angstrom below."""
    low = (points - radii[:, None]).min(0) - 0.15
    high = (points + radii[:, None]).max(0) + 0.15
    axes.plot([low[0] + 0.1, low[0] + 1.1], [low[1] - 0.25] * 2, color="black", linewidth=1.5)
    axes.text(low[0] + 0.6, low[1] - 0.3, "1 Å", ha="center", va="top", fontsize=8)
    axes.set(xlim=(low[0], max(high[0], low[0] + 1.3)), ylim=(low[1] - 0.75, high[1]), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
