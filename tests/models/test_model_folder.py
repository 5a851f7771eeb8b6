"""Models as folders in the layout of the Hugging Face hub, with their cards."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pyg_schnet import SchNet, load, save
from pyg_schnet.models import model_folder
from pyg_schnet.models.card import Card
from pyg_schnet.models.elements import TrainingSet

CARD: dict[str, Any] = {
    "summary": "Energies of water",
    "data": "12 frames",
    "errors": [
        {"target": "energy", "mae": 0.1234, "unit": "eV", "structures": 1200, "paper": "0.1"},
        {"target": "forces", "mae": 0.5, "unit": "eV/Å", "structures": 1200, "median": 0.25},
    ],
    "licence": "CC-BY-4.0",
    "made_by": "pyg-schnet fit --config water.yaml",
    "tags": ["water"],
}


@pytest.fixture
def model(make_model: Any) -> SchNet:
    made: SchNet = make_model(mean=-3.0).eval()
    made.training_set = TrainingSet({1: 24, 8: 12}, structures=12, compositions=1, distances={"H-O": (0.9, 1.1)})
    made.units = {"energy": "eV", "pos": "Ang"}
    return made


def test_what_is_in_the_folder(model: SchNet, water: Any, tmp_path: Path) -> None:
    save(model, tmp_path / "water", card=CARD, training={"steps": 3})
    folder = tmp_path / "water"
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "config.json", "README.md"}
    assert torch.equal(load(folder)(*water), model(*water))
    facts = json.loads((folder / "config.json").read_text())
    assert facts["sha256"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert facts["config"] == model.config
    assert facts["card"] == CARD
    assert facts["training_set"] == {"elements": {"1": 24, "8": 12}, "structures": 12, "compositions": 1}
    assert facts["parameters"] == sum(one.numel() for one in model.parameters())


def test_the_card_as_the_hub_reads_it(model: SchNet, tmp_path: Path) -> None:
    save(model, tmp_path / "water", card=CARD)
    text = (tmp_path / "water" / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head) == {
        "library_name": "pyg_schnet",
        "license": "cc-by-4.0",
        "pipeline_tag": "graph-ml",
        "tags": ["SchNet", "chemistry", "water"],
    }
    assert "# water\n\nEnergies of water\n" in body
    assert "| predicts | energy in eV, forces and stress as its derivatives |" in body
    assert "| elements | H, O; 12 structures of 1 composition |" in body
    assert (
        "| errors | mean absolute errors on 1,200 structures that were never seen: energy 0.123 eV (the paper: 0.1), "
        "forces 0.5 eV/Å (median 0.25) |"
    ) in body
    assert 'load("hf://OWNER/water")' in body


def test_the_hub_takes_the_card(model: SchNet, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    save(model, tmp_path / "water", card=CARD)
    card = hub.ModelCard.load(tmp_path / "water" / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert card.data.library_name == "pyg_schnet"


def test_a_card_that_somebody_has_written_stays(model: SchNet, tmp_path: Path) -> None:
    folder = tmp_path / "water"
    save(model, folder)
    (folder / "README.md").write_text("by hand")
    save(model, folder)
    assert (folder / "README.md").read_text() == "by hand"
    save(model, folder, card=Card("Energies"))
    assert "\nEnergies\n" in (folder / "README.md").read_text()


def test_folders_and_files(model: SchNet, tmp_path: Path, monkeypatch: Any) -> None:
    save(model, tmp_path)  # a folder that is there
    assert (tmp_path / "model.safetensors").is_file()
    (tmp_path / "plain").write_bytes(b"")
    save(model, tmp_path / "plain")  # a file that is there
    assert load(tmp_path / "plain").config == model.config
    monkeypatch.chdir(tmp_path)
    save(model, ".", card=CARD)
    assert f"# {tmp_path.name}\n" in (tmp_path / "README.md").read_text()
    with pytest.raises(FileNotFoundError, match="there is no folder .*none to make water in; create it first"):
        save(model, tmp_path / "none" / "water")
    with pytest.raises(
        ValueError, match=r"a card is written beside a model, .*a\.safetensors is a file, name a folder"
    ):
        save(model, tmp_path / "a.safetensors", card=CARD)
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.parametrize(
    ("card", "error", "sentence"),
    [
        ({"licens": "MIT"}, ValueError, "a card has no entry 'licens'; did you mean 'licence'"),
        ({"zzz": 1}, ValueError, "a card has no entry 'zzz'; expected one of summary, data, "),
        ({"summary": 3}, TypeError, "`summary` of a card must be text, got int"),
        ({"tags": "water"}, TypeError, "`tags` of a card must be a list of words, got 'water'"),
        ({"errors": [{"mae": 3.0}]}, ValueError, "an error of a card has target, mae, unit and perhaps structures, "),
        ([], TypeError, "`card` must be a Card or its entries by name, got list"),
    ],
)
def test_cards_that_are_none(card: Any, error: type, sentence: str, model: SchNet, tmp_path: Path) -> None:
    with pytest.raises(error, match=sentence):
        save(model, tmp_path / "water", card=card)
    assert not (tmp_path / "water" / "model.safetensors").exists()


def test_all_files_are_new_or_none(model: SchNet, tmp_path: Path, monkeypatch: Any) -> None:
    folder = tmp_path / "water"
    save(model, folder, card=CARD)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    usual = model_folder.replacing

    def full(path: Path) -> Any:
        if path.name == "model.safetensors":
            raise OSError(28, "no space left")
        return usual(path)

    monkeypatch.setattr(model_folder, "replacing", full)
    model.reference.set(model.reference.mean + 1, model.reference.std, model.reference.atomref)
    with pytest.raises(OSError, match="no space left"):
        save(model, folder, card={"summary": "Others"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
