"""Options of Lightning's trainer: each works or is refused in a sentence that says what to do."""

import warnings
from datetime import timedelta

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint, Timer, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger

from pyg_schnet import SchNet, load
from pyg_schnet.datasets import MD17
from pyg_schnet.training import PotentialTask, PropertyTask, RunTrainer, SplitDataModule, fit
from pyg_schnet.training import options as options_module


def named(value):
    """Names of options; their values may be objects with an address in their text."""
    return "-".join(value) if isinstance(value, dict) else None


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return MD17(tmp_path_factory.mktemp("md17"), "ethanol_xtb", log=False)[:24]


def run(dataset, folder, task=None, **options):
    torch.manual_seed(0)
    data = SplitDataModule(dataset, {"train": range(16), "val": range(16, 24)}, batch_size=4)
    task = PotentialTask(SchNet(8, 8, 1, 10, cutoff=4.0)) if task is None else task
    if not {"max_steps", "max_epochs", "max_time", "max_minutes"} & options.keys():
        options["max_steps"] = 5
    return fit(task, data, folder, **({"logger": False, "accelerator": "cpu", "validate_every": 4} | options))


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "bf16-mixed"},
        {"precision": "bf16-mixed", "gradient_clip_val": 1.0},
        {"precision": "16-mixed", "gradient_clip_val": 1.0, "gradient_clip_algorithm": "value"},
        {"precision": "64-true"},
        {"precision": 64, "gradient_clip_val": 1.0},
        {"gradient_clip_val": 0.5, "gradient_clip_algorithm": "value"},
        {"accumulate_grad_batches": 2},
        {"limit_train_batches": 2},
        {"limit_train_batches": 0.5},
        {"limit_val_batches": 1},
        {"overfit_batches": 1},
        {"detect_anomaly": True},
        {"deterministic": True},
        {"benchmark": True},
        {"profiler": "simple"},
        {"enable_progress_bar": False},
        {"enable_model_summary": True},
        {"enable_checkpointing": True},
        {"inference_mode": False},
        {"num_sanity_val_steps": 1},
        {"reload_dataloaders_every_n_epochs": 1},
        {"min_epochs": 1, "max_epochs": 2},
        {"max_steps": 5.0},
        {"max_time": "00:00:10:00", "max_steps": 5},
        {"max_time": {"minutes": 10}, "max_steps": 5},
        {"max_time": timedelta(minutes=10), "max_steps": 5},
        {"max_minutes": 10, "max_steps": 5},
        {"log_every_n_steps": 1, "logger": True},
    ],
    ids=named,
)
def test_options_that_work(dataset, tmp_path, options):
    """The last step is validated, the model is written and is made of numbers."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")  # it has something to say about some
        result = run(dataset, tmp_path, **options)
    assert result.best_step > 0
    assert result.steps == (8 if "max_epochs" in options else 5)
    model = load(result.model)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert model.embedding.weight.dtype == (torch.float64 if "64" in str(options.get("precision")) else torch.float32)
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"enable_checkpointing": False}, "the model of a run is its best checkpoint"),
        ({"fast_dev_run": True}, "`fast_dev_run` stores nothing, .* try it out with `max_steps=2`"),
        ({"fast_dev_run": 3}, "`fast_dev_run` stores nothing"),
        ({"barebones": True}, "`barebones` stores nothing"),
        ({"inference_mode": True}, "forces are derivatives"),
        ({"use_distributed_sampler": True}, "shares out the batches itself"),
        ({"check_val_every_n_epoch": 3}, "set that instead of `check_val_every_n_epoch`"),
        ({"val_check_interval": 0.5}, "set that instead of `val_check_interval`"),
        ({"val_check_interval": 1}, "set that instead of `val_check_interval`"),
        ({"limit_val_batches": 0}, "leave out `limit_val_batches=0`"),
        ({"precision": "16-true"}, "too coarse to learn energies, got precision='16-true'; choose 'bf16-mixed'"),
        ({"precision": "bf16-true"}, "too coarse to learn energies"),
        ({"max_steps": 2.5}, "`max_steps` must be a number of steps, or -1 for no limit, got 2.5"),
        ({"max_minutes": 0}, "`max_minutes` must be positive, got 0"),
        ({"max_minutes": 1, "max_time": "00:00:01:00"}, "expected `max_minutes` or `max_time`, got both"),
        ({"validate_every": 0}, "`validate_every` must be at least 1 step, got 0"),
        ({"patience": 0}, "`patience` must be at least 1, got 0"),
        ({"ema_decay": 1.0}, "`ema_decay` must be at least 0 and below 1, got 1.0"),
        ({"callbacks": [EMAWeightAveraging(decay=0.9)]}, "averages its weights already; set `ema_decay`"),
        ({"accelerator": "tpus"}, "tpus"),
    ],
    ids=named,
)
def test_options_that_are_refused(dataset, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run(dataset, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_callbacks_of_our_kinds_stand_beside_ours(dataset, tmp_path):
    own = [
        ModelCheckpoint(tmp_path / "own", "mine", monitor="val/loss"),
        EarlyStopping("val/loss", patience=50),
        TQDMProgressBar(),
        Timer("00:01:00:00"),
    ]
    result = run(dataset, tmp_path / "run", callbacks=own, logger=[CSVLogger(tmp_path / "mine")])
    assert (tmp_path / "own" / "mine.ckpt").exists()
    assert (tmp_path / "mine").is_dir()
    assert result.best_step == 5
    resumed = [ModelCheckpoint(tmp_path / "own", "mine", monitor="val/loss"), EarlyStopping("val/loss", patience=50)]
    assert run(dataset, tmp_path / "run", callbacks=resumed, max_steps=9, resume=True).best_step == 9


def test_timer_is_a_limit(dataset, tmp_path):
    data = SplitDataModule(dataset, {"train": range(16), "val": range(16, 24)}, batch_size=4)
    trainer = RunTrainer(tmp_path, callbacks=Timer(timedelta(seconds=0.1)), logger=False, accelerator="cpu")
    assert trainer.run(PotentialTask(SchNet(4, 4, 1)), data).steps > 0


@pytest.mark.parametrize("kind", [PotentialTask, lambda model: PropertyTask(model, "energy")])
def test_models_in_float64_take_data_as_they_come(dataset, tmp_path, kind):
    """Positions are stored in float32; the model stays what it is."""
    assert dataset[0].pos.dtype == torch.float32
    result = run(dataset, tmp_path, task=kind(SchNet(8, 8, 1, 10, cutoff=4.0).double()))
    assert load(result.model).embedding.weight.dtype == torch.float64


def test_weights_are_averaged_in_the_precision_of_the_run(dataset, tmp_path):
    """Averages of float32 would have only so many digits."""
    model = load(run(dataset, tmp_path, precision="64-true", max_steps=8).model)
    weight = model.embedding.weight
    assert not torch.equal(weight, weight.float().double())


@pytest.mark.parametrize("asked", ["auto", "gpu"])
def test_apples_gpu_is_left_alone(dataset, tmp_path, monkeypatch, asked, capfd):
    monkeypatch.setattr(options_module.MPSAccelerator, "is_available", staticmethod(lambda: True))
    monkeypatch.setattr(options_module.CUDAAccelerator, "is_available", staticmethod(lambda: False))
    assert run(dataset, tmp_path, accelerator=asked).steps == 5
    said = capfd.readouterr().err
    assert said.count("the run takes the CPU: energies are summed in float64") == 1
    with pytest.raises(ValueError, match="float64, which accelerator='mps' does not have; choose accelerator='cpu'"):
        run(dataset, tmp_path / "mps", accelerator="mps")
