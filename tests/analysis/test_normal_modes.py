"""Normal modes against closed forms, finite differences and ASE."""

import copy
import math
import sys
import warnings

import numpy as np
import pytest
import torch
from ase import units
from ase.build import bulk, molecule
from ase.vibrations import Vibrations, VibrationsData
from torch_geometric.data import Batch, Data

from pyg_schnet import Potential, SchNet
from pyg_schnet.analysis.vibrations.normal_modes import normal_modes
from pyg_schnet.analysis.vibrations.relaxation import relaxed
from pyg_schnet.models import DTNN, Committee, CommitteePotential
from pyg_schnet.simulation.ase import SchNetCalculator, atoms_to_data

from .springs import Springs

#: cm^-1 of the root of 1 eV/Angstrom^2/u
ROOT = units._hbar * units.m / math.sqrt(units._e * units._amu) / units.invcm


def quiet(*arguments, **options):
    """Modes of random weights, which are at no minimum."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return normal_modes(*arguments, **options)


def structure(z, pos, **rest):
    return Data(z=torch.tensor(z), pos=torch.tensor(pos, dtype=torch.float64), **rest)


@pytest.fixture
def ethanol():
    return atoms_to_data(molecule("CH3CH2OH"), torch.float64)


def triatomic(angle, length=1.0):
    half = angle / 2
    arms = [
        [length * math.sin(half), length * math.cos(half), 0],
        [-length * math.sin(half), length * math.cos(half), 0],
    ]
    return [[0.0, 0, 0], *arms]


def test_a_diatomic_is_its_reduced_mass_on_a_spring():
    modes = normal_modes(Springs(30.0, 1.1), structure([6, 8], [[0.3, 0, 0], [0.3, 0.66, 0.88]]), masses=[12.0, 16.0])
    reduced = 12.0 * 16.0 / 28.0  # of the stretch itself
    expected = ROOT * math.sqrt(30.0 / reduced)
    assert modes.wavenumbers.tolist() == pytest.approx([0.0] * 5 + [expected], rel=1e-12)
    assert (modes.wavenumbers[:5] == 0).all()
    # displacements 16 : -12 with sum m u^2 = 1
    mass = (12 * 16**2 + 16 * 12**2) / (16**2 + 12**2)
    assert float(modes.reduced_masses[5]) == pytest.approx(mass, rel=1e-12)
    assert float(modes.force_constants[5]) == pytest.approx(30.0 / reduced * mass, rel=1e-10)  # mu omega^2
    assert modes.zero_point_energy == pytest.approx(expected * units.invcm / 2, rel=1e-12)


def test_water_of_springs():
    """Textbook: Herzberg, Infrared and Raman Spectra, page 170, valence forces of a bent XY2."""
    k, bend, m, M, angle = 48.0, 4.3, 1.008, 15.999, math.radians(104.5)
    model = Springs(k, 1.0, cutoff=1.2, bend=bend, angle=angle)
    modes = normal_modes(model, structure([8, 1, 1], triatomic(angle)), masses=[M, m, m])
    half = angle / 2
    asymmetric = (1 + 2 * m / M * math.sin(half) ** 2) * k / m
    total = (1 + 2 * m / M * math.cos(half) ** 2) * k / m + 2 * (1 + 2 * m / M * math.sin(half) ** 2) * bend / m
    product = 2 * (1 + 2 * m / M) * k * bend / m**2
    low, high = np.roots([1, -total, product])[::-1]
    expected = ROOT * np.sqrt(sorted([low, high, asymmetric]))
    np.testing.assert_allclose(modes.vibrations.numpy(), expected, rtol=1e-10)
    assert len(modes.vibrations) == 3


def test_carbon_dioxide_of_springs():
    """Symmetric k/m, asymmetric k/m (1 + 2m/M), and the bend twice; Herzberg, page 172."""
    k, bend, m, M = 100.0, 4.8, 15.999, 12.011
    model = Springs(k, 1.16, cutoff=1.5, bend=bend, angle=math.pi)
    modes = normal_modes(model, structure([6, 8, 8], triatomic(math.pi, 1.16)), masses=[M, m, m])
    factor = 1 + 2 * m / M
    expected = ROOT * np.sqrt([2 * bend / m * factor] * 2 + [k / m, k / m * factor])
    np.testing.assert_allclose(modes.vibrations.numpy(), expected, rtol=1e-7)  # the root of 1 + cos at a straight angle
    assert int(modes.rigid.sum()) == 5


@pytest.mark.parametrize(
    ("pos", "rigid"),
    [
        ([[1.0, 2, 3]], 3),
        ([[0.0, 0, 0], [0.7, 0.7, 0.1]], 5),
        ([[0.0, 0, 0], [1.0, 0, 0], [-1.2, 0, 0]], 5),
        ([[0.0, 0, 0], [1.0, 2e-4, 0], [-1.2, 0, 1e-4]], 5),  # straight to what optimizers leave
        ([[0.0, 0, 0], [1.0, 0, 0], [0.0, 1.2, 0]], 6),
        ([[0.0, 0, 0], [1.0, 0, 0], [0.0, 1.2, 0], [0.1, 0.2, 1.4]], 6),
    ],
)
def test_rigid_motions_are_zero_exactly(make_model, pos, rigid):
    modes = quiet(make_model(), structure([6] * len(pos), pos))
    assert int((modes.wavenumbers == 0).sum()) == int(modes.rigid.sum()) == rigid
    assert (modes.wavenumbers.diff() >= 0).all()
    assert (modes.wavenumbers[~modes.rigid].abs() > 1e-3).all()


def test_at_a_minimum_the_hessian_has_the_rigid_motions_by_itself(make_model):
    """Projecting them out then changes nothing: eigenvalues of the plain mass-weighted Hessian are the same."""
    model = make_model()
    modes = normal_modes(model, relaxed(model, atoms_to_data(molecule("H2O"), torch.float64), max_force=1e-9))
    weights = np.repeat(modes.masses.numpy() ** -0.5, 3)
    plain = np.linalg.eigvalsh(modes.hessian.view(9, 9).numpy() * np.outer(weights, weights))
    plain = ROOT * np.sign(plain) * np.sqrt(np.abs(plain))
    vibrating = plain[np.argsort(np.abs(plain))[6:]]
    np.testing.assert_allclose(np.sort(vibrating), modes.vibrations, rtol=1e-6)  # residual forces over curvatures
    assert np.abs(np.sort(np.abs(plain))[:6]).max() < 0.1


def test_displacements_are_orthonormal_as_those_of_ase(make_model, ethanol):
    modes = quiet(make_model(), ethanol)
    weighted = modes.masses.sqrt().view(1, -1, 1) * modes.displacements
    gram = torch.einsum("kia,lia->kl", weighted, weighted)
    torch.testing.assert_close(gram, torch.eye(27, dtype=torch.float64), rtol=0, atol=1e-12)
    curvature = modes.force_constants / modes.reduced_masses
    expected = modes.wavenumbers.sign() * (modes.wavenumbers / ROOT) ** 2
    torch.testing.assert_close(curvature, expected, rtol=1e-9, atol=1e-9)


def test_ase_finds_the_same_from_finite_differences(make_model, tmp_path):
    model = make_model()
    water = relaxed(model, atoms_to_data(molecule("H2O"), torch.float64))
    modes = normal_modes(model, water)
    atoms = modes.atoms()
    atoms.calc = SchNetCalculator(model)
    vibrations = Vibrations(atoms, name=str(tmp_path / "vib"), delta=1e-3, nfree=4)
    vibrations.run()
    theirs = vibrations.get_vibrations()
    found = theirs.get_frequencies().real[6:]
    # four points 1e-3 Angstrom apart: errors of h^4 and of round-off over h, 1e-9 of the curvatures
    np.testing.assert_allclose(modes.vibrations.numpy(), found, rtol=1e-6)
    for mine, other in zip(modes.displacements[6:].numpy(), theirs.get_modes()[6:], strict=True):
        sign = np.sign((mine * other).sum())
        np.testing.assert_allclose(mine, sign * other, atol=1e-5)
    assert modes.zero_point_energy == pytest.approx(theirs.get_zero_point_energy(), rel=1e-3)  # theirs has rotations
    hessian = VibrationsData(atoms, modes.hessian.numpy())
    np.testing.assert_allclose(hessian.get_frequencies().real[6:], modes.vibrations, rtol=1e-6)


def test_finite_differences_of_forces(make_model):
    model, h = make_model(), 1e-4
    data = atoms_to_data(molecule("NH3"), torch.float64)
    hessian, potential = quiet(model, data).hessian, Potential(model.eval())
    for atom, axis in [(0, 0), (1, 2), (3, 1)]:
        forces = []
        for step in (h, -h):
            moved = data.clone()
            moved.pos[atom, axis] += step
            forces.append(potential(moved)["forces"])
        difference = -(forces[0] - forces[1]).detach() / (2 * h)
        torch.testing.assert_close(hessian[atom, axis], difference, rtol=1e-6, atol=1e-7)  # h^2 and round-off over h


def test_degenerate_modes_of_a_tetrahedron():
    """Methane of equal springs between all atoms: one, two and two times three modes."""
    side = math.sqrt(8 / 3)
    pos = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * side / math.sqrt(8)
    modes = normal_modes(Springs(20.0, side), structure([6] * 4, pos.tolist()), masses=[12.0] * 4)
    levels = modes.levels(1e-6)
    # Herzberg, page 166, tetrahedral X4: k/m, 2k/m, 4k/m
    assert [degeneracy for _, degeneracy in levels] == [2, 3, 1]
    assert [value for value, _ in levels] == pytest.approx([ROOT * math.sqrt(n * 20 / 12) for n in (1, 2, 4)], rel=1e-9)


def test_isotopes(ethanol):
    data = structure([1, 1], [[0.0, 0, 0], [0.0, 0, 0.74]])
    model = Springs(36.0, 0.74)
    light, heavy = (normal_modes(model, data, masses=[mass, mass]) for mass in (1.008, 2.014))
    assert float(light.wavenumbers[-1] / heavy.wavenumbers[-1]) == pytest.approx(math.sqrt(2.014 / 1.008), rel=1e-12)
    data.mass = torch.tensor([2.014, 2.014])
    assert torch.allclose(normal_modes(model, data).wavenumbers, heavy.wavenumbers, rtol=1e-6)  # float32 masses
    np.testing.assert_array_equal(quiet(Springs(1.0, 1.0), ethanol).masses, molecule("CH3CH2OH").get_masses())


def test_crystals_have_three_rigid_motions(make_model):
    model = make_model(cutoff=4.0)
    data = atoms_to_data(bulk("NaCl", "rocksalt", a=5.0), torch.float64)
    modes = quiet(model, data)
    assert int(modes.rigid.sum()) == 3
    optical = modes.vibrations.numpy()
    np.testing.assert_allclose(optical, np.full(3, optical[0]), rtol=1e-8)  # cubic: threefold
    reduced = 22.98976928 * 35.45 / (22.98976928 + 35.45)
    curvature = float(modes.hessian[0, 0, 0, 0]) / reduced
    assert optical[0] == pytest.approx(math.copysign(ROOT * math.sqrt(abs(curvature)), curvature), rel=1e-9)


def test_a_polymer_turns_about_its_axis():
    """A zigzag chain along z: three translations and one rotation; a straight one has no rotation."""
    cell = torch.diag(torch.tensor([9.0, 9.0, 2.0], dtype=torch.float64)).unsqueeze(0)
    pbc = torch.tensor([[False, False, True]])
    model = Springs(20.0, math.hypot(1.0, 1.0), cutoff=1.9)
    zigzag = structure([6, 6], [[0.0, 0, 0], [1.0, 0, 1.0]], cell=cell, pbc=pbc)
    straight = structure([6, 6], [[0.0, 0, 0], [0.0, 0, 1.0]], cell=cell, pbc=pbc)
    assert int(normal_modes(model, zigzag).rigid.sum()) == 4
    assert int(normal_modes(Springs(20.0, 1.0, cutoff=1.9), straight).rigid.sum()) == 3
    plain = torch.linalg.eigvalsh(normal_modes(model, zigzag).hessian.view(6, 6))
    assert int((plain.abs() < 1e-10).sum()) == 4  # the springs agree


def test_units_of_the_model(make_model, ethanol):
    model = make_model()
    plain = quiet(model, ethanol)
    model.units = {"energy": "kcal/mol"}
    kcal = quiet(model, ethanol)
    factor = units.kcal / units.mol
    torch.testing.assert_close(kcal.wavenumbers, math.sqrt(factor) * plain.wavenumbers, rtol=1e-8, atol=1e-6)
    assert kcal.energy == pytest.approx(factor * plain.energy)
    again = quiet(model, ethanol, energy_unit="eV")
    torch.testing.assert_close(again.wavenumbers, plain.wavenumbers)


def test_whatever_the_model_is_it_stays_and_is_evaluated_exactly(make_model, ethanol):
    model = make_model().float()
    state = copy.deepcopy(model.state_dict())
    exact = quiet(copy.deepcopy(model).double(), ethanol).wavenumbers
    data = ethanol.clone()
    data.pos = data.pos.float()
    for given in (model, Potential(model), copy.deepcopy(model).freeze(), copy.deepcopy(model).train()):
        torch.testing.assert_close(quiet(given, ethanol).wavenumbers, exact, rtol=1e-9, atol=1e-6)
    rounded = quiet(model, data)
    assert rounded.wavenumbers.dtype == torch.float64
    torch.testing.assert_close(rounded.wavenumbers, exact, rtol=1e-3, atol=0.5)  # of rounded positions
    assert data.pos.dtype == torch.float32
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_other_models_and_energies_per_atom(make_model, ethanol):
    assert len(quiet(DTNN(12, 10, 2), ethanol)) == 27
    crystal = atoms_to_data(bulk("NaCl", "rocksalt", a=5.0), torch.float64)
    model = make_model(readout="mean")
    total = make_model(readout="add")
    total.load_state_dict(model.state_dict())
    torch.testing.assert_close(quiet(model, crystal).wavenumbers, quiet(total, crystal).wavenumbers)


def test_a_committee_has_the_modes_of_its_mean(make_model, ethanol):
    members = [make_model(), make_model(num_interactions=1)]
    modes = quiet(Committee(members), ethanol)
    mean = sum(quiet(member, ethanol).hessian for member in members) / 2
    torch.testing.assert_close(modes.hessian, mean)
    again = quiet(CommitteePotential(Committee(members)), ethanol)
    torch.testing.assert_close(again.wavenumbers, modes.wavenumbers)


def test_no_minimum_is_said_once(make_model):
    stretched = structure([6, 6, 6], [[0.0, 0, 0], [0.0, 0, 1.0], [0.0, 0, 2.0]])
    with pytest.warns(
        UserWarning, match=r"largest force is 10 eV/Angstrom, on atom 0 \(C\); 2 of its modes are"
    ) as said:
        modes = normal_modes(Springs(20.0, 1.5, cutoff=1.8), stretched)
    assert len(said) == 1
    assert (modes.wavenumbers[:2] < 0).all()
    assert said[0].filename == __file__
    assert modes.largest_force == pytest.approx(10.0)
    sloping = structure([6, 6], [[0.0, 0, 0], [0.0, 0, 1.1]])
    with pytest.warns(UserWarning, match=r"largest force is 2 eV/Angstrom.*; relax it"):
        normal_modes(Springs(20.0, 1.0), sloping)


def test_bad_input(make_model, ethanol):
    model = make_model()
    with pytest.raises(TypeError, match="expected a Potential, a model of energies .* got str"):
        normal_modes("model", ethanol)
    with pytest.raises(TypeError, match="must be a Data of PyG with `z` and `pos`, got Atoms; .*atoms_to_data"):
        normal_modes(model, molecule("H2O"))
    with pytest.raises(ValueError, match="holds 2 structures, expected one"):
        normal_modes(model, Batch.from_data_list([ethanol, ethanol]))
    with pytest.raises(ValueError, match="expected one structure with atoms"):
        normal_modes(model, Data(z=torch.empty(0, dtype=torch.long), pos=torch.empty(0, 3)))
    with pytest.raises(ValueError, match="`pos` must be finite"):
        normal_modes(model, structure([6], [[math.nan, 0, 0]]))
    with pytest.raises(ValueError, match=r"`z` must have shape \[2\] like `pos`, got \[1\]"):
        normal_modes(model, structure([6], [[0.0, 0, 0], [1.0, 0, 0]]))
    with pytest.raises(ValueError, match="`pos` is missing"):
        normal_modes(model, Data(z=torch.tensor([6])))
    with pytest.raises(ValueError, match=r"`masses` must have shape \[9\], one for each atom, got \[2\]"):
        normal_modes(model, ethanol, masses=[1.0, 2.0])
    with pytest.raises(ValueError, match="`masses` must be positive, in atomic mass units, got 0.0 for atom 0"):
        normal_modes(model, ethanol, masses=[0.0] * 9)
    with pytest.raises(TypeError, match=r"`masses` must be a number for each atom \[9\], got 'heavy'"):
        normal_modes(model, ethanol, masses="heavy")
    with pytest.raises(TypeError, match="`z` must hold atomic numbers as int64"):
        normal_modes(model, structure([6.0], [[0.0, 0, 0]]))
    with pytest.raises(ValueError, match="`cell` is given but `pbc` is missing"):
        normal_modes(model, structure([6], [[0.0, 0, 0]], cell=5 * torch.eye(3).unsqueeze(0)))
    with pytest.raises(ValueError, match=r"`cell` of a structure must have shape \[1, 3, 3\], got \[3\]"):
        normal_modes(model, structure([6], [[0.0, 0, 0]], cell=torch.ones(3)))
    with pytest.raises(ValueError, match="energy of the model must be in one of .* got 'miles'"):
        normal_modes(model, ethanol, energy_unit="miles")
    with pytest.raises(ValueError, match="must predict an energy, got one with readout='dipole'"):
        normal_modes(SchNet(8, 8, 1, readout="dipole"), ethanol)


def test_without_ase_masses_must_be_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "ase.data", None)
    pair = structure([6, 6], [[0.0, 0, 0], [0.0, 0, 1.5]])
    with pytest.raises(ImportError, match=r'pip install "pyg_schnet\[md\]" or pass `masses`'):
        normal_modes(Springs(5.0, 1.5), pair)
    assert len(normal_modes(Springs(5.0, 1.5), pair, masses=[12.0, 12.0])) == 6


def test_in_inference_mode_they_are_the_same(ethanol):
    torch.manual_seed(0)
    model = SchNet(8, 8, 1)
    expected = quiet(model, ethanol).wavenumbers
    with torch.inference_mode():
        inside = Data(z=ethanol.z.clone(), pos=ethanol.pos.clone())
        torch.testing.assert_close(quiet(model, inside).wavenumbers, expected)
        hessian = SchNetCalculator(model).get_hessian(molecule("CH3CH2OH"))
    assert np.abs(hessian).max() > 0
    torch.testing.assert_close(quiet(model, inside).wavenumbers, expected)


def test_units_of_energies_by_any_name(ethanol):
    torch.manual_seed(0)
    model = SchNet(8, 8, 1)
    expected = quiet(model, ethanol, energy_unit="kcal/mol").wavenumbers
    model.units = {"pos": "Ang", "U0": "kcal/mol"}
    torch.testing.assert_close(quiet(model, ethanol).wavenumbers, expected)
    model.units = {"alpha": "a0^3"}
    with pytest.raises(ValueError, match="got 'a0\\^3'; pass `energy_unit`"):
        normal_modes(model, ethanol)


def test_energies_per_atom_in_their_unit(ethanol):
    """An energy per atom is as many times smaller as there are atoms, and may say so."""
    torch.manual_seed(0)
    total, mean = SchNet(8, 8, 1), SchNet(8, 8, 1, readout="mean")
    mean.load_state_dict(total.state_dict())
    mean.units = {"energy": "eV/atom"}
    torch.testing.assert_close(quiet(mean, ethanol).wavenumbers, quiet(total, ethanol).wavenumbers)
