import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")

from pyg_schnet.analysis.figure import blank_figure, new_axes
from pyg_schnet.analysis.surfaces.potential_cut import PotentialCut
from pyg_schnet.analysis.surfaces.potential_cut_figure import cut_limits, draw_potential_cut, draw_potential_cuts


def cut(**changes):
    """Values that rise to the right and, steeper, upwards; two atoms."""
    x, y = torch.linspace(-2, 2, 9).double(), torch.linspace(-1, 1, 5).double()
    values = x + 10.0 * y[:, None] - 50.0
    values[2, 4] = torch.nan
    atoms = torch.tensor([[0.0, 0.0], [2.0, 1.0]]).double()
    whole = PotentialCut(
        x, y, values, -50.0, "eV", 6, 0.25, atoms, torch.tensor([6, 8]), torch.eye(3).double(), torch.zeros(3).double()
    )
    return whole._replace(**changes)


def test_numbers_are_where_they_belong():
    axes = draw_potential_cut(cut())
    (image,) = axes.images
    shown = image.get_array()
    assert shown.mask.sum() == 1
    assert shown.mask[2, 4]
    np.testing.assert_allclose(shown[0, 0], -12.0)
    np.testing.assert_allclose(shown[4, 0], 8.0)
    assert image.origin == "lower"
    assert image.get_extent() == pytest.approx([-2.25, 2.25, -1.25, 1.25])  # points are in the middle of their squares
    assert axes.get_xlim() == pytest.approx((-2.25, 2.25))
    assert axes.get_ylim() == pytest.approx((-1.25, 1.25))
    assert axes.get_aspect() == 1.0
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x (Å)", "y (Å)")
    assert axes.figure.axes[-1].get_ylabel() == "$\\Omega_{\\mathrm{C}}$ less reference of C (eV)"


def test_atoms():
    axes = draw_potential_cut(cut())
    assert [tuple(disc.center) for disc in axes.patches] == [(0.0, 0.0), (2.0, 1.0)]
    # what is left out is hidden, squares at the edge of it included
    assert [disc.radius for disc in axes.patches] == pytest.approx([0.25 + 0.5**0.5 * 0.5] * 2)
    assert [text.get_text() for text in axes.texts] == ["C", "O"]
    assert not draw_potential_cut(cut(), symbols=False).texts


def test_colours_leave_out_what_sticks_out():
    values = cut().values
    values[0, 0] = 1e6
    low, high = cut_limits(cut(values=values))
    assert -12 < low < -10
    assert low < high < 1e6
    axes = draw_potential_cut(cut(), limits=(-3.0, 4.0))
    assert axes.images[0].get_clim() == (-3.0, 4.0)
    assert axes.images[0].colorbar.extend == "both"
    assert draw_potential_cut(cut(), limits=(-30.0, 40.0)).images[0].colorbar.extend == "neither"


def test_nothing_to_see():
    nothing = cut(values=torch.full((5, 9), torch.nan).double())
    assert cut_limits(nothing) == (0.0, 1.0)
    assert draw_potential_cut(nothing).images[0].get_array().mask.all()
    assert cut_limits(cut(values=torch.full((5, 9), -50.0).double())) == (-0.5, 0.5)


def test_axes_and_figure_of_the_user():
    axes = new_axes()
    assert draw_potential_cut(cut(), axes, colorbar=False) is axes
    assert len(axes.figure.axes) == 1
    figure = blank_figure(6, 3)
    assert draw_potential_cuts({"graphite": cut(), "diamond": cut()}, figure, colorbar=False) is figure
    assert [panel.get_title() for panel in figure.axes] == ["graphite", "diamond"]


def test_bad_input():
    with pytest.raises(TypeError, match=r"what potential_cut\(model, data\) returns, got Tensor"):
        draw_potential_cut(torch.zeros(3))
    with pytest.raises(ValueError, match="there is no cut to draw"):
        draw_potential_cuts({})
