"""Spectra, their figure, and modes as moving structures."""

import numpy as np
import pytest
import torch
from ase import units
from ase.build import molecule
from ase.io import read
from torch_geometric.data import Data

from pyg_schnet.analysis.figure import save_figure
from pyg_schnet.analysis.vibrations.mode_animation import mode_amplitude, mode_frames, write_animation
from pyg_schnet.analysis.vibrations.mode_figures import draw_spectrum
from pyg_schnet.analysis.vibrations.normal_modes import normal_modes
from pyg_schnet.analysis.vibrations.spectrum import spectrum
from pyg_schnet.simulation.ase import atoms_to_data

from .springs import Springs


@pytest.fixture
def modes():
    """A tetrahedron of equal springs: levels of 2, 3 and 1 modes."""
    pos = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    return normal_modes(Springs(20.0, 8**0.5), Data(z=torch.tensor([6] * 4), pos=pos))


@pytest.mark.parametrize("shape", ["lorentz", "gauss"])
def test_lines_and_curve(modes, shape):
    found = spectrum(modes, width=8.0, shape=shape, points=20_000)
    assert found.strengths.tolist() == [2.0, 3.0, 1.0]
    np.testing.assert_allclose(found.lines, [value for value, _ in modes.levels()], rtol=1e-12)
    step = float(found.wavenumbers[1])
    # tails of a Lorentzian beyond the ends: a few half widths in pi times some hundred cm^-1
    assert float(found.curve.sum()) * step == pytest.approx(6.0, rel=0.02 if shape == "lorentz" else 1e-6)
    lowest = float(found.lines[0])
    height = float(found.curve[(found.wavenumbers - lowest).abs().argmin()])
    half = float(found.curve[(found.wavenumbers - lowest - 4.0).abs().argmin()])
    assert half / height == pytest.approx(0.5, rel=0.02)  # neighbours' tails


def test_infrared_strengths(modes):
    found = spectrum(modes, torch.arange(12.0), tolerance=1e-3)
    assert found.strengths.tolist() == [6 + 7, 8 + 9 + 10, 11]
    assert found.infrared
    assert torch.equal(spectrum(modes, list(range(12)), tolerance=1e-3).strengths, found.strengths)


def test_bad_spectra(modes):
    for options, message in (
        ({"width": 0.0}, r"`width`, cm\^-1, must be positive"),
        ({"shape": "box"}, "`shape` must be 'lorentz' or 'gauss', got 'box'"),
        ({"points": 1}, "`points` must be at least 2, got 1"),
        ({"intensities": torch.ones(3)}, r"`intensities` must have shape \[12\], one for each mode, got \[3\]"),
    ):
        with pytest.raises(ValueError, match=message):
            spectrum(modes, **options)
    atom = normal_modes(Springs(1.0, 1.0), Data(z=torch.tensor([6]), pos=torch.zeros(1, 3)))
    with pytest.raises(ValueError, match="a single atom does not vibrate"):
        spectrum(atom)


def test_figure(modes, tmp_path):
    axes = draw_spectrum(modes)
    assert axes.get_xlabel() == "wavenumber (cm$^{-1}$)"
    assert draw_spectrum(modes, axes, intensities=torch.ones(12), colour="black", label="infrared") is axes
    sticks = axes.collections[1].get_segments()
    assert [stick[1, 1] for stick in sticks] == [2.0, 3.0, 1.0]
    np.testing.assert_allclose([stick[1, 0] for stick in sticks], [value for value, _ in modes.levels()])
    assert save_figure(axes.figure, tmp_path / "spectrum.png").stat().st_size > 5000


def test_imaginary_modes_are_drawn_at_negative_wavenumbers():
    with pytest.warns(UserWarning, match="imaginary"):
        modes = normal_modes(Springs(-20.0, 1.1), Data(z=torch.tensor([6, 6]), pos=torch.eye(3)[:2]))
    axes = draw_spectrum(modes)
    assert axes.get_xlim()[0] < float(modes.wavenumbers[0]) < 0
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["imaginary"]


def test_amplitude_has_the_energy_of_the_temperature(modes):
    """At the turning point, the springs hold kT, in the harmonic approximation."""
    for mode in (6, 11):
        moved = mode_amplitude(modes, mode, 250.0)
        flat = moved.flatten()
        energy = 0.5 * float(flat @ modes.hessian.view(12, 12) @ flat)
        assert energy == pytest.approx(units.kB * 250.0, rel=1e-9)


def test_frames(modes, tmp_path):
    frames = mode_frames(modes, -1, amplitude=0.2, frames=8)
    moved = np.array([atoms.positions for atoms in frames]) - modes.pos.numpy()
    assert np.linalg.norm(moved, axis=2).max() == pytest.approx(0.2)
    np.testing.assert_allclose(moved[0], 0, atol=1e-15)
    np.testing.assert_allclose(moved[2], -moved[6], atol=1e-12)  # a quarter of the period and three quarters
    np.testing.assert_allclose(moved[2], frames[0].arrays["displacement"], atol=1e-15)
    again = read(write_animation(modes, 11, tmp_path / "new" / "mode.xyz", amplitude=0.2, frames=8), ":")
    assert len(again) == 8
    np.testing.assert_allclose(again[2].positions, frames[2].positions, atol=1e-7)  # digits of the file
    assert again[0].info["wavenumber"] == pytest.approx(float(modes.wavenumbers[-1]), rel=1e-7)
    assert again[0].info["mode"] == 11


def test_bad_animations(modes):
    with pytest.raises(ValueError, match="`mode` must be a number from 0 to 11, got 12"):
        mode_frames(modes, 12)
    with pytest.raises(ValueError, match="mode 0 has the wavenumber 0 and no amplitude at a temperature"):
        mode_frames(modes, 0)
    assert len(mode_frames(modes, 0, amplitude=0.1)) == 30
    with pytest.raises(ValueError, match="`temperature` must be positive"):
        mode_frames(modes, 6, temperature=0.0)
    with pytest.raises(ValueError, match="`amplitude` must be positive"):
        mode_frames(modes, 6, amplitude=-0.1)
    with pytest.raises(ValueError, match="`frames` must be a positive integer"):
        mode_frames(modes, 6, frames=0)


def test_crystals_move_in_their_cell(make_model):
    crystal = atoms_to_data(molecule("CO", vacuum=3.0), torch.float64)
    crystal.pbc[:] = True
    modes = normal_modes(Springs(40.0, float((crystal.pos[0] - crystal.pos[1]).norm()), cutoff=2.0), crystal)
    frame = mode_frames(modes, -1)[0]
    assert frame.pbc.all()
    np.testing.assert_allclose(frame.cell.array, crystal.cell[0])
