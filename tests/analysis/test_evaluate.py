"""Evaluation of models on datasets, against a plain loop over PyG's batches."""

import numpy as np
import pytest
import torch
from torch.utils.data import Subset
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from pyg_schnet import Potential, SchNet
from pyg_schnet.analysis import evaluate, predict
from pyg_schnet.datasets import MD17, QM9, MaterialsProject
from pyg_schnet.transforms import RadiusGraph


@pytest.fixture(scope="module")
def ethanol(tmp_path_factory):
    return MD17(tmp_path_factory.mktemp("md17"), "ethanol_xtb", log=False)


@pytest.fixture(scope="module")
def molecules(tmp_path_factory):
    return QM9(tmp_path_factory.mktemp("qm9"), "bundled", log=False)


@pytest.fixture(scope="module")
def crystals(tmp_path_factory):
    return MaterialsProject(tmp_path_factory.mktemp("mp"), name="bundled", log=False)


@pytest.fixture
def model(make_model):
    """A small model in float32 with references as large as total energies."""
    return make_model(mean=-500.0, std=0.3).float()


def quiet(*args, **options):
    return {errors.name: errors for errors in evaluate(*args, progress=False, **options)}


def test_potential(ethanol, model):
    subset = ethanol[torch.arange(0, 2000, 80)]
    found = quiet(model, subset, batch_size=7)
    assert list(found) == ["energy", "forces"]
    assert [errors.unit for errors in found.values()] == ["eV", "eV/Ang"]
    potential = Potential(model.eval())
    outs = [(potential(batch), batch) for batch in DataLoader(subset, 7)]
    for name, errors in found.items():
        predicted = torch.cat([out[name] for out, _ in outs])
        np.testing.assert_array_equal(errors.predicted, predicted.double().numpy())
        np.testing.assert_array_equal(errors.true, torch.cat([batch[name] for _, batch in outs]).double().numpy())
    assert found["energy"].true.dtype == np.float64
    assert found["forces"].true.shape == (25 * 9, 3)
    both = predict(model, subset, batch_size=7, progress=False)
    np.testing.assert_array_equal(both.energy, found["energy"].predicted)
    np.testing.assert_array_equal(both.forces_target, found["forces"].true)


def test_properties(molecules, make_model):
    """Columns in the order of the targets; total energies with all their digits."""
    names, subset = ["U0", "gap", "mu"], molecules[10:60]
    model = make_model(out_channels=3, mean=[-5000.0, 0.0, 0.0], readout="mean").float()
    found = quiet(model, subset, targets=names, batch_size=16)
    assert {name: errors.unit for name, errors in found.items()} == {"U0": "eV", "gap": "eV", "mu": "D"}
    with torch.no_grad():
        rows = [(model(batch.z, batch.pos, batch.batch), batch.y) for batch in DataLoader(subset, 16)]
    for column, (name, errors) in enumerate(found.items()):
        predicted = torch.cat([y[:, column] for y, _ in rows]).double().numpy()
        # a call of the model rounds to float32: 2.4e-4 for numbers around 5000
        np.testing.assert_allclose(errors.predicted, predicted, rtol=1e-7, atol=1e-7)
        true = torch.cat([y[:, molecules.targets[name]] for _, y in rows])
        np.testing.assert_array_equal(errors.true, true.numpy())
    exact = found["U0"].predicted + 5000.0
    assert len(np.unique(exact)) > len(np.unique(np.float32(found["U0"].predicted)))


def test_one_target_of_qm9(molecules, model, tmp_path):
    alone = QM9(molecules.root, "bundled", target="gap", log=False)
    expected = quiet(model, molecules[:20], targets=["gap"])["gap"]
    errors = quiet(model, alone[:20], targets=["gap"])["gap"]
    np.testing.assert_array_equal(errors.true, expected.true)
    np.testing.assert_array_equal(errors.predicted, expected.predicted)
    with pytest.raises(ValueError, match="'gap'"):
        evaluate(model, alone, ["homo"])


def test_crystals_with_and_without_stored_edges(crystals, make_model):
    model = make_model(readout="mean", cutoff=4.0).float()
    subset = crystals[:12]
    found = quiet(model, subset, targets=["formation_energy"])["formation_energy"]
    assert found.unit == "eV/atom"
    with torch.no_grad():
        batch = next(iter(DataLoader(subset, 12)))
        y = model(batch.z, batch.pos, batch.batch, cell=batch.cell, pbc=batch.pbc)
    np.testing.assert_allclose(found.predicted, y[:, 0], rtol=1e-6)
    np.testing.assert_array_equal(found.true, batch.formation_energy)
    stored = quiet(model, [RadiusGraph(4.0)(one) for one in subset], targets=["formation_energy"])["formation_energy"]
    np.testing.assert_allclose(stored.predicted, found.predicted, rtol=1e-5)
    with pytest.raises(ValueError, match=r"built with a cutoff of 3 Angstrom, the model needs 4"):
        evaluate(model, [RadiusGraph(3.0)(one) for one in subset], ["formation_energy"], progress=False)


def test_bonds_are_no_graph(molecules, model):
    """An `edge_index` without `edge_shift` holds bonds, here none at all."""
    bonded = [
        Data(z=one.z, pos=one.pos, gap=torch.ones(1), edge_index=torch.zeros(2, 0).long()) for one in molecules[:5]
    ]
    expected = quiet(model, molecules[:5], targets=["gap"])["gap"].predicted
    np.testing.assert_allclose(quiet(model, bonded, targets=["gap"])["gap"].predicted, expected, rtol=1e-7)


def structures():
    """A crystal with a stress, one without, and a molecule; the energy of the second is not known."""
    nan = torch.full((1, 3, 3), torch.nan)
    made = []
    for place, (periodic, stress) in enumerate([(True, torch.eye(3)[None] * 0.01), (True, nan), (False, nan)]):
        cell = 3.0 * torch.eye(3) if periodic else torch.zeros(3, 3)
        energy = torch.tensor([torch.nan if place == 1 else 1.0 + place], dtype=torch.float64)
        pos = torch.tensor([[0.0, 0, 0], [1.4, 0.1 * place, 0.2]])
        extra = {"cell": cell[None], "pbc": torch.full((1, 3), periodic), "stress": stress}
        made.append(Data(z=torch.tensor([6, 8]), pos=pos, energy=energy, forces=torch.zeros(2, 3), **extra))
    return made


@pytest.mark.parametrize("batch_size", [1, 3])
def test_unknown_labels(model, batch_size):
    found = quiet(model, structures(), batch_size=batch_size)
    assert {name: errors.true.shape for name, errors in found.items()} == {
        "energy": (2,),
        "forces": (6, 3),
        "stress": (1, 3, 3),
    }
    first = Potential(model.eval(), stress=True)(structures()[0])
    np.testing.assert_allclose(found["stress"].predicted, first["stress"], rtol=1e-4, atol=1e-8)
    assert found["stress"].unit == "eV/Ang^3"
    assert found["energy"].true.tolist() == [1.0, 3.0]


def test_nothing_known_of_one_label(model):
    """Energies of no structure are known: forces are still compared; nor is anything made of stresses."""
    frames = structures()[1:]
    frames[1].energy[:] = torch.nan
    assert list(quiet(model, frames)) == ["forces"]
    with pytest.raises(ValueError, match="no true value of 'energy' is known"):
        evaluate(model, frames, ["energy"], progress=False)


def test_units_of_the_model(ethanol, molecules, model):
    expected = quiet(model, ethanol[:3])["forces"]
    gap = quiet(model, molecules[:3], targets=["gap"])["gap"]
    model.units = {"energy": "kcal/mol", "gap": "meV"}
    found = quiet(model, ethanol[:3])["forces"]
    np.testing.assert_allclose(found.predicted * 23.0605, expected.predicted, rtol=1e-5)  # NIST
    np.testing.assert_array_equal(found.true, expected.true)
    assert found.unit == "eV/Ang"
    np.testing.assert_allclose(quiet(model, molecules[:3], targets=["gap"])["gap"].predicted, gap.predicted / 1000)


def test_subset_of_torch_keeps_units(molecules, model):
    found = quiet(model, Subset(molecules, [3, 1]), targets=["zpve"])["zpve"]
    assert found.unit == "eV"
    assert found.true.tolist() == molecules._data.y[[3, 1], 6].tolist()


@pytest.mark.parametrize("targets", [None, ["energy"]], ids=["potential", "property"])
def test_modes_come_back(ethanol, model, targets):
    """Whether it succeeds or not; gradients are not recorded."""
    model.train()
    model.output.eval()
    modes = [module.training for module in model.modules()]
    found = quiet(model, ethanol[:4], targets=targets)
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())
    assert found["energy"].true.shape == (4,)
    with pytest.raises(ValueError, match="pos"):
        quiet(model, [Data(z=torch.ones(1).long(), energy=torch.ones(1))], targets=targets)
    assert [module.training for module in model.modules()] == modes


def test_device(ethanol, model, device):
    on_cpu = quiet(model, ethanol[:4])["forces"]
    found = quiet(model, ethanol[:4], device=device)["forces"]
    assert next(model.parameters()).device.type == device.type
    np.testing.assert_allclose(found.predicted, on_cpu.predicted, atol=1e-4)  # float32, sums in another order
    with pytest.raises(ValueError, match="is not there"):
        evaluate(model, ethanol[:4], device="cuda:77")


def test_bad_input(ethanol, molecules, model):
    with pytest.raises(ValueError, match="no structure to evaluate"):
        evaluate(model, ethanol[:0])
    with pytest.raises(ValueError, match="no structure to evaluate"):
        evaluate(model, molecules[:0], ["gap"])
    with pytest.raises(TypeError, match="must be an AtomisticModel, for example a SchNet, got Linear"):
        evaluate(torch.nn.Linear(1, 1), molecules, ["gap"])
    with pytest.raises(ValueError, match="name scalar properties as `targets`"):
        evaluate(model, molecules, progress=False)
    with pytest.raises(ValueError, match="no target 'energies'"):
        evaluate(model, ethanol, ["energies"])
    for names in ("gap", [], ["gap", "gap"]):
        with pytest.raises(ValueError, match="`targets` must be a list of different names"):
            evaluate(model, molecules, names)
    with pytest.raises(ValueError, match=r"predicts \[100, 1\] for a batch, but there are 2 targets \(gap, mu\)"):
        evaluate(model, molecules, ["gap", "mu"], progress=False)
    with pytest.raises(ValueError, match="1 target|2 targets|out_channels=1"):
        evaluate(SchNet(8, 8, 1, out_channels=2), ethanol)
    with pytest.raises(ValueError, match=r"`forces` of the structures must have shape \[2, 3\], got \[2, 2\]"):
        evaluate(model, [Data(z=torch.ones(2).long(), pos=torch.eye(3)[:2], forces=torch.ones(2, 2))], progress=False)
    with pytest.raises(TypeError, match="float32"):
        evaluate(model.double(), ethanol[:2], progress=False)
    with pytest.raises(ValueError, match="have no `forces` to compare with"):
        predict(
            model.float(), [Data(z=torch.ones(1).long(), pos=torch.zeros(1, 3), energy=torch.ones(1))], progress=False
        )


def test_stress_needs_a_volume(model):
    crystal = structures()[0]
    crystal.cell[0, 2] = 0.0
    crystal.pbc[:] = False
    with pytest.raises(ValueError, match="needs a complete cell"):
        evaluate(model, [crystal], progress=False)
    del crystal.cell, crystal.pbc
    with pytest.raises(ValueError, match="needs a cell"):
        evaluate(model, [crystal], progress=False)
    crystal.stress = torch.zeros(6)
    with pytest.raises(ValueError, match=r"`stress` must have shape \[1, 3, 3\]"):
        evaluate(model, [crystal], progress=False)
