"""The baselines beside SchNet: whole runs where their packages are installed, their parts everywhere."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BASELINES = Path(__file__).parents[1] / "examples" / "baselines"
SGDML, CRYSTALS = "sgdml_md17.py", "kernel_ridge_crystals.py"
PACKAGES = {SGDML: "sgdml", CRYSTALS: "dscribe"}


def run(script, *options, cwd):
    """Run a baseline in a process of its own: sgdml changes logging for the whole process."""
    command = [sys.executable, str(BASELINES / script), *map(str, options), "--root", "data", "--out", "out"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=240)


@pytest.fixture
def without_packages(monkeypatch):
    for package in PACKAGES.values():
        monkeypatch.setitem(sys.modules, package, None)


@pytest.fixture
def without_descriptors(monkeypatch):
    """The script on crystals can be loaded; its arithmetic and its checks need no descriptors."""
    pytest.importorskip("ase")
    pytest.importorskip("scipy")
    descriptors = ModuleType("dscribe.descriptors")
    descriptors.EwaldSumMatrix = descriptors.SineMatrix = None
    monkeypatch.setitem(sys.modules, "dscribe", ModuleType("dscribe"))
    monkeypatch.setitem(sys.modules, "dscribe.descriptors", descriptors)


@pytest.mark.parametrize("script", sorted(PACKAGES))
def test_missing_package(script, without_packages, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [script])
    package = PACKAGES[script]
    with pytest.raises(SystemExit, match=f"^{script}: .* needs the package {package}; .* pip install {package}$"):
        runpy.run_path(str(BASELINES / script), run_name="__main__")
    assert not list(tmp_path.iterdir())  # it says so before it reads data


@pytest.mark.parametrize("script", sorted(PACKAGES))
def test_help(script, without_packages, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    with pytest.raises(SystemExit, match="^0$"):
        runpy.run_path(str(BASELINES / script), run_name="__main__")
    assert f"pip install {PACKAGES[script]}" in capsys.readouterr().out


def test_bad_number_of_frames(without_packages, monkeypatch):
    monkeypatch.setattr(sys, "argv", [SGDML, "--select", "0"])
    with pytest.raises(SystemExit, match=f"^{SGDML}: --select must be at least 1 frame, got 0$"):
        runpy.run_path(str(BASELINES / SGDML), run_name="__main__")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--num-train", "100000"], "expected at least 1 training and 0 validation examples, together at most 515; "),
        (["--num-val", "215"], "no crystal of 515 is left to validate or to test; "),
        (["--rows"], "whole matrices of up to 16 atoms are too large; set --max-atoms"),
        (["--name", "perovskites"], "unknown snapshot 'perovskites'; "),
    ],
    ids=["too-many", "none-left", "too-large", "unknown"],
)
def test_bad_input_on_crystals(options, message, without_descriptors, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", [CRYSTALS, *options, "--root", str(tmp_path)])
    with pytest.raises(SystemExit, match=f"^{CRYSTALS}: {message}"):
        runpy.run_path(str(BASELINES / CRYSTALS), run_name="__main__")


def test_errors_are_in_kcal_per_mol(without_packages):
    script = runpy.run_path(str(BASELINES / SGDML))
    rng = np.random.default_rng(0)
    data = {"R": rng.normal(size=(250, 3, 3)), "E": rng.normal(size=250), "F": rng.normal(size=(250, 3, 3))}

    class Shifted:
        """Exact but for 1 eV and 0.1 eV/Angstrom; knows a frame by its first coordinate."""

        def predict(self, pos):
            frame = [int(np.flatnonzero(data["R"][:, 0, 0] == one[0])[0]) for one in pos]
            return data["E"][frame] + 1.0, data["F"][frame].reshape(len(pos), -1) - 0.1

    errors = script["evaluate"](Shifted(), data, "testing")
    assert errors["energy_mae"] == pytest.approx(23.0605, abs=1e-4)
    assert errors["forces_rmse"] == pytest.approx(2.30605, abs=1e-5)


def test_kernel_ridge_regression(without_descriptors):
    """A smooth function is learnt; width and ridge give the reported error in the formula of the textbook."""
    rng = np.random.default_rng(0)
    x = {part: rng.uniform(-2, 2, size=(count, 2)) for part, count in (("train", 120), ("val", 40), ("test", 50))}
    y = {part: 5 + np.sin(2 * one[:, 0]) * one[:, 1] for part, one in x.items()}
    result = runpy.run_path(str(BASELINES / CRYSTALS))["learn"](x, y)
    assert result["test_mae"] < 0.2 * np.abs(y["test"] - y["train"].mean()).mean()

    def kernel(a, b):
        return np.exp(-np.abs(a[:, None] - b[None]).sum(axis=-1) / result["width"])

    regularised = kernel(x["train"], x["train"]) + result["ridge"] * np.eye(120)
    weights = np.linalg.solve(regularised, y["train"] - y["train"].mean())
    error = np.abs(kernel(x["test"], x["train"]) @ weights + y["train"].mean() - y["test"]).mean()
    assert result["test_mae"] == pytest.approx(error, rel=1e-5)  # conditioned as 1 / ridge


def test_sgdml_run(tmp_path):
    pytest.importorskip("sgdml")
    done = run(SGDML, "--num-train", 50, "--select", 20, "--num-val", 60, "--max-test", 100, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "sgdml.json").read_text())
    assert (report["num_train"], report["num_val"], report["num_test"]) == (50, 60, 100)
    *tried, final = report["validation"]
    assert [one["sigma"] for one in tried] == [10, 15, 20]
    assert {one["frames"] for one in tried} == {17}  # every third of 50 is at most 20
    assert report["sigma"] == final["sigma"] == min(tried, key=lambda one: one["forces_mae"])["sigma"]
    assert final["forces_mae"] < min(one["forces_mae"] for one in tried)  # more frames help
    assert report["permutations"] == 6  # ethanol: three hydrogens turned, and mirrored
    assert report["test"]["forces_mae"] < 3.0  # forces are some 20 kcal/mol/Angstrom
    assert f"{report['test']['forces_mae']:.3f}" in done.stdout


def test_crystal_run(tmp_path):
    pytest.importorskip("dscribe")
    done = run(CRYSTALS, "--num-train", 200, "--max-atoms", 8, "--max-test", 60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "kernel_ridge.json").read_text())
    assert report["num_test"] <= 60
    for name in ("sine matrix", "Ewald sum matrix"):
        assert 0 < report[name]["test_mae"] < report["mean_predictor_mae"]
        assert f"{report[name]['test_mae']:.3f}" in done.stdout
