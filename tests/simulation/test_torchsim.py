"""TorchSim, where it is installed (extra ``torchsim``); 0.6 and later have tests of their own for models."""

import importlib.util
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_stress

from pyg_schnet.models import Committee
from pyg_schnet.simulation.ase import SchNetCalculator
from tests.pretended_gpu import pretended_gpu

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


@pytest.mark.parametrize(
    ("atoms", "options", "unit"),
    [
        ([molecule("H2O"), molecule("CH4", vacuum=3.0)], {}, "kcal/mol"),
        ([*crystals()], {}, "kcal/mol"),
        ([*crystals()], {"repulsion": "zbl"}, "eV"),
    ],
    ids=["molecules", "crystals", "crystals with a repulsion"],
)
def test_as_the_calculator_of_ase(make_model, atoms, options, unit):
    model = make_model(**options)
    model.units = {"energy": unit}
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


@pytest.mark.parametrize("batched", [False, True])
def test_relaxation_to_a_force_criterion(springs, batched):
    """Triangles of springs, of which some begin near their end and leave early, become equilateral."""
    triangles = []
    for seed in range(5):
        atoms = Atoms("Cu3", 2.6 * np.array([[0, 0, 0], [1, 0, 0], [0.5, math.sqrt(0.75), 0]]))
        atoms.rattle(0.002 + 0.04 * seed, seed=seed)
        triangles.append(atoms)
    model = SchNetModel(springs().double(), compute_stress=False)
    criterion, options = ts.generate_force_convergence_fn(1e-4, include_cell_forces=False), {"max_steps": 500}
    if batched:  # two triangles at a time, so that others take the places of those that are done
        sizes = {"memory_scales_with": "n_atoms", "max_memory_scaler": 7.0}
        options["autobatcher"] = ts.InFlightAutoBatcher(model, **sizes)
    fire = ts.Optimizer.fire if hasattr(ts, "Optimizer") else ts.optimizers.fire
    state = ts.optimize(triangles, model, optimizer=fire, convergence_fn=criterion, **options)
    assert state.n_systems == 5
    forces = model(state)["forces"]
    assert forces.norm(dim=1).max() < 2e-4  # for FIRE moves once more
    for start, end in zip(triangles, ts.io.state_to_atoms(state), strict=True):
        np.testing.assert_allclose(end.get_all_distances()[np.triu_indices(3, 1)], 2.6, atol=1e-4)
        assert np.abs(end.positions - start.positions).max() < 0.5  # each in its place


def test_static_batches_of_its_own_choice(make_model):
    """Few atoms at a time, the same results as all at once, each at its place."""
    atoms = [molecule(name) for name in ("H2O", "CH4", "CH3CH2OH", "CO2")] * 2
    model = SchNetModel(make_model(), compute_stress=False)
    expected = model(ts.io.atoms_to_state(atoms, CPU, torch.float64))["energy"]
    batcher = ts.BinningAutoBatcher(model, memory_scales_with="n_atoms", max_memory_scaler=12.0)
    found = ts.static(atoms, model, autobatcher=batcher)
    assert len(found) == len(atoms)
    energies = torch.cat([one["potential_energy"].reshape(-1) for one in found])
    torch.testing.assert_close(energies, expected, rtol=1e-12, atol=0)


def test_positions_far_away_lose_nothing(make_model):
    """In a state of more digits than the model; in one of as many there are none to lose."""
    atoms = molecule("CH3CH2OH")
    model = SchNetModel(make_model().float(), compute_stress=False)
    near = model(ts.io.atoms_to_state([atoms], CPU, torch.float64))
    atoms.positions += 65536.0
    far = model(ts.io.atoms_to_state([atoms], CPU, torch.float64))
    torch.testing.assert_close(far["forces"], near["forces"], rtol=0, atol=1e-4 * float(near["forces"].abs().max()))


def test_what_is_refused(make_model):
    with pytest.raises(ValueError, match="readout='mean'"):
        SchNetModel(make_model(readout="mean"))


@pytest.mark.parametrize("periodic", [False, True], ids=["molecules", "crystals"])
@pytest.mark.parametrize("kind", ["single", "committee"])
def test_on_a_gpu_steps_are_recorded(make_model, kind, periodic):
    """Results of a CPU from a replay and one wait; open structures are far from the origin, and drift."""
    models = [make_model().float() for _ in range(2)]
    model = Committee(models) if kind == "committee" else models[0]
    atoms = [*crystals()][:2] if periodic else [molecule("H2O"), molecule("CH4", vacuum=3.0)]
    for one in atoms:
        one.positions += 100.0 * ~one.pbc
    given = ts.io.atoms_to_state(atoms, CPU, torch.float64)
    on_cpu = SchNetModel(model, frozen=False)
    with pretended_gpu() as gpu:
        on_gpu = SchNetModel(model, "cuda", frozen=False)
        names = ("cell", "row_vector_cell", "atomic_numbers", "system_idx")
        state = SimpleNamespace(**{name: getattr(given, name).to("cuda") for name in names}, pbc=given.pbc)
        for step in range(8):
            given.positions = given.positions + 0.01 * torch.randn_like(given.positions) + 0.01 * (not periodic)
            expected = on_cpu(given)
            state.positions = given.positions.to("cuda")
            gpu.clear()
            found = on_gpu(state)
            assert found.keys() == expected.keys()
            for name, value in found.items():
                torch.testing.assert_close(value.inner, expected[name], rtol=1e-4, atol=2e-5)
            assert not gpu.atomic
            played = gpu.replays == 1
            assert played == (step > 3)
            if played:
                assert gpu.total[1] == 1, gpu.report()
                assert gpu.total[0] <= 40, gpu.report()
