"""Phonons of crystals of springs in closed form, and of networks one cell at a time."""

import math
import sys

import numpy as np
import pytest
import torch
from ase import units
from ase.build import bulk, molecule
from scipy.integrate import trapezoid
from torch_geometric.data import Data

from pyg_schnet import Potential
from pyg_schnet.analysis.figure import save_figure
from pyg_schnet.analysis.vibrations.normal_modes import normal_modes
from pyg_schnet.analysis.vibrations.oscillators import heat_capacity
from pyg_schnet.analysis.vibrations.phonon_bands import phonon_bands, phonon_density, phonon_heat_capacity
from pyg_schnet.analysis.vibrations.phonon_figures import draw_phonon_bands, draw_phonon_density
from pyg_schnet.analysis.vibrations.phonons import phonons
from pyg_schnet.simulation.ase import atoms_to_data

from .springs import Springs

pytest.importorskip("phonopy")
K, A = 3.0, 3.6
#: THz of the root of 1 eV/Angstrom^2/u
THZ = math.sqrt(units._e / units._amu) * 1e10 / (2 * math.pi) / 1e12


@pytest.fixture(scope="module")
def copper():
    """Copper atoms, each on springs to its twelve neighbours, with the primitive cell."""
    data = atoms_to_data(bulk("Cu", a=A), torch.float64)
    return phonons(Springs(K, A / math.sqrt(2), cutoff=3.0), data, (3, 3, 3))


def of_springs(q, cell):
    """sqrt of the eigenvalues of 1/m sum_R k R R^T / R^2 (1 - cos q R), in THz."""
    lattice = np.array(np.meshgrid(*[[-1, 0, 1]] * 3)).reshape(3, -1).T @ cell
    neighbours = [r for r in lattice if abs(np.linalg.norm(r) - A / math.sqrt(2)) < 1e-6]
    assert len(neighbours) == 12
    wave = 2 * math.pi * np.asarray(q) @ np.linalg.inv(cell).T
    matrix = sum(K * np.outer(r, r) / (r @ r) * (1 - math.cos(wave @ r)) for r in neighbours) / 63.546
    return THZ * np.sqrt(np.abs(np.linalg.eigvalsh(matrix)))


def test_copper_of_springs(copper):
    """Springs to nearest neighbours reach no further than half of this supercell: exact at every wave vector."""
    bands = phonon_bands(copper, points=40)
    expected = np.array([of_springs(q, copper.primitive.cell) for q in bands.points])
    # springs are not harmonic across their direction: displaced by 0.01 A, forces are off by (0.01/2.5)^2
    np.testing.assert_allclose(bands.frequencies, expected, rtol=1e-4, atol=1e-4)
    at_x = bands.frequencies[np.abs(bands.distances - bands.ticks[1]).argmin()]
    assert bands.labels[:2] == ["G", "X"]
    # along [100]: longitudinal sqrt(8k/m), transverse sqrt(4k/m)
    np.testing.assert_allclose(at_x, THZ * np.sqrt(np.array([4, 4, 8]) * K / 63.546), rtol=1e-4)


def test_acoustic_modes_are_zero_at_the_zone_centre(copper):
    assert np.abs(copper.run_qpoints([[0, 0, 0]]).frequencies).max() < 1e-6


def chain(length):
    """An atom in a box that repeats along z only."""
    cell = torch.diag(torch.tensor([8.0, 8.0, length], dtype=torch.float64)).unsqueeze(0)
    return Data(z=torch.tensor([6]), pos=torch.zeros(1, 3), cell=cell, pbc=torch.tensor([[False, False, True]]))


def test_a_chain():
    """omega = 2 sqrt(k/m) |sin(q a / 2)| along a chain, periodic in one direction only."""
    found = phonons(Springs(20.0, 1.5, cutoff=2.0), chain(1.5), (1, 1, 6), masses=[12.0], distance=1e-3)
    q = np.linspace(0, 0.5, 9)
    frequencies = found.run_qpoints(np.outer(q, [0, 0, 1])).frequencies
    expected = THZ * 2 * math.sqrt(20.0 / 12.0) * np.sin(math.pi * q)
    np.testing.assert_allclose(frequencies[:, 2], expected, rtol=1e-5, atol=1e-5)
    # nothing holds it sideways but the fourth order, k (1e-3/1.5)^2, of which this is the root
    np.testing.assert_allclose(frequencies[:, :2], 0, atol=0.03)


def test_same_as_one_cell_at_a_time(make_model):
    """Forces of every displaced cell are those of the potential, in chunks of any size."""
    data = atoms_to_data(bulk("NaCl", "rocksalt", a=5.6), torch.float64)
    model = make_model(cutoff=4.0)
    with pytest.warns(UserWarning, match="imaginary frequencies down to"):  # of random weights
        found = phonons(model, data, 2)
    potential = Potential(model.eval())
    for cell, forces in zip(found.supercells_with_displacements, found.forces, strict=True):
        z, pos = torch.tensor(cell.numbers).long(), torch.tensor(cell.positions)
        box = torch.tensor(cell.cell).unsqueeze(0)
        one = potential(z, pos, cell=box, pbc=torch.ones(1, 3, dtype=torch.bool))["forces"]
        np.testing.assert_allclose(forces, one.detach().numpy(), atol=1e-12)
    with pytest.warns(UserWarning, match="imaginary"):
        again = phonons(model, data, [[2, 0, 0], [0, 2, 0], [0, 0, 2]], chunk=1)
    np.testing.assert_allclose(again.force_constants, found.force_constants, atol=1e-10)


def test_forces_at_rest_cancel(make_model):
    data = atoms_to_data(bulk("NaCl", "rocksalt", a=5.6), torch.float64)
    data.pos[1] += 0.3
    model = make_model(cutoff=4.0)
    model.reference.set(0.0, 1000.0)  # forces that count
    with pytest.warns(UserWarning, match="crystal is no minimum: the largest force is .*, on atom"):
        found = phonons(model, data, 1, primitive="P")
    # a cell of its own supercell: the force constants are the Hessian, to the third order of displacements
    hessian = Potential(model.eval()).hessian(data)[0].detach().numpy().transpose(0, 2, 1, 3)
    np.testing.assert_allclose(found.force_constants, hessian, atol=3e-3 * np.abs(hessian).max())


def test_zone_centre_is_that_of_the_analytic_hessian():
    """Optical modes of diamond of springs: finite displacements against second derivatives."""
    data = atoms_to_data(bulk("C", "diamond", a=3.567), torch.float64)
    model = Springs(20.0, 3.567 * math.sqrt(3) / 4, cutoff=1.8)
    found = phonons(model, data, 2, primitive="P")
    gamma = found.run_qpoints([[0, 0, 0]]).frequencies[0, 3:]
    modes = normal_modes(model, data)
    np.testing.assert_allclose(gamma * 1e12 / (100 * units._c), modes.vibrations, rtol=1e-4)


def test_units_masses_and_energies_per_atom(make_model):
    data = atoms_to_data(bulk("Cu", a=A), torch.float64)
    model = Springs(K, A / math.sqrt(2), cutoff=3.0)
    model.units = {"energy": "kcal/mol"}
    point = [[0.5, 0.5, 0.0]]
    plain = phonons(model, data, 2, energy_unit="eV").run_qpoints(point).frequencies
    kcal = phonons(model, data, 2).run_qpoints(point).frequencies
    np.testing.assert_allclose(kcal, plain * math.sqrt(units.kcal / units.mol), rtol=1e-6)
    total, per_atom = make_model(cutoff=3.5), make_model(cutoff=3.5, readout="mean")
    per_atom.load_state_dict(total.state_dict())
    whole = phonons(total, data, 2).force_constants
    np.testing.assert_allclose(phonons(per_atom, data, 2).force_constants, whole, atol=1e-12)
    data.mass = torch.tensor([4 * 63.546])
    heavy = phonons(model, data, 2, energy_unit="eV").run_qpoints(point).frequencies
    np.testing.assert_allclose(heavy, plain / 2, rtol=1e-6)


def test_density_and_heat_capacity(copper):
    density = phonon_density(copper, [16, 16, 16])
    assert trapezoid(density.density, density.frequencies) == pytest.approx(3.0, rel=5e-3)
    kelvin = [0.0, 10.0, 300.0, 1e5]
    capacity = phonon_heat_capacity(copper, kelvin, [10, 10, 10])
    mesh = copper.mesh
    each = [heat_capacity(torch.tensor(f[f > 1e-4]) * 4.135667662e-3, kelvin) for f in mesh.frequencies]  # h in eV/THz
    expected = (torch.tensor(mesh.weights / mesh.weights.sum()).unsqueeze(1) * torch.stack(each)).sum(0)
    np.testing.assert_allclose(capacity, expected, rtol=1e-5, atol=1e-12)  # constants of other years
    assert capacity[3] == pytest.approx(3 * units.kB, rel=2e-3)  # less the acoustic modes at one of 1000 points
    with pytest.raises(ValueError, match="must be finite and not negative"):
        phonon_heat_capacity(copper, [-1.0])


def test_paths(copper):
    bands = phonon_bands(copper, "GXW,LG", points=30)
    assert bands.labels == ["G", "X", "W|L", "G"]
    assert len(bands.pieces) == 2
    assert bands.distances[bands.pieces[0][1] - 1] == bands.distances[bands.pieces[1][0]] == bands.ticks[2]
    # from the zone centre to X of fcc: 1/a
    assert bands.ticks[1] == pytest.approx(1 / A)
    with pytest.raises(ValueError, match="names Q; this lattice has the points G, K, L, U, W, X"):
        phonon_bands(copper, "GQ")
    with pytest.raises(ValueError, match="must lead from one special point to another"):
        phonon_bands(copper, "G")


def test_figures(copper, tmp_path):
    bands = phonon_bands(copper, points=40)
    axes = draw_phonon_bands(bands, label="springs")
    assert axes.get_ylim()[0] == 0.0
    assert [text.get_text() for text in axes.get_xticklabels()][:2] == ["Γ", "X"]
    higher = bands._replace(frequencies=2 * bands.frequencies)
    assert draw_phonon_bands(higher, axes, style="--", colour="black") is axes
    assert axes.get_ylim()[1] > 2 * bands.frequencies.max()
    sinking = bands._replace(frequencies=bands.frequencies - 1.0)
    assert draw_phonon_bands(sinking).get_ylim()[0] < -1.0
    assert draw_phonon_density(phonon_density(copper, [8, 8, 8])).get_xlabel() == "states (1/THz)"
    assert save_figure(axes.figure, tmp_path / "bands.png").stat().st_size > 5000


def test_bad_input():
    model = Springs(K, A / math.sqrt(2), cutoff=3.0)
    data = atoms_to_data(bulk("Cu", a=A), torch.float64)
    with pytest.raises(ValueError, match="phonons need a crystal, expected `cell` and periodic axes"):
        phonons(model, atoms_to_data(molecule("H2O")), 2)
    for wrong in ([2, 2], [2.0, 2.0, 2.0], [0, 2, 2], np.zeros((3, 3), dtype=int), "two"):
        with pytest.raises(ValueError, match="`supercell` must be three positive integers or a matrix"):
            phonons(model, data, wrong)
    with pytest.raises(ValueError, match="`distance` must be a small length"):
        phonons(model, data, 2, distance=0.0)
    with pytest.raises(ValueError, match="by `primitive` 'half': primitive_matrix has to be"):
        phonons(model, data, 2, primitive="half")
    with pytest.raises(ValueError, match="`chunk` must be at least 1, got 0"):
        phonons(model, data, 2, chunk=0)
    with pytest.warns(UserWarning, match="crystal is no minimum: .* imaginary frequencies down to .* THz"):
        phonons(Springs(20.0, 1.5, cutoff=2.0), chain(1.2), (1, 1, 4))


def test_without_phonopy(monkeypatch):
    monkeypatch.setitem(sys.modules, "phonopy", None)
    with pytest.raises(ImportError, match=r'phonons need phonopy; install it with pip install "pyg_schnet\[phonons\]"'):
        phonons(Springs(20.0, 1.5, cutoff=2.0), chain(1.5), (1, 1, 4))


def test_progress_of_many_chunks(capsys):
    phonons(Springs(20.0, 1.5, cutoff=2.0), chain(1.5), (1, 1, 4), chunk=1)
    assert "displaced cells" in capsys.readouterr().err
    phonons(Springs(20.0, 1.5, cutoff=2.0), chain(1.5), (1, 1, 4), chunk=1, progress=False)
    assert capsys.readouterr().err == ""
