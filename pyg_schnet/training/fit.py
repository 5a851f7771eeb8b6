"""A training run: from a task and its data to a model file."""

import pickle
import time
import warnings
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

#: What Lightning warns of and we do on purpose (the last is Lightning's own use of torch).
_EXPECTED_WARNINGS = (
    "Checkpoint directory .* exists and is not empty",
    "The '.*_dataloader' does not have many workers",
    ".*LeafSpec.* is deprecated",
)


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
        **trainer_options: Passed to Lightning's ``Trainer``, for example ``accelerator="gpu"``; one device by default.

    Returns:
        File and figures of the best model.

    Raises:
        FileExistsError: If ``directory`` already holds a run and ``resume`` is false, or there is nothing to resume.
        SystemExit: On Ctrl-C, with the way to go on.
        ValueError: If there is no limit at all, or the checkpoint is damaged or belongs to another run.
    """
    if max_steps == -1 and max_minutes is None:
        raise ValueError("a run needs an end: pass `max_steps` or `max_minutes`")
    directory = Path(directory)
    checkpoint = directory / "last.ckpt"
    if not resume and (checkpoint.exists() or (directory / "model.safetensors").exists()):
        raise FileExistsError(f"{directory} already holds a run; go on with it (resume) or choose another directory")
    if resume and not checkpoint.exists() and (directory / "model.safetensors").exists():
        raise FileExistsError(
            f"{directory} holds a run that ended before its first checkpoint; choose another directory"
        )
    directory.mkdir(parents=True, exist_ok=True)
    if not checkpoint.exists():
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
        **({"devices": 1} | trainer_options),
    )
    start, first_step = time.perf_counter(), 0
    if checkpoint.exists():
        first_step = read_checkpoint(checkpoint)["global_step"]
    with warnings.catch_warnings():
        for message in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        try:
            trainer.fit(task, data, ckpt_path=str(checkpoint) if checkpoint.exists() else None, weights_only=True)
        except SystemExit:  # Lightning's way out of Ctrl-C
            way = "resume the run to go on from its last validation"
            remedy = way if checkpoint.exists() else "nothing was saved, because no validation had come yet"
            raise SystemExit(f"interrupted at step {trainer.global_step}; {remedy}") from None
    seconds = time.perf_counter() - start
    best_step, loss = _restore_best(task, data, directory, trainer)
    steps, path = trainer.global_step, directory / "model.safetensors"
    result = FitResult(path, steps, best_step, seconds, (steps - first_step) / seconds, loss)
    figures = {name: value for name, value in asdict(result).items() if name != "model"}
    save(task.model, path, units={"energy": "eV", "pos": "Ang"}, training=(info or {}) | dict(task.hparams) | figures)
    return result


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
        with warnings.catch_warnings(action="ignore"):
            contents: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} is not a readable checkpoint ({reason}); remove it to start the run again, or restore a copy"
        ) from None
    return contents


def _callbacks(directory: Path, patience: int, ema_decay: float) -> list[Callback]:
    # everything happens at the end of a validation, so that a resumed run starts from the very same state
    common: dict[str, Any] = {"save_top_k": 1, "enable_version_counter": False, "save_on_train_epoch_end": False}
    return [
        EMAWeightAveraging(decay=ema_decay, use_buffers=False),
        EarlyStopping("val/loss", patience=patience, check_on_train_epoch_end=False),
        ModelCheckpoint(directory, "best", monitor="val/loss", **common),
        ModelCheckpoint(directory, "last", **common),
        StepProgress(),
    ]


def _restore_best(task: PotentialTask, data: SplitDataModule, directory: Path, trainer: Trainer) -> tuple[int, float]:
    """Give the model its best weights; return their step and validation loss."""
    if not (directory / "best.ckpt").exists():  # the run ended before its first validation
        validator = Trainer(
            accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, inference_mode=False
        )
        with warnings.catch_warnings(action="ignore"):
            (metrics,) = validator.validate(task, data, verbose=False)
        return trainer.global_step, metrics["val/loss"]
    best = read_checkpoint(directory / "best.ckpt")
    task.load_state_dict(best["state_dict"])
    states = best["callbacks"].values()
    loss = next(float(state["best_model_score"]) for state in states if state.get("monitor") == "val/loss")
    return best["global_step"], loss
