"""A Lightning trainer whose runs live in a folder, can be interrupted and go on."""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning_utilities.core.imports import RequirementCache

from pyg_schnet.training.guard import NonFiniteGuard, out_of_memory
from pyg_schnet.training.progress import StepProgress
from pyg_schnet.training.result import FitResult, finish, read_checkpoint

#: What Lightning warns of and we do on purpose (the last two are Lightning's and DDP's own).
_EXPECTED_WARNINGS = (
    "Checkpoint directory .* exists and is not empty",
    "The '.*_dataloader' does not have many workers",
    "The number of training batches .* is smaller than the logging interval",
    ".*LeafSpec.* is deprecated",
    "Grad strides do not match bucket view strides",
)


class RunTrainer(Trainer):
    """Lightning's trainer for one run in one folder.

    Validation, early stopping and the model that is written use an exponential moving average of the weights. The
    folder gets ``model.safetensors`` (the best model), ``best.ckpt``, ``last.ckpt`` (everything needed to resume, no
    pickled code), ``split.npz`` and the logs (CSV, and TensorBoard where it is installed).

    Args:
        directory: Folder of the run.
        validate_every: Steps between validations, rounded up to whole epochs.
        patience: Validations without improvement after which the run stops.
        ema_decay: Decay of the moving average of the weights at each step.
        max_steps: Largest number of steps in all; -1 for no limit.
        max_time: Largest time in all, interruptions not counted, for example ``"00:01:30:00"`` for an hour and a half.
        callbacks: Further callbacks.
        logger: Further loggers, or ``False`` for none at all.
        **kwargs: Everything else that Lightning's ``Trainer`` takes, for example ``accelerator``, ``devices``,
            ``num_nodes``, ``strategy``, ``gradient_clip_val`` or ``deterministic``; one device by default.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        validate_every: int = 500,
        patience: int = 100,
        ema_decay: float = 0.99,
        max_steps: int = -1,
        max_time: Any = None,
        callbacks: list[Callback] | None = None,
        logger: Logger | list[Logger] | bool | None = None,
        **kwargs: Any,
    ) -> None:
        self.directory, self.validate_every, self.guard = Path(directory), validate_every, NonFiniteGuard()
        kwargs.setdefault("devices", 1)
        kwargs.setdefault("max_epochs", -1)
        kwargs.setdefault("num_sanity_val_steps", 0)
        kwargs.setdefault("enable_model_summary", False)
        super().__init__(
            max_steps=max_steps,
            max_time=max_time,
            callbacks=[self.guard, *_callbacks(self.directory, patience, ema_decay), *(callbacks or [])],
            logger=_loggers(self.directory, logger),
            inference_mode=False,
            use_distributed_sampler=False,
            **kwargs,
        )
        self.limited = max_steps != -1 or max_time is not None or kwargs["max_epochs"] != -1

    def run(self, task: Any, data: Any, resume: bool = False, info: dict[str, Any] | None = None) -> FitResult:
        """Train until steps, epochs or time are used up or the validation loss no longer falls.

        A run that was interrupted goes on from its last validation and ends, on a CPU, with the same weights bit for
        bit as if nothing had happened.

        Args:
            task: Model and protocol.
            data: Data and their split.
            resume: Whether to go on with the run in the folder; without one a new run begins.
            info: Further facts for the header of the model file.

        Returns:
            File and figures of the best model.

        Raises:
            FileExistsError: If the folder already holds a run and ``resume`` is false, or one that ended before its
                first checkpoint.
            FloatingPointError: If a loss or gradient is not finite, naming the examples.
            MemoryError: If memory is used up, naming the examples.
            SystemExit: On Ctrl-C, with the way to go on.
            ValueError: If there is no limit at all, the data do not fit, or the checkpoint is damaged or belongs to
                another run.
        """
        self.check_folder(resume)
        task.prepare(data)  # before anything is averaged or written
        checkpoint = self.directory / "last.ckpt"
        if self.is_global_zero:
            self.directory.mkdir(parents=True, exist_ok=True)
            if not checkpoint.exists():
                data.save_split(self.directory / "split.npz")
        batches = max(1, len(data.split["train"]) // data.batch_size)
        steps_per_epoch = -(-batches // self.accumulate_grad_batches)
        self.check_val_every_n_epoch = -(-self.validate_every // steps_per_epoch)
        found = checkpoint.exists()
        first_step = read_checkpoint(checkpoint)["global_step"] if found else 0
        start = time.perf_counter()
        with self._interruptions(), _quiet():
            super().fit(task, datamodule=data, ckpt_path=str(checkpoint) if found else None, weights_only=True)
        return finish(self, task, data, first_step, time.perf_counter() - start, info or {})

    def check_folder(self, resume: bool) -> None:
        """Check that the folder is free for a new run, or holds one that can go on.

        Args:
            resume: Whether to go on with the run in the folder.

        Raises:
            FileExistsError: If it is not.
            ValueError: If the run has no end.
        """
        if not self.limited:
            raise ValueError("a run needs an end: pass `max_steps`, `max_epochs` or `max_time`")
        checkpoint, model = self.directory / "last.ckpt", self.directory / "model.safetensors"
        if not resume and (checkpoint.exists() or model.exists()):
            raise FileExistsError(
                f"{self.directory} already holds a run; go on with it (resume) or choose another directory"
            )
        if resume and not checkpoint.exists() and model.exists():
            raise FileExistsError(
                f"{self.directory} holds a run that ended before its first checkpoint; choose another directory"
            )

    @contextmanager
    def _interruptions(self) -> Iterator[None]:
        """Say in one sentence what ended a run and what to do."""
        try:
            yield
        except SystemExit:  # Lightning's way out of Ctrl-C
            kept = (self.directory / "last.ckpt").exists()
            way = "resume the run to go on from its last validation"
            remedy = way if kept else "nothing was saved, because no validation had come yet"
            raise SystemExit(f"interrupted at step {self.global_step}; {remedy}") from None
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise MemoryError(self.guard.memory_report(self)) from error


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        for message in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        yield


def _loggers(directory: Path, given: Logger | list[Logger] | bool | None) -> list[Logger]:
    if given is False:
        return []
    loggers: list[Logger] = [CSVLogger(directory, name="log")]
    if RequirementCache("tensorboard"):
        loggers.append(TensorBoardLogger(directory, name="tensorboard"))
    if given is None or given is True:
        return loggers
    return [*loggers, *(given if isinstance(given, list) else [given])]


def _callbacks(directory: Path, patience: int, ema_decay: float) -> list[Callback]:
    # everything happens at the end of a validation, so that a resumed run starts from the very same state; the guard
    # stands before them, because they store something
    common: dict[str, Any] = {"save_top_k": 1, "enable_version_counter": False, "save_on_train_epoch_end": False}
    return [
        EMAWeightAveraging(decay=ema_decay, use_buffers=False),
        EarlyStopping("val/loss", patience=patience, check_on_train_epoch_end=False),
        ModelCheckpoint(directory, "best", monitor="val/loss", **common),
        ModelCheckpoint(directory, "last", **common),
        StepProgress(),
    ]
