"""The ASE calculator."""

import copy

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.filters import FrechetCellFilter
from ase.io import read, write
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from ase.vibrations import VibrationsData

from pyg_schnet import Potential, SchNet, load, save
from pyg_schnet.analysis import energy_drift
from pyg_schnet.models import DTNN, AtomisticModel, Committee, CommitteePotential, EnnS2S
from pyg_schnet.simulation.ase import SchNetCalculator, atoms_to_data


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SchNet.preset("jcp2018", num_interactions=2, hidden_channels=16, num_filters=16)


def test_same_as_the_potential(model):
    atoms = molecule("CH3CH2OH")
    for frozen in (False, True):
        atoms.calc = SchNetCalculator(model, frozen=frozen)
        own = copy.deepcopy(model).freeze() if frozen else model.eval()
        out = Potential(own)(torch.tensor(atoms.numbers), torch.tensor(atoms.positions).float())
        assert atoms.get_potential_energy() == float(out["energy"])
        assert atoms.get_potential_energy(force_consistent=True) == float(out["energy"])
        np.testing.assert_array_equal(atoms.get_forces(), out["forces"].numpy())


def test_forces_against_ase_differences(model):
    atoms = molecule("H2O")
    atoms.calc = SchNetCalculator(model, dtype=torch.float64)
    # central differences with 1e-3 Angstrom: error of third derivatives (1e-6) far below the forces (1e-2)
    np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-3), atol=1e-5)
    assert np.abs(atoms.get_forces()).max() > 1e-3


@pytest.mark.parametrize(
    "wrap", [lambda model, path: model, lambda model, path: Potential(model), lambda model, path: path]
)
def test_model_potential_or_path(model, wrap, tmp_path):
    save(model, tmp_path / "model.safetensors")
    atoms = molecule("H2O")
    atoms.calc = SchNetCalculator(wrap(model, tmp_path / "model.safetensors"))
    reference = SchNetCalculator(model)
    assert atoms.get_potential_energy() == reference.get_potential_energy(atoms)


def test_units_of_the_model(model, tmp_path):
    """Told by the caller, by the model or by its file; eV if nobody says anything."""
    atoms = molecule("H2O")
    plain = SchNetCalculator(model).get_potential_energy(atoms)
    forces = SchNetCalculator(model).get_forces(atoms)
    kcal = units.kcal / units.mol
    save(model, tmp_path / "kcal.safetensors", units={"energy": "kcal/mol"})
    known = load(tmp_path / "kcal.safetensors")
    assert known.units == {"energy": "kcal/mol"}
    save(known, tmp_path / "again.safetensors")  # the units stay with the model
    named = load(tmp_path / "kcal.safetensors")
    named.units = {"U0": "kcal/mol", "pos": "Ang"}  # as a task for properties calls it
    calculators = [
        SchNetCalculator(model, energy_unit="kcal/mol"),
        SchNetCalculator(known),
        SchNetCalculator(named),
        SchNetCalculator(tmp_path / "kcal.safetensors"),
        SchNetCalculator(tmp_path / "again.safetensors"),
    ]
    for calculator in calculators:
        assert calculator.get_potential_energy(atoms) == pytest.approx(kcal * plain, rel=1e-12)
        np.testing.assert_allclose(calculator.get_forces(atoms), kcal * forces, rtol=1e-6)  # float32
        np.testing.assert_allclose(calculator.get_property("energies", atoms).sum(), kcal * plain, rtol=1e-6)
    assert SchNetCalculator(known, energy_unit="eV").get_potential_energy(atoms) == plain


def test_networks_of_the_paper_know_their_unit(real_data):
    network = SchNet.from_tensorflow(real_data / "c20" / "force_model.npz")
    assert network.units["energy"] == "kcal/mol"
    reference = np.load(real_data / "c20" / "reference.npz")
    atoms = Atoms(reference["numbers"], reference["positions"][0])
    energy = SchNetCalculator(network).get_potential_energy(atoms)
    assert energy == pytest.approx(reference["force_model_energy"][0] * units.kcal / units.mol, rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"devcie": "cpu"},
            TypeError,
            "SchNetCalculator has no argument 'devcie'; expected device, dtype or energy_unit",
        ),
        ({"energy_unit": "Bohr"}, ValueError, "`energy_unit` must be one of eV, .*, got 'Bohr'"),
        ({"dtype": torch.bfloat16}, ValueError, "`dtype` must be torch.float32 or torch.float64, got torch.bfloat16"),
    ],
)
def test_impossible_arguments_are_refused(model, arguments, error, message):
    with pytest.raises(error, match=message):
        SchNetCalculator(model, **arguments)


def test_a_repulsion_is_in_electronvolts(make_model):
    model = make_model(repulsion="zbl")
    for one in (model, Committee([make_model(), model])):
        with pytest.raises(ValueError, match="must be in eV, as its repulsion is, got the unit 'kcal/mol'"):
            SchNetCalculator(one, energy_unit="kcal/mol")
    calculator, near, far = SchNetCalculator(model), molecule("H2O"), molecule("H2O")
    near.set_distance(0, 1, 0.3, fix=0)
    assert calculator.get_potential_energy(near) - calculator.get_potential_energy(far) > 10.0
    assert calculator.get_potential_energies(near).sum() == pytest.approx(calculator.get_potential_energy(near))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_arguments_of_ases_calculators_are_passed_on(model):
    water = molecule("H2O")
    calculator = SchNetCalculator(model, atoms=water, label="folder/water")
    assert water.calc is calculator
    assert (calculator.directory, calculator.prefix) == ("folder", "water")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_evaluated_in_single(model, dtype):
    """Its weights are those of float32 with fewer digits; sums of energies and positions need all of them."""
    half = copy.deepcopy(model).to(dtype)
    atoms = molecule("CH3CH2OH")
    atoms.calc = SchNetCalculator(half)
    exact = copy.deepcopy(half).double().eval()
    truth = Potential(exact)(atoms_to_data(atoms, torch.float64))
    assert atoms.get_potential_energy() == pytest.approx(truth["energy"].item(), rel=1e-5, abs=1e-4)
    np.testing.assert_allclose(atoms.get_forces(), truth["forces"].detach().numpy(), rtol=0, atol=1e-4)


def test_missing_device_is_one_sentence(model, tmp_path):
    save(model, tmp_path / "model.safetensors")
    for make in (lambda: SchNetCalculator(model, device="cuda"), lambda: load(tmp_path / "model.safetensors", "cuda")):
        with pytest.raises(ValueError, match="`device` cuda is not there"):
            make()


def test_model_is_copied(model):
    before = model.output.lin2.bias.clone()
    calculator = SchNetCalculator(model, dtype=torch.float64)
    assert model.embedding.weight.dtype == torch.float32
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    energy = calculator.get_potential_energy(molecule("H2O"))
    with torch.no_grad():
        model.output.lin2.bias += 1.0
    assert calculator.get_potential_energy(molecule("H2O").copy()) == energy
    assert torch.equal(before + 1.0, model.output.lin2.bias)


def test_moved_atoms_are_evaluated_again(model):
    atoms = molecule("H2O")
    atoms.calc = SchNetCalculator(model)
    first = atoms.get_potential_energy()
    atoms.positions[0] += 0.1
    assert atoms.get_potential_energy() != first


def test_total_energy_keeps_its_digits(model):
    """A float32 model with a large reference: nothing is lost, although a float32 step of the total is 5e-4 eV."""
    atoms = molecule("H2O")
    bare = SchNetCalculator(model).get_potential_energy(atoms)
    model.reference.set(-2000.0, 1.0)
    total = SchNetCalculator(model).get_potential_energy(atoms)
    assert total + 6000.0 == pytest.approx(bare, abs=1e-9)


def test_energy_is_conserved(model):
    """NVE of a random, so smooth and soft, potential: the drift is that of the integrator, not of the forces."""
    atoms = molecule("CH3CH2OH")
    model.reference.set(0.0, 0.02)
    atoms.calc = SchNetCalculator(model, dtype=torch.float64)
    thermalize_momenta(atoms, temperature_K=50, rng=np.random.default_rng(0))
    dynamics, energies = VelocityVerlet(atoms, 0.25 * units.fs), []
    for _ in range(200):
        dynamics.run(1)
        energies.append(atoms.get_total_energy())
    drift = energy_drift(np.arange(200) * 0.00025, energies, len(atoms))
    assert abs(drift) < 1e-3
    assert np.ptp(energies) < 0.1 * np.ptp([0, atoms.get_kinetic_energy()])


def test_recorded_dynamics(model):
    """Molecule, crystal, crystal with another cell, molecule: the same results, searched anew only where it is due."""
    recorded, ordinary = (SchNetCalculator(model, dtype=torch.float64, recorded=yes) for yes in (True, False))
    crystal, other = bulk("Fe") * (2, 1, 1), bulk("Fe") * (2, 1, 1)
    other.set_cell(1.02 * other.cell.array, scale_atoms=True)
    slab = fcc111("Cu", (1, 1, 2), vacuum=5.0)
    for atoms in (molecule("CH3CH2OH"), crystal, other, slab, molecule("CH3CH2OH"), molecule("H2O")):
        for step in range(5):
            atoms.rattle(0.01, seed=step)
            for name in ("energy", "forces", "stress") if atoms.cell.rank == 3 else ("energy", "forces"):
                expected = ordinary.get_property(name, atoms)
                np.testing.assert_allclose(recorded.get_property(name, atoms), expected, rtol=1e-10, atol=1e-12)
    assert recorded.rebuilds == 1


def test_recorded_steps_follow_periodic_axes():
    """Of one cell: the axes alone say that it is another structure."""
    torch.manual_seed(0)
    model = SchNet(8, 8, 2, 20, cutoff=4.0).double()
    recorded, ordinary = SchNetCalculator(model, recorded=True), SchNetCalculator(model)
    atoms, seen = bulk("Cu") * (2, 2, 2), set()
    for pbc in (True, (True, True, False), (True, False, False), False, (False, False, True), True):
        atoms.pbc = pbc
        energy = ordinary.get_potential_energy(atoms)
        assert recorded.get_potential_energy(atoms) == pytest.approx(energy, rel=1e-12)
        np.testing.assert_allclose(recorded.get_forces(atoms), ordinary.get_forces(atoms), rtol=1e-9, atol=1e-12)
        seen.add(round(energy, 9))
    assert len(seen) == 4


def test_recorded_dynamics_conserve_energy(model):
    atoms = molecule("CH3CH2OH")
    atoms.calc = SchNetCalculator(model.freeze(), dtype=torch.float64, recorded=True)
    thermalize_momenta(atoms, temperature_K=50, rng=np.random.default_rng(0))
    dynamics, energies = VelocityVerlet(atoms, 0.25 * units.fs), []
    for _ in range(100):
        dynamics.run(1)
        energies.append(atoms.get_total_energy())
    assert np.ptp(energies) < 1e-3
    assert atoms.calc.rebuilds < 20


def test_the_former_spelling_of_recorded():
    model = SchNet(4, 4, 1, 5, cutoff=2.0)
    assert SchNetCalculator(model, captured=True).recorded
    assert not SchNetCalculator(model, captured=False).recorded


def test_what_cannot_be_recorded():
    with pytest.raises(ValueError, match="EnnS2S cannot be recorded"):
        SchNetCalculator(EnnS2S(), recorded=True)


def test_single_atom(model):
    atoms = Atoms("He")
    atoms.calc = SchNetCalculator(model)
    assert np.isfinite(atoms.get_potential_energy())
    np.testing.assert_array_equal(atoms.get_forces(), np.zeros((1, 3)))


def test_cell_without_periodic_axes(model):
    atoms = molecule("H2O")
    calculator = SchNetCalculator(model)
    energy = calculator.get_potential_energy(atoms)
    atoms.set_cell([9, 9, 9])
    assert calculator.get_potential_energy(atoms) == energy


def test_crystal():
    torch.manual_seed(0)
    model = SchNet.preset("jcp2018-materials", num_interactions=2, hidden_channels=16, num_filters=16, readout="add")
    calculator = SchNetCalculator(model, dtype=torch.float64)
    primitive, cubic = bulk("NaCl", "rocksalt", a=5.6), bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    energy = calculator.get_potential_energy(primitive)
    assert 4 * energy == pytest.approx(calculator.get_potential_energy(cubic), rel=1e-11)
    # by symmetry no atom of rock salt feels a force
    np.testing.assert_allclose(calculator.get_forces(cubic), np.zeros((8, 3)), atol=1e-13)


def crystal_of(name):
    if name == "slab":
        atoms = fcc111("Cu", (2, 1, 2), vacuum=4.0)
    elif name == "molecule in a box":
        atoms = molecule("H2O", cell=[6, 7, 8])
    else:
        atoms = bulk("NaCl", "rocksalt", a=5.2)
        atoms.set_cell(atoms.cell.array @ [[1.0, 0.1, 0.0], [0.0, 0.95, 0.07], [0.02, 0.0, 1.1]], scale_atoms=True)
    atoms.rattle(0.1, seed=0)
    return atoms


@pytest.mark.parametrize("name", ["crystal", "slab", "molecule in a box"])
def test_stress_against_ase_differences(name, make_model):
    atoms = crystal_of(name)
    atoms.calc = SchNetCalculator(make_model(std=100.0))
    stress = atoms.get_stress()
    assert stress.shape == (6,)
    numerical = calculate_numerical_stress(atoms, eps=1e-4)
    # truncation h^2 s'' / 6 ~ 1e-9 of second derivatives of up to 1e3 times the stress
    np.testing.assert_allclose(stress, numerical, rtol=0, atol=2e-6 * np.abs(stress).max())
    assert len(np.unique(np.abs(stress).round(6))) == 6  # an order of the elements that is wrong would be seen
    np.testing.assert_allclose(atoms.get_stresses().sum(0), stress, rtol=0, atol=1e-14)  # shares of the atoms
    assert atoms.get_stress(voigt=False).shape == (3, 3)


@pytest.mark.parametrize(
    "atoms",
    [
        molecule("H2O"),
        Atoms("CO", positions=[[0, 0, 0], [1.2, 0, 0]], cell=[3, 3, 0], pbc=[True, True, False]),
        Atoms("CO", positions=[[0, 0, 0], [1.2, 0, 0]], cell=[[3, 0, 0], [0, 3, 0], [3, 3, 0]]),
    ],
    ids=["molecule", "slab", "flat cell"],
)
def test_no_stress_without_a_volume(model, atoms):
    atoms = atoms.copy()
    atoms.calc = SchNetCalculator(model)
    assert np.isfinite(atoms.get_forces()).all()
    for ask in (atoms.get_stress, atoms.get_stresses):
        with pytest.raises(PropertyNotImplementedError):
            ask()
    assert np.isfinite(atoms.get_potential_energy())


def test_energies_of_the_atoms(model):
    atoms = crystal_of("crystal")
    model.reference.set(-2000.0, 1.0)
    atoms.calc = SchNetCalculator(model, dtype=torch.float64)
    energies = atoms.get_potential_energies()
    assert energies.shape == (2,)
    assert energies.sum() == pytest.approx(atoms.get_potential_energy(), rel=1e-14)
    atoms.calc = SchNetCalculator(SchNet(8, 8, 1, readout="max"))
    assert np.isfinite(atoms.get_potential_energy())
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_potential_energies()


def test_one_evaluation_for_forces_and_stress(model, monkeypatch):
    """As dynamics at constant pressure and relaxations of the cell ask for both."""
    calls, evaluate = [], Potential.forward
    monkeypatch.setattr(Potential, "forward", lambda *args, **options: calls.append(1) or evaluate(*args, **options))
    atoms = crystal_of("crystal")
    atoms.calc = SchNetCalculator(model, frozen=False)
    atoms.get_forces(), atoms.get_stress(), atoms.get_potential_energy()
    assert len(calls) == 1


class Springs(AtomisticModel):
    """A spring of the length of a nearest neighbour between all atoms closer than 3.5 Angstrom."""

    def __init__(self, length=2.6):
        super().__init__(2, 3.5, {"readout": "add"})
        self.length = length

    def predict(self, z, pos, batch, batch_size, edges):
        energy = (edges.edge_weight - self.length).square()
        return pos.new_zeros(batch_size).index_add(0, batch[edges.pair_index[0]], energy).unsqueeze(-1)


def test_relaxation_of_the_cell_finds_the_known_lattice_constant():
    """Face-centred cubic with nearest neighbours at the length of the springs, from a sheared and expanded cell."""
    atoms = bulk("Cu", "fcc", a=2.75 * np.sqrt(2), cubic=True)
    atoms.set_cell(atoms.cell.array @ [[1.0, 0.03, 0.0], [0.0, 0.98, 0.02], [0.0, 0.0, 1.02]], scale_atoms=True)
    atoms.rattle(0.03, seed=0)
    atoms.calc = SchNetCalculator(Springs().double())
    assert BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-5, steps=100)
    # springs of 2 eV/Angstrom^2: forces of 1e-5 are 1e-5 Angstrom; a shear of the cell is no rotation of it
    assert atoms.get_volume() == pytest.approx((2.6 * np.sqrt(2)) ** 3, rel=1e-4)
    np.testing.assert_allclose(atoms.cell.angles(), 90.0, atol=1e-2)
    assert atoms.get_potential_energy() == pytest.approx(0.0, abs=1e-9)


def test_bad_models(tmp_path):
    with pytest.raises(ValueError, match="predicts an energy per atom; dynamics need readout='add'"):
        SchNetCalculator(SchNet.preset("jcp2018-materials"))
    with pytest.raises(ValueError, match="`model` must predict an energy, got one with readout='dipole'"):
        SchNetCalculator(SchNet(8, 8, 1, readout="dipole"))
    with pytest.raises(TypeError, match="must be a SchNet, a Potential, a Committee or a path, got int"):
        SchNetCalculator(3)
    with pytest.raises(FileNotFoundError, match="no model file"):
        SchNetCalculator(tmp_path / "missing.safetensors")
    with pytest.raises(FileNotFoundError, match="no model|no member"):
        SchNetCalculator(tmp_path)
    with pytest.raises(ValueError, match="predicts an energy per atom; dynamics need readout='add'"):
        SchNetCalculator(Committee([SchNet(8, 8, 1, readout="mean"), SchNet(8, 8, 1, readout="mean")]))


# --- committees ---


@pytest.fixture
def committee(make_model, scramble):
    """Two SchNets and a DTNN with a larger cutoff, in kcal/mol."""
    models = [make_model(std=20.0), make_model(std=20.0), scramble(DTNN(8, 6, 2, 30, 6.0, std=20.0)).double()]
    for model in models:
        model.units = {"energy": "kcal/mol"}
    return Committee(models)


def test_recorded_dynamics_of_a_committee(committee):
    """Members of several cutoffs; means and spreads of the ordinary steps."""
    recorded, ordinary = (SchNetCalculator(committee, dtype=torch.float64, recorded=yes) for yes in (True, False))
    names = ["energy", "forces", "stress"]
    for atoms, few in ((molecule("CH3CH2OH"), names[:2]), (bulk("Fe") * (2, 1, 1), names)):
        for step in range(4):
            atoms.rattle(0.01, seed=step)
            for name in [*few, *(f"{name}_std" for name in few)]:
                expected = ordinary.get_property(name, atoms)
                np.testing.assert_allclose(recorded.get_property(name, atoms), expected, rtol=1e-9, atol=1e-11)
        assert recorded.rebuilds == 1


@pytest.mark.parametrize("name", ["crystal", "molecule"])
@pytest.mark.parametrize(
    "wrap",
    [lambda committee, path: committee, lambda committee, path: CommitteePotential(committee), lambda _, path: path],
    ids=["committee", "potential", "folder"],
)
def test_committee(name, wrap, committee, tmp_path):
    """Means and standard deviations of what the members give one by one."""
    committee.save(tmp_path / "committee")
    atoms = molecule("H2O") if name == "molecule" else crystal_of("crystal")
    atoms.calc = calculator = SchNetCalculator(wrap(committee, tmp_path / "committee"))
    singles = [SchNetCalculator(member) for member in committee]
    asked = ["energy", "forces", "energies"] + (["stress", "stresses"] if name == "crystal" else [])
    for wanted in asked:
        values = np.stack([single.get_property(wanted, atoms) for single in singles])
        np.testing.assert_allclose(atoms.calc.get_property(wanted, atoms), values.mean(0), rtol=1e-11, atol=1e-12)
        if wanted != "stresses":
            spread = calculator.results[f"{wanted}_std"]
            np.testing.assert_allclose(spread, values.std(0, ddof=1), rtol=1e-11, atol=1e-12)
            np.testing.assert_array_equal(calculator.get_property(f"{wanted}_std", atoms), spread)
            assert np.max(spread) > 0
    assert atoms.get_forces().shape == calculator.results["forces_std"].shape


def test_spread_is_evaluated_when_asked_for(committee):
    atoms = molecule("H2O")
    calculator = SchNetCalculator(committee)
    for name in ("energies_std", "forces_std"):
        first = calculator.get_property(name, atoms)
        atoms.positions[0] += 0.1
        assert np.abs(calculator.get_property(name, atoms) - first).max() > 1e-6
    with pytest.raises(PropertyNotImplementedError):
        calculator.get_property("stress_std", atoms)
    with pytest.raises(PropertyNotImplementedError):
        SchNetCalculator(committee[0]).get_property("forces_std", atoms)


def test_committee_is_copied(committee):
    before = copy.deepcopy(committee.state_dict())
    calculator = SchNetCalculator(committee, dtype=torch.float32)
    calculator.get_property("energy", molecule("H2O"))
    assert calculator.results["forces"].dtype == np.float32
    assert committee.training
    for name, value in committee.state_dict().items():
        assert value.dtype == torch.float64
        assert torch.equal(value, before[name])


def test_structures_with_a_spread_are_written(committee, tmp_path):
    """ASE knows no spreads: its files and its list of properties leave them out."""
    atoms = crystal_of("crystal")
    atoms.calc = SchNetCalculator(committee)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    assert atoms.get_properties(["energy", "forces"])["energy"] == energy
    for name in ("frame.traj", "frame.extxyz"):
        write(tmp_path / name, atoms)
        np.testing.assert_allclose(read(tmp_path / name).get_forces(), forces, atol=1e-7)  # digits of the text


def test_dynamics_of_a_committee_conserve_energy(committee):
    atoms = molecule("H2O")
    for member in committee:
        member.reference.set(0.0, 0.5)
    atoms.calc = SchNetCalculator(committee)
    thermalize_momenta(atoms, temperature_K=50, rng=np.random.default_rng(0))
    dynamics, energies = VelocityVerlet(atoms, 0.2 * units.fs), []
    for _ in range(40):
        dynamics.run(1)
        energies.append((atoms.get_total_energy(), atoms.get_kinetic_energy()))
    total, kinetic = np.array(energies).T
    assert np.ptp(total) < 0.05 * np.ptp(kinetic)


def test_hessian_as_ase_takes_it(model):
    atoms = molecule("CH3CH2OH")
    for frozen in (None, True, False):
        calculator = SchNetCalculator(model, frozen=frozen)
        hessian = calculator.get_hessian(atoms)
        assert hessian.dtype == np.float64
        exact = copy.deepcopy(model).double().eval()
        expected = Potential(exact).hessian(torch.tensor(atoms.numbers), torch.tensor(atoms.positions))[0]
        np.testing.assert_allclose(hessian, expected.numpy(), rtol=1e-10, atol=1e-12)  # other orders of sums
    calculator.calculate(atoms)
    np.testing.assert_array_equal(calculator.get_hessian(), hessian)
    assert VibrationsData(atoms, hessian).get_modes().shape == (27, 9, 3)
    factor = units.kcal / units.mol
    kcal = SchNetCalculator(model, energy_unit="kcal/mol").get_hessian(atoms)
    np.testing.assert_allclose(kcal, factor * hessian, rtol=1e-12)
    mean = SchNetCalculator(Committee([model, copy.deepcopy(model)])).get_hessian(atoms)
    np.testing.assert_allclose(mean, hessian, rtol=1e-12, atol=1e-14)
    crystal = bulk("Cu", cubic=True)
    assert SchNetCalculator(model).get_hessian(crystal).shape == (4, 3, 4, 3)


def test_hessian_of_nothing(model):
    with pytest.raises(ValueError, match="the calculator has no structure yet"):
        SchNetCalculator(model).get_hessian()
    atoms = molecule("H2O")
    atoms.numbers[0] = 0
    with pytest.raises(ValueError, match="atom 0 is 'X' with the atomic number 0"):
        SchNetCalculator(model).get_hessian(atoms)


def test_elements_that_the_model_has_not():
    chloromethane = molecule("CH3Cl")
    chloromethane.calc = SchNetCalculator("organic-xtb")
    known = "'Cl' with the atomic number 17; expected H, C, N, O, F, on which the model was trained: take a model of"
    with pytest.raises(ValueError, match=known):
        chloromethane.get_potential_energy()


def test_a_calculator_that_was_pickled_before_goes_on(make_model):
    """Recorded steps had another name then."""
    calculator = SchNetCalculator(make_model())
    state = dict(vars(calculator))
    state["captured"] = state.pop("recorded")
    older = SchNetCalculator.__new__(SchNetCalculator)
    older.__setstate__(state)
    atoms = molecule("H2O")
    assert older.get_potential_energy(atoms) == calculator.get_potential_energy(atoms)


class Twice(Potential):
    """A potential whose results are its own."""

    def forward(self, *given, **options):
        return {name: 2 * value for name, value in super().forward(*given, **options).items()}


@pytest.mark.parametrize("atoms", [molecule("H2O"), bulk("Cu", cubic=True)], ids=["open", "periodic"])
def test_a_potential_of_ones_own_keeps_its_results(atoms, make_model):
    model = make_model().float()
    plain, twice = (SchNetCalculator(kind(model)) for kind in (Potential, Twice))
    assert twice.get_potential_energy(atoms) == pytest.approx(2 * plain.get_potential_energy(atoms), rel=1e-6)
    np.testing.assert_allclose(twice.get_forces(atoms), 2 * plain.get_forces(atoms), rtol=1e-4, atol=1e-6)
    with pytest.raises(TypeError, match="a Twice may have forces of its own"):
        SchNetCalculator(Twice(model), recorded=True)
