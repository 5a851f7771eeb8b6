"""Two processes with half of each mini-batch do what one does with the whole."""

import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

SCRIPT = """
import sys, warnings
import torch
from lightning.pytorch import Callback
from pyg_schnet import SchNet
from pyg_schnet.datasets import MD17, random_split
from pyg_schnet.training import PotentialTask, RunTrainer, SplitDataModule

root, folder, processes = sys.argv[1], sys.argv[2], int(sys.argv[3])
warnings.simplefilter("ignore")
torch.manual_seed(0)
torch.set_num_threads(1)
torch.set_default_dtype(torch.float32)


class Keep(Callback):
    gradients = []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.gradients.append({name: one.grad.clone() for name, one in module.named_parameters()})


class Spoiled(PotentialTask):
    # its loss is once no number in the last process, and there only; gradients are as they should be

    def training_step(self, batch, number):
        loss = super().training_step(batch, number)
        spoiled = self.trainer.global_step == 2 and self.trainer.global_rank == processes - 1
        return loss + float("nan") if spoiled else loss


def main():
    dataset = MD17(root, "ethanol_xtb", log=False)
    strategy = "ddp" if processes > 1 else "auto"
    where = {"accelerator": "cpu", "devices": processes, "strategy": strategy}

    def task_and_data(kind):
        torch.manual_seed(0)
        data = SplitDataModule(dataset, random_split(len(dataset), 64, 9, seed=0), batch_size=16, seed=5)
        return kind(SchNet(16, 16, 2, num_gaussians=20, cutoff=6.0), rho=0.1), data

    trainer = RunTrainer(folder, max_steps=8, validate_every=4, callbacks=[Keep()], **where)
    result = trainer.run(*task_and_data(PotentialTask))
    seen, message = {"gradients": Keep.gradients, "loss": result.validation_loss}, "none"
    spoiled = RunTrainer(f"{folder}/spoiled", max_steps=8, validate_every=4, **where)
    try:
        spoiled.run(*task_and_data(Spoiled))
    except FloatingPointError as error:
        message = str(error)
    torch.save(seen | {"message": message}, f"{folder}/seen-{trainer.global_rank}.pt")


if __name__ == "__main__":
    main()
"""


def run(script: Path, root: Path, folder: Path, processes: int) -> list[dict]:
    """What each process has seen; one alone is this one."""
    words = [str(script), str(root), str(folder), str(processes)]
    if processes == 1:
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            patch.setattr(sys, "argv", words)
            runpy.run_path(words[0], run_name="__main__")
    else:
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=400, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"seen-{rank}.pt") for rank in range(processes)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a script and what it left behind, by one process and by two."""
    folder = tmp_path_factory.mktemp("distributed")
    (folder / "script.py").write_text(SCRIPT)
    return folder


@pytest.fixture(scope="module")
def alone(folder):
    return run(folder / "script.py", folder / "data", folder / "one", 1)


@pytest.fixture(scope="module")
def both(folder, alone):
    return run(folder / "script.py", folder / "data", folder / "two", 2)


def test_two_processes_give_the_gradients_and_errors_of_one(folder, alone, both):
    assert len(alone[0]["gradients"]) == 8
    for rank in both:
        # gradients of the same weights; later steps follow from them through Adam, which divides by their size
        for name, gradient in alone[0]["gradients"][0].items():
            difference = (rank["gradients"][0][name] - gradient).abs().max()
            assert difference <= 1e-6 * max(gradient.abs().max(), 1.0), name
        # validation of 9 examples by 2 processes counts each example once
        assert abs(rank["loss"] / alone[0]["loss"] - 1) < 1e-4  # eight steps of float32 sums in another order
    for name, gradient in both[0]["gradients"][-1].items():
        assert torch.equal(gradient, both[1]["gradients"][-1][name]), name
    one, two = (folder / name / "model.safetensors" for name in ("one", "two"))
    from pyg_schnet import load

    for first, second in zip(load(one).parameters(), load(two).parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-5)
    assert not list((folder / "two").glob(".part-*"))


def test_a_loss_that_is_no_number_in_one_process_ends_all(folder, alone, both):
    """In the same step, with the same words; one that went on would wait for the other for ever."""
    for name, ranks in (("one", alone), ("two", both)):
        assert all(rank["message"].startswith("the loss is not finite at step 3, of the batch of") for rank in ranks)
        assert len({rank["message"] for rank in ranks}) == 1
        assert not (folder / name / "spoiled" / "last.ckpt").exists()
