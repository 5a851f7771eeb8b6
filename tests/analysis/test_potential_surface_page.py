import re

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

pytest.importorskip("plotly")
pytest.importorskip("skimage")
pytest.importorskip("ase")

from pyg_schnet.analysis.surfaces.isosurface import isosurface
from pyg_schnet.analysis.surfaces.potential_surface import PotentialSurface
from pyg_schnet.analysis.surfaces.potential_surface_page import potential_surface_page, potential_surface_plot


def surface(length=1.2, probe=6):
    pos = torch.tensor([[0.0, 0, 0], [length, 0, 0]], dtype=torch.float64)
    data = Data(z=torch.tensor([8, 6]), pos=pos)
    mesh = isosurface(data, spacing=0.25)
    return PotentialSurface(*mesh, mesh.vertices[:, 0] - 100.0, -100.0, "eV", probe, data.z, pos)


def test_one_surface():
    drawn = surface()
    figure = potential_surface_plot(drawn)
    mesh, sticks, balls = figure.data
    np.testing.assert_allclose(mesh.intensity, drawn.values + 100, atol=1e-5)  # float32
    np.testing.assert_array_equal(mesh.intensity, mesh.customdata)
    corners = np.stack([mesh.x, mesh.y, mesh.z], 1)
    np.testing.assert_allclose(
        np.sort(np.linalg.norm(corners, axis=1)),
        (drawn.vertices - drawn.pos.mean(0)).norm(dim=1).sort().values,
        atol=1e-5,
    )
    found = np.sort(np.stack([mesh.i, mesh.j, mesh.k], 1), axis=1)
    expected = np.sort(drawn.triangles.numpy(), axis=1)
    assert {tuple(row) for row in found.tolist()} == {tuple(row) for row in expected.tolist()}
    assert list(balls.text) == ["O", "C"]
    assert np.isnan(sticks.x).sum() == 1  # a gap after each bond
    assert np.nanmax(sticks.x) - np.nanmin(sticks.x) == pytest.approx(1.2)
    assert "Ω<sub>C</sub> %{customdata:.3f} eV" in mesh.hovertemplate
    assert [button.label for button in figure.layout.updatemenus[0].buttons] == ["solid", "translucent", "atoms only"]


def test_menu_shows_one_molecule_of_all_models():
    rows = {model: {"CO": surface(), "long": surface(1.5)} for model in ("DTNN", "SchNet")}
    figure = potential_surface_plot(rows)
    assert [trace.scene for trace in figure.data] == ["scene"] * 6 + ["scene2"] * 6
    assert [trace.visible for trace in figure.data] == ([True] * 3 + [False] * 3) * 2
    veils, menu = figure.layout.updatemenus
    assert [button.label for button in menu.buttons] == ["CO", "long"]
    assert list(menu.buttons[1].args[0]["visible"]) == ([False] * 3 + [True] * 3) * 2
    assert all(figure.data[number].type == "mesh3d" for number in veils.buttons[0].args[1])
    assert len(veils.buttons[0].args[1]) == 4
    assert [note.text for note in figure.layout.annotations] == ["DTNN", "SchNet"]


def test_far_triangles_are_drawn_first():
    from pyg_schnet.analysis.surfaces.potential_surface_page import EYE

    mesh = potential_surface_plot(surface()).data[0]
    corners = np.stack([mesh.x, mesh.y, mesh.z], 1)
    depth = corners[np.stack([mesh.i, mesh.j, mesh.k], 1)].mean(1) @ list(EYE.values())
    assert (np.diff(depth) > -1e-5).all()  # float32


@pytest.fixture
def page(tmp_path):
    rows = {model: {"CO": surface(), "long": surface(1.5, 7)} for model in ("DTNN", "SchNet")}
    return potential_surface_page(rows, tmp_path / "deep" / "page.html", "Two <models>")


def test_page_needs_no_network(page):
    text = page.read_text(encoding="utf-8")
    assert "<title>Two &lt;models&gt;</title>" in text
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="(https?:)?//', text)
    assert "* plotly.js v" in text


def test_page_runs_in_a_browser(page, in_browser):
    assert in_browser(page) == "drawn 12 failed 0"


def test_bad_input():
    with pytest.raises(TypeError, match=r"\{model: \{molecule: surface\}\}, got list"):
        potential_surface_plot([surface()])
    with pytest.raises(TypeError, match="got Data"):
        potential_surface_plot({"A": {"one": Data()}})
    with pytest.raises(ValueError, match="there is no surface to draw"):
        potential_surface_plot({})
    with pytest.raises(ValueError, match=r"\['one'\], got \['two'\] for 'B'"):
        potential_surface_plot({"A": {"one": surface()}, "B": {"two": surface()}})
