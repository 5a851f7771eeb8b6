"""TorchSim, where it is installed (extra ``torchsim``); 0.6 and later have tests of their own for models."""

import importlib.util

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_stress

from pyg_schnet.models import Committee
from pyg_schnet.simulation.ase import SchNetCalculator

ts = pytest.importorskip("torch_sim", reason="TorchSim is not installed (extra torchsim)")

from torch_sim.models.interface import validate_model_outputs  # noqa: E402

from pyg_schnet.simulation.torchsim import SchNetModel  # noqa: E402

CPU = torch.device("cpu")
HAS_TESTING = importlib.util.find_spec("torch_sim.testing") is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_its_own_validator(make_model, dtype):
    validate_model_outputs(SchNetModel(make_model(), dtype=dtype), CPU, dtype)


@pytest.mark.skipif(
    not HAS_TESTING, reason="TorchSim before 0.6 has no tests for models; Python 3.11 gets no later one"
)
def test_its_own_structures(make_model):
    from torch_sim.testing import SIMSTATE_GENERATORS, assert_model_calculator_consistency

    model = make_model()
    own, calculator = SchNetModel(model), SchNetCalculator(model)
    assert len(SIMSTATE_GENERATORS) > 10
    for generate in SIMSTATE_GENERATORS.values():
        state = generate(CPU, torch.float64)
        own.compute_stress = bool(torch.as_tensor(state.pbc).all())  # the calculator has none of molecules
        assert_model_calculator_consistency(own, calculator, state)


def crystals():
    for number, name in enumerate(("Si", "Cu", "Fe")):
        atoms = bulk(name, cubic=True) * (1, 1, number + 1)
        atoms.rattle(0.05, seed=number)
        atoms.set_cell(atoms.cell.array @ [[1.0, 0.1, 0.0], [0.0, 1.0, -0.05], [0.0, 0.0, 1.02]], scale_atoms=True)
        yield atoms


@pytest.mark.parametrize("atoms", [[molecule("H2O"), molecule("CH4", vacuum=3.0)], [*crystals()]])
def test_as_the_calculator_of_ase(make_model, atoms):
    model = make_model()
    model.units = {"energy": "kcal/mol"}
    for one in atoms:
        one.positions += 300.0 * ~one.pbc  # far from the origin, if it is open
    state = ts.io.atoms_to_state(atoms, CPU, torch.float64)
    before = state.positions.clone()
    out = SchNetModel(model)(state)
    assert torch.equal(state.positions, before)
    calculator = SchNetCalculator(model)
    for number, one in enumerate(atoms):
        mine = state.system_idx == number
        assert float(out["energy"][number]) == pytest.approx(calculator.get_potential_energy(one), rel=1e-10)
        np.testing.assert_allclose(out["forces"][mine], calculator.get_forces(one), atol=1e-9)
        one.calc = calculator
        if one.cell.rank == 3:
            stress = one.get_stress(voigt=False)
            np.testing.assert_allclose(out["stress"][number], stress, atol=1e-9)
            differences = calculate_numerical_stress(one, eps=1e-5, voigt=False)
            np.testing.assert_allclose(stress, differences, atol=1e-5 * np.abs(stress).max())
        else:
            with pytest.raises(PropertyNotImplementedError):
                one.get_stress()
            assert not out["stress"][number].any()


def test_only_what_is_asked_for(make_model):
    state = ts.io.atoms_to_state([bulk("Si")], CPU, torch.float64)
    model = SchNetModel(make_model(), compute_stress=False)
    assert {*model(state)} == {"energy", "forces"}
    model.compute_forces, model.compute_stress = False, True
    assert {*model(state)} == {"energy", "stress"}


def test_a_committee(make_model):
    models = [make_model(), make_model()]
    state = ts.io.atoms_to_state([molecule("H2O"), molecule("CH4")], CPU, torch.float64)
    out = SchNetModel(Committee(models))(state)
    each = torch.stack([SchNetModel(model)(state)["forces"] for model in models])
    torch.testing.assert_close(out["forces"], each.mean(0))
    torch.testing.assert_close(out["forces_std"], each.std(0))


def test_dynamics_keep_the_energy(make_model):
    atoms = molecule("CH4")
    state = ts.io.atoms_to_state([atoms, atoms], CPU, torch.float64)
    model, totals = SchNetModel(make_model()), []
    first_is_state = "state" in ts.nve_init.__code__.co_varnames[:1] if hasattr(ts, "nve_init") else None
    if first_is_state is None:
        pytest.skip("this TorchSim has no ts.nve_init; 0.6 and later are tested")
    state = ts.nve_init(state, model, kT=torch.tensor(0.025, dtype=torch.float64))
    for _ in range(60):
        state = ts.nve_step(state, model, dt=torch.tensor(0.005, dtype=torch.float64))  # 0.05 fs
        masses = {"masses": state.masses, "system_idx": state.system_idx}
        kinetic = ts.calc_kinetic_energy(momenta=state.momenta, **masses)
        totals.append(state.energy + kinetic)
    totals = torch.stack(totals)
    assert (totals - totals[0]).abs().max() < 1e-4
    assert (state.energy - totals.mean(0)).abs().max() > 1e-3


def test_what_is_refused(make_model):
    with pytest.raises(ValueError, match="readout='mean'"):
        SchNetModel(make_model(readout="mean"))
