"""The script that makes the bundled models: commands that exist, a small run from settings to a card, once."""

import dataclasses
import importlib.util
import json
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pyg_schnet import load
from pyg_schnet.models.card import Card
from pyg_schnet.models.registry import BundledModel, bundled_models

pytest.importorskip("lightning")
ROOT = Path(__file__).parents[1]
#: A run of seconds.
TINY = (
    "--config md17 --data.dataset.name ethanol_xtb --data.num_train 64 --data.num_val 32 --data.num_test 120 "
    "--model.model.num_interactions 1 --model.model.hidden_channels 8 --model.model.num_filters 8 "
    "--model.model.num_gaussians 20 --model.model.cutoff 6 --trainer.validate_every 4 --trainer.accelerator cpu "
    "--trainer.max_steps 8"
)


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_models", ROOT / "datasets" / "models" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "make_models", module)
    spec.loader.exec_module(module)
    return module


def test_each_model_that_settings_make_has_a_recipe(make: ModuleType) -> None:
    for model in bundled_models():
        if model.card.made_by.startswith("pyg-schnet fit "):
            said, known = shlex.split(model.card.made_by)[2:], shlex.split(make.RECIPES[model.name].settings)
            limit = known.index("--trainer.max_steps")
            assert said[:limit] == known[:limit]


def test_recipes_are_commands_that_exist(make: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for name in make.RECIPES:
        monkeypatch.setattr(sys, "argv", ["pyg-schnet"])
        with pytest.raises(SystemExit) as ended:
            make.command([*make.command_of(name), "--print_config"])
        assert not ended.value.code, name
        assert f"directory: results/{name}" in capsys.readouterr().out


def test_from_settings_to_a_card(make: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    tiny = dataclasses.replace(make.RECIPES["md17-ethanol"], settings=TINY)
    monkeypatch.setattr(make, "RECIPES", {"tiny": tiny})
    words = ["make.py", "tiny", "--results", str(tmp_path / "runs"), "--into", str(tmp_path / "models")]
    monkeypatch.setattr(sys, "argv", words)
    make.main()
    folder = tmp_path / "models" / "tiny"
    facts = json.loads((folder / "config.json").read_text())
    card = BundledModel(folder, facts).card
    report = json.loads((tmp_path / "runs" / "tiny" / "test" / "report.json").read_text())
    for error in card.errors:  # to three digits, on the frames that were neither trained nor validated on
        assert error["mae"] == pytest.approx(report["targets"][error["target"]]["mae"], rel=5e-3)
        assert error["structures"] == 120
    assert [(error["target"], error["unit"]) for error in card.errors] == [
        ("energy", "kcal/mol"),
        ("forces", "kcal/mol/Å"),
    ]
    assert card.made_by == f"pyg-schnet fit {TINY} --trainer.directory results/tiny"
    assert card.training.startswith("8 steps of 32 structures, on energies and forces")
    assert load(folder).training_set.structures == 64
    assert card == Card.of(facts["card"])
    before = (tmp_path / "runs" / "tiny" / "model.safetensors").stat().st_mtime_ns
    make.main()  # which trains nothing again
    assert (tmp_path / "runs" / "tiny" / "model.safetensors").stat().st_mtime_ns == before


def test_unknown_names(make: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["make.py", "md17-asprin"])
    with pytest.raises(SystemExit, match="there is no recipe 'md17-asprin'; did you mean 'md17-aspirin'"):
        make.main()
