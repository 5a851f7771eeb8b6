import importlib
import re

import pytest
import torch
from torch_geometric.data import Data

from pyg_schnet import Potential, SchNet
from pyg_schnet.analysis import look
from pyg_schnet.models import DTNN, Committee
from pyg_schnet.models.elements import TrainingSet

pytest.importorskip("matplotlib")
pytest.importorskip("plotly")


def small(**options):
    torch.manual_seed(0)
    return SchNet(16, 16, 2, cutoff=5.0, **options).double().eval()


def water():
    pos = torch.tensor([[0.0, 0, 0.1], [0, 0.76, -0.48], [0, -0.76, -0.48]], dtype=torch.float64)
    return Data(z=torch.tensor([8, 1, 1]), pos=pos)


def rock_salt():
    cell = 2.8 * torch.tensor([[[0.0, 1, 1], [1, 0, 1], [1, 1, 0]]], dtype=torch.float64)
    pos = torch.stack([torch.zeros(3, dtype=torch.float64), cell[0].sum(0) / 2])
    return Data(z=torch.tensor([11, 17]), pos=pos, cell=cell, pbc=torch.ones(1, 3, dtype=torch.bool))


def parts(path):
    """Text of each section by its heading."""
    found = re.split(r'<h2 id="section-\d+">', path.read_text(encoding="utf-8"))[1:]
    return {one.split("</h2>")[0]: one for one in found}


def test_a_molecule(tmp_path):
    model = small()
    model.units["energy"] = "eV"
    model.training_set = TrainingSet({1: 20, 6: 5, 7: 3, 8: 10}, structures=7, compositions=3)
    path = look(model, water(), tmp_path / "page.html", relax=False, progress=False)
    found = parts(path)
    assert list(found) == [
        "The model",
        "Filters",
        "Embeddings",
        "Prediction and contributions of the atoms",
        "Local chemical potential",
        "Vibrations",
    ]
    assert [name for name, text in found.items() if 'class="note"' in text] == ["Vibrations"]
    assert "Note that the structure is no minimum" in found["Vibrations"]
    assert {name: text.count("<img") for name, text in found.items()} == {
        "The model": 0,
        "Filters": 2,
        "Embeddings": 1,
        "Prediction and contributions of the atoms": 1,
        "Local chemical potential": 2,
        "Vibrations": 1,
    }
    assert "7 structures" in found["The model"]
    assert "Plotly.newPlot" in found["Local chemical potential"]
    assert "H2O" in path.read_text(encoding="utf-8")


def test_the_page_runs_in_a_browser(tmp_path, in_browser):
    """One interactive figure: surface, bonds and two elements."""
    title = in_browser(look(small(), water(), tmp_path / "page.html", relax=False, progress=False))
    drawn, failed = title.removeprefix("drawn ").split(" failed ")
    assert int(drawn) >= 3
    assert failed == "0"


def test_the_model_alone(tmp_path):
    found = parts(look(small(), path=tmp_path / "page.html", progress=False))
    assert list(found) == ["The model", "Filters", "Embeddings"]
    assert "Plotly.newPlot" not in "".join(found.values())


def test_what_cannot_be_shown_is_said(tmp_path):
    model = small(readout="dipole")
    found = parts(look(model, water(), tmp_path / "page.html", progress=False))
    for name in ("Prediction and contributions of the atoms", "Local chemical potential", "Vibrations"):
        assert "Not shown: " in found[name]
        assert "<img" not in found[name]
    assert "<img" in found["Filters"]


def test_a_crystal_and_a_committee(tmp_path):
    committee = Committee([small(), small(normalization="mean")])
    found = parts(look(committee, rock_salt(), tmp_path / "page.html", relax=False, progress=False))
    assert "A committee of 2" in found["The model"]
    assert found["Local chemical potential"].count("<img") == 1


def test_dtnn(tmp_path):
    model = DTNN(12, 10, 2, zero_output=False).double().eval()
    found = parts(look(model, water(), tmp_path / "page.html", relax=False, progress=False))
    assert "<img" in found["Filters"]
    assert "Plotly.newPlot" in found["Local chemical potential"]


def test_large_structures_have_no_vibrations(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.import_module("pyg_schnet.analysis.look"), "MOST_ATOMS", 2)
    found = parts(look(small(), water(), tmp_path / "page.html", progress=False))
    assert "at most 2 atoms; this structure has 3" in found["Vibrations"]


def test_a_potential_is_looked_through(tmp_path):
    found = parts(look(Potential(small()), path=tmp_path / "page.html", progress=False))
    assert "<img" in found["Filters"]


@pytest.mark.parametrize(
    ("model", "data", "error", "match"),
    [
        ("model.safetensors", None, TypeError, "`model` must be a model of atoms such as SchNet, got str"),
        (torch.nn.Linear(1, 1), None, TypeError, "got Linear"),
        (None, "water.xyz", TypeError, "`data` must be a Data"),
        (
            None,
            Data(z=torch.tensor([1, 1]), pos=torch.eye(3)[:2], batch=torch.tensor([0, 1])),
            ValueError,
            "one struct",
        ),
    ],
)
def test_bad_input(tmp_path, model, data, error, match):
    with pytest.raises(error, match=match):
        look(small() if model is None else model, data, tmp_path / "page.html", progress=False)
    assert not list(tmp_path.iterdir())


def test_an_impossible_probe_and_a_missing_package_are_said(tmp_path, monkeypatch):
    module = importlib.import_module("pyg_schnet.analysis.look")

    def missing(*_, **__):
        raise ImportError('drawing atoms needs the radii of ASE; pip install "pyg_schnet[md]"')

    monkeypatch.setattr(module, "draw_decomposition", missing)
    monkeypatch.setattr(module, "MOST_ATOMS", 2)
    found = parts(look(small(), water(), tmp_path / "page.html", probe=200, progress=False))
    assert "needs the radii of ASE" in found["Prediction and contributions of the atoms"]
    assert "`probe` must be at least 1 and at most 118, got 200" in found["Local chemical potential"]
