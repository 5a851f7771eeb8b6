"""``pyg-schnet doctor``: the table, the file, and how it ends."""

import json

import pytest
import torch
from ase.build import bulk, molecule
from ase.io import write

from pyg_schnet import SchNet, save
from pyg_schnet.command import main


@pytest.fixture
def folder(tmp_path):
    """A sound model, one without a cutoff function, one whose tables are not its own, and structures."""
    torch.manual_seed(0)
    save(SchNet(12, 12, 1, cutoff=5.0), tmp_path / "sound.safetensors")
    save(SchNet(12, 12, 1, cutoff=5.0, cutoff_function=None), tmp_path / "jumps.safetensors")
    stale = SchNet(12, 12, 1, cutoff=5.0).freeze()
    stale.filter_tables.mul_(1.1)
    save(stale, tmp_path / "stale.safetensors")
    write(tmp_path / "molecules.xyz", [molecule("CH3OH"), molecule("H2O")])
    write(tmp_path / "salt.cif", bulk("NaCl", "rocksalt", a=5.64))
    return tmp_path


def test_a_sound_model(folder, capsys):
    files = [str(folder / name) for name in ("molecules.xyz", "salt.cif")]
    report = folder / "report.json"
    only = "[forces, supercell, batch, GPU, elements]"
    main(["doctor", str(folder / "sound.safetensors"), *files, "--json", str(report), "--only", only])
    shown = capsys.readouterr().out
    assert "0 failed" in shown
    assert len([line for line in shown.splitlines() if line.startswith(("forces ", "supercell ", "batch "))]) == 3
    checks = json.loads(report.read_text())["checks"]
    assert {check["verdict"] for check in checks} <= {"PASS", "WARN"}
    assert {"forces", "supercell", "batch", "elements"} <= {check["name"] for check in checks}
    assert list(json.loads(report.read_text())) == ["checks"]


@pytest.mark.parametrize(("name", "check"), [("jumps", "smooth cutoff"), ("stale", "tables")])
def test_a_broken_model_ends_with_one(folder, capsys, name, check):
    report = folder / "report.json"
    with pytest.raises(SystemExit) as ended:
        main(["doctor", str(folder / f"{name}.safetensors"), "--json", str(report), "--only", f"['{check}', batch]"])
    assert ended.value.code == 1
    verdicts = {one["name"]: one["verdict"] for one in json.loads(report.read_text())["checks"]}
    assert verdicts == {check: "FAIL", "batch": "PASS"}
    assert f"FAIL {check}: " in capsys.readouterr().out


def test_refusals(folder):
    def refusal(*words):
        with pytest.raises(SystemExit) as stopped:
            main(["doctor", *map(str, words)])
        return str(stopped.value)

    model = folder / "sound.safetensors"
    assert "there is no model file" in refusal(folder / "none.safetensors")
    assert "there is no file" in refusal(model, folder / "molecules.xyz", folder / "none.xyz")
    assert "there is no folder" in refusal(model, "--json", folder / "none" / "a.json")
    assert "there is no check 'fors'" in refusal(model, "--only", "[fors]")
    assert "did you mean 'json'?" in refusal(model, "--jsn", "a.json")
    assert "the following arguments are required: model" in refusal()
