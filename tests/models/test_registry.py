"""Models that come with the package: what their cards say holds, every door takes their names, damage is noticed."""

import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch

from pyg_schnet import SchNet, load, save
from pyg_schnet.convert import from_pretrained
from pyg_schnet.files.download import digest
from pyg_schnet.models import Committee, read_header
from pyg_schnet.models import registry as module
from pyg_schnet.models.model_folder import card_text
from pyg_schnet.models.registry import bundled_model, bundled_models, bundled_names

NAMES = bundled_names()


def test_all_are_small_enough_for_a_wheel() -> None:
    assert {"md17-ethanol", "qm9-schnet", "qm9-dtnn", "materials-formation-energy"} <= {*NAMES}
    assert sum(name.startswith("md17-") for name in NAMES) == 7
    files = [(one.folder / "model.safetensors").read_bytes() for one in bundled_models()]
    assert sum(len(zlib.compress(content)) for content in files) < 6e6


@pytest.mark.parametrize("name", NAMES)
def test_files_of_a_model_agree(name: str) -> None:
    known, model, header = bundled_model(name), load(name), read_header(name)
    assert known.facts["sha256"] == digest(known.folder / "model.safetensors", "sha256")
    assert known.facts["config"] == header["config"]
    later = {argument: value for argument, value in model.config.items() if argument not in header["config"]}
    assert model.config == header["config"] | later
    assert not any(later.values())  # arguments that came after the file
    assert known.facts["parameters"] == sum(one.numel() for one in model.parameters())
    assert known.facts["units"] == model.units
    assert known.elements == model.elements
    assert known.page == card_text(known.facts, usage=name)
    assert not model.training


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_all_that_a_user_must_know(name: str) -> None:
    card = bundled_model(name).card
    for entry in ("summary", "data", "data_licence", "training", "applicability", "limits", "licence", "made_by"):
        assert len(getattr(card, entry)) >= 3, entry
    assert card.errors
    assert all(error["mae"] > 0 and error["structures"] >= 100 for error in card.errors)
    assert card.made_by.startswith(("pyg-schnet fit ", "python datasets/"))


@pytest.mark.parametrize("name", NAMES)
def test_the_training_is_known_to_the_doctor(name: str) -> None:
    seen: Any = load(name).training_set
    assert seen.structures >= 1000
    assert seen.distances
    near = {pair: distance for pair, (distance, _) in seen.distances.items()}
    if "C-C" in near and name.startswith(("md17", "qm9")):
        assert 1.1 < near["C-C"] < 1.5  # a triple bond has 1.2 Angstrom


def test_errors_on_the_card_are_those_of_unseen_frames(real_data: Path, tmp_path: Path) -> None:
    from pyg_schnet.analysis import evaluate
    from pyg_schnet.datasets import MD17, random_split

    dataset = MD17(tmp_path, "ethanol", log=False)
    frames = dataset[random_split(len(dataset), 1000, 1000, 0)["test"]][:400]  # as the command on the card splits
    said = {one["target"]: one["mae"] for one in bundled_model("md17-ethanol").card.errors}
    found = {one.name: one.converted("kcal/mol" if one.name == "energy" else "kcal/mol/Ang") for one in
             evaluate(load("md17-ethanol"), frames) if one.name in said}  # fmt: skip
    for name, error in found.items():  # of 400 frames it is known to 5 per cent
        assert error.metrics()["mae"] == pytest.approx(said[name], rel=0.2), name
    assert {*found} == {"energy", "forces"}


@pytest.fixture
def ethanol() -> tuple[torch.Tensor, torch.Tensor]:
    atoms = pytest.importorskip("ase.build").molecule("CH3CH2OH")
    return torch.tensor(atoms.numbers), torch.tensor(atoms.positions, dtype=torch.float32)


def test_every_door_takes_a_name(ethanol: Any) -> None:
    from pyg_schnet.simulation.ase import SchNetCalculator
    from pyg_schnet.simulation.prepared import potential_of

    expected = load(bundled_model("md17-ethanol").folder / "model.safetensors")(*ethanol)
    model: Any = load("md17-ethanol", filters="exact")
    assert model.filters == "exact"
    for found in (model, SchNet.from_pretrained("md17-ethanol"), potential_of("md17-ethanol").model):
        torch.testing.assert_close(found(*ethanol), expected, rtol=1e-6, atol=0)
    assert len(Committee.load(["md17-ethanol", "md17-ethanol"])) == 2
    atoms = pytest.importorskip("ase.build").molecule("CH3CH2OH")
    atoms.calc = SchNetCalculator("md17-ethanol", frozen=False)
    assert atoms.get_potential_energy() == pytest.approx(expected.item(), rel=1e-6)
    assert type(SchNet.from_pretrained("qm9-dtnn")).__name__ == "DTNN"


def test_other_units(ethanol: Any) -> None:
    expected = load("md17-ethanol")(*ethanol)
    found = from_pretrained("md17-ethanol", energy_unit="kcal/mol")
    torch.testing.assert_close(found(*ethanol), expected / 0.0433641153, rtol=1e-6, atol=0)
    assert found.units["energy"] == "kcal/mol"
    per_atom = from_pretrained("materials-formation-energy", energy_unit="meV")
    assert per_atom.units["formation_energy"] == "meV/atom"
    for given in ({"source": "."}, {"root": "."}):
        with pytest.raises(ValueError, match="is of published models that are downloaded; leave it out for 'md17-eth"):
            from_pretrained("md17-ethanol", **given)


def test_published_names_are_loaded_too(real_data: Path, water: Any) -> None:
    assert torch.equal(load("c20-force")(*water), SchNet.from_pretrained("c20-force")(*water))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("md17-etanol", "of this name comes with the package; did you mean 'md17-ethanol'"),
        ("QM9-u0", "did you mean 'qm9-U0'"),
        ("ethanol", "did you mean 'md17-ethanol'"),
        ("zzz", "expected one of 'materials-formation-energy', 'md17-aspirin', 'md17-benzene', "),
    ],
)
def test_names_that_do_not_exist(name: str, sentence: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"there is no model file {name}, and none {sentence}|{sentence}"):
        load(name)
    with pytest.raises(ValueError, match=f"unknown pretrained model '{name}'; {sentence.rsplit('; ', maxsplit=1)[-1]}"):
        SchNet.from_pretrained(name)


def test_paths_are_not_taken_for_names() -> None:
    for path in ("runs/md17", "md17.safetensors", "./qm9"):
        with pytest.raises(FileNotFoundError, match=f"^there is no model file {path}$"):
            load(path)


def test_what_is_at_a_path_comes_before_a_name(make_model: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    save(make_model(), "md17-ethanol")
    assert load("md17-ethanol").config["hidden_channels"] != 64


def test_a_damaged_model_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    shutil.copytree(module.FOLDER / "qm9-dtnn", tmp_path / "qm9-dtnn")
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    assert bundled_names() == ["qm9-dtnn"]
    assert load("qm9-dtnn").elements == [1, 6, 7, 8, 9]
    file = tmp_path / "qm9-dtnn" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged: expected sha256 .*, got .*; install pyg_sch"):
        load("qm9-dtnn")


def test_a_model_joins_by_its_folder(make_model: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    model = make_model()
    save(model, tmp_path / "mine", card={"summary": "Mine"})
    assert [one.card.summary for one in bundled_models()] == ["Mine"]
    assert load("mine").config == model.config
    assert json.loads((tmp_path / "mine" / "config.json").read_text())["card"] == {"summary": "Mine"}


def test_former_folders_of_models_are_still_found() -> None:
    from pyg_schnet.datasets.bundled import bundled_path

    for name in ("model_md17_ethanol", "model_qm9_schnet", "model_qm9_dtnn", "model_materials"):
        assert bundled_path(name).name in NAMES
        assert (bundled_path(name) / "model.safetensors").is_file()
