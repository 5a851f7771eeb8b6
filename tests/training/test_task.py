"""The task with stresses: its loss and gradients, structures without a stress, metrics, refusals."""

import warnings

import pytest
import torch
from ase.build import bulk, molecule
from lightning.pytorch import Trainer
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader

from pyg_schnet import Potential, SchNet
from pyg_schnet.models import AtomisticModel
from pyg_schnet.simulation.ase import atoms_to_data
from pyg_schnet.training import PotentialTask

NAN = torch.full((1, 3, 3), torch.nan, dtype=torch.float64)


class Springs(AtomisticModel):
    """A teacher: springs between neighbours, none of which comes near its cutoff."""

    def predict(self, z, pos, batch, batch_size, edges):
        energy = (edges.edge_weight - 2.6).square()
        return pos.new_zeros(batch_size).index_add(0, batch[edges.pair_index[0]], energy).unsqueeze(-1)


def crystals(count, dtype=torch.float64):
    """Strained copper with the energies, forces and stresses of springs."""
    teacher, structures = Potential(Springs(2, 3.1, {}).double(), stress=True).eval(), []
    generator = torch.Generator().manual_seed(3)
    for seed in range(count):
        atoms = bulk("Cu", "fcc", a=3.7, cubic=True)
        strain = torch.eye(3, dtype=torch.float64) + 0.03 * torch.randn(3, 3, dtype=torch.float64, generator=generator)
        atoms.set_cell(atoms.cell.array @ strain.numpy(), scale_atoms=True)
        atoms.rattle(0.05, seed=seed)
        data = atoms_to_data(atoms, torch.float64)
        for name, value in teacher(data).items():
            data[name] = value
        structures.append(data.apply(lambda t: t.to(dtype) if t.is_floating_point() else t))
    return structures


def water():
    """A molecule, whose cell is zero and whose stress is not known."""
    data = atoms_to_data(molecule("H2O"), torch.float64)
    data.energy, data.forces, data.stress = torch.ones(1).double(), torch.randn(3, 3).double(), NAN
    return data


def task_of(make_model, **options):
    return PotentialTask(make_model(num_filters=4, hidden_channels=4, std=3.0), rho=0.1, **options)


def test_gradient_of_the_loss_is_that_of_finite_differences(make_model):
    """A batch of crystals and a molecule; the derivative with respect to every tensor of weights."""
    task, batch = task_of(make_model, rho_stress=50.0), Batch.from_data_list([*crystals(2), water()])
    parameters = dict(task.potential.named_parameters())
    out = task.predictions(batch)
    loss = task.loss_of(out, task.labels(batch))  # puts stresses in the place of virials
    assert loss.item() == task.loss_on(batch).item()
    assert out["stress"][:2].isfinite().all()
    stress = 50.0 * (out["stress"] - batch.stress)[:2].square().sum() / 3
    assert stress > 0.01 * loss  # the term counts
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    for (name, parameter), slope in zip(parameters.items(), gradients, strict=True):
        direction, step, values = torch.randn_like(parameter), 1e-5, []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(direction, alpha=sign * step)
            values.append(task.loss_on(batch).item())
            with torch.no_grad():
                parameter.sub_(direction, alpha=sign * step)
        expected = (values[0] - values[1]) / (2 * step)
        # round-off eps x loss / h, truncation h^2 ~ 1e-10 relative to derivatives of the order of the loss
        assert (slope * direction).sum().item() == pytest.approx(expected, rel=1e-6, abs=1e-8 * loss.item()), name


@pytest.mark.parametrize("name", ["rho", "rho_stress"])
def test_weights_of_the_loss_are_its_slopes(make_model, name):
    """Energies and stresses enter in proportion to their weights, and forces whatever these are."""
    batch, model = Batch.from_data_list(crystals(2)), make_model(cutoff=4.0)
    given = {"rho": 0.5, "rho_stress": 0.5}
    tasks = [PotentialTask(model, **(given | {name: weight})).train() for weight in (0.25, 0.5, 1.0)]
    losses = [task.loss_of(task.potential(batch), task.labels(batch)).item() for task in tasks]
    assert losses[2] - losses[1] == pytest.approx(2 * (losses[1] - losses[0]), rel=1e-9)
    assert losses[0] < losses[1]


def test_stress_of_the_task_is_that_of_the_potential(make_model):
    task, batch = task_of(make_model, rho_stress=1.0), Batch.from_data_list(crystals(2))
    out = task.predictions(batch)
    task.loss_of(out, task.labels(batch))
    torch.testing.assert_close(out["stress"], task.potential(batch, stress=True)["stress"], rtol=0, atol=0)
    assert set(task_of(make_model).predictions(batch)) == {"energy", "forces"}


def test_stresses_are_learnt(tmp_path):
    """With a large weight, 100 steps take off most of the error."""
    data = crystals(16, torch.float32)
    model = SchNet(16, 16, 1, num_gaussians=20, cutoff=4.5)
    task = PotentialTask(model, 0.0, 1e-2, energy_unit="meV", rho_stress=1e3)
    loader = DataLoader(data, batch_size=16)
    trainer = Trainer(
        max_steps=100,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hints of Lightning on workers and on the interval of logs
        before = trainer.validate(task, loader, verbose=False)[0]
        trainer.fit(task, loader)
        after = trainer.validate(task, loader, verbose=False)[0]
    assert set(after) == {"val/loss", "val/energy_mae [meV]", "val/forces_mae [meV/Ang]", "val/stress_mae [meV/Ang^3]"}
    assert after["val/stress_mae [meV/Ang^3]"] < 0.3 * before["val/stress_mae [meV/Ang^3]"]
    # the metric by hand
    batch = next(iter(loader))
    error = (Potential(model.eval())(batch, stress=True)["stress"] - batch.stress).abs().mean() * 1000
    assert after["val/stress_mae [meV/Ang^3]"] == pytest.approx(float(error), rel=1e-4)  # float32


def test_validation_without_any_known_stress(make_model):
    """Nothing is logged of it instead of a NaN."""
    task, logged = task_of(make_model, rho_stress=1.0), {}
    task.log = lambda name, value, **options: logged.update({name: value})
    task.validation_step(Batch.from_data_list([water()]), 0)
    task.on_validation_epoch_end()
    assert set(logged) == {"val/loss", "val/energy_mae [kcal/mol]", "val/forces_mae [kcal/mol/Ang]"}
    task.validation_step(Batch.from_data_list([water(), *crystals(1)]), 0)
    task.on_validation_epoch_end()
    assert logged["val/stress_mae [kcal/mol/Ang^3]"] > 0


def test_known_stress_without_a_volume_is_refused(make_model):
    task, data = task_of(make_model, rho_stress=1.0), water()
    data.stress = torch.zeros_like(NAN)
    with pytest.raises(ValueError, match=r"needs a complete cell, .* for structure 1"):
        task.loss_on(Batch.from_data_list([*crystals(1), data]))
    del data.cell, data.pbc
    with pytest.raises(ValueError, match=r"needs a cell, expected `cell` \[B, 3, 3\], got none"):
        task.loss_on(Batch.from_data_list([data]))
    data.stress = NAN
    assert task.loss_on(Batch.from_data_list([data])).isfinite()


def test_data_without_stress_are_refused(make_model):
    task, data = task_of(make_model, rho_stress=2.0), crystals(1)[0]
    data.stress = data.stress[0, :2]
    with pytest.raises(
        ValueError, match=r"`stress` must have shape \[1, 3, 3\], \[1, 3, 3\] in each Data, got \[2, 3\]"
    ):
        task.loss_on(Batch.from_data_list([data]))
    del data.stress
    with pytest.raises(
        ValueError, match=r"`rho_stress` is 2.0, but the data have no `stress` \[1, 3, 3\]; add it, NaN"
    ):
        task.loss_on(Batch.from_data_list([data]))
    with pytest.raises(ValueError, match="`rho_stress` must not be negative, got -1"):
        task_of(make_model, rho_stress=-1.0)


def test_runs_of_before_go_on(make_model):
    """A checkpoint that knows of no stresses is one without a weight for them."""
    task = task_of(make_model)
    stored = dict(task.hparams)
    del stored["rho_stress"]
    task.on_load_checkpoint({"hyper_parameters": stored})
    with pytest.raises(ValueError, match="rho_stress was 0.0, now 1.0"):
        PotentialTask(task.model, rho=0.1, rho_stress=1.0).on_load_checkpoint({"hyper_parameters": stored})
