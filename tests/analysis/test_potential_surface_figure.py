import numpy as np
import pytest
import torch
from torch_geometric.data import Data

pytest.importorskip("matplotlib")
pytest.importorskip("skimage")
pytest.importorskip("ase")

from pyg_schnet.analysis.figure import blank_figure, new_axes, save_figure
from pyg_schnet.analysis.surfaces.isosurface import isosurface
from pyg_schnet.analysis.surfaces.potential_surface import PotentialSurface
from pyg_schnet.analysis.surfaces.potential_surface_figure import (
    colour_limits,
    draw_potential_surface,
    draw_potential_surfaces,
)


def surface(height=0.0, scale=1.0):
    """A molecule of which the potential is known: it rises along the longest axis."""
    pos = torch.tensor([[0.0, 0, height], [1.2, 0, height], [2.4, 0.3, height]], dtype=torch.float64)
    data = Data(z=torch.tensor([8, 6, 16]), pos=pos)
    mesh = isosurface(data, spacing=0.25)
    values = scale * (mesh.vertices[:, 0] - 1.2) - 100.0
    return PotentialSurface(*mesh, values, -100.0, "eV", 6, data.z, pos)


def mesh_of(axes):
    (mesh,) = axes.collections
    return mesh


def test_surface_into_new_axes():
    drawn = surface()
    axes = draw_potential_surface(drawn)
    assert len(mesh_of(axes).get_facecolor()) == len(drawn.triangles)
    assert sorted(text.get_text() for text in axes.texts) == ["C", "O", "S"]
    assert len(axes.lines) == 2  # bonds
    bar = axes.figure.axes[-1]
    assert bar.get_ylabel() == "$\\Omega_{\\mathrm{C}}$ less reference of C (eV)"
    low, high = bar.get_ylim()
    values = (drawn.values + 100).numpy()
    assert (values < low).mean() == pytest.approx(0.01, abs=0.005)
    assert (values > high).mean() == pytest.approx(0.01, abs=0.005)


def redness(drawn, **options):
    """Red less blue of each triangle, in the order in which they are drawn."""
    colours = mesh_of(draw_potential_surface(drawn, colorbar=False, **options)).get_facecolor()
    return colours[:, 0] - colours[:, 2]


def test_colours_tell_the_values():
    """Red where it is high, blue where it is low; light changes the brightness alone."""
    assert (redness(surface(), limits=(-20.0, -10.0)) > 0.2).all()
    assert (redness(surface(), limits=(10.0, 20.0)) < -0.2).all()
    assert np.corrcoef(redness(surface()), redness(surface(scale=-1.0)))[0, 1] < -0.8
    high, low = (redness(surface(scale=scale), limits=(-1.0, 1.0)).mean() for scale in (1.0, -1.0))
    assert abs(high + low) < 0.2


def test_the_same_wherever_the_molecule_is():
    first, second = (draw_potential_surface(surface(height)) for height in (0.0, 7.0))
    one, other = (mesh_of(axes).get_facecolor() for axes in (first, second))
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert first.get_xlim() == pytest.approx(second.get_xlim())


def test_axes_of_the_user(tmp_path):
    figure = blank_figure(3, 3)
    axes = figure.add_subplot(projection="3d")
    assert draw_potential_surface(surface(), axes, limits=(-1.0, 1.0), extent=5.0, colorbar=False) is axes
    assert axes.get_xlim() == (-5.0, 5.0)
    assert len(figure.axes) == 1
    assert save_figure(figure, tmp_path / "surface.png").stat().st_size > 5000


def test_many_surfaces():
    rows = {"A": {"one": surface(), "two": surface(scale=3.0)}, "B": {"one": surface(), "two": surface(1.0)}}
    figure = draw_potential_surfaces(rows, limits=[(-2.0, 2.0), None])
    panels = [axes for axes in figure.axes if hasattr(axes, "plot_trisurf")]
    bars = [axes for axes in figure.axes if not hasattr(axes, "plot_trisurf")]
    assert [panel.get_title() for panel in panels] == ["one", "two", "", ""]
    assert len({panel.get_xlim() for panel in panels}) == 1  # one scale
    assert bars[0].get_ylim() == (-2.0, 2.0)
    assert bars[1].get_ylim() == pytest.approx(colour_limits(list(rows["B"].values())))


def test_a_constant_has_colours():
    flat = surface(scale=0.0)
    assert colour_limits([flat]) == (-0.5, 0.5)
    assert colour_limits([surface(scale=1e-9)]) == pytest.approx((-0.5, 0.5))
    draw_potential_surface(flat)


def test_bad_input():
    with pytest.raises(TypeError, match="`axes` must be three-dimensional"):
        draw_potential_surface(surface(), new_axes())
    with pytest.raises(TypeError, match=r"what potential_surface\(model, data\) returns, got Data"):
        draw_potential_surface(Data())
    for nothing in ({}, {"A": {}}):
        with pytest.raises(ValueError, match="there is no surface to draw"):
            draw_potential_surfaces(nothing)
    with pytest.raises(ValueError, match="a pair for each of 1 models, got 2"):
        draw_potential_surfaces({"A": {"one": surface()}}, limits=[None, None])
