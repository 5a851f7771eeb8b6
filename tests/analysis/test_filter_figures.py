"""What the figures of filters show is what they were given."""

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")
from pyg_schnet import SchNet
from pyg_schnet.analysis.figure import new_axes, save_figure
from pyg_schnet.analysis.filters.filter_figures import (
    draw_all_filters,
    draw_filter,
    draw_filter_cut,
    draw_filter_cuts,
    draw_filters,
)
from pyg_schnet.analysis.filters.filters import FilterCurves, FilterCut, filter_curves, filter_cut
from pyg_schnet.datasets import MD17
from pyg_schnet.models import DTNN


def small(**options):
    torch.manual_seed(0)
    return SchNet.preset("jcp2018-materials", hidden_channels=8, num_filters=6, num_interactions=2, **options)


def plain_cut(filters=3):
    """Filter k is k + 1 at the right end of the lowest row, its negative at the left end of the highest one."""
    values = torch.zeros(5, 5, filters)
    values[0, 4] = torch.arange(1.0, filters + 1)
    values[4, 0] = -values[0, 4]
    return FilterCut(torch.linspace(-2, 2, 5), values, 1, "conv")


def test_curves_and_histogram():
    curves = filter_curves(small())
    axes = new_axes()
    assert draw_filter(curves, axes, block=1, filters=[2, 5], distances=np.array([1.0, 1.0, 2.0])) is axes
    assert len(axes.lines) == 6 + 2 + 1  # all in grey, two coloured, and zero
    np.testing.assert_allclose(axes.lines[7].get_ydata(), curves.values[1, :, 5].numpy(), rtol=1e-6)
    (bars,) = axes.collections
    outline = bars.get_paths()[0].vertices
    heights = {x: outline[np.abs(outline[:, 0] - x) < 0.04][:, 1].max() for x in (0.5, 1.0, 2.0)}
    floor = axes.get_ylim()[0]
    assert heights[1.0] - floor == pytest.approx(2 * (heights[2.0] - floor))  # two distances there, one here
    assert heights[0.5] == pytest.approx(floor)
    shown = curves.values[1][(curves.distances >= 1.0) & (curves.distances <= 2.0)]
    assert heights[1.0] < shown.min()  # beneath all curves where there are data
    assert shown.max() < axes.get_ylim()[1] < 1.2 * shown.max()


def test_filters_are_chosen_where_data_are():
    """The largest filter is large where no atoms are; between them, another one is."""
    values = torch.zeros(1, 11, 3)
    values[0, :5, 0], values[0, 5:, 2] = 100.0, 1.0
    curves = FilterCurves(torch.linspace(0, 5, 11), values, ("conv",))
    names = []
    for distances in (None, np.array([2.6, 4.0])):
        axes = draw_filter(curves, filters=1, distances=distances)
        names.append(axes.get_legend().get_texts()[0].get_text())
    assert names == ["0", "2"]
    assert draw_filter(curves, distances=np.array([])).collections[:] == []


def test_a_panel_for_each_block(tmp_path):
    """Distances of structures or an array; the axis ends where the data do."""
    dataset = MD17(tmp_path, "ethanol_xtb", log=False)
    figure = draw_filters(small(), dataset, sample=20)
    assert [panel.get_title() for panel in figure.axes] == ["block 1 of 2", "block 2 of 2"]
    assert 4.0 < figure.axes[0].get_xlim()[1] < 5.0
    assert figure.axes[0].get_xlabel() == "distance (Å)"
    far = draw_filters(DTNN(8, 5, 2, 20), np.array([1.0, 8.0]))
    assert [panel.get_xlim() for panel in far.axes] == [(0.0, pytest.approx(8.8))]
    assert draw_filters(small(), longest=3.0).axes[0].get_xlim() == (0.0, 3.0)
    assert save_figure(figure, tmp_path / "x.png").stat().st_size > 10_000


def test_cut_stands_upright():
    """Right is right and up is up, and the colours end at the largest value."""
    axes = draw_filter_cut(plain_cut(), number=1)
    (image,) = axes.images
    assert image.origin == "lower"
    assert image.get_extent() == [-2.0, 2.0, -2.0, 2.0]
    assert image.get_array()[0, 4] == 2.0
    assert image.get_clim() == (-2.0, 2.0)
    assert draw_filter_cut(plain_cut()).get_title() == "filter 2"  # the largest


def test_rows_are_surroundings_and_columns_filters():
    model = small()
    cuts = {"atom": filter_cut(model, resolution=9), "cubic": filter_cut(model, 3.5 * torch.eye(3), resolution=9)}
    figure = draw_filter_cuts(cuts, filters=[4, 1, 0])
    assert [panel.get_ylabel() for panel in figure.axes] == ["atom", "", "", "cubic", "", ""]
    assert figure.axes[0].get_title().startswith("filter 4\n")
    shown = figure.axes[4].images[0].get_array()
    np.testing.assert_allclose(shown, cuts["cubic"].values[..., 1].numpy(), rtol=1e-6)
    assert len(draw_filter_cuts(cuts, filters=2).axes) == 4


@pytest.mark.parametrize("common", [True, False])
def test_all_filters_in_reading_order(common):
    """Of six filters in three columns the fifth is in the middle of the second row; each upright."""
    axes = draw_all_filters(plain_cut(6), common=common)
    mosaic = np.ma.filled(axes.images[0].get_array(), np.nan)
    assert mosaic.shape == (2 * 5 + 1, 3 * 5 + 2)
    tile = mosaic[6:, 6:11]
    assert tile[4, 4] == (5.0 if common else 1.0)  # the image has its first row on top
    assert tile[0, 0] == -tile[4, 4]
    assert np.isnan(mosaic[5]).all()
    assert len(axes.figure.axes) == (2 if common else 1)


def test_bad_input():
    curves = filter_curves(small())
    with pytest.raises(ValueError, match="from 0 to 5, got"):
        draw_filter(curves, filters=[6])
    with pytest.raises(ValueError, match="`block` must be at least -2 and at most 1, got 2"):
        draw_filter(curves, block=2)
    with pytest.raises(ValueError, match="from 0 to 2"):
        draw_filter_cut(plain_cut(), number=3)
    with pytest.raises(ValueError, match="no cut to draw"):
        draw_filter_cuts({})


def test_filters_of_sixteen_bits():
    figure = draw_filters(small().bfloat16(), np.array([1.0, 2.0]))
    assert len(figure.axes) == 2
