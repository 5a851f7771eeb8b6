"""The C20 study of the examples, in its smoke mode."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "examples" / "c20" / "run.py"


def study(*options, cwd, check=True, **more):
    """Run the study and return what it printed, or what it complained of."""
    env = os.environ | {"OMP_NUM_THREADS": "1"} | more
    command = [sys.executable, str(SCRIPT), *map(str, options)]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=400)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout if check else done.stderr.strip().splitlines()[-1]


def test_every_stage_and_none_twice(tmp_path, real_data):
    with_beads = find_spec("ipi") is not None  # extra ipi
    options = ["--c20", real_data, "--smoke", "--out", "out", "--beads", *([2] if with_beads else [])]
    printed = study(*options, cwd=tmp_path)
    out = tmp_path / "out"
    found = json.loads((out / "vibrations.json").read_text())
    assert [len(found[name]["wavenumbers_cm"]) for name in ("c20-force", "c20-energy")] == [54, 54]
    assert found["c20-force"]["zero_point_energy_eV"] == pytest.approx(3.008, abs=0.001)  # RESULTS.md
    assert "| 3 | 64 | 0.01 |" in printed
    errors = json.loads((out / "table5" / "T3_F64_rho0.01" / "errors.json").read_text())
    assert errors["test"] == 32
    assert (out / "report.md").read_text().strip() == printed.strip()
    figures = ["c20_networks.png", *(["c20_quantum_distances.png", "c20_beads.png"] if with_beads else [])]
    assert all((out / name).stat().st_size > 10_000 for name in figures)
    if with_beads:
        two = json.loads((out / "quantum.json").read_text())["beads"]["2"]
        assert two["frames"] == 10
        bounds = {
            "potential": 1e-9,
            "virial": 1e-5,
            "primitive": 1e-3,
        }  # positions are kept in float32; other constants
        assert all(two["against_ipi_eV"][name] < bound for name, bound in bounds.items())
        assert two["energies_eV"]["kinetic"][0] > 0.8  # 0.776 eV are classical
    kept = [path for path in out.rglob("*") if path.suffix in {".npz", ".traj", ".ckpt", ".safetensors"}]
    before = {path: path.stat().st_mtime_ns for path in kept}
    assert study(*options, cwd=tmp_path) == printed
    assert {path: path.stat().st_mtime_ns for path in kept} == before


def test_what_is_missing(tmp_path):
    nowhere = study("--smoke", "--beads", cwd=tmp_path, check=False, PYG_SCHNET_DATA="")
    assert nowhere.startswith("run.py: name the folder with the paper's C20 networks, --c20 FOLDER")
    with_beads = find_spec("ipi") is not None
    engine = "no-such-python" if with_beads else sys.executable
    said = f"there is no Python {engine}" if with_beads else f"{engine} has no i-PI 3.3 or newer"
    missing = study("--smoke", "--engine", engine, cwd=tmp_path, check=False)
    assert missing.startswith(f"run.py: {said}, which path integrals need: pip install")
