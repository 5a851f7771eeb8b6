"""A Lightning trainer whose runs live in a folder, can be interrupted and go on."""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger

from pyg_schnet.models import read_header
from pyg_schnet.training import options
from pyg_schnet.training.data import SplitDataModule
from pyg_schnet.training.end_of_run import LastCheckpoint, LastStep, stopping_on_interrupt
from pyg_schnet.training.nonfinite import NonFiniteGuard, out_of_memory
from pyg_schnet.training.recorded import RecordedTraining
from pyg_schnet.training.recorded_fit import RecordedSteps
from pyg_schnet.training.result import FitResult, finish
from pyg_schnet.training.say import say
from pyg_schnet.training.storing import last_state, only_run_in, previous

#: What Lightning warns of and we do on purpose: another kind of limit than before, callbacks that had another name (the
#: last two are Lightning's and DDP's own).
_EXPECTED_WARNINGS = (
    r"Be aware that when using `ckpt_path`, callbacks .*: .*(Timer|EarlyStopping|ModelCheckpoint)",
    "GPU available but not used",
    "Checkpoint directory .* exists and is not empty",
    "The '.*_dataloader' does not have many workers",
    "The number of training batches .* is smaller than the logging interval",
    ".*LeafSpec.* is deprecated",
    "Grad strides do not match bucket view strides",
)


class RunTrainer(Trainer):
    """Lightning's trainer for one run in one folder.

    Validation, early stopping and the model that is written use an exponential moving average of the weights. The last
    step is always validated, whatever ends the run. The folder gets ``model.safetensors`` (the best model),
    ``best.ckpt``, ``last.ckpt`` (everything needed to resume, no pickled code) and the ones before them
    (``last-previous.ckpt``), ``split.npz`` and the logs (CSV, and TensorBoard where it is installed). One run at a time
    works in a folder.

    Args:
        directory: Folder of the run.
        validate_every: Steps between validations, rounded up to whole epochs.
        patience: Validations without improvement after which the run stops.
        ema_decay: Decay of the moving average of the weights at each step.
        max_steps: Largest number of steps in all; -1 for no limit.
        max_time: Largest time in all, interruptions not counted, for example ``"00:01:30:00"`` for an hour and a half.
        record_steps: True to record steps of training on energies and forces as CUDA graphs, see
            :class:`~pyg_schnet.training.RecordedTraining`; ``None`` for: on a GPU, with one process, Adam and full
            precision. What cannot be recorded is computed as it is.
        callbacks: Further callbacks.
        logger: Further loggers, or ``False`` for none at all.
        **kwargs: Everything else that Lightning's ``Trainer`` takes, for example ``accelerator``, ``devices``,
            ``num_nodes``, ``strategy``, ``precision``, ``gradient_clip_val`` or ``deterministic``; one device by
            default. Without ``enable_progress_bar`` nothing is shown.

    Raises:
        ValueError: If an option contradicts what a run is.
    """

    callbacks: list[Callback]

    def __init__(
        self,
        directory: str | Path,
        *,
        validate_every: int = 500,
        patience: int = 100,
        ema_decay: float = 0.99,
        max_steps: int = -1,
        max_time: Any = None,
        record_steps: bool | None = None,
        callbacks: list[Callback] | Callback | None = None,
        logger: Logger | list[Logger] | bool | None = None,
        **kwargs: Any,
    ) -> None:
        if validate_every < 1:
            raise ValueError(f"`validate_every` must be at least 1 step, got {validate_every}")
        self.directory, self.validate_every, self.guard = Path(directory), validate_every, NonFiniteGuard()
        self.record_steps = record_steps
        kwargs, max_steps = options.checked(kwargs), options.steps_of(max_steps)
        bar, extra = kwargs.get("enable_progress_bar"), kwargs.pop("plugins", None)
        self.silent, self.stopped, self._holds = bar is False, False, False
        with _quiet():
            super().__init__(
                max_steps=max_steps,
                max_time=max_time,
                callbacks=options.callbacks(self.directory, patience, ema_decay, self.guard, callbacks, bar),
                logger=options.loggers(self.directory, logger),
                plugins=options.plugins(self.directory, extra),
                inference_mode=False,
                use_distributed_sampler=False,
                **kwargs,
            )
        self.callbacks.append(LastStep())  # after Lightning's own timer
        self.limited = max_steps != -1 or kwargs["max_epochs"] != -1 or options.has_timer(self.callbacks)

    def run(self, task: Any, data: Any, resume: bool = False, info: dict[str, Any] | None = None) -> FitResult:
        """Train until steps, epochs or time are used up or the validation loss no longer falls.

        A run that was interrupted goes on from its last regular validation, between two epochs, and ends, on a CPU,
        with the same weights bit for bit as if nothing had happened. So does one that is prolonged: the steps after
        that validation are done once more, and what the last one of them gave counts no longer.

        Args:
            task: Model and protocol.
            data: Data and their split.
            resume: True to go on with the run in the folder; without one a new run begins.
            info: Further facts for the header of the model file.

        Returns:
            File and figures of the best model.

        Raises:
            BlockingIOError: If another run is at work in the folder.
            FileExistsError: If the folder already holds a run and ``resume`` is false, or one that ended before its
                first checkpoint.
            FloatingPointError: If a loss or gradient is not finite, naming the examples.
            MemoryError: If memory is used up, naming the examples.
            OSError: If a checkpoint cannot be written.
            SystemExit: On Ctrl-C, with the way to go on; the best model is written before.
            ValueError: If there is no limit at all, the data do not fit, or the checkpoint is damaged or belongs to
                another run.
        """
        if not isinstance(data, SplitDataModule):
            raise TypeError(
                f"`data` must be a SplitDataModule, structures and their split, got {type(data).__name__}; "
                "make one with a split, see pyg_schnet.datasets.random_split"
            )
        self.check_folder(resume)
        task.prepare(data)  # before anything is averaged or written
        if isinstance(task, RecordedSteps):
            task.record_steps, task.recorder = self.record_steps, RecordedTraining
        if self.is_global_zero:
            self._show(task, data)
        with self.claim(resume):
            if self.precision == "64-true":
                task.double()  # before weights are averaged
            self._plan_validations(data)
            path, first_step = last_state(self.directory)
            if -1 < self.max_steps < first_step:
                raise ValueError(
                    f"the run in {self.directory} has gone {first_step} steps, `max_steps` is {self.max_steps}; going "
                    "on would only lose its best model: raise it, or take the model that is there"
                )
            if self.is_global_zero and path is None:
                data.save_split(self.directory / "split.npz")
            start, facts = time.perf_counter(), dict(info or {})
            self._train(task, data, path)
            self._plan_validations(data)  # the last step had asked for one of its own
            if self.stopped:
                facts["interrupted"] = True
            result = finish(self, task, data, first_step, time.perf_counter() - start, facts)
        if self.stopped:
            raise SystemExit(f"interrupted at step {result.steps}; the best model is {result.model}, {self._way_on()}")
        return result

    def _show(self, task: Any, data: Any) -> None:
        """Say what is learnt from, and what of it cannot be right."""
        if hasattr(task, "overview"):
            found = task.overview(data)
            if not self.silent:
                say(found.in_words(task.targets, len(data.split["val"])))
            for doubt in found.doubts() if found.per_atom else ():
                warnings.warn(doubt, stacklevel=4)

    @contextmanager
    def claim(self, resume: bool = False) -> Iterator[None]:
        """Hold the folder against other runs, and check again that it is free for this one.

        Args:
            resume: True to go on with the run in the folder.

        Yields:
            Nothing.

        Raises:
            BlockingIOError: If another run is at work there.
            FileExistsError: If another run has ended there meanwhile.
        """
        if self._holds or not self.is_global_zero:
            yield
            return
        with only_run_in(self.directory):
            self.check_folder(resume)
            self._holds = True
            try:
                yield
            finally:
                self._holds = False

    def _plan_validations(self, data: Any) -> None:
        """Whole epochs between regular validations."""
        batches = max(1, len(data.split["train"]) // data.batch_size)
        limit = self.limit_train_batches
        if isinstance(limit, int):
            batches = min(batches, limit)
        elif limit is not None:
            batches = int(batches * limit)
        steps_per_epoch = max(1, -(-batches // self.accumulate_grad_batches))
        self.check_val_every_n_epoch = -(-self.validate_every // steps_per_epoch)
        for callback in self.callbacks:
            if isinstance(callback, LastCheckpoint):
                callback.every = self.check_val_every_n_epoch

    def _train(self, task: Any, data: Any, path: Path | None) -> None:
        """Train, and note whether somebody stopped it; say in one sentence what else ended it and what to do."""
        self.stopped = False
        try:
            with stopping_on_interrupt(self) as stopped, _quiet():
                checkpoint = None if path is None else str(path)
                super().fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
            self.stopped = bool(stopped)
        except SystemExit:  # Lightning's way out of Ctrl-C and of the wish to terminate
            if stopped or self.world_size > 1:  # Ctrl-C for the second time, or processes that do not wait any more
                kept = (self.directory / "last.ckpt").exists()
                remedy = self._way_on() if kept else "nothing was saved, because no validation had come yet"
                raise SystemExit(f"interrupted at step {self.global_step}; {remedy}") from None
            self.stopped = True
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise MemoryError(self.guard.memory_report(self)) from error

    def _way_on(self) -> str:
        if (self.directory / "last.ckpt").exists():
            return "resume the run to go on from its last validation"
        return "resume the run to begin it anew, because no regular validation had come yet"

    def check_folder(self, resume: bool) -> None:
        """Check that the folder is free for a new run, or holds one that can go on.

        Args:
            resume: True to go on with the run in the folder.

        Raises:
            FileExistsError: If it is not.
            ValueError: If the run has no end.
        """
        if not self.limited:
            raise ValueError("a run needs an end: pass `max_steps`, `max_epochs` or `max_time`")
        checkpoint, model = self.directory / "last.ckpt", self.directory / "model.safetensors"
        stored = checkpoint.exists() or previous(checkpoint).exists()
        if not resume and (stored or model.exists()):
            raise FileExistsError(
                f"{self.directory} already holds a run; go on with it (resume) or choose another directory"
            )
        if resume and not stored and model.exists() and not _was_interrupted(model):
            raise FileExistsError(
                f"{self.directory} holds a run that ended before its first checkpoint; choose another directory"
            )


def _was_interrupted(model: Path) -> bool:
    """True if a model is that of a run that somebody stopped."""
    try:
        return bool(read_header(model).get("training", {}).get("interrupted"))
    except ValueError:
        return False


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        for message in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message)
        yield
