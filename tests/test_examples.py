"""Every example runs, in a smoke mode of a few steps; README's Python blocks too."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def run(script, *options, cwd, check=True):
    """Run an example and return what it printed."""
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(EXAMPLES / script), *map(str, options)]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=240)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout if check else done.stderr


def scripts():
    return sorted(path.name for path in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("script", scripts())
def test_help(script, tmp_path):
    assert "usage:" in run(script, "--help", cwd=tmp_path)


@pytest.mark.parametrize("script", scripts())
def test_readable_length(script):
    assert len((EXAMPLES / script).read_text().splitlines()) < 100


def test_layers_in_pyg(tmp_path):
    printed = run("01_layers_in_pyg.py", "--epochs", 2, "--frames", 200, cwd=tmp_path)
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+) eV", printed)]
    assert len(losses) == 2
    assert "mean absolute error" in printed


@pytest.mark.parametrize("preset", ["jcp2018", "pyg"])
def test_energies_and_forces(preset, tmp_path):
    printed = run("02_energies_and_forces.py", "--preset", preset, cwd=tmp_path)
    errors = {line[:18].strip(): float(line.split()[-2]) for line in printed.splitlines()[2:]}
    assert errors["finite differences"] < 1e-6
    assert errors["batch less singles"] < 1e-12
    assert errors.get("PyG's SchNet", 0.0) < 1e-12
    assert ("PyG's SchNet" in errors) == (preset == "pyg")


def test_crystals(tmp_path):
    printed = run("06_crystals.py", cwd=tmp_path)
    rows = {line[:14].strip(): line[14:].split() for line in printed.splitlines()}
    # shells of diamond within 5 Angstrom: 4, 12, 12, 6, 12, 24, 16
    assert rows["diamond"][2:4] == ["86.0", "1.545"]
    assert rows["copper slab"][1] == "ab-"
    differences = [float(line.split()[-1]) for line in printed.splitlines()[-2:]]
    assert max(map(abs, differences)) < 1e-12


def test_heads_and_bonds(tmp_path):
    printed = run("07_heads_and_bonds.py", "--molecules", 80, "--epochs", 30, cwd=tmp_path)
    spread = float(printed.splitlines()[0].split()[-1])
    errors = [float(line.split()[-1]) for line in printed.splitlines()[1:]]
    assert len(errors) == 2
    assert max(errors) < 0.6 * spread  # it learns; predicting the mean gives about 0.8


def test_heterogeneous(tmp_path):
    printed = run("08_heterogeneous.py", "--structures", 40, "--epochs", 30, cwd=tmp_path)
    error, spread = (int(number) for number in re.findall(r"(\d+) meV", printed))
    assert error < 0.5 * spread


def test_explain(tmp_path):
    printed = run("09_explain.py", "--clusters", 1000, "--epochs", 40, "--explained", 4, cwd=tmp_path)
    counts, others = map(float, re.findall(r"(?:count|others) (\d\.\d+)", printed))
    assert counts > 2 * others
    assert float(printed.split()[-1]) > 0.6


def test_structure(tmp_path):
    printed = run("17_structure.py", "--liquid", 0.05, "--cells", 2, "--out", "out", cwd=tmp_path)
    rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if line.startswith("  ")}
    assert float(rows["nearest"][0]) == pytest.approx(1.454, abs=0.001)  # the card of the data
    assert "liquid copper: g(r) peaks at 2." in printed
    for name in ("c20_distances.png", "c20_states.png", "liquid_copper.png"):
        assert (tmp_path / "out" / name).stat().st_size > 10_000


def test_structure_of_the_paper_s_cage(tmp_path, real_data):
    options = ["--c20", real_data, "--picoseconds", 0.1, "--liquid", 0.05, "--cells", 2, "--out", "out"]
    printed = run("17_structure.py", *options, cwd=tmp_path)
    assert "paper's network, 300 K, 50 frames" in printed


def test_demo(tmp_path):
    """Examples 03, 04 and 05, one after the other."""
    printed = run("demo.py", "--max-steps", 40, "--picoseconds", 0.02, cwd=tmp_path)
    folder = tmp_path / "results" / "demo" / "run"
    for name in ("parity.png", "nve.png", "nve.extxyz", "errors.json", "nve.json", "model.safetensors"):
        assert (folder / name).stat().st_size > 0
    errors = json.loads((folder / "errors.json").read_text())
    assert errors["frames"] == 500
    assert f"{errors['forces_mae']:.3f}" in printed
    assert "meV/atom/ps" in printed


def test_interrupted_training_resumes(tmp_path):
    options = ["--num-train", 64, "--num-val", 32, "--blocks", 1, "--features", 16, "--validate-every", 10]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(EXAMPLES / "03_train_md17.py"), *map(str, options), "--max-steps", "100000"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    checkpoint = tmp_path / "results" / "ethanol_xtb" / "last.ckpt"
    for _ in range(600):
        if checkpoint.exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "resume the run to go on from its last validation" in printed.splitlines()[-1]
    assert checkpoint.exists()

    refused = run("03_train_md17.py", *options, "--max-steps", 20, cwd=tmp_path, check=False)
    assert "already holds a run; go on with it" in refused.splitlines()[-1]
    steps = 2 * torch_steps(checkpoint)
    assert f"{steps} steps" in run("03_train_md17.py", *options, "--max-steps", steps, "--resume", cwd=tmp_path)


def torch_steps(checkpoint):
    from pyg_schnet.training import read_checkpoint

    return read_checkpoint(checkpoint)["global_step"]


def test_recorded_steps_are_measured(tmp_path):
    """The benchmark runs on a CPU, and its ways agree: it gives no times otherwise."""
    pytest.importorskip("rdkit")
    run("benchmarks/captured.py", "--quick", "--json", "figures.json", cwd=tmp_path)
    rows = json.loads((tmp_path / "figures.json").read_text())["cases"]
    assert [len(row["seconds"]) for row in rows] == [5, 4, 4]
    assert all(difference < 1e-4 for row in rows for difference in row["difference"].values())


def test_force_training_is_measured(tmp_path):
    """Crystals in a process of their own for the memory, too; no times are given where results disagree."""
    options = ("--quick", "--cases", "crystals", "--json", "figures.json")
    printed = run("benchmarks/force_training.py", *options, cwd=tmp_path)
    (row,) = json.loads((tmp_path / "figures.json").read_text())["cases"]
    assert {"tabulated", "exact", "pyg", "pyg and search"} <= set(row["seconds"])
    assert row["MiB"]["pyg"] > row["MiB"]["tabulated"]
    assert "2 x crystals: 40 atoms, 50.0 neighbours each" in printed


def test_inference_is_measured(tmp_path):
    """Peak memory in processes of their own, and the figure of the cost."""
    pytest.importorskip("matplotlib")
    pytest.importorskip("rdkit")
    options = ("--quick", "--cases", "aspirin", "--json", "figures.json", "--plot", "cost.png")
    run("benchmarks/inference.py", *options, cwd=tmp_path)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["machine"]["threads"] == 1
    assert set(figures["cases"][0]["seconds"]) >= {"frozen", "exact", "pyg"}
    assert {what: [row[what] for row in rows] for what, rows in figures["scaling"].items()} == {
        "atoms": [24, 81],
        "neighbours": [26.0, 60.0],
        "features": [32, 64],
    }
    assert (tmp_path / "cost.png").stat().st_size > 5000


def test_readme_python(tmp_path, monkeypatch):
    """The Python blocks of README, one after the other, training cut short."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert len(blocks) == 5
    code = "\n".join(blocks)
    assert "max_minutes=2" in code
    names = {}
    exec(code.replace("max_minutes=2", "max_steps=2, validate_every=2"), names)
    assert names["x"].shape == (3, 64)
    assert names["out"]["forces"].shape == (3, 3)
    assert names["ethanol"].get_forces().shape == (9, 3)


def test_collected_results(tmp_path):
    """Rows of two runs beside the paper's value in the unit of the report, and the curve of both."""
    for number, error in ((1000, 0.02), (3000, 0.01)):
        folder = tmp_path / f"run-{number}" / "test"
        folder.mkdir(parents=True)
        published = {"value": 14.0, "unit": "meV", "num_train": 110000}
        target = {"unit": "eV", "mae": error, "mae_of_mean": 10.0, "published": published}
        facts = {"num_train": number, "steps": 500, "seconds": 120}
        (folder / "report.json").write_text(json.dumps({"facts": facts, "targets": {"U0": target}}))
        settings = "model: {init_args: {model: {class_path: pyg_schnet.SchNet, init_args: {num_interactions: 6}}}}"
        (folder.parent / "config.yaml").write_text(settings)
    runs = [tmp_path / "run-1000", tmp_path / "run-3000"]
    printed = run("10_collect_results.py", *runs, "--curve", "curve.png", cwd=tmp_path)
    assert "| run-1000 | SchNet T=6 | 1,000 | 500 | 2 | U0 | eV | 0.02 | 10 | 0.014 (N = 110,000) |" in printed
    assert (tmp_path / "curve.png").stat().st_size > 5000
    refused = run("10_collect_results.py", tmp_path, cwd=tmp_path, check=False)
    assert "run `pyg-schnet test` first" in refused
