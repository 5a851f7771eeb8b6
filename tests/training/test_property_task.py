"""Learning scalar properties: the loss, unknown labels, runs, refusals; energies without forces."""

import math

import pytest
import torch
from torch_geometric.data import Batch, Data

from pyg_schnet import SchNet, load
from pyg_schnet.datasets import MD17, QM9, MaterialsProject, as_dataset, random_split
from pyg_schnet.datasets.targets import find_target
from pyg_schnet.models import properties, read_header
from pyg_schnet.training import PotentialTask, PropertyTask, SplitDataModule, fit, squared_loss
from pyg_schnet.units import conversion

NAN = float("nan")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def qm9(folder):
    return QM9(folder, "bundled", log=False)


def model_of(channels=1, **options):
    sizes = {"num_interactions": 1, "num_gaussians": 12, "cutoff": 4.0}
    return SchNet(8, 8, out_channels=channels, **(sizes | options))


def double(structures):
    """Structures as a batch in float64."""
    return Batch.from_data_list(
        [one.clone().apply(lambda t: t.double() if t.is_floating_point() else t) for one in structures]
    )


@pytest.mark.parametrize(("name", "power"), [("squared", 2), ("absolute", 1)])
def test_loss_is_in_units_of_the_standard_deviations(qm9, name, power):
    """Mean over structures and targets of the squared or absolute errors, each in its own unit."""
    task = PropertyTask(model_of(3).double(), ["U0", "gap", "alpha"], references="mean", loss=name)
    task.prepare(SplitDataModule(qm9, random_split(len(qm9), 40, 10)))
    columns, batch, expected = [7, 4, 1], double([qm9[5], qm9[60]]), 0.0
    predicted = properties(task.model, batch).detach()
    for row in range(2):
        for k, column in enumerate(columns):
            error = float(predicted[row, k] - batch.y[row, column]) / float(task.model.reference.std[k])
            expected += abs(error) ** power / 6
    loss = task.loss_on(batch)
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(expected, rel=1e-10)
    # the standard deviation is that per atom, because the readout adds up atoms
    training = [qm9[int(k)] for k in random_split(len(qm9), 40, 10)["train"]]
    per_atom = torch.stack([one.y[0, 7] / one.num_nodes for one in training])
    assert float(task.model.reference.std[0]) == pytest.approx(float(per_atom.std()), rel=1e-12)


def test_unknown_label_is_as_if_left_out(qm9):
    """Exactly the loss and the gradients of the sum over all others, the divisor staying."""
    task = PropertyTask(model_of(3, std=[2.0, 0.5, 3.0]).double(), ["mu", "gap", "zpve"])
    task.check(qm9)
    batch, columns = double([qm9[5], qm9[60], qm9[90]]), [0, 4, 6]
    parameters = list(task.model.parameters())
    known = torch.ones(3, 3, dtype=torch.bool)
    known[1, 2] = False
    errors = (batch.y[:, columns] - properties(task.model, batch)) / torch.tensor([2.0, 0.5, 3.0]).double()
    expected = errors[known].square().sum() / 9
    gradients = torch.autograd.grad(expected, parameters)
    batch.y[1, 6] = NAN
    loss = task.loss_on(batch)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-14)
    for own, other in zip(torch.autograd.grad(loss, parameters), gradients, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-14)  # sums in another order
    batch.y[:] = NAN
    loss = task.loss_on(batch)
    assert loss.item() == 0.0
    assert all(not slope.any() for slope in torch.autograd.grad(loss, parameters))


def logged_by(task, batches):
    logged = {}
    task.log = lambda name, value, **options: logged.update({name: float(value)})
    for batch in batches:
        task.validation_step(batch, 0)
    task.on_validation_epoch_end()
    return logged


def test_validation_errors_are_those_of_the_known_labels(qm9):
    task = PropertyTask(model_of(3).double(), ["mu", "gap", "zpve"])
    task.check(qm9)
    batches = [double([qm9[5], qm9[60], qm9[90]]), double([qm9[7]])]
    batches[0].y[1, 4], batches[1].y[0, 4] = NAN, NAN
    for batch in batches:
        batch.y[:, 6] = NAN
    logged = logged_by(task, batches)
    assert set(logged) == {"val/loss", "val/mu_mae [D]", "val/gap_mae [eV]"}  # nothing is known of zpve
    first, second = (properties(task.model, batch).detach() - batch.y[:, [0, 4, 6]] for batch in batches)
    assert logged["val/mu_mae [D]"] == pytest.approx(float(torch.cat([first, second])[:, 0].abs().mean()), rel=1e-6)
    assert logged["val/gap_mae [eV]"] == pytest.approx(float(first[[0, 2], 1].abs().mean()), rel=1e-6)
    loss = [torch.where(part.isfinite(), part, 0).square().sum() / 3 for part in (first, second)]
    assert logged["val/loss"] == pytest.approx(float(sum(loss)) / 4, rel=1e-6)
    assert set(logged_by(task, [double([qm9[7]])])) == {*logged, "val/zpve_mae [eV]"}


def test_validation_loss_that_is_no_number_is_not_left_out(qm9):
    """One bad batch among good ones; torchmetrics would average over the others."""
    task = PropertyTask(model_of(), "mu")
    task.check(qm9)
    loss_of, batches = task.loss_of, [Batch.from_data_list([qm9[7]]), Batch.from_data_list([qm9[7], qm9[9]])]
    for factor, finite in ((1.0, True), (torch.nan, False), (torch.inf, False)):
        task.loss_of = lambda predictions, labels, factor=factor: (
            loss_of(predictions, labels) * (factor if len(predictions) == 2 else 1.0)
        )
        assert math.isfinite(logged_by(task, batches)["val/loss"]) is finite


def run(dataset, task, directory, *, steps=60, train=48):
    data = SplitDataModule(dataset, random_split(len(dataset), train, 16), batch_size=16)
    return fit(task, data, directory, max_steps=steps, validate_every=6, ema_decay=0.8, accelerator="cpu")


def assert_is_the_best(folder, model, batch):
    """The best checkpoint of a run is read as the model that the run has left."""
    found = load(folder / "best.ckpt")
    assert torch.equal(properties(found, batch), properties(model, batch))
    assert found.units | {"pos": "Ang"} == model.units
    assert found.training_set == model.training_set


@pytest.mark.parametrize("names", ["U0", ["U0", "gap", "alpha"]], ids=["one", "three"])
def test_learning_qm9(qm9, tmp_path, names):
    """The loss of the references alone falls; the file knows its units and gives total energies back."""
    count = 1 if isinstance(names, str) else 3
    task = PropertyTask(model_of(count, zero_output=True), names, learning_rate=1e-2)
    data = SplitDataModule(qm9, random_split(len(qm9), 48, 16), batch_size=16)
    task.prepare(data)
    batch = next(iter(data.val_dataloader()))
    before = float(task.loss_on(batch).detach())
    result = run(qm9, task, tmp_path)
    assert result.validation_loss < 0.5 * before
    header, model = read_header(result.model), load(result.model)
    names = [names] if count == 1 else names
    assert model.units == header["units"] == {name: qm9.target_units[name] for name in names} | {"pos": "Ang"}
    assert header["training"]["targets"] == names
    true = torch.stack([find_target(qm9, name).values(batch) for name in names], dim=1)
    loss = squared_loss(properties(model, batch), true, model.reference.std)
    assert result.validation_loss == pytest.approx(loss.item(), rel=1e-4)  # float32 sums in another order
    assert_is_the_best(tmp_path, model, batch)


def test_learning_formation_energies(folder, tmp_path):
    """Crystals, an intensive property: the mean of the training set, not of its atoms, is the reference."""
    dataset = MaterialsProject(folder, "bundled", log=False)
    small = torch.tensor([k for k in range(len(dataset)) if dataset[k].num_nodes <= 4])
    task = PropertyTask(model_of(readout="mean", zero_output=True), "formation_energy", learning_rate=3e-2)
    crystals = dataset[small]
    data = SplitDataModule(crystals, random_split(len(crystals), 32, 8), batch_size=16)
    task.prepare(data)
    labels = torch.cat([crystals[int(k)].formation_energy for k in data.split["train"]])
    assert float(task.model.reference.mean) == pytest.approx(float(labels.mean()), rel=1e-12)
    assert float(task.model.reference.std) == pytest.approx(float(labels.std()), rel=1e-12)
    before = float(task.loss_on(next(iter(data.val_dataloader()))).detach())
    result = fit(task, data, tmp_path, max_steps=60, validate_every=6, ema_decay=0.8, accelerator="cpu")
    assert result.validation_loss < 0.7 * before
    assert read_header(result.model)["units"] == {"formation_energy": "eV/atom", "pos": "Ang"}


def test_unknown_loss():
    with pytest.raises(ValueError, match="unknown loss 'cubic'; expected one of 'squared', 'absolute', 'huber'"):
        PropertyTask(model_of(), "U0", loss="cubic")


def test_unknown_target(qm9):
    task = PropertyTask(model_of(), "U_0")
    with pytest.raises(ValueError, match="QM9 has no target 'U_0', .*; did you mean 'U0'"):
        task.prepare(SplitDataModule(qm9, random_split(len(qm9), 10, 5)))


@pytest.mark.parametrize(("channels", "names"), [(1, ["U0", "gap"]), (2, ["U0"])])
def test_another_number_of_outputs(qm9, channels, names):
    message = f"the model predicts {channels} values, expected {len(names)}, one for each of {', '.join(names)}; set"
    with pytest.raises(ValueError, match=message):
        PropertyTask(model_of(channels), names).check(qm9)


def test_another_unit(qm9):
    model = model_of()
    model.units = {"U0": "kcal/mol"}
    with pytest.raises(ValueError, match="the model predicts U0 in kcal/mol, the dataset has it in eV; convert"):
        PropertyTask(model, "U0").check(qm9)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"targets": "gap"}, r"other settings \(targets\): targets was \['U0'\], now \['gap'\]"),
        ({"references": "fit"}, r"other settings \(references\): references was auto, now fit"),
        ({"schedule": "plateau"}, "schedule was exponential, now plateau"),
    ],
)
def test_resuming_with_other_settings_is_refused(qm9, changed, message):
    checkpoint = {}
    task = PropertyTask(model_of(), "U0")
    task.check(qm9)
    task.on_save_checkpoint(checkpoint)
    checkpoint["hyper_parameters"] = dict(task.hparams)
    task.on_load_checkpoint(checkpoint)
    with pytest.raises(ValueError, match=message):
        PropertyTask(task.model, **({"targets": "U0"} | changed)).on_load_checkpoint(checkpoint)


def test_resuming_another_task_or_other_units_is_refused(qm9):
    task = PropertyTask(model_of(), "U0")
    task.check(qm9)
    checkpoint = {"hyper_parameters": dict(task.hparams)}
    task.on_save_checkpoint(checkpoint)
    with pytest.raises(ValueError, match="was one of PropertyTask, got PotentialTask; resume with the old task or"):
        PotentialTask(model_of()).on_load_checkpoint(checkpoint)
    with pytest.raises(ValueError, match="was one of PotentialTask, got PropertyTask"):  # older ones do not say
        task.on_load_checkpoint({"hyper_parameters": dict(PotentialTask(model_of()).hparams)})
    checkpoint["units"] = {"U0": "kcal/mol"}
    with pytest.raises(ValueError, match="other units: U0 was in kcal/mol, now in eV"):
        task.on_load_checkpoint(checkpoint)


# energies without forces, and labels that are not known


@pytest.fixture(scope="module")
def frames(folder):
    return MD17(folder, "ethanol_xtb", log=False)


def without_forces(structures):
    return [Data(z=one.z, pos=one.pos, energy=one.energy) for one in structures]


def test_energies_without_forces(frames):
    """The squared loss of the energies, from data that may have no forces."""
    task = PotentialTask(model_of(mean=-400.0).double(), forces=False)
    batch, bare = double(frames[:3]), double(without_forces(frames[:3]))
    expected = (properties(task.model, bare).squeeze(1) - bare.energy).square().mean()
    for given in (batch, bare):
        loss = task.loss_on(given)
        assert loss.dtype == torch.float64
        assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    energy, forces = "val/energy_mae [kcal/mol]", "val/forces_mae [kcal/mol/Ang]"
    assert set(logged_by(task, [bare])) == {"val/loss", energy}
    assert set(logged_by(task, [batch])) == {"val/loss", energy, forces}
    with pytest.raises(ValueError, match="the data have no `forces` to learn; they have batch, energy, pos, ptr, z"):
        PotentialTask(task.model).loss_on(bare)


def test_run_without_forces(frames, tmp_path):
    dataset = frames.copy(range(32))
    del dataset._data.forces, dataset.slices["forces"]
    with pytest.raises(ValueError, match="MD17 has no `forces` to learn, it has energy, pos, z"):
        PotentialTask(model_of()).check(dataset)
    task = PotentialTask(model_of(), learning_rate=1e-2, forces=False)
    result = run(dataset, task, tmp_path, steps=4, train=16)
    assert result.steps == 4
    assert read_header(result.model)["units"]["energy"] == "eV"
    assert_is_the_best(tmp_path, load(result.model), Batch.from_data_list(frames[:3]))


def test_unknown_energies_and_forces_add_nothing(frames):
    """A structure without an energy, an atom without a force: the sum over all others, the divisor staying."""
    task = PotentialTask(model_of(mean=-400.0).double(), rho=0.5)
    batch = double(frames[:3])
    parameters, out = list(task.model.parameters()), task.potential(batch)
    energy, force = (out["energy"] - batch.energy).square(), (out["forces"] - batch.forces).square()
    expected = (0.5 * (energy[0] + energy[2]) + (force.sum() - force[11].sum()) / 9) / 3
    gradients = torch.autograd.grad(expected, parameters)
    batch.energy[1], batch.forces[11] = NAN, NAN
    loss = task.loss_on(batch)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    for own, other in zip(torch.autograd.grad(loss, parameters), gradients, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-10, atol=1e-12)  # sums in another order
    logged = logged_by(task, [batch])
    assert logged["val/loss"] == pytest.approx(expected.item(), rel=1e-6)  # torchmetrics counts in float32
    errors = (out["forces"] - double(frames[:3]).forces).abs()
    known = (errors.sum() - errors[11].sum()) / 78
    assert logged["val/forces_mae [kcal/mol/Ang]"] == pytest.approx(
        known.item() * conversion("eV", "kcal/mol"), rel=1e-6
    )


def test_potentials_are_learnt_in_electronvolts(frames):
    dataset = frames.copy(range(4))
    dataset.units = {"energy": "kcal/mol"}
    with pytest.raises(ValueError, match="potentials are learnt in eV, the dataset has energies in kcal/mol; convert"):
        PotentialTask(model_of()).check(dataset)


@pytest.mark.parametrize("name", ["E.tot", "train", "keys", "homo-lumo [eV]", "index of refraction"])
def test_targets_of_any_name(tmp_path, name):
    """Also those that a module could not have, and that of a column of `y`, whose values PyG does not change."""
    structures = [Data(z=torch.tensor([1, 1]), pos=torch.eye(3)[:2] * (1 + i / 20), y=torch.ones(1)) for i in range(12)]
    dataset = as_dataset(structures)
    dataset.targets = {name: 0}
    data = SplitDataModule(dataset, {"train": range(8), "val": range(8, 12)}, batch_size=4)
    fit(PropertyTask(model_of(), name), data, tmp_path / "run", max_steps=2, logger=True, enable_progress_bar=False)
    assert f"val/{name}_mae" in next(tmp_path.rglob("metrics.csv")).read_text()


@pytest.mark.parametrize("key", ["my_index", "batch_gap", "face"])
def test_keys_that_pyg_counts_up(key):
    """The gap of the second structure of a batch would be higher by the number of atoms of the first."""
    structures = [Data(z=torch.tensor([1, 1]), pos=torch.zeros(2, 3), **{key: torch.ones(1)}) for _ in range(2)]
    with pytest.raises(ValueError, match=f"`{key}` cannot be learnt: PyG adds"):
        find_target(structures, key)
