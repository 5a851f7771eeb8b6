"""The files of settings in examples/configs: each trains on bundled data, and says what the paper did."""

import json
from pathlib import Path

import pytest
import yaml
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.io import write

from pyg_schnet import models
from pyg_schnet.models import read_header

CONFIGS = Path(__file__).parents[2] / "examples" / "configs"
FEW = "--data.num_train 8 --data.num_val 4"
ISO17 = "{other: {class_path: pyg_schnet.datasets.ISO17, init_args: {root: ROOT, part: test_other, name: bundled}}}"
CASES = {
    "md17": f"--data.dataset.name ethanol_xtb {FEW} --data.num_test 4",
    "qm9": f"--data.dataset.name bundled --data.split random {FEW} --data.num_test 4",
    "materials": f"--data.dataset.name bundled {FEW} --data.num_test 4",
    "c20": f"{FEW} --data.num_test 4 --data.batch_size 4",
    "iso17": f"--data.dataset.name bundled {FEW} --data.tests TESTS",
}
BASELINES = {"dtnn": "DTNN", "enn_s2s": "EnnS2S"}
OWN = {"own_molecules": "energy", "own_crystals": "gap"}


def test_every_file_is_tried():
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == {*CASES, *BASELINES, *OWN, "fast", "short"}


@pytest.mark.parametrize("name", CASES)
def test_trains_on_bundled_data(name, root, call, tmp_path):
    words = CASES[name].split()
    words = [ISO17.replace("ROOT", str(root)) if word == "TESTS" else word for word in words]
    recipe = "fast" if name == "md17" else "short"
    run = tmp_path / "run"
    given = ["--config", CONFIGS / f"{name}.yaml", "--config", CONFIGS / f"{recipe}.yaml"]
    given += ["--data.dataset.root", root, "--trainer.directory", run, "--trainer.accelerator", "cpu"]
    limits = ["--trainer.max_steps", 1, "--model.warmup_steps", 0]
    call("fit", *given, *words, *limits)
    assert read_header(run / "model.safetensors")["training"]["steps"] == 1
    part = "other" if name == "iso17" else "test"
    call("test", "--config", run / "config.yaml", "--part", part)
    facts = json.loads((run / part / "report.json").read_text())["facts"]
    assert facts["num_train"] == 8


@pytest.mark.parametrize("name", OWN)
def test_trains_on_own_data(name, call, tmp_path):
    """By name, with nothing but a path of files."""
    frames = [bulk("Cu", cubic=True) if name == "own_crystals" else molecule("CH4") for _ in range(20)]
    rows = ["id,gap"]
    for number, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=number)
        atoms.calc = EMT()
        value, _ = atoms.get_potential_energy(), atoms.get_forces()
        write(tmp_path / f"{number}.{'cif' if name == 'own_crystals' else 'xyz'}", atoms)
        rows.append(f"{number},{value}")
    words = ["--data.dataset.path", str(tmp_path)]
    if name == "own_crystals":
        (tmp_path / "table.csv").write_text("\n".join(rows))
        words += ["--data.dataset.table", tmp_path / "table.csv", "--model.targets", "gap"]
    words += ["--data.dataset.root", tmp_path / "root", "--trainer.directory", tmp_path / "run"]
    limits = ["--trainer.max_steps", 1, "--model.warmup_steps", 0, "--trainer.accelerator", "cpu"]
    call("fit", "--config", name, *words, *limits)
    header = read_header(tmp_path / "run" / "model.safetensors")
    assert header["training"]["num_train"] == 16
    assert OWN[name] in header["units"] or header["training"]["targets"] == [OWN[name]]


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_take_the_place_of_schnet(name, root, call, tmp_path):
    """With nothing left of the settings of the network they replace."""
    given = [argument for one in ("qm9", name, "short") for argument in ("--config", CONFIGS / f"{one}.yaml")]
    given += ["--data.dataset.root", root, "--trainer.directory", tmp_path / "run", "--trainer.accelerator", "cpu"]
    call("fit", *given, *CASES["qm9"].split(), "--trainer.max_steps", 1, "--model.warmup_steps", 0)
    header = read_header(tmp_path / "run" / "model.safetensors")
    assert header["model"] == BASELINES[name]
    expected = getattr(models, BASELINES[name])(zero_output=True).config
    assert {key: value for key, value in header["config"].items() if value != expected[key]} == {}


@pytest.mark.parametrize(
    ("name", "blocks", "features", "gaussians", "cutoff"),
    [("md17", 3, 64, 200, 20), ("qm9", 6, 64, 200, 20), ("materials", 6, 64, 50, 5), ("c20", 6, 128, 200, 20)],
    ids=["md17", "qm9", "materials", "c20"],
)
def test_is_what_the_paper_says(name, blocks, features, gaussians, cutoff):
    """Sections II.F and III of the paper, and its code for gamma."""
    settings = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    task = settings["model"]["init_args"]
    sizes = task["model"]["init_args"]
    assert (sizes["num_interactions"], sizes["hidden_channels"], sizes["num_filters"]) == (blocks, features, features)
    assert (sizes["num_gaussians"], sizes["cutoff"], sizes["gamma"]) == (gaussians, cutoff, 10)
    assert (task["learning_rate"], task["decay"], task["decay_steps"]) == (1e-3, 0.96, 100_000)
    assert settings["data"]["batch_size"] == 32
    assert sizes["cutoff_function"] is None
