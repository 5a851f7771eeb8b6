"""Schedules of the learning rate: closed forms, warm-up, plateaus in a run, refusals."""

import math

import pytest
import torch

from pyg_schnet import SchNet
from pyg_schnet.datasets import MD17, random_split
from pyg_schnet.training import PotentialTask, PropertyTask, SplitDataModule, fit, read_checkpoint
from pyg_schnet.training.schedule import learning_rate_schedule


def rates(schedule, steps, *, losses=None, **options):
    """Learning rate of each step, the first being 0.5."""
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    defaults = {"decay": 0.9, "decay_steps": 5, "warmup_steps": 0, "patience": 2, "max_steps": -1}
    scheduler, seen = learning_rate_schedule(optimizer, schedule, **(defaults | options))["scheduler"], []
    for step in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(*([] if losses is None else [losses[step]]))
    return [*seen, optimizer.param_groups[0]["lr"]]


def test_exponential():
    assert rates("exponential", 12) == pytest.approx([0.5 * 0.9 ** (t / 5) for t in range(13)], rel=1e-12)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [4e-3 * 0.96 ** (t / 100_000) for t in range(5)]),
        ({"decay": 0.5}, [4e-3 * 0.5 ** (t / 100_000) for t in range(5)]),
        ({"decay_steps": 2}, [4e-3 * 0.96 ** (t / 2) for t in range(5)]),
        ({"warmup_steps": 3, "decay": 1.0}, [1e-3, 2e-3, 3e-3, 4e-3, 4e-3]),
    ],
    ids=lambda options: "-".join(options) if isinstance(options, dict) else "",
)
@pytest.mark.parametrize("kind", ["potential", "property"])
def test_options_of_a_task_reach_its_schedule(kind, options, expected):
    model = SchNet(8, 8, 1, 20, cutoff=5.0)
    task = PotentialTask(model, learning_rate=4e-3, **options)
    if kind == "property":
        task = PropertyTask(model, "U0", learning_rate=4e-3, **options)
    found = task.configure_optimizers()
    optimizer, scheduler, seen = found["optimizer"], found["lr_scheduler"]["scheduler"], []
    assert found["lr_scheduler"]["interval"] == "step"
    for _ in expected:
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert seen == pytest.approx(expected, rel=1e-12)


def test_cosine_ends_at_zero():
    seen = rates("cosine", 10, max_steps=10)
    assert seen == pytest.approx([0.25 * (1 + math.cos(math.pi * t / 10)) for t in range(11)], abs=1e-15)
    assert seen[0] == 0.5
    assert seen[-1] == pytest.approx(0, abs=1e-30)
    assert rates("cosine", 14, max_steps=10)[10:] == pytest.approx([0] * 5, abs=1e-30)


@pytest.mark.parametrize("schedule", ["exponential", "cosine"])
def test_warmup(schedule):
    """Equal parts of the schedule without it, which for a cosine begins where the warm-up ends."""
    seen = rates(schedule, 12, warmup_steps=3, max_steps=12)
    if schedule == "exponential":
        plain = rates(schedule, 12)
    else:
        plain = [0.5] * 3 + [0.5 * math.cos(math.pi / 2 * (t - 3) / 9) ** 2 for t in range(3, 13)]
    parts = [1 / 4, 2 / 4, 3 / 4] + [1.0] * 10
    assert seen == pytest.approx([part * rate for part, rate in zip(parts, plain, strict=True)], abs=1e-15)


def test_plateau():
    """After two validations without improvement; a thousandth is one, a millionth is none."""
    losses = [3.0, 3.0, 3.0 - 3e-6, 2.0, 2.0, 1.998, 5.0, 5.0]
    assert rates("plateau", 8, losses=losses, decay=0.5) == [0.5] * 3 + [0.25] * 5 + [0.125]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "linear"}, "unknown schedule 'linear'; expected one of 'exponential', 'cosine', 'plateau'"),
        ({"decay": 0.0}, "`decay` must be positive, .* got 0.0, 100000 and 0"),
        ({"decay_steps": 0}, "`decay_steps` at least 1"),
        ({"warmup_steps": -1}, "`warmup_steps` at least 0"),
        ({"schedule": "plateau", "decay": 1.0}, "must be below 1, .* got decay=1.0"),
        ({"schedule": "plateau", "warmup_steps": 5}, "has no warm-up; got decay=0.96, warmup_steps=5"),
        ({"plateau_patience": 0}, "`plateau_patience` must be at least 1, got 0"),
    ],
)
@pytest.mark.parametrize("kind", [PotentialTask, PropertyTask])
def test_bad_schedule(kind, options, message):
    arguments = {"targets": "U0"} if kind is PropertyTask else {}
    with pytest.raises(ValueError, match=message):
        kind(SchNet(4, 4, 1), **arguments, **options)


@pytest.mark.parametrize(("steps", "got"), [(-1, "no limit"), (10, "10")])
def test_cosine_needs_an_end(steps, got):
    with pytest.raises(ValueError, match=f"needs `max_steps` beyond the warm-up of 10 steps; got {got}"):
        rates("cosine", 1, max_steps=steps, warmup_steps=10)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return MD17(tmp_path_factory.mktemp("md17"), "ethanol_xtb", log=False)


class Interrupted(Exception):
    pass


def test_plateau_in_a_run(dataset, tmp_path):
    """A step at each validation, not at each epoch, and the same after an interruption."""

    def run(folder, stop=None, resume=False):
        torch.manual_seed(0)
        data = SplitDataModule(dataset, random_split(len(dataset), 8, 4), batch_size=4)
        task = PotentialTask(SchNet(4, 4, 1), schedule="plateau", decay=0.5, plateau_patience=2)
        task.validation_step = lambda batch, batch_idx: task.validation_loss.update(1.0)
        train = task.training_step

        def step(batch, batch_idx):
            if task.global_step == stop:
                raise Interrupted
            return train(batch, batch_idx)

        task.training_step = step
        return fit(task, data, tmp_path / folder, max_steps=20, validate_every=4, resume=resume, accelerator="cpu")

    run("whole")
    with pytest.raises(Interrupted):
        run("parts", stop=14)
    run("parts", resume=True)
    whole, parts = (read_checkpoint(tmp_path / folder / "last.ckpt") for folder in ("whole", "parts"))
    # validations after 4, 8, ..., 20 steps: the first is the best, the third and the fifth end a plateau of two
    assert whole["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(1e-3 / 4)
    assert whole["lr_schedulers"] == parts["lr_schedulers"]
    assert whole["optimizer_states"][0]["param_groups"] == parts["optimizer_states"][0]["param_groups"]
    assert all(torch.equal(value, parts["state_dict"][name]) for name, value in whole["state_dict"].items())


def test_cosine_in_a_run(dataset, tmp_path):
    task = PotentialTask(SchNet(4, 4, 1), schedule="cosine", warmup_steps=2)
    data = SplitDataModule(dataset, random_split(len(dataset), 8, 4), batch_size=4)
    fit(task, data, tmp_path, max_steps=8, validate_every=8, accelerator="cpu")
    last = read_checkpoint(tmp_path / "last.ckpt")
    assert last["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(0, abs=1e-30)


def test_a_trial_that_is_shorter_than_the_warmup(dataset, tmp_path, capsys):
    """A tenth of it is the warm-up, which is said; the rate still falls to zero."""
    task = PotentialTask(SchNet(4, 4, 1), schedule="cosine", warmup_steps=100, learning_rate=1e-3)
    data = SplitDataModule(dataset, random_split(len(dataset), 8, 4), batch_size=4)
    seen, train = [], task.training_step

    def step(batch, batch_idx):
        seen.append(task.optimizers().param_groups[0]["lr"])
        return train(batch, batch_idx)

    task.training_step = step
    fit(task, data, tmp_path, max_steps=20, validate_every=20, accelerator="cpu")
    assert (
        "the run of 20 steps is not longer than the warm-up of 100; its warm-up is 2 steps" in capsys.readouterr().err
    )
    expected = [1e-3 * min((t + 1) / 3, 1) * math.cos(math.pi / 2 * max(t - 2, 0) / 18) ** 2 for t in range(20)]
    assert seen == pytest.approx(expected, rel=1e-12)
