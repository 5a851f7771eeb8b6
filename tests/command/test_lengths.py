"""Structures in Bohr are not taken for some in Angstrom, by the commands that take no unit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule

from pyg_schnet import SchNet, save
from pyg_schnet.command import main
from pyg_schnet.command.lengths import check_scale
from pyg_schnet.models.elements import TrainingSet
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


def test_a_file_that_does_not_say_so_is_warned_of(tmp_path, recwarn):
    """By neighbours too far apart, unless the model was trained on such; strict prediction refuses."""
    atoms = molecule("CH3CH2OH")
    check_scale([], [atoms], "a.xyz", strict=True)
    atoms.positions /= LENGTH["Bohr"]
    with pytest.raises(ValueError, match=r"structures of a.xyz seem to be in Bohr: .* convert them if they are not"):
        check_scale([], [atoms], "a.xyz", strict=True)
    near = TrainingSet({1: 6, 6: 2, 8: 1}, 1, 1, {"H-C": (1.02, 5.0), "H-O": (0.9, 5.0)})
    with pytest.raises(ValueError, match=r"H-C are 2.0\d apart, in the training 1.02 and more; expected Angstrom"):
        check_scale([near], [atoms], "a.xyz", strict=True)
    check_scale([near._replace(distances={"H-C": (1.9, 5.0)})], [atoms], "a.xyz", strict=True)

    torch.manual_seed(0)
    model, path = str(tmp_path / "model.safetensors"), tmp_path / "in.xyz"
    save(SchNet(8, 8, 1, cutoff=4.0), model)
    atoms.write(path)
    out = {name: str(tmp_path / f"{name}.xyz") for name in ("md", "relaxed", "predicted", "strict")}
    main(["md", model, str(path), "--steps", "1", "--output", out["md"]])
    main(["relax", model, str(path), "--steps", "1", "--output", out["relaxed"]])
    main(["predict", model, str(path), "--output", out["predicted"]])
    assert sum("seem to be in Bohr" in str(one.message) for one in recwarn) == 3
    for command in ("md", "relax", "predict"):
        with pytest.raises(SystemExit, match="seem to be in Bohr"):
            main([command, model, str(path), "--output", out["strict"], "--strict", "true"])
        assert not Path(out["strict"]).exists()
