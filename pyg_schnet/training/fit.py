"""A training run: from a task and its data to a model file."""

import pickle
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from pyg_schnet.models import save
from pyg_schnet.training.data import SplitDataModule
from pyg_schnet.training.progress import StepProgress
from pyg_schnet.training.task import PotentialTask


@dataclass(frozen=True)
class FitResult:
    """What a run gave.

    Attributes:
        model: File of the model that was best on the validation set, for :func:`pyg_schnet.load`.
        steps: Training steps in all.
        best_step: Step of the best model.
        seconds: Wall time of this call.
        steps_per_second: Speed of this call, validation included.
        validation_loss: The best model's loss on the validation set.
    """

    model: Path
    steps: int
    best_step: int
    seconds: float
    steps_per_second: float
    validation_loss: float


def fit(
    task: PotentialTask,
    data: SplitDataModule,
    directory: str | Path,
    *,
    max_steps: int = -1,
    max_minutes: float | None = None,
    validate_every: int = 500,
    patience: int = 100,
    ema_decay: float = 0.99,
    resume: bool = False,
    info: dict[str, Any] | None = None,
    **trainer_options: Any,
) -> FitResult:
    """Train until the steps or minutes are used up or the validation loss no longer falls.

    Validation, early stopping and the model that is written use an exponential moving average of the weights.
    ``directory`` gets ``model.safetensors`` (the best model), ``best.ckpt``, ``last.ckpt`` (everything needed to
    resume, no pickled code), ``split.npz`` and the log. A run that was interrupted goes on from its last validation
    with ``resume=True`` and ends, on a CPU, with the same weights bit for bit as if nothing had happened.

    Args:
        task: Model and protocol.
        data: Data and their split.
        directory: Folder of the run.
        max_steps: Largest number of steps in all; -1 for no limit.
        max_minutes: Largest time in all, interruptions not counted; ``None`` for no limit.
        validate_every: Steps between validations, rounded up to whole epochs.
        patience: Validations without improvement after which the run stops.
        ema_decay: Decay of the moving average of the weights at each step.
        resume: Whether to go on with the run in ``directory``; without one a new run begins.
        info: Further facts for the header of the model file.
        **trainer_options: Passed to Lightning's ``Trainer``, for example ``accelerator="gpu"``.

    Returns:
        File and figures of the best model.

    Raises:
        FileExistsError: If ``directory`` already holds a run and ``resume`` is false.
        ValueError: If there is no limit at all, or the checkpoint is damaged or belongs to another run.
    """
    if max_steps == -1 and max_minutes is None:
        raise ValueError("a run needs an end: pass `max_steps` or `max_minutes`")
    directory = Path(directory)
    checkpoint = directory / "last.ckpt"
    if checkpoint.exists() and not resume:
        raise FileExistsError(f"{directory} already holds a run; go on with it (resume) or choose another directory")
    directory.mkdir(parents=True, exist_ok=True)
    data.save_split(directory / "split.npz")

    steps_per_epoch = max(1, len(data.split["train"]) // data.batch_size)
    trainer = Trainer(
        max_steps=max_steps,
        max_epochs=-1,
        max_time=None if max_minutes is None else timedelta(minutes=max_minutes),
        check_val_every_n_epoch=-(-validate_every // steps_per_epoch),
        num_sanity_val_steps=0,
        inference_mode=False,
        use_distributed_sampler=False,
        log_every_n_steps=min(50, steps_per_epoch),
        enable_model_summary=False,
        logger=CSVLogger(directory, name="log"),
        callbacks=_callbacks(directory, patience, ema_decay),
        **trainer_options,
    )
    start, first_step = time.perf_counter(), 0
    if checkpoint.exists():
        first_step = read_checkpoint(checkpoint)["global_step"]
    trainer.fit(task, data, ckpt_path=str(checkpoint) if checkpoint.exists() else None, weights_only=True)
    seconds = time.perf_counter() - start
    return _write_best(task, directory, trainer.global_step, first_step, seconds, info or {})


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a training checkpoint; nothing in it is executed.

    Args:
        path: The file.

    Returns:
        Its contents.

    Raises:
        ValueError: If the file is damaged or contains more than plain data.
    """
    try:
        contents: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} is not a readable checkpoint ({reason}); remove it to start the run again, or restore a copy"
        ) from None
    return contents


def _callbacks(directory: Path, patience: int, ema_decay: float) -> list[Callback]:
    best: dict[str, Any] = {"monitor": "val/loss", "filename": "best", "enable_version_counter": False}
    last: dict[str, Any] = {
        "monitor": None,
        "filename": "last",
        "enable_version_counter": False,
        "save_on_train_epoch_end": False,
    }
    return [
        EMAWeightAveraging(decay=ema_decay, use_buffers=False),
        EarlyStopping("val/loss", patience=patience),
        ModelCheckpoint(directory, save_top_k=1, **best),
        ModelCheckpoint(directory, save_top_k=1, **last),
        StepProgress(),
    ]


def _write_best(
    task: PotentialTask, directory: Path, steps: int, first_step: int, seconds: float, info: dict[str, Any]
) -> FitResult:
    best = read_checkpoint(directory / "best.ckpt")
    task.load_state_dict(best["state_dict"])
    states = best["callbacks"].values()
    loss = next(float(state["best_model_score"]) for state in states if state.get("monitor") == "val/loss")
    path = directory / "model.safetensors"
    result = FitResult(path, steps, best["global_step"], seconds, (steps - first_step) / seconds, loss)
    figures = {name: value for name, value in asdict(result).items() if name != "model"}
    save(task.model, path, units={"energy": "eV", "pos": "Ang"}, training=info | dict(task.hparams) | figures)
    return result
