"""Energy drift."""

import numpy as np
import pytest

from pyg_schnet.analysis import energy_drift, energy_plot


def test_line_with_oscillation():
    """A drift of 3 meV/ps under an oscillation of ten times its size, over whole periods."""
    time = np.linspace(0, 4, 4001)
    energy = -4000 + 0.003 * time + 0.03 * np.cos(2 * np.pi * 10 * time)
    assert energy_drift(time, energy, num_atoms=3) == pytest.approx(0.001, rel=1e-3)


def test_against_numpy():
    rng = np.random.default_rng(0)
    time, energy = np.sort(rng.uniform(size=50)), rng.normal(size=50)
    assert energy_drift(time, energy, 7) == pytest.approx(np.polyfit(time, energy, 1)[0] / 7, rel=1e-10)


@pytest.mark.parametrize(("time", "energy"), [([0.0], [1.0]), ([0.0, 1.0], [1.0]), ([[0.0, 1.0]], [[1.0, 2.0]])])
def test_bad_shapes(time, energy):
    with pytest.raises(ValueError, match="must have the same shape"):
        energy_drift(time, energy, 1)


def test_figure(tmp_path):
    time = np.linspace(0, 1, 100)
    path = energy_plot(time, np.sin(9 * time), -np.sin(9 * time), 5, tmp_path / "nve.png")
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("time", "energy", "atoms", "message"),
    [
        ([0.0, 1.0], [1.0, float("nan")], 3, "1 of 2 values of `energy` are not finite"),
        ([1.0, 1.0], [1.0, 2.0], 3, "all values of `time` are 1; a drift needs times that differ"),
        ([0.0, 1.0], [1.0, 2.0], 0, "`num_atoms` must be at least 1, got 0"),
        ([0.0], [1.0], 3, r"M at least 2; got \[1\] and \[1\]"),
        ([], [], 3, r"M at least 2; got \[0\] and \[0\]"),
    ],
    ids=["nan", "one time", "no atoms", "one frame", "no frame"],
)
def test_no_drift(time, energy, atoms, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        energy_drift(time, energy, atoms)
    with pytest.raises(ValueError, match=message):
        energy_plot(time, energy, np.zeros(len(energy)), atoms, tmp_path / "energy.png")


def test_energies_of_other_lengths(tmp_path):
    with pytest.raises(ValueError, match=r"same shape \[M\], got \[2\] and \[1\] and \[2\]"):
        energy_plot([0.0, 1.0], [1.0], [1.0, 2.0], 3, tmp_path / "energy.png")
