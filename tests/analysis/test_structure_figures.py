"""Figures of structure and motion: they draw what they are given, into axes of the user's too."""

import numpy as np
import pytest
import torch

pytest.importorskip("matplotlib")
ase = pytest.importorskip("ase")
from ase.build import bulk, molecule  # noqa: E402

from pyg_schnet.analysis.figure import new_axes, save_figure  # noqa: E402
from pyg_schnet.analysis.structure.cluster_distances import cluster_distances  # noqa: E402
from pyg_schnet.analysis.structure.density_of_states import DensityOfStates  # noqa: E402
from pyg_schnet.analysis.structure.displacement import diffusion_coefficient, mean_square_displacement  # noqa: E402
from pyg_schnet.analysis.structure.radial_distribution import partial_distributions, radial_distribution  # noqa: E402
from pyg_schnet.analysis.structure.snapshot import Snapshot  # noqa: E402
from pyg_schnet.analysis.structure.structure_figures import (  # noqa: E402
    draw_cluster_distributions,
    draw_density_of_states,
    draw_displacement,
    draw_radial_distribution,
)


def test_radial_distribution(tmp_path):
    found = radial_distribution(bulk("Cu"), r_max=5.0, bins=50)
    axes = new_axes()
    assert draw_radial_distribution(found, axes, coordination=True) is axes
    assert axes.get_lines()[0].get_ydata().tolist() == found.g.tolist()
    right = next(one for one in axes.figure.axes if one is not axes)
    assert right.get_lines()[0].get_ydata()[-1] == pytest.approx(42)
    assert axes.get_ylabel() == "g(r)"
    assert save_figure(axes.figure, tmp_path / "x.png").stat().st_size > 5000


def test_partial_distributions_are_drawn_once():
    axes = draw_radial_distribution(partial_distributions(bulk("NaCl", "rocksalt", a=5.6), r_max=6.0))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["Na-Na", "Na-Cl", "Cl-Cl"]


def test_pair_distribution_has_its_unit():
    water = molecule("H2O")
    axes = draw_radial_distribution(radial_distribution(water))
    assert axes.get_ylabel() == "h(r) (1/Å)"
    with pytest.raises(ValueError, match="different units"):
        draw_radial_distribution({"a": radial_distribution(water), "b": radial_distribution(bulk("Cu"), r_max=4.0)})


def test_cluster_distributions():
    rng = np.random.default_rng(0)
    runs = {}
    for name, spread in (("cold", 0.02), ("hot", 0.06)):
        frames = [molecule("C60") for _ in range(10)]
        for one in frames:
            one.positions += spread * rng.normal(size=(60, 3))
        runs[name] = cluster_distances(frames, neighbors=3)
    figure = draw_cluster_distributions(runs)
    assert [panel.get_title() for panel in figure.axes] == ["nearest neighbours", "diameter", "all pairs"]
    for panel, field in zip(figure.axes, ("nearest", "diameter", "pair"), strict=True):
        for line, one in zip(panel.get_lines(), runs.values(), strict=True):
            assert line.get_ydata().tolist() == getattr(one, field).density.tolist()
    low, high = figure.axes[0].get_xlim()
    assert low < runs["hot"].nearest.mean < high
    other = new_axes().figure
    other.clear()
    assert draw_cluster_distributions(runs["cold"], other, antipodal=True) is other
    assert other.axes[1].get_lines()[0].get_ydata().tolist() == runs["cold"].antipodal.density.tolist()


def test_displacement():
    path = np.cumsum(np.random.default_rng(0).normal(size=(50, 4, 3)), axis=0)
    z = np.array([1, 1, 8, 8])
    found = mean_square_displacement(
        [Snapshot(z, pos, np.eye(3), np.zeros(3, dtype=bool)) for pos in path], 1.0, progress=False
    )
    diffusion = diffusion_coefficient(found)
    axes = draw_displacement(found, fit=diffusion)
    lines = axes.get_lines()
    assert [line.get_label() for line in lines][:3] == ["all atoms", "H", "O"]
    assert lines[2].get_ydata().tolist() == found.of("O").msd.tolist()
    slope = np.diff(lines[3].get_ydata()) / np.diff(lines[3].get_xdata())
    assert slope / 6 == pytest.approx(diffusion.coefficient)
    assert draw_displacement(found, elements=False, logarithmic=True).get_xscale() == "log"


def test_density_of_states():
    wavenumber = torch.arange(0.0, 1000.0, 10.0)
    share = torch.exp(-((wavenumber - 500) ** 2) / 800)
    states = DensityOfStates(wavenumber, 2 * share, {"C": share, "O": share}, 10.0, 3)
    axes = draw_density_of_states(states, modes=torch.tensor([0.0, 480.0, 520.0]))
    assert [line.get_label() for line in axes.get_lines()] == ["all atoms", "C", "O"]
    assert len(axes.collections[0].get_segments()) == 2  # rigid motions are no lines
    assert 550 < axes.get_xlim()[1] < 700
    both = draw_density_of_states({"one": states, "two": states}, largest=800.0)
    assert [line.get_label() for line in both.get_lines()] == ["one", "two"]
    assert both.get_xlim() == (0.0, 800.0)
    for wrong in ({}, 7, {"a": 7}):
        with pytest.raises(ValueError, match="expected DensityOfStates, or several of them by name"):
            draw_density_of_states(wrong)
