"""Training runs: learning, stopping, interruption and resumption, damaged files."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from torch.utils.data import DistributedSampler
from torch_geometric.loader import DataLoader

from pyg_schnet import Potential, SchNet, load
from pyg_schnet.datasets import MD17, load_split, random_split
from pyg_schnet.models import read_header
from pyg_schnet.training import (
    PotentialTask,
    RunTrainer,
    SplitDataModule,
    energy_forces_loss,
    fit,
    read_checkpoint,
)

SMALL = {"num_interactions": 1, "hidden_channels": 16, "num_filters": 16, "num_gaussians": 30, "cutoff": 6.0}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return MD17(tmp_path_factory.mktemp("md17"), "ethanol_xtb", log=False)


def task_and_data(dataset, num_train=64, num_val=32, *, seed=0, rho=0.01, batch_size=16, **arguments):
    torch.manual_seed(0)
    data = SplitDataModule(dataset, random_split(len(dataset), num_train, num_val), batch_size, seed)
    model = SchNet.preset("jcp2018", **(SMALL | arguments))
    model.reference.set(*data.energy_per_atom())
    return PotentialTask(model, rho, learning_rate=5e-3, decay_steps=20), data


def run(dataset, directory, *, max_steps=16, resume=False, task=None, **options):
    if task is None:
        task = task_and_data(dataset, **options)
    return fit(*task, directory, max_steps=max_steps, validate_every=4, resume=resume, accelerator="cpu")


def assert_same(first: Path, second: Path):
    """Weights, their average, optimizer, schedule and loops are equal to the last bit."""
    a, b = (read_checkpoint(folder / "last.ckpt") for folder in (first, second))
    for key in ("state_dict", "current_model_state"):
        assert a[key].keys() == b[key].keys()
        assert all(torch.equal(a[key][name], b[key][name]) for name in a[key])
    for state_a, state_b in zip(a["optimizer_states"], b["optimizer_states"], strict=True):
        for index, moments in state_a["state"].items():
            assert all(torch.equal(moments[name], state_b["state"][index][name]) for name in moments)
    assert a["lr_schedulers"] == b["lr_schedulers"]
    assert a["global_step"] == b["global_step"]
    model_a, model_b = (load(folder / "model.safetensors").state_dict() for folder in (first, second))
    assert all(torch.equal(model_a[name], model_b[name]) for name in model_a)


def test_overfits_32_frames(dataset):
    torch.manual_seed(0)
    batch = next(iter(DataLoader(dataset[:32], batch_size=32)))
    energy_mean, spread = batch.energy.mean(), batch.energy.std()
    model = SchNet.preset("jcp2018", num_interactions=2, num_gaussians=60, cutoff=6.0)
    model.reference.set(float(energy_mean) / 9, 1.0)
    potential, optimizer = Potential(model), torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.996)
    for _ in range(300):
        out = potential(batch)
        loss = energy_forces_loss(out["energy"], out["forces"], batch.energy, batch.forces, batch.batch, rho=0.01)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    # the untrained model is off by 100 % in the forces; a model that could not learn them would stay there
    assert (out["forces"] - batch.forces).norm() < 0.12 * batch.forces.norm()
    assert (out["energy"] - batch.energy).square().mean().sqrt() < 0.5 * spread


def test_files_and_result(dataset, tmp_path):
    result = run(dataset, tmp_path / "run")
    checkpoints = {"best.ckpt", "best-previous.ckpt", "last.ckpt", "last-previous.ckpt"}
    assert {"model.safetensors", "split.npz", "log", "tensorboard"} | checkpoints == {
        path.name for path in (tmp_path / "run").iterdir()
    }
    header = read_header(result.model)
    assert header["units"]["energy"] == "eV"
    assert header["training"]["steps"] == result.steps == 16
    json.dumps(header)
    split = load_split(tmp_path / "run" / "split.npz", dataset)
    assert {name: len(part) for name, part in split.items()} == {"train": 64, "val": 32, "test": 1904}
    assert split.made["seed"] == 0


def test_further_facts_are_in_the_header(dataset, tmp_path):
    task, data = task_and_data(dataset)
    result = fit(task, data, tmp_path, max_steps=4, validate_every=4, accelerator="cpu", info={"purpose": "a test"})
    assert read_header(result.model)["training"]["purpose"] == "a test"


def test_written_model_is_the_average_of_the_best_step(dataset, tmp_path):
    result = run(dataset, tmp_path)
    best = read_checkpoint(tmp_path / "best.ckpt")
    model = load(result.model)
    assert torch.equal(model.embedding.weight, best["state_dict"]["potential.model.embedding.weight"])
    assert not torch.equal(model.embedding.weight, best["current_model_state"]["potential.model.embedding.weight"])


def test_written_model_is_the_best_when_it_is_not_the_last(dataset, tmp_path):
    task, data = task_and_data(dataset)
    losses, end = iter([5.0, 1.0, 3.0, 4.0]), task.end_validation

    def ended():  # the second validation is the best
        task.validation_loss.reset()
        task.validation_loss.update(torch.tensor(next(losses)))
        end()

    task.end_validation = ended
    result = fit(task, data, tmp_path, max_steps=16, validate_every=4, accelerator="cpu")
    best, last = (read_checkpoint(tmp_path / f"{name}.ckpt") for name in ("best", "last"))
    assert (result.best_step, best["global_step"], last["global_step"]) == (8, 8, 16)
    assert (result.validation_loss, result.steps) == (1.0, 16)
    weights = load(result.model).embedding.weight
    assert torch.equal(weights, best["state_dict"]["potential.model.embedding.weight"])
    assert not torch.equal(weights, last["state_dict"]["potential.model.embedding.weight"])


@pytest.mark.parametrize(("every", "epochs"), [(1, 1), (4, 1), (5, 2), (7, 2), (8, 2), (9, 3)])
def test_validations_are_rounded_up_to_epochs(dataset, tmp_path, every, epochs):
    task, data = task_and_data(dataset)  # four steps an epoch
    seen = []
    task.on_train_start = lambda: seen.append(task.trainer.check_val_every_n_epoch)  # the last step is validated anyway
    RunTrainer(tmp_path, max_steps=1, validate_every=every, accelerator="cpu", logger=False).run(task, data)
    assert seen == [epochs]


@pytest.mark.parametrize(("options", "decay"), [({}, 0.99), ({"ema_decay": 0.3}, 0.3)])
def test_average_follows_its_recursion(dataset, tmp_path, options, decay):
    """With decay 0.99, as by default, the average of p1, p2 after two steps is 0.99 p1 + 0.01 p2."""
    seen = []
    task, data = task_and_data(dataset, 32)
    task.on_before_zero_grad = lambda optimizer: seen.append(task.model.embedding.weight.detach().clone())
    fit(task, data, tmp_path, max_steps=2, validate_every=1, accelerator="cpu", **options)
    last = read_checkpoint(tmp_path / "last.ckpt")
    current = last["current_model_state"]["potential.model.embedding.weight"]
    average = last["state_dict"]["potential.model.embedding.weight"]
    torch.testing.assert_close(average, decay * seen[1] + (1 - decay) * current)


def targets(batch):
    return {"energy_target": batch.energy, "forces_target": batch.forces}


@pytest.mark.parametrize("number", [32, 23])
def test_validation_loss_is_that_of_the_written_model(dataset, tmp_path, number):
    """Each example counts once, also those of a smaller last mini-batch."""
    result = run(dataset, tmp_path, num_val=number)
    _, data = task_and_data(dataset, num_val=number)
    potential, loss = Potential(load(result.model)), 0.0
    for batch in data.val_dataloader():
        out = potential(batch)
        one = energy_forces_loss(**out, **targets(batch), batch=batch.batch, rho=0.01).item()
        loss += one * batch.num_graphs / number
    assert result.validation_loss == pytest.approx(loss, rel=1e-5)  # float32 sums in another order


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("stop", [6, 11])
def test_resumed_equals_uninterrupted_bit_for_bit(dataset, tmp_path, stop):
    run(dataset, tmp_path / "whole")
    task, data = task_and_data(dataset)
    steps = iter(range(100))
    training_step = task.training_step

    def interrupted_step(batch, batch_idx):
        if next(steps) == stop:
            raise Interrupted
        return training_step(batch, batch_idx)

    task.training_step = interrupted_step
    with pytest.raises(Interrupted):
        run(dataset, tmp_path / "parts", task=(task, data))
    result = run(dataset, tmp_path / "parts", resume=True)
    assert result.steps == 16
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_prolonged_equals_uninterrupted(dataset, tmp_path):
    run(dataset, tmp_path / "whole")
    run(dataset, tmp_path / "parts", max_steps=8)
    run(dataset, tmp_path / "parts", max_steps=16, resume=True)
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_run_that_ends_before_its_first_validation(dataset, tmp_path):
    task, data = task_and_data(dataset)
    result = fit(task, data, tmp_path, max_steps=2, validate_every=1000, accelerator="cpu")
    assert result.steps == result.best_step == 2
    loss = 0.0
    for batch in data.val_dataloader():
        out = Potential(load(result.model))(batch)
        loss += energy_forces_loss(**out, **targets(batch), batch=batch.batch, rho=0.01).item() * batch.num_graphs / 32
    assert result.validation_loss == pytest.approx(loss, rel=1e-5)  # float32 sums in another order
    with pytest.raises(FileExistsError, match="already holds a run"):
        fit(task, data, tmp_path, max_steps=2, accelerator="cpu")
    with pytest.raises(FileExistsError, match="ended before its first checkpoint"):
        fit(task, data, tmp_path, max_steps=4, resume=True, accelerator="cpu")


def test_early_stopping(dataset, tmp_path):
    task, data = task_and_data(dataset)
    task.hparams["learning_rate"] = 1e-12  # nothing is learnt
    result = fit(task, data, tmp_path, max_steps=1000, validate_every=4, patience=2, accelerator="cpu")
    assert result.steps <= 16


def test_existing_run_is_not_overwritten(dataset, tmp_path):
    result = run(dataset, tmp_path, max_steps=4)
    before = result.model.read_bytes()
    with pytest.raises(FileExistsError, match="already holds a run; go on with it"):
        run(dataset, tmp_path, max_steps=4)
    assert result.model.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rho": 0.1}, "other settings .*rho was 0.01, now 0.1"),
        ({"hidden_channels": 8}, "other settings .*config"),
        ({"seed": 1}, "another split, batch size or seed"),
        ({"num_train": 48}, "another split, batch size or seed"),
        ({"num_val": 16}, "another split, batch size or seed"),
        ({"batch_size": 8}, "another split, batch size or seed"),
    ],
)
def test_resuming_another_run_is_refused(dataset, tmp_path, change, message):
    run(dataset, tmp_path, max_steps=4)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(ValueError, match=message):
        run(dataset, tmp_path, max_steps=8, resume=True, **change)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}


def test_truncated_checkpoint(dataset, tmp_path):
    run(dataset, tmp_path, max_steps=4)
    content = (tmp_path / "last.ckpt").read_bytes()[:5000]
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        run(dataset, tmp_path, max_steps=8, resume=True)
    assert (tmp_path / "last.ckpt").read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps(print)])
def test_unreadable_checkpoint(dataset, tmp_path, content):
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(ValueError, match="not a readable checkpoint .*; remove it to start the run again"):
        run(dataset, tmp_path, resume=True)
    assert (tmp_path / "last.ckpt").read_bytes() == content


class Touch:
    """What makes a file as soon as it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_in_a_checkpoint_is_executed(tmp_path):
    torch.save({"global_step": Touch(tmp_path / "executed")}, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="last.ckpt is not a readable checkpoint"):
        read_checkpoint(tmp_path / "last.ckpt")
    assert not (tmp_path / "executed").exists()


def test_run_without_end(dataset, tmp_path):
    with pytest.raises(ValueError, match="a run needs an end"):
        fit(*task_and_data(dataset), tmp_path)


@pytest.mark.parametrize(
    "arguments", [{"rho": -1.0}, {"learning_rate": 0.0}, {"decay_steps": 0}, {"energy_unit": "erg"}]
)
def test_bad_protocol(arguments):
    with pytest.raises(ValueError, match="got|unknown unit"):
        PotentialTask(SchNet(16, 16, 1), **arguments)


def test_learning_rate_decays_continuously():
    task = PotentialTask(SchNet(16, 16, 1), learning_rate=1e-3, decay=0.96, decay_steps=100_000)
    schedule = task.configure_optimizers()["lr_scheduler"]["scheduler"].lr_lambdas[0]
    assert schedule(0) == 1.0
    assert schedule(50_000) == pytest.approx(0.96**0.5)
    assert schedule(200_000) == pytest.approx(0.96**2)


def test_impossible_batch_size_is_refused(dataset):
    with pytest.raises(ValueError, match="`batch_size` must be at least 1, got 0"):
        SplitDataModule(dataset, {"train": torch.arange(5), "val": torch.arange(5, 8)}, batch_size=0)


def test_overlapping_split_is_refused(dataset):
    with pytest.raises(ValueError, match="overlap"):
        SplitDataModule(dataset, {"train": torch.arange(5), "val": torch.arange(4, 8)})


def test_statistics_are_those_of_the_training_set(dataset):
    _, data = task_and_data(dataset)
    energies = torch.stack([dataset[int(index)].energy for index in data.split["train"]]) / 9
    mean, std = data.energy_per_atom()
    assert mean == pytest.approx(float(energies.mean()), rel=1e-12)
    assert std == pytest.approx(float(energies.std()), rel=1e-9)


@pytest.mark.parametrize("device", [None, "cpu"])
def test_batches_are_those_of_pyg(dataset, device):
    """The fast loader changes neither the order nor a bit, so that runs of before it can be resumed."""
    _, data = task_and_data(dataset, seed=3)
    data.device = device
    subset = dataset[data.split["train"]]
    sampler = DistributedSampler(subset, 1, 0, shuffle=True, seed=3)
    loader = data.train_dataloader()
    assert loader.why_slow is None
    for epoch in (0, 5):
        sampler.set_epoch(epoch)
        loader.sampler.set_epoch(epoch)  # what Lightning does
        for ours, pygs in zip(loader, DataLoader(subset, 16, sampler=sampler, drop_last=True), strict=True):
            assert list(ours.to_dict()) == list(pygs.to_dict())
            assert all(torch.equal(ours[key], value) for key, value in pygs.to_dict().items())


def test_split_of_a_larger_dataset_is_refused(dataset):
    with pytest.raises(ValueError, match="expected them between 0 and 99; is the split of another dataset"):
        SplitDataModule(dataset[:100], random_split(200, 100, 50))
