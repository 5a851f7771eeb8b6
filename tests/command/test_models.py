"""``pyg-schnet models``, what its names do in other commands, and the demo."""

import csv
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from ase.build import bulk, molecule
from ase.io import read, write

from pyg_schnet import SchNet, load, save
from pyg_schnet.command import demo as demo_module
from pyg_schnet.command.results import facts_of_training
from pyg_schnet.command.without_settings import with_task
from pyg_schnet.models import Committee, loading, read_header
from pyg_schnet.models.registry import bundled_model, bundled_models, bundled_names

#: Enthalpies of formation in eV per atom, from kJ/mol of the NIST-JANAF tables at 298 K.
MEASURED = {"MgO": -601.24 / 96.485 / 2, "NaCl": -411.12 / 96.485 / 2, "CaF2": -1225.91 / 96.485 / 3}


def refusal(call, *words):
    with pytest.raises(SystemExit) as stopped:
        call(*words)
    return str(stopped.value)


def forces_of_ethanol():
    """The error of the forces as tables have it, at most the paper's 0.39."""
    (mae,) = [one["mae"] for one in bundled_model("md17-ethanol").card.errors if one["target"] == "forces"]
    assert 0.2 < mae <= 0.39
    return f"{mae:g} kcal/mol/Å"


def test_the_table(call, capsys):
    call("models")
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines if line}
    assert {*bundled_names()} <= {*rows}
    assert forces_of_ethanol() in rows["md17-ethanol"]
    assert "H, C, O" in rows["md17-ethanol"]
    assert "mu in D, alpha in a0^3 and 7 more" in rows["qm9-properties"]
    assert "energy in eV, forces, stress" in rows["md17-ethanol"]
    assert any("c20-force" in line for line in lines)
    assert max(map(len, lines)) <= 140


def test_a_card(call, capsys):
    call("models", "md17-ethanol")
    text = capsys.readouterr().out
    for word in ("PBE", "CC0", forces_of_ethanol(), "not good for", "sha256", "pyg-schnet fit --config md17"):
        assert word in text
    assert refusal(call, "models", "md17-etanol") == (
        "pyg-schnet: no model 'md17-etanol' comes with the package; did you mean 'md17-ethanol'?"
    )


@pytest.mark.parametrize("words", [["--json"], ["--json", "true"], ["--json=true"]])
def test_for_programs(words, call, capsys):
    call("models", *words)
    found = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in found] == bundled_names()
    for one, known in zip(found, bundled_models(), strict=True):
        assert (Path(one["path"]) / "model.safetensors").is_file()
        assert one["elements"] == known.elements
        assert one["card"]["made_by"]
    call("models", *words, "qm9-dtnn")
    assert json.loads(capsys.readouterr().out)["model"] == "DTNN"


def test_flags_need_no_value(call, tmp_path):
    """True stands for a flag alone, in front of other words, too."""
    save(SchNet(8, 8, 1), tmp_path / "model.safetensors")
    write(tmp_path / "water.xyz", molecule("H2O"))
    start = ["md", "--output", str(tmp_path / "md.extxyz"), "--steps", "2"]
    assert "no file" in refusal(call, *start, "--resume", str(tmp_path), str(tmp_path / "water.xyz"))


@pytest.fixture
def crystals(tmp_path, monkeypatch):
    """Files with crystals, and a folder without anything else."""
    write(tmp_path / "MgO.cif", bulk("MgO", "rocksalt", a=4.21))
    write(tmp_path / "NaCl.cif", bulk("NaCl", "rocksalt", a=5.64))
    write(tmp_path / "CaF2.cif", bulk("CaF2", "fluorite", a=5.46))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_formation_energies_of_any_cif(crystals, call):
    call("predict", "materials-formation-energy", "*.cif", "--output", "out.csv")
    with Path("out.csv").open() as file:
        found = {
            Path(row["file"]).stem: float(row["predicted_formation_energy [eV/atom]"]) for row in csv.DictReader(file)
        }
    assert found == pytest.approx(MEASURED, abs=0.25)  # what PBE and the model differ by
    assert {path.name for path in crystals.iterdir()} == {"out.csv", "MgO.cif", "NaCl.cif", "CaF2.cif"}


def test_a_force_field_by_its_name(tmp_path, call, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write("ethanol.xyz", molecule("CH3CH2OH"))
    call("predict", "md17-ethanol", "ethanol.xyz")
    atoms = read("predictions.xyz")
    known = load("md17-ethanol")(torch.tensor(atoms.numbers), torch.tensor(atoms.positions, dtype=torch.float32))
    assert atoms.info["predicted_energy"] == pytest.approx(known.item(), rel=1e-6)
    call("md", "md17-ethanol", "ethanol.xyz", "--steps", "4", "--interval", "2", "--temperature", "300")
    assert len(read("md.extxyz", ":")) == 3
    call("doctor", "md17-ethanol", "--only", "[elements, compositions, distances]")
    assert "3 passed, 0 with a warning, 0 failed" in capsys.readouterr().out
    write("water.xyz", molecule("H2O"))
    said = refusal(call, "predict", "md17-ethanol", "water.xyz", "--output", "w.xyz", "--strict", "true")
    assert "was trained on a single composition, H6C2O" in said


def test_the_folder_of_a_run_has_settings(tmp_path):
    save(SchNet(8, 8, 1), tmp_path / "model.safetensors")
    (tmp_path / "config.yaml").touch()
    found = with_task(["predict", str(tmp_path), "new.xyz", "--strict", "true"])
    assert found == [
        *["predict", "--config", str(tmp_path / "config.yaml"), "--weights", str(tmp_path), "--input", "new.xyz"],
        *["--strict", "true"],
    ]
    assert with_task(["predict", "--config", "a.yaml", "--weights", "none"])[1:] == [
        "--config",
        "a.yaml",
        "--weights",
        "none",
    ]


def test_a_model_without_settings_is_read_once(tmp_path, call, monkeypatch):
    opened, read_file = [], loading.read_file
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "read_file", lambda path: opened.append(path) or read_file(path))
    save(SchNet(8, 8, 1, num_gaussians=8), "own.safetensors")
    write("water.xyz", molecule("H2O"))
    call("predict", "own.safetensors", "water.xyz", "--output", "predicted.xyz")
    assert read("predicted.xyz").info.keys() >= {"predicted_energy"}
    assert len(opened) == 1


def test_reports_of_named_weights_have_the_steps_of_training(tmp_path):
    known = facts_of_training(tmp_path, "md17-ethanol")
    header = read_header(bundled_model("md17-ethanol").folder / "model.safetensors")
    assert known == {name: header["training"][name] for name in known}
    assert {"steps", "best_step", "seconds", "seed"} == known.keys()
    assert facts_of_training(tmp_path, "qm9-U0") == {}  # published, not trained here
    save(SchNet(8, 8, 1), tmp_path / "model.safetensors", training={"steps": 7})
    for weights in (None, str(tmp_path), str(tmp_path / "model.safetensors")):
        assert facts_of_training(tmp_path, weights) == {"steps": 7}


def test_what_a_model_does_not_say(tmp_path, call):
    save(SchNet(8, 8, 1, out_channels=2), tmp_path / "two.safetensors")
    said = refusal(call, "predict", str(tmp_path / "two.safetensors"), "new.xyz")
    assert "two.safetensors does not say what it predicts (`units` of pyg_schnet.save); name the settings" in said
    assert "name the structures to predict, too: pyg-schnet predict qm9-dtnn FILE" in refusal(
        call, "predict", "qm9-dtnn"
    )
    assert "did you mean 'qm9-dtnn'" in refusal(call, "predict", "qm9-dtn", "new.xyz")
    assert "got also 'c'" in refusal(call, "predict", "a", "b", "c")


def test_several_targets_and_committees(tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    models = [SchNet(8, 8, 1, out_channels=2).eval() for _ in range(2)]
    for model in models:
        model.units = {"mu": "D", "gap": "eV", "pos": "Ang"}
    Committee(models).save("both")
    write("water.xyz", molecule("H2O"))
    call("predict", "both", "water.xyz", "--output", "out.json")
    found = json.loads(Path("out.json").read_text())
    text = json.dumps(found)
    assert all(f"predicted_{name}" in text for name in ("mu", "gap", "mu_std", "gap_std"))


def test_the_demo_runs_the_examples(tmp_path, call, monkeypatch):
    ran = []
    monkeypatch.setattr(
        subprocess, "run", lambda words, **_: ran.append(words) or subprocess.CompletedProcess(words, 0)
    )
    call("demo", "--minutes", "0.5", "--out", str(tmp_path))
    python, script, *options = ran[0]
    assert python == sys.executable
    assert Path(script).is_file()
    assert options == ["--minutes=0.5", "--max-steps=-1", "--picoseconds=2.0", f"--out={tmp_path}"]
    settings = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    inside = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    for name in demo_module.SCRIPTS:
        assert inside[f"examples/{name}"] == f"pyg_schnet/command/examples/{name}"
        assert f'"{name}"' in (Path(script)).read_text() or name == "demo.py"


def test_a_demo_that_fails_ends_with_its_status(call, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda words, **_: subprocess.CompletedProcess(words, 3))
    with pytest.raises(SystemExit) as ended:
        call("demo")
    assert ended.value.code == 3


def test_a_reader_that_leaves_is_no_error(forks):
    """As in ``pyg-schnet models | head -1``."""
    code = "import os, sys; read, write = os.pipe(); os.close(read); os.dup2(write, 1); "
    done = forks.run(code + "from pyg_schnet.command import main; main(['models', '--json'])")
    assert done.returncode == 1
    assert not done.stderr
