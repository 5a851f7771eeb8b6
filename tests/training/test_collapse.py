"""Runs that lose what they had learnt: what is said, once, and what is kept."""

import pytest
import torch
from lightning.pytorch import Callback

from pyg_schnet import SchNet
from pyg_schnet.datasets import MD17, random_split
from pyg_schnet.training import PotentialTask, SplitDataModule, fit


class Blow(Callback):
    """Makes all forces ten thousand times too large after a step, and takes that back after another."""

    def __init__(self, ruined, mended=None):
        self.ruined, self.mended, self.kept = ruined, mended, {}

    def on_train_batch_start(self, trainer, task, batch, batch_idx):
        if trainer.global_step == self.ruined:
            self.kept = {name: one.clone() for name, one in task.state_dict().items()}
            with torch.no_grad():
                task.model.output.lin2.weight.mul_(1e4)
        if trainer.global_step == self.mended:
            task.load_state_dict(self.kept)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    frames = MD17(tmp_path_factory.mktemp("md17"), "ethanol_xtb", log=False)
    return SplitDataModule(frames, random_split(len(frames), 32, 8), batch_size=8, seed=5)


def run(data, folder, blow, max_steps=32, **options):
    torch.manual_seed(0)
    task = PotentialTask(SchNet(4, 4, 1, num_gaussians=8, cutoff=4.0), rho=0.1, learning_rate=1e-4)
    options |= {"accelerator": "cpu", "ema_decay": 0.0}
    return fit(task, data, folder, max_steps=max_steps, validate_every=4, callbacks=blow, **options)


def test_said_once_and_the_best_is_kept(data, tmp_path, capsys):
    result = run(data, tmp_path, Blow(8))
    said = capsys.readouterr().err
    assert said.count("the run has collapsed and will hardly recover; its best model is kept") == 1
    assert "at step 20, " in said
    assert "times what it was at step 8 (" in said
    assert "`learning_rate`" in said
    assert "`gradient_clip_val`" in said
    assert result.best_step == 8


def test_a_short_excursion_is_not_a_collapse(data, tmp_path, capsys):
    run(data, tmp_path, Blow(8, mended=16))
    assert "collapsed" not in capsys.readouterr().err


def test_a_run_that_goes_on_counts_on(data, tmp_path, capsys):
    """Two of three validations before the interruption, and what was said is not said again."""
    run(data, tmp_path, Blow(8), max_steps=16)
    assert "collapsed" not in capsys.readouterr().err
    run(data, tmp_path, Blow(-1), max_steps=24, resume=True)
    assert "collapsed" in capsys.readouterr().err
    run(data, tmp_path, Blow(-1), max_steps=40, resume=True)
    assert "collapsed" not in capsys.readouterr().err
