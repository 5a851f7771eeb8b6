"""Runs that end in a loss that is no number, or without memory: what is said and what is kept."""

import re
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback

from pyg_schnet import SchNet
from pyg_schnet.datasets import MD17, random_split
from pyg_schnet.training import PotentialTask, SplitDataModule, fit, read_checkpoint
from pyg_schnet.training.nonfinite import LOOK_EVERY, NonFiniteGuard, out_of_memory


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    return MD17(tmp_path_factory.mktemp("md17"), "ethanol_xtb", log=False)


@pytest.fixture
def dataset(frames):
    """A hundred frames whose labels may be changed."""
    return frames.copy(range(100))


def task_and_data(dataset, **options):
    torch.manual_seed(0)
    task = PotentialTask(SchNet(4, 4, 1, num_gaussians=8, cutoff=4.0), rho=0.1, **options)
    return task, SplitDataModule(dataset, random_split(len(dataset), 32, 8), batch_size=8, seed=5)


def run(task, data, folder, max_steps=4, **options):
    """Four steps an epoch and a validation after each epoch."""
    return fit(task, data, folder, max_steps=max_steps, validate_every=4, accelerator="cpu", **options)


def named(examples):
    return re.escape(f"the batch of examples {', '.join(map(str, examples.tolist()))} (9 to 9 atoms each)")


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def finite(task):
    return all(parameter.isfinite().all() for parameter in task.parameters())


@pytest.mark.parametrize("label", ["forces", "energy"])
def test_infinite_label(dataset, tmp_path, label):
    """The second epoch meets it: step and examples are named, nothing of the first one is lost."""
    run(*task_and_data(dataset), tmp_path)
    before = files(tmp_path)
    task, data = task_and_data(dataset)
    task.prepare(data)
    batch = 2
    bad = data.examples_of(1, batch)
    dataset._data[label][int(bad[3]) * (9 if label == "forces" else 1)] = torch.inf
    way_back = re.escape(f"; the last good state is {tmp_path / 'last.ckpt'}")
    message = (
        f"the gradient is not finite at step 7, of {named(bad)}; look at these structures and labels, .*{way_back}"
    )
    with pytest.raises(FloatingPointError, match=message):
        run(task, data, tmp_path, max_steps=12, resume=True)
    assert files(tmp_path) == before
    assert finite(task)


def test_weights_that_are_no_numbers(dataset, tmp_path):
    """In the very first epoch, so that there is no way back."""
    task, data = task_and_data(dataset)
    train = task.training_step

    def step(batch, batch_idx):
        if task.global_step == 2:
            task.model.embedding.weight.data[6] = torch.nan
        return train(batch, batch_idx)

    task.training_step = step
    message = f"at step 3, of {named(data.examples_of(0, 2))}; .*; nothing was stored before"
    with pytest.raises(FloatingPointError, match=message):
        run(task, data, tmp_path)
    assert set(files(tmp_path)) == {"split.npz"}


def test_accumulated_gradient_names_all_its_batches(dataset, tmp_path):
    """Losses are finite, one of two gradients that are added up is not."""
    task, data = task_and_data(dataset)
    train = task.training_step

    def step(batch, batch_idx):
        loss = train(batch, batch_idx)
        return _bad_slope(loss) if batch_idx == 2 else loss

    task.training_step = step
    both = torch.cat([data.examples_of(0, 2), data.examples_of(0, 3)])
    with pytest.raises(FloatingPointError, match=f"the gradient is not finite at step 2, of {named(both)}"):
        run(task, data, tmp_path, accumulate_grad_batches=2)
    assert finite(task)


def _bad_slope(loss):
    """The loss itself, whose derivative is infinite."""
    return loss + (loss - loss.detach()).abs().sqrt()


@pytest.mark.parametrize("label", [float("inf"), 1e200])
def test_validation_loss(dataset, tmp_path, label):
    """It must neither be the best one nor be left out of the mean."""
    task, data = task_and_data(dataset)
    dataset._data.energy[int(data.split["val"][5])] = label
    with pytest.raises(FloatingPointError, match="the validation loss is inf at step 4; look for labels or positions"):
        run(task, data, tmp_path)
    assert set(files(tmp_path)) == {"split.npz"}


def test_a_batch_whose_loss_is_no_number_is_not_left_out_of_the_mean(dataset):
    task, _ = task_and_data(dataset)
    for loss in (1.0, float("nan"), 2.0):
        task.validation_loss.update(torch.tensor(loss), weight=8)
    assert task.validation_loss.compute().isnan()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
    ],
    ids=["gpu", "cpu", "library", "python"],
)
def test_out_of_memory(dataset, tmp_path, error):
    task, data = task_and_data(dataset)
    train = task.training_step

    def step(batch, batch_idx):
        if task.global_step == 5:
            raise error
        return train(batch, batch_idx)

    task.training_step = step
    message = (
        f"out of memory at step 6, with {named(data.examples_of(1, 1))}; take a smaller batch .*last good state is"
    )
    with pytest.raises(MemoryError, match=message) as caught:
        run(task, data, tmp_path, max_steps=8)
    assert caught.value.__cause__ is error
    assert read_checkpoint(tmp_path / "last.ckpt")["global_step"] == 4


def test_out_of_memory_in_a_validation(dataset, tmp_path):
    """No training batch is to blame."""
    task, data = task_and_data(dataset)

    def step(batch, batch_idx):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    task.validation_step = step
    with pytest.raises(
        MemoryError, match="out of memory after step 4, in a validation or at the start; take a smaller"
    ):
        run(task, data, tmp_path)


def test_other_errors_are_left_alone(dataset, tmp_path):
    assert not out_of_memory(RuntimeError("shapes do not match"))
    assert not out_of_memory(ValueError("out of memory"))
    task, data = task_and_data(dataset)

    def step(batch, batch_idx):
        raise RuntimeError("shapes do not match")

    task.training_step = step
    with pytest.raises(RuntimeError, match="^shapes do not match$"):
        run(task, data, tmp_path)


class Seen(Callback):
    """Positions of each batch, by epoch and number."""

    def __init__(self):
        self.batches = {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.batches[trainer.current_epoch, batch_idx] = batch.pos.clone()


@pytest.mark.parametrize("num_train", [32, 36, 5], ids=["whole", "rest", "less"])
def test_examples_of_a_batch(dataset, tmp_path, num_train):
    """They are those that the loader gave, in a run that was interrupted and went on, too."""
    seen, split = Seen(), random_split(len(dataset), num_train, 8)
    for steps, resume in ((8, False), (12, True)):
        task, _ = task_and_data(dataset)
        data = SplitDataModule(dataset, split, batch_size=8, seed=5)
        run(task, data, tmp_path, max_steps=steps, resume=resume, callbacks=[seen])
    assert len(seen.batches) == 12
    for (epoch, batch), positions in seen.batches.items():
        examples = data.examples_of(epoch, batch)
        assert len(examples) == min(8, num_train)
        assert torch.equal(torch.cat([dataset[int(k)].pos for k in examples]), positions)


class OfGpu:
    """Stands for a loss on a GPU."""

    device = SimpleNamespace(type="cuda")

    def __init__(self, value):
        self.value = value

    def detach(self):
        return torch.tensor(self.value)


@pytest.mark.parametrize("end", ["step", "validation", "epoch"])
def test_losses_on_a_gpu_are_gathered(end):
    """Nothing is asked of the device before so many steps, or before something is stored; the first one is named."""
    guard, trainer = NonFiniteGuard(), SimpleNamespace(world_size=1, datamodule=None, current_epoch=4, global_step=0)
    for batch in range(LOOK_EVERY - 1):
        trainer.global_step = batch
        guard.on_train_batch_start(trainer, None, None, batch)
        guard.on_train_batch_end(trainer, None, {"loss": OfGpu(torch.nan if batch in {3, 4} else 1.0)}, None, batch)
    ends = {
        "step": lambda: guard.on_train_batch_end(trainer, None, OfGpu(1.0), None, batch + 1),
        "validation": lambda: guard.on_validation_start(trainer, None),
        "epoch": lambda: guard.on_train_epoch_end(trainer, None),
    }
    with pytest.raises(FloatingPointError, match="the loss is not finite at step 4, of batch 3 of epoch 4"):
        ends[end]()
