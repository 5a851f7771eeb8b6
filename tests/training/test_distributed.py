"""Two processes with half of each mini-batch do what one does with the whole."""

import subprocess
import sys
from pathlib import Path

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


def main():
    dataset = MD17(root, "ethanol_xtb", log=False)
    data = SplitDataModule(dataset, random_split(len(dataset), 64, 9, seed=0), batch_size=16, seed=5)
    model = SchNet(16, 16, 2, num_gaussians=20, cutoff=6.0)
    strategy = "ddp" if processes > 1 else "auto"
    where = {"accelerator": "cpu", "devices": processes, "strategy": strategy}
    trainer = RunTrainer(folder, max_steps=8, validate_every=4, callbacks=[Keep()], **where)
    result = trainer.run(PotentialTask(model, rho=0.1), data)
    torch.save({"gradients": Keep.gradients, "loss": result.validation_loss}, f"{folder}/seen-{trainer.global_rank}.pt")


if __name__ == "__main__":
    main()
"""


def run(script: Path, root: Path, folder: Path, processes: int) -> list[dict]:
    words = [sys.executable, str(script), str(root), str(folder), str(processes)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"seen-{rank}.pt") for rank in range(processes)]


def test_two_processes_give_the_gradients_and_errors_of_one(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    (alone,) = run(script, tmp_path / "data", tmp_path / "one", 1)
    both = run(script, tmp_path / "data", tmp_path / "two", 2)
    assert len(alone["gradients"]) == 8
    for rank in both:
        # gradients of the same weights; later steps follow from them through Adam, which divides by their size
        for name, gradient in alone["gradients"][0].items():
            difference = (rank["gradients"][0][name] - gradient).abs().max()
            assert difference <= 1e-6 * max(gradient.abs().max(), 1.0), name
        # validation of 9 examples by 2 processes counts each example once
        assert abs(rank["loss"] / alone["loss"] - 1) < 1e-4  # eight steps of float32 sums in another order
    for name, gradient in both[0]["gradients"][-1].items():
        assert torch.equal(gradient, both[1]["gradients"][-1][name]), name
    one, two = (tmp_path / folder / "model.safetensors" for folder in ("one", "two"))
    from pyg_schnet import load

    for first, second in zip(load(one).parameters(), load(two).parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-5)
    assert not list((tmp_path / "two").glob(".part-*"))
