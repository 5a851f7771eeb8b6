"""Structures in Bohr are not taken for some in Angstrom, by the commands that take no unit."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pyg_schnet import SchNet, save
from pyg_schnet.command import main
from pyg_schnet.units import LENGTH


@pytest.fixture
def water(tmp_path: Path) -> Path:
    """Water in Bohr, said by the file itself."""
    rng = np.random.default_rng(0)
    pos = np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]) + 0.03 * rng.normal(size=(30, 3, 3))
    labels = {"E": rng.normal(size=30) - 2080, "F": rng.normal(size=(30, 3, 3)), "e_unit": "eV", "r_unit": "Bohr"}
    np.savez(tmp_path / "water.npz", z=np.array([8, 1, 1]), R=pos / LENGTH["Bohr"], **labels)
    return tmp_path / "water.npz"


def test_init_names_no_command_that_would_take_them_as_they_are(water, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["init", str(water)])
    said = capsys.readouterr().out
    assert "length_unit: Bohr" in (tmp_path / "settings.yaml").read_text()
    assert "pyg-schnet fit --config settings.yaml" in said
    assert "pyg-schnet md" not in said
    assert "pyg-schnet predict" not in said
    assert "in Bohr: convert them" in said


def test_commands_refuse_a_file_that_says_so(water, tmp_path, capsys):
    torch.manual_seed(0)
    save(SchNet(8, 8, 1, cutoff=4.0), tmp_path / "model.safetensors")
    with pytest.raises(SystemExit) as ended:
        main(
            ["md", str(tmp_path / "model.safetensors"), str(water), "--steps", "1", "--output", str(tmp_path / "a.xyz")]
        )
    assert ended.value.code not in {0, None}
    assert "lengths are in Bohr, expected Angstrom" in capsys.readouterr().err + str(ended.value.code)
    assert not (tmp_path / "a.xyz").exists()
