"""Errors of targets and reports of them."""

import json
import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from pyg_schnet.analysis import Report, TargetErrors, in_paper_units
from pyg_schnet.analysis.error_figures import draw_parity, panel_grid

NAN = float("nan")
FILES = ["errors.png", "parity.png", "report.json", "report.md"]


def some_errors(name="energy", unit="eV", count=50, seed=0):
    rng = np.random.default_rng(seed)
    true = rng.normal(size=count)
    return TargetErrors(name, unit, true + 0.1 * rng.normal(size=count), true)


def test_metrics_by_hand():
    """Errors 1, -1, 2, -4; true values with mean 2 and deviations 2, 2, 0, 0."""
    metrics = TargetErrors("y", "", [1.0, 3.0, 4.0, -2.0], [0.0, 4.0, 2.0, 2.0]).metrics()
    expected = {
        "mae": 2.0,
        "rmse": np.sqrt(22 / 4),
        "max": 4.0,
        "median": 1.5,
        "bias": -0.5,
        "std": np.sqrt(22 / 4 - 0.25),
        "mae_of_mean": 1.0,
        "count": 4,
    }
    assert metrics == pytest.approx(expected, rel=1e-15)
    assert metrics.keys() == expected.keys()


def test_forces_count_by_component():
    true = np.zeros((2, 3))
    errors = TargetErrors("forces", "eV/Ang", np.array([[1.0, 0, 0], [0, 0, -2]]), true)
    assert errors.errors.tolist() == [1, 0, 0, 0, 0, -2]
    metrics = errors.metrics()
    assert (metrics["mae"], metrics["count"], metrics["mae_of_mean"]) == (0.5, 6, 0.0)


def test_unknown_truth_is_left_out():
    """Whatever was predicted there, NaN included."""
    errors = TargetErrors("y", "eV", [1.0, NAN, 5.0], [2.0, NAN, NAN])
    assert errors.true.tolist() == [2.0]
    forces = TargetErrors("forces", "eV/Ang", np.ones((3, 3)), np.array([[0, 0, 0], [0, NAN, 0], [1, 1, 1]]))
    assert forces.true.shape == (2, 3)
    assert forces.metrics()["mae"] == 0.5


def test_float64_of_any_input():
    errors = TargetErrors("y", "", np.ones(2, dtype=np.float32), [0, 1])
    assert errors.predicted.dtype == errors.true.dtype == np.float64


@pytest.mark.parametrize(
    ("predicted", "true", "message"),
    [
        ([1.0], [1.0, 2.0], r"same shape .*, got \[1\] and \[2\]"),
        (1.0, 1.0, "same shape"),
        ([1.0], [NAN], "no true value of 'y' is known"),
        ([], [], "no true value of 'y' is known"),
        ([1.0, NAN], [1.0, 2.0], "1 of 2 predicted values of 'y' are not finite"),
        ([1.0, 2.0], [1.0, np.inf], "1 of 2 true values of 'y' are not finite"),
    ],
    ids=["shapes", "numbers", "unknown", "empty", "nan predicted", "infinite truth"],
)
def test_bad_errors(predicted, true, message):
    with pytest.raises(ValueError, match=message):
        TargetErrors("y", "eV", predicted, true)


@pytest.mark.parametrize(
    ("source", "target", "factor"),
    [
        ("eV", "kcal/mol", 23.0605),  # NIST
        ("eV", "meV", 1000.0),
        ("eV/Ang", "kcal/mol/Ang", 23.0605),
        ("eV/Ang^3", "GPa", 160.2177),
        ("D", "D", 1.0),
        ("cal/(mol K)", "cal/(mol K)", 1.0),
        ("eV/atom", "eV/atom", 1.0),
        ("", "", 1.0),
    ],
    ids=lambda value: str(value) or "none",
)
def test_conversion(source, target, factor):
    errors = some_errors(unit=source)
    converted = errors.converted(target)
    assert converted.unit == target
    for name in ("mae", "rmse", "max", "bias", "mae_of_mean"):
        assert converted.metrics()[name] == pytest.approx(factor * errors.metrics()[name], rel=1e-5)


@pytest.mark.parametrize(("source", "target"), [("D", "eV"), ("eV", "eV/Ang"), ("eV/atom", "meV"), ("GPa", "eV")])
def test_no_conversion(source, target):
    with pytest.raises(ValueError, match="unit|convert"):
        some_errors(unit=source).converted(target)


def test_paper_units():
    units = {"energy": "eV", "forces": "eV/Ang", "zpve": "eV", "U0": "eV", "mu": "D", "stress": "eV/Ang^3"}
    converted = {one.name: one.unit for one in in_paper_units([some_errors(*item) for item in units.items()])}
    assert converted == units | {"energy": "kcal/mol", "forces": "kcal/mol/Ang", "zpve": "meV"}


def test_round_trip(tmp_path):
    errors = in_paper_units([some_errors(), some_errors("forces", "eV/Ang", 5000, seed=1)])
    facts = {
        "dataset": "MD17",
        "molecule": "ethanol",
        "num_train": 900,
        "trained_on": "energy and forces",
        "a|b": [1, "Å"],
    }
    folder = tmp_path / "deep" / "report"
    written = Report("Ethanol, Å", facts, errors).write(folder)
    assert sorted(path.name for path in written) == sorted(path.name for path in folder.iterdir()) == FILES
    content = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert (content["title"], content["facts"]) == ("Ethanol, Å", facts)
    for target in errors:
        stored = content["targets"][target.name]
        paper = stored.pop("published")
        assert stored == {"unit": target.unit} | target.metrics()
        assert (paper["num_train"], paper["value"]) == (1000, {"energy": 0.08, "forces": 0.39}[target.name])
    for name in ("errors.png", "parity.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
        assert (folder / name).stat().st_size > 10_000
    text = (folder / "report.md").read_text(encoding="utf-8")
    mae = errors[0].metrics()["mae"]
    assert f"| energy | kcal/mol | {mae:.4g} |" in text
    assert "0.39 (N = 1,000, table IV) |" in text
    assert "![Predicted against true values](parity.png)" in text
    assert '| a\\|b | [1, "Å"] |' in text


@pytest.mark.parametrize(
    ("facts", "name", "unit", "cell"),
    [
        ({"dataset": "QM9", "num_train": 50}, "zpve", "eV", "0.0017 (N = 110,000, table I)"),
        ({"dataset": "QM9", "name": "qm9"}, "mu", "D", "0.033 (N = 110,000, table I)"),
        ({"dataset": "QM9", "name": "bundled"}, "mu", "D", ""),
        (
            {"dataset": "MaterialsProject", "num_train": 10_000},
            "formation_energy",
            "eV/atom",
            "0.127 (N = 3,000, table II)",
        ),
        (
            {"dataset": "MaterialsProject", "num_train": 20_000},
            "formation_energy",
            "eV/atom",
            "0.035 (N = 60,000, table II)",
        ),
        ({"dataset": "MaterialsProject", "name": "emt_alloys"}, "formation_energy", "eV/atom", ""),
        (
            {"dataset": "MD17", "name": "aspirin", "num_train": 40_000},
            "energy",
            "kcal/mol",
            "0.12 (N = 50,000, table III)",
        ),
        ({"dataset": "MD17", "name": "aspirin"}, "energy", "D", "0.12 kcal/mol (N = 50,000, table III)"),
        (
            {"dataset": "MD17", "name": "uracil", "num_train": 950, "trained_on": "energy"},
            "energy",
            "kcal/mol",
            "2.26 (N = 1,000, table III)",
        ),
        (
            {"dataset": "MD17", "name": "uracil", "num_train": 50_000, "trained_on": "energy"},
            "forces",
            "kcal/mol/Ang",
            "3.28 (N = 50,000, table IV)",
        ),
        (
            {"dataset": "MD17", "molecule": "uracil", "num_train": 950, "trained_on": "energy and forces"},
            "forces",
            "kcal/mol/Ang",
            "0.56 (N = 1,000, table IV)",
        ),
        ({"dataset": "MD17", "name": "uracil", "trained_on": "forces"}, "forces", "kcal/mol/Ang", ""),
        ({"dataset": "MD17", "name": "ethanol_xtb"}, "energy", "kcal/mol", ""),
        ({}, "energy", "kcal/mol", ""),
    ],
    ids=lambda value: str(value).replace("'", "") if isinstance(value, dict) else "",
)
def test_value_of_the_paper(facts, name, unit, cell):
    lines = Report("x", facts, [some_errors(name, unit)]).markdown().splitlines()
    (row,) = [line for line in lines if line.startswith(f"| {name} ")]
    assert row.rsplit(" | ", 1)[1] == f"{cell} |"


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9, 12, 19])
def test_panels_in_a_grid(count):
    figure, panels = panel_grid(count)
    assert len(panels) == len(figure.axes) == count
    width, height = figure.get_size_inches()
    assert width <= 4 * 3.5
    assert round(width / 3.5) * round(height / 3.0) - count < 4  # hardly an empty place


def test_parity_of_large_energies():
    """Total energies less their mean, points for few and a density for many, all of them inside."""
    for count in (20, 5000):
        true = -4000 + np.random.default_rng(0).normal(size=count)
        _, (panel,) = panel_grid(1)
        draw_parity(panel, TargetErrors("energy", "eV", true + 0.5, true))
        (low, high), points = panel.get_xlim(), panel.collections[0].get_offsets()
        assert panel.get_xlabel() == "true energy less its mean (eV)"
        assert low < (true - true.mean()).min() < (true - true.mean()).max() + 0.5 < high < 10
        assert (len(points) == count) is (count == 20)
        assert panel.get_ylim() == (low, high)


def test_degenerate_values(tmp_path):
    """One value, predicted without error."""
    Report("one", {}, [TargetErrors("y", "", [2.0], [2.0])]).write(tmp_path)
    assert json.loads((tmp_path / "report.json").read_text())["targets"]["y"]["max"] == 0.0


def test_a_crash_leaves_the_old_files(tmp_path, monkeypatch):
    report = Report("x", {}, [some_errors()])
    report.write(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def half(figure, path, **_):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", half)
    with pytest.raises(OSError, match="disk full"):
        Report("y", {}, [some_errors(seed=1)]).write(tmp_path)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(after) == FILES
    assert all((after[name] == before[name]) is name.endswith(".png") for name in FILES)
    assert "![" not in after["report.md"].decode()


def test_without_matplotlib(tmp_path, monkeypatch):
    """Numbers are written, then one sentence names the extra."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "pyg_schnet\[plot\]"'):
        Report("x", {}, [TargetErrors("y", "eV", [1.0], [2.0])]).write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "report.md"]
    assert json.loads((tmp_path / "report.json").read_text())["targets"]["y"]["mae"] == 1.0


def test_bad_reports():
    one = some_errors()
    with pytest.raises(ValueError, match="targets with different names, got none"):
        Report("x", {}, [])
    with pytest.raises(ValueError, match="targets with different names, got energy, energy"):
        Report("x", {}, [one, one])
    for value in (np.ones(2), NAN):
        with pytest.raises(TypeError, match="`facts` must be JSON-compatible"):
            Report("x", {"a": value}, [one])
