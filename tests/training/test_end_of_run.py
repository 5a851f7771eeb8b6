"""The end of a run: its last step is validated whatever ends it, and runs still go on bit for bit."""

import os
import signal
from datetime import timedelta

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from pyg_schnet import SchNet, load
from pyg_schnet.datasets import MD17
from pyg_schnet.models import read_header
from pyg_schnet.training import PotentialTask, RunTrainer, SplitDataModule, fit, read_checkpoint

WEIGHTS = "potential.model.embedding.weight"


@pytest.fixture(autouse=True)
def _interruptible():
    """What a shell starts in the background ignores Ctrl-C; tests may be run so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return MD17(tmp_path_factory.mktemp("md17"), "ethanol_xtb", log=False)


def task_and_data(dataset, **options):
    """Four steps an epoch."""
    torch.manual_seed(0)
    data = SplitDataModule(dataset, {"train": range(32), "val": range(32, 48)}, batch_size=8)
    return PotentialTask(SchNet(8, 8, 1, 10, cutoff=4.0), learning_rate=5e-3, **options), data


def run(dataset, folder, task=None, **options):
    """A validation after every second epoch."""
    task, data = task_and_data(dataset) if task is None else task
    options = {"validate_every": 8, "logger": False, "accelerator": "cpu", "enable_progress_bar": False} | options
    return fit(task, data, folder, **options)


def at_step(task_and_data, step, act):
    """The task that does something in a step."""
    task, _ = task_and_data
    train = task.training_step

    def training_step(batch, batch_idx):
        if task.global_step == step - 1:
            act()
        return train(batch, batch_idx)

    task.training_step = training_step
    return task_and_data


def validated(folder):
    return read_checkpoint(folder / "last.ckpt")["global_step"]


def assert_same(first, second):
    """The state to go on from and the best one are equal to the last bit."""
    for name in ("last.ckpt", "best.ckpt"):
        a, b = (read_checkpoint(folder / name) for folder in (first, second))
        assert a["global_step"] == b["global_step"]
        assert a["lr_schedulers"] == b["lr_schedulers"]
        for key in ("state_dict", "current_model_state"):
            assert all(torch.equal(a[key][one], b[key][one]) for one in a[key])
    a, b = (load(folder / "model.safetensors").state_dict() for folder in (first, second))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("limits", "steps"), [({"max_steps": 10}, 10), ({"max_steps": 12}, 12), ({"max_epochs": 3}, 12)]
)
def test_last_step_is_validated_at_the_limits(dataset, tmp_path, limits, steps):
    """The loss still falls, so that the last step is the best; regular validations end at step 8."""
    result = run(dataset, tmp_path, **limits)
    assert (result.steps, result.best_step, validated(tmp_path)) == (steps, steps, 8)
    best = read_checkpoint(tmp_path / "best.ckpt")
    assert best["global_step"] == steps
    assert torch.equal(load(result.model).embedding.weight, best["state_dict"][WEIGHTS])
    assert not torch.equal(best["state_dict"][WEIGHTS], best["current_model_state"][WEIGHTS])


def test_last_step_is_no_better_than_it_is(dataset, tmp_path):
    losses, (task, data) = iter([1.0, 2.0]), task_and_data(dataset)
    end = task.end_validation

    def ended():
        task.validation_loss.reset()
        task.validation_loss.update(torch.tensor(next(losses)))
        end()

    task.end_validation = ended
    result = run(dataset, tmp_path, task=(task, data), max_steps=10)
    assert (result.steps, result.best_step, result.validation_loss) == (10, 8, 1.0)


class StopAt(Callback):
    """What a timer does."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.should_stop |= trainer.global_step == self.step


def test_last_step_is_validated_when_something_stops_the_run(dataset, tmp_path):
    result = run(dataset, tmp_path, callbacks=StopAt(11), max_steps=100)
    assert (result.steps, result.best_step, validated(tmp_path)) == (11, 11, 8)


def test_last_step_is_validated_at_the_end_of_the_time(dataset, tmp_path):
    result = run(dataset, tmp_path, max_minutes=1e-3)
    assert result.best_step == result.steps > 0


@pytest.mark.parametrize("steps", [10, 12])
def test_prolonged_after_a_last_step_equals_uninterrupted(dataset, tmp_path, steps):
    """What was validated out of turn counts no longer, neither for the best model nor for anything else."""
    run(dataset, tmp_path / "whole", max_steps=18)
    run(dataset, tmp_path / "parts", max_steps=steps)
    assert read_checkpoint(tmp_path / "parts" / "best.ckpt")["global_step"] == steps
    run(dataset, tmp_path / "parts", max_steps=18, resume=True)
    assert_same(tmp_path / "whole", tmp_path / "parts")


def interrupt():
    raise KeyboardInterrupt


def sent(number):
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("act", "done"),
    [(interrupt, 9), (sent(signal.SIGINT), 10), (sent(signal.SIGTERM), 10)],
    ids=["raised", "SIGINT", "SIGTERM"],
)
def test_interrupted_run_leaves_its_best_model_and_goes_on(dataset, tmp_path, act, done):
    run(dataset, tmp_path / "whole", max_steps=18)
    folder = tmp_path / "parts"
    message = f"interrupted at step {done}; the best model is .*; resume the run to go on from its last validation"
    with pytest.raises(SystemExit, match=message.replace("; resume", ", resume")):
        run(dataset, folder, task=at_step(task_and_data(dataset), 10, act), max_steps=18)
    training = read_header(folder / "model.safetensors")["training"]
    assert (training["best_step"], training["steps"], training["interrupted"]) == (done, done, True)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    run(dataset, folder, max_steps=18, resume=True)
    assert_same(tmp_path / "whole", folder)
    assert "interrupted" not in read_header(folder / "model.safetensors")["training"]


def test_second_interrupt_does_not_wait(dataset, tmp_path):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(SystemExit, match="interrupted at step 9; resume the run to go on from its last validation"):
        run(dataset, tmp_path, task=at_step(task_and_data(dataset), 10, twice), max_steps=18)
    assert not (tmp_path / "model.safetensors").exists()


def test_interrupted_before_its_first_validation(dataset, tmp_path):
    """The model is there; the run begins anew, which comes to the same."""
    run(dataset, tmp_path / "whole", max_steps=10)
    with pytest.raises(SystemExit, match="interrupted at step 3; .* begin it anew, because no regular validation"):
        run(dataset, tmp_path / "parts", task=at_step(task_and_data(dataset), 3, sent(signal.SIGINT)), max_steps=10)
    assert read_header(tmp_path / "parts" / "model.safetensors")["training"]["best_step"] == 3
    with pytest.raises(FileExistsError, match="already holds a run"):
        run(dataset, tmp_path / "parts", max_steps=10)
    run(dataset, tmp_path / "parts", max_steps=10, resume=True)
    assert_same(tmp_path / "whole", tmp_path / "parts")


def test_best_state_of_an_earlier_run_is_not_taken(dataset, tmp_path):
    """Somebody has cleared the folder, but not of everything; the new run is worse and validates once."""
    run(dataset, tmp_path, max_steps=16)
    for name in ("last.ckpt", "last-previous.ckpt", "model.safetensors"):
        (tmp_path / name).unlink()
    result = run(dataset, tmp_path, max_steps=2)
    assert result.best_step == 2
    (tmp_path / "model.safetensors").unlink()
    run(dataset, tmp_path / "other", max_steps=16)
    for name in ("last.ckpt", "best.ckpt"):
        (tmp_path / name).write_bytes((tmp_path / "other" / name).read_bytes())
    (tmp_path / "best.ckpt").unlink()  # a best state that is gone is found anew
    result = run(dataset, tmp_path, max_steps=18, resume=True)
    assert result.best_step == 18


def test_folder_may_be_moved_before_it_goes_on(dataset, tmp_path):
    run(dataset, tmp_path / "whole", max_steps=18)
    run(dataset, tmp_path / "before", max_steps=8)
    (tmp_path / "before").rename(tmp_path / "after")
    run(dataset, tmp_path / "after", max_steps=18, resume=True)
    assert_same(tmp_path / "whole", tmp_path / "after")


def test_checkpoints_of_before_go_on(dataset, tmp_path):
    """Their callbacks have Lightning's names; what was best is not forgotten."""
    run(dataset, tmp_path / "whole", max_steps=18)
    run(dataset, tmp_path / "parts", max_steps=8)
    for name in ("last.ckpt", "best.ckpt"):
        state = read_checkpoint(tmp_path / "parts" / name)
        names = {"BestCheckpoint": "ModelCheckpoint", "LastCheckpoint": "ModelCheckpoint", "Patience": "EarlyStopping"}
        for key in list(state["callbacks"]):
            kind = key.split("{")[0]
            state["callbacks"][key.replace(kind, names.get(kind, kind), 1)] = state["callbacks"].pop(key)
        assert any(key.startswith("EarlyStopping{") for key in state["callbacks"])
        later = "freeze", "backbone_rate", "weight_decay", "loss", "huber_delta"
        for setting in (*later, "energy_key", "forces_key", "stress_key"):
            del state["hyper_parameters"][setting]
        torch.save(state, tmp_path / "parts" / name)
    run(dataset, tmp_path / "parts", max_steps=18, resume=True)
    assert_same(tmp_path / "whole", tmp_path / "parts")
    run(dataset, tmp_path / "parts", max_minutes=10, max_steps=20, resume=True)


def test_users_own_checkpoints_stand_beside_ours(dataset, tmp_path):
    own = ModelCheckpoint(tmp_path / "own", "{step}", monitor="val/loss", mode="min")
    result = run(dataset, tmp_path / "run", callbacks=[own], max_steps=10)
    assert result.best_step == 10
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["step=10.ckpt"]


def rate_after(dataset, folder, **options):
    """Learning rate at the end, as part of the first."""
    task, data = task_and_data(dataset, schedule="cosine")
    run(dataset, folder, task=(task, data), **options)
    return read_checkpoint(folder / "best.ckpt")["optimizer_states"][0]["param_groups"][0]["lr"] / 5e-3


def test_cosine_ends_with_the_last_epoch(dataset, tmp_path):
    assert rate_after(dataset, tmp_path / "epochs", max_epochs=3) == pytest.approx(0, abs=1e-12)
    assert rate_after(dataset, tmp_path / "first", max_epochs=3, max_steps=6) == pytest.approx(0, abs=1e-12)
    assert rate_after(dataset, tmp_path / "later", max_epochs=1, max_steps=16) == pytest.approx(0, abs=1e-12)


def test_cosine_ends_with_the_time(dataset, tmp_path, monkeypatch):
    """Each step takes a second, of ten; what was used before an interruption counts, the interruption does not."""
    clock = [0.0]
    monkeypatch.setattr("lightning.pytorch.callbacks.timer.time.monotonic", lambda: clock[0])
    rates = []

    def run_for(seconds, resume):
        task, data = task_and_data(dataset, schedule="cosine")
        train = task.training_step

        def training_step(batch, batch_idx):
            rates.append(task.optimizers().param_groups[0]["lr"] / 5e-3)
            clock[0] += 1
            return train(batch, batch_idx)

        task.training_step = training_step
        time = timedelta(seconds=seconds)
        return run(dataset, tmp_path, task=(task, data), max_time=time, resume=resume, validate_every=4)

    assert run_for(10, False).steps == 10
    expected = torch.cos(torch.pi / 2 * torch.arange(10) / 10) ** 2
    torch.testing.assert_close(torch.tensor(rates), expected, rtol=1e-4, atol=1e-6)
    rates.clear()
    clock[0] += 1000
    assert run_for(20, True).steps == 20
    expected = torch.cos(torch.pi / 2 * torch.arange(9, 20) / 20) ** 2  # from the validation of step 8 on
    torch.testing.assert_close(torch.tensor(rates[1:]), expected, rtol=1e-4, atol=1e-6)


def test_least_number_of_steps_is_kept(dataset, tmp_path):
    """Whoever stops the run before it, it goes on, and its validations stay the regular ones."""
    result = run(dataset, tmp_path, callbacks=[StopAt(3)], min_steps=10, max_steps=20)
    assert result.steps >= 10
    assert validated(tmp_path) == 8


def test_trainer_can_be_used_again(dataset, tmp_path):
    trainer = RunTrainer(tmp_path, max_steps=10, validate_every=8, accelerator="cpu", logger=False)
    trainer.run(*task_and_data(dataset))
    again = RunTrainer(tmp_path, max_steps=18, validate_every=8, accelerator="cpu", logger=False)
    assert again.run(*task_and_data(dataset), resume=True).best_step == 18


def test_fewer_steps_than_were_gone_lose_nothing(dataset, tmp_path):
    """The best model, of a step that would not come again, was replaced by the one of the last regular validation."""
    run(dataset, tmp_path, max_steps=18)
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="has gone 16 steps, `max_steps` is 10; .*raise it"):
        run(dataset, tmp_path, max_steps=10, resume=True)
    assert (tmp_path / "model.safetensors").read_bytes() == before
