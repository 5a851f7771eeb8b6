"""``pyg-schnet look``: a page from a model file and a file with a structure, and refusals in one sentence."""

import pytest
import torch
from ase.build import bulk, molecule
from ase.io import write

from pyg_schnet import SchNet, save
from pyg_schnet.command import main

pytest.importorskip("plotly")


@pytest.fixture
def folder(tmp_path):
    """A folder with a model and two structures."""
    torch.manual_seed(0)
    save(SchNet(16, 16, 2, cutoff=5.0), tmp_path / "model.safetensors")
    write(tmp_path / "water.xyz", [molecule("CH4"), molecule("H2O")])
    write(tmp_path / "silicon.cif", bulk("Si"))
    return tmp_path


def refusal(*words):
    with pytest.raises(SystemExit) as stopped:
        main(["look", *map(str, words)])
    return str(stopped.value)


def test_a_page_of_a_structure(folder, capsys):
    page = folder / "out" / "page.html"
    main(["look", str(folder), str(folder / "water.xyz"), "--index", "-1", "--output", str(page), "--relax", "false"])
    assert capsys.readouterr().out.strip() == str(page)
    text = page.read_text(encoding="utf-8")
    assert "and H2O as it sees it" in text
    assert text.count("<h2 ") == 6


def test_a_page_of_the_model_alone(folder, monkeypatch):
    monkeypatch.chdir(folder)
    main(["look", "model.safetensors", "--data", "silicon.cif"])
    assert (folder / "look.html").read_text(encoding="utf-8").count("<h2 ") == 3
    assert "look.html exists already" in refusal("model.safetensors")
    main(["look", "model.safetensors", "--overwrite", "true"])


def test_refusals(folder):
    model = folder / "model.safetensors"
    assert "there is no model file" in refusal(folder / "none.safetensors")
    assert "there is no file" in refusal(model, folder / "none.xyz", "--output", folder / "a.html")
    assert "--index must be one of the 2 structures" in refusal(
        model, folder / "water.xyz", "--index", "2", "--output", folder / "a.html"
    )
    assert "did you mean 'output'?" in refusal(model, "--otput", "a.html")
    assert "the following arguments are required: model" in refusal()
    assert not (folder / "a.html").exists()
