"""Every example runs, in a smoke mode of a few steps."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from pyg_schnet import SchNet, save

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
def test_help(script, tmp_path, forks):
    words = [str(EXAMPLES / script), "--help"]
    begin = f"import runpy, sys; sys.argv = {words}; sys.path.insert(0, {str(EXAMPLES)!r}); "
    done = forks.run(begin + f"runpy.run_path({words[0]!r}, run_name='__main__')", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


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


def test_from_smiles(tmp_path):
    pytest.importorskip("rdkit")
    printed = run("18_from_smiles.py", "C=O", "--picoseconds", 0.2, "--out", "out", cwd=tmp_path)
    (line,) = [one for one in printed.splitlines() if "vibrations" in one]
    found = [float(one) for one in line.split(": ")[1].removesuffix(" cm^-1").split(", ")]
    assert len(found) == 6
    assert min(found) > 800
    assert 1600 < found[3] < 1950  # C=O
    assert all(2600 < one < 3100 for one in found[4:])  # C-H
    for name in ("modes.png", "dynamics.png", "relaxed.xyz", "dynamics.extxyz"):
        assert (tmp_path / "out" / name).stat().st_size > 100
    refused = run("18_from_smiles.py", "not a molecule", cwd=tmp_path, check=False)
    assert "must be a valid molecule" in refused


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
        command,
        cwd=tmp_path,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  shells ignore it in the background
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
    run("benchmarks/recorded.py", "--quick", "--json", "figures.json", cwd=tmp_path)
    rows = json.loads((tmp_path / "figures.json").read_text())["cases"]
    assert [len(row["seconds"]) for row in rows] == [5, 4, 4]
    assert all(difference < 1e-4 for row in rows for difference in row["difference"].values())


def test_dynamics_are_measured(tmp_path):
    """Compiled steps are those of ASE, and not slower; how much faster is for a quiet machine to say."""
    run("benchmarks/dynamics.py", "--quick", "--json", "figures.json", cwd=tmp_path)
    found = json.loads((tmp_path / "figures.json").read_text())
    assert found["off"] < 1e-10
    assert found["steps_per_second"]["velocity Verlet, float32"] > found["steps_per_second"]["ASE, float32"]


def test_force_training_is_measured(tmp_path):
    """Crystals in a process of their own for the memory, too; no times are given where results disagree."""
    options = ("--quick", "--cases", "crystals", "--json", "figures.json")
    printed = run("benchmarks/force_training.py", *options, cwd=tmp_path)
    (row,) = json.loads((tmp_path / "figures.json").read_text())["cases"]
    assert {"tabulated", "exact", "pyg", "pyg and search"} <= set(row["seconds"])
    assert row["MiB"]["pyg"] > row["MiB"]["tabulated"]
    assert "2 x crystals: 40 atoms, 50.0 neighbours each" in printed


#: Scripts of benchmarks, what makes them small, and what their figures have.
MEASURED = {
    "kernels": (
        ["--atoms", 24, "--neighbors", 4, "--features", 16, "--orders", 0, "--repeats", 1, "--device", "cpu"],
        lambda found: found["cases"],
    ),
    "loader": (["--frames", 64, "--epochs", 1], lambda found: all(row["ratio"] > 0 for row in found["cases"])),
}
#: Those that take longer than a test may, at their smallest.
LONG = ("accuracy", "large_data", "screening", "training_step")


def test_every_benchmark_is_run_by_a_test():
    """Those with a test of their own, what they share, and all others."""
    own = {"recorded", "dynamics", "force_training", "inference", "neighbors"}
    shared = {"common", "cost", "peers", "systems"}
    assert {path.stem for path in EXAMPLES.glob("benchmarks/*.py")} == own | shared | MEASURED.keys() | {*LONG}


@pytest.mark.parametrize("name", LONG)
def test_a_long_benchmark_begins(name, tmp_path, forks):
    pytest.importorskip("rdkit")
    pytest.importorskip("matplotlib")
    words = [str(EXAMPLES / "benchmarks" / f"{name}.py"), "--help"]
    begin = f"import runpy, sys; sys.argv = {words}; sys.path.insert(0, {str(EXAMPLES / 'benchmarks')!r}); "
    done = forks.run(begin + f"runpy.run_path({words[0]!r}, run_name='__main__')", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


@pytest.mark.parametrize("name", list(MEASURED))
def test_a_benchmark_is_measured(name, tmp_path):
    """They give no times where results disagree."""
    for package in ("rdkit", "ase", "numba", "matplotlib"):
        pytest.importorskip(package)
    options, holds = MEASURED[name]
    run(f"benchmarks/{name}.py", *options, "--json", "figures.json", cwd=tmp_path)
    assert holds(json.loads((tmp_path / "figures.json").read_text()))


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


def test_normal_modes(tmp_path):
    """Water by random weights that happen to hold it together, at rest by itself."""
    torch.manual_seed(0)
    save(SchNet.preset("jcp2018", num_interactions=1), tmp_path / "model.safetensors")
    (tmp_path / "water.xyz").write_text("3\n\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n")
    options = ("--model", "model.safetensors", "--structure", "water.xyz", "--out", "modes")
    printed = run("15_normal_modes.py", *options, cwd=tmp_path)
    assert printed.count("rigid") == 6
    report = json.loads((tmp_path / "modes" / "modes.json").read_text())
    assert len(report["levels_cm"]) == 3
    assert report["largest_force_eV_per_Ang"] <= 1e-6
    assert {path.name for path in (tmp_path / "modes").iterdir()} == {
        "modes.png",
        "modes.json",
        "softest.xyz",
        "stiffest.xyz",
    }


def test_phonons(tmp_path):
    pytest.importorskip("phonopy")
    sizes = ("--structures", 30, "--steps", 60, "--features", 16, "--supercell", 2)
    printed = run("16_phonons.py", *sizes, "--out", "phonons", cwd=tmp_path)
    assert float(re.search(r"EMT +a = ([\d.]+) Å", printed)[1]) == pytest.approx(3.59, abs=2e-3)  # known of ASE's EMT
    assert float(re.search(r"EMT .* up to ([\d.]+) THz", printed)[1]) == pytest.approx(8.1, abs=0.5)
    assert (tmp_path / "phonons" / "phonons.png").stat().st_size > 10_000


def small_model(path, elements, preset="jcp2018", **options):
    """A model of random weights, as if trained on some elements."""
    import torch

    from pyg_schnet import SchNet, save
    from pyg_schnet.models.elements import TrainingSet

    torch.manual_seed(0)
    model = SchNet.preset(preset, hidden_channels=16, num_filters=9, num_interactions=2, **options)
    model.training_set = TrainingSet(dict.fromkeys(elements, 10), 10, 5)
    model.units = {"energy": "eV"}
    save(model, path)
    return path


def test_filters(tmp_path):
    """Sums over images have the symmetry of their lattice: round, four-fold, and not four-fold."""
    pytest.importorskip("matplotlib")
    crystals = small_model(tmp_path / "crystals.safetensors", [6], "jcp2018-materials")
    molecules = small_model(tmp_path / "molecules.safetensors", [1, 6, 8], cutoff=8.0, num_gaussians=80)
    options = ("--crystals", crystals, "--molecules", molecules, "--resolution", 21, "--out", "figures")
    printed = run("12_filters.py", *options, cwd=tmp_path)
    differences = [int(number) for number in re.findall(r"differs by (\d+) %", printed)]
    assert differences[:2] == [0, 0]
    assert differences[2] > 2
    for name in ("curves.png", "cuts.png", "all.png"):
        assert (tmp_path / "figures" / name).stat().st_size > 10_000


def test_local_chemical_potential(tmp_path):
    """Two models that are one agree at all places; what was written is whole."""
    for name in ("matplotlib", "skimage", "plotly", "ase", "rdkit"):
        pytest.importorskip(name)
    molecules = small_model(tmp_path / "molecules.safetensors", [1, 6], cutoff=8.0, num_gaussians=80)
    crystals = small_model(tmp_path / "crystals.safetensors", [6], "jcp2018-materials")
    options = ("--schnet", molecules, "--dtnn", molecules, "--crystals", crystals, "--molecules", "methane", "C=C")
    fineness = ("--spacing", 0.25, "--resolution", 0.5, "--out", "figures")
    printed = run("11_local_chemical_potential.py", *options, *fineness, cwd=tmp_path).splitlines()
    assert [line.split()[0] for line in printed[2:4]] == ["methane", "C=C"]
    for line in printed[2:4]:
        numbers = [float(number) for number in line.split()[1:]]
        assert numbers[:4] == numbers[4:8]
        assert numbers[8] == 1.0
        assert numbers[0] < numbers[1]
    for name in ("figure_5.png", "figure_5.html", "figure_6.png", "methane.cube"):
        assert (tmp_path / "figures" / name).stat().st_size > 10_000


def test_embeddings(tmp_path):
    """Of random embeddings nothing is found: shares of the variance as by chance, order and separation near it."""
    for name in ("matplotlib", "sklearn"):
        pytest.importorskip(name)
    elements = [1, 3, 11, 19, 37, 55, 4, 12, 20, 38, 9, 17, 35, 53, 26]
    model = small_model(tmp_path / "model.safetensors", elements)
    printed = run("13_embeddings.py", "--model", model, "--permutations", 50, cwd=tmp_path)
    assert (tmp_path / "results" / "embeddings.png").stat().st_size > 10_000
    found, chance = map(float, re.findall(r"(\d+\.\d) %", printed))
    assert abs(found - chance) < 12.0
    assert printed.startswith("results/embeddings.png\n14 elements")
    assert re.search(r"IA +-?\d\.\d\d +\d\.\d+ +\d\.\d\d +\d\.\d+   H Li Na K Rb Cs", printed)


def test_energy_decomposition(tmp_path):
    """Titles show the same number twice; equivalent atoms are equal; a molecule that is none is refused."""
    pytest.importorskip("matplotlib")
    model = small_model(tmp_path / "model.safetensors", [1, 6, 8])
    options = ("--model", model, "--less", "none")
    printed = run("14_energy_decomposition.py", *options, "--molecules", "C6H6", "H2O", cwd=tmp_path)
    for total, parts in re.findall(r"prediction (\S+) eV, sum of the atoms (\S+) eV", printed):
        assert total == parts
    low, high = re.search(r" 6 C +(\S+) to +(\S+) eV", printed).groups()
    assert low == high != "0.000"
    assert (tmp_path / "results" / "decomposition.png").stat().st_size > 10_000
    refused = run("14_energy_decomposition.py", *options, "--molecules", "C61", cwd=tmp_path, check=False)
    assert "ASE has no molecule C61" in refused.splitlines()[-1]
