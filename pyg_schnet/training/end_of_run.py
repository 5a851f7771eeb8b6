"""The end of a run: its last step is validated, whatever ends it, and its model may be the best."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, Timer

from pyg_schnet.training.say import say
from pyg_schnet.training.storing import previous, read_checkpoint


class LastStep(Callback):
    """Asks for a validation of the last step: at the limits of the run, and when somebody or something stops it.

    Regular validations come between epochs, so that a run can go on from there as if nothing had happened. This one
    comes wherever the run ends; its state is not one to go on from, see :class:`LastCheckpoint`.

    Attributes:
        validated: The step that was validated last, -1 for none.
    """

    validated = -1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look whether this step is the last one."""
        steps, epochs = trainer.max_steps, trainer.max_epochs
        last = 0 <= steps <= trainer.global_step
        last |= epochs is not None and 0 <= epochs <= trainer.current_epoch + 1 and trainer.is_last_batch
        stopped = trainer.should_stop or (trainer.received_sigterm and trainer.world_size == 1)
        early = trainer.global_step < (trainer.min_steps or 0) or trainer.current_epoch < (trainer.min_epochs or 0)
        if last or (stopped and not early):
            trainer.should_stop, trainer.check_val_every_n_epoch = True, 1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the step."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.validated = trainer.global_step


class Patience(EarlyStopping):
    """Lightning's early stopping under a name of our own, so that a user may have another one."""

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Find the state in checkpoints from before it had a name of its own."""
        _rename(self, checkpoint, EarlyStopping)


class BestCheckpoint(ModelCheckpoint):
    """Keeps the state with the lowest validation loss, of this run only, also where its folder was moved."""

    _lost = False

    @property
    def path(self) -> Path:
        """Where the state is stored."""
        return Path(str(self.dirpath)) / f"{self.filename}{self.FILE_EXTENSION}"

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Find what was best when the run was at this point: it may have been on beyond it, and ended there."""
        _rename(self, checkpoint, ModelCheckpoint)
        score = self._score_in(checkpoint)
        if score is None:
            return
        place, step = self.path, checkpoint["global_step"]
        moved_on = trainer.is_global_zero and self._read(place, step, score) is None
        if moved_on and self._read(previous(place), step, score) is not None:
            previous(place).replace(place)
        trainer.strategy.barrier()
        self._lost = self._read(place, step, score) is None
        if self._lost:
            say(f"{place} does not hold the best state of this run any more; the best one is found anew from here on")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what was best, in the folder where it is now."""
        score = state_dict["best_model_score"]
        if self._lost or score is None:
            return
        path = str(self.path)
        paths = {"best_model_path": path, "kth_best_model_path": path, "best_k_models": {path: score}}
        super().load_state_dict(state_dict | paths | {"dirpath": self.dirpath, "kth_value": score})

    def stored(self) -> dict[str, Any] | None:
        """The best state of this run.

        Returns:
            Contents of the checkpoint; ``None`` if there is none, or it is no longer what this run stored.
        """
        score = self.best_model_score
        return None if score is None else self._read(self.path, sys.maxsize, float(score))

    def _read(self, path: Path, step: int, score: float) -> dict[str, Any] | None:
        """A checkpoint up to this step with this loss."""
        try:
            found = read_checkpoint(path)
        except (FileNotFoundError, ValueError):
            return None
        _rename(self, found, ModelCheckpoint)
        return found if found["global_step"] <= step and self._score_in(found) == score else None

    def _score_in(self, checkpoint: dict[str, Any]) -> float | None:
        """The lowest loss when a checkpoint was written."""
        score = checkpoint["callbacks"].get(self.state_key, {}).get("best_model_score")
        return None if score is None else float(score)


class LastCheckpoint(ModelCheckpoint):
    """Keeps the state after each regular validation, from which the run goes on bit for bit.

    Attributes:
        every: Epochs between regular validations.
    """

    every = 1

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing: where the state was stored before does not matter."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Store the state, unless the run ends in between."""
        if trainer.is_last_batch and (trainer.current_epoch + 1) % self.every == 0:
            super().on_validation_end(trainer, pl_module)


def elapsed_part(trainer: Trainer) -> Callable[[], float] | None:
    """How much of the time of a run is over, interruptions not counted.

    Args:
        trainer: The trainer of the run.

    Returns:
        Function that tells it, from 0 to 1, the same in all processes; ``None`` if there is no limit of time.
    """
    timers = [one for one in trainer.callbacks if isinstance(one, Timer) and one.time_remaining() is not None]  # type: ignore[attr-defined]
    if not timers:
        return None
    timer = timers[0]

    def part() -> float:
        done = timer.time_elapsed()
        whole = done + (timer.time_remaining() or 0.0)
        found = 1.0 if whole <= 0 else done / whole
        return float(trainer.strategy.broadcast(found)) if trainer.world_size > 1 else found

    return part


@contextmanager
def stopping_on_interrupt(trainer: Trainer) -> Iterator[list[int]]:
    """Let Ctrl-C stop a run after its step, so that it is validated; a second one stops it at once.

    Args:
        trainer: The trainer of the run.

    Yields:
        A list that is no longer empty once there was one.
    """
    seen: list[int] = []
    ours = threading.current_thread() is threading.main_thread() and trainer.world_size == 1
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler or trainer.min_steps:
        yield seen
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if seen:
            signal.default_int_handler(number, frame)
        seen.append(number)
        trainer.should_stop = True

    signal.signal(signal.SIGINT, handle)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _rename(callback: Any, checkpoint: dict[str, Any], before: type) -> None:
    """Give a stored state the name that it has today."""
    states, key = checkpoint.get("callbacks", {}), callback.state_key
    old = key.replace(type(callback).__qualname__, before.__qualname__, 1)
    if key not in states and old in states:
        states[key] = states[old]
