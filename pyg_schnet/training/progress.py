"""One progress bar for a whole training run."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm


class StepProgress(ProgressBar):
    """Steps done and left, speed, loss and the latest validation errors in physical units."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm | None = None
        self._enabled = True

    def disable(self) -> None:
        """Show nothing (called by Lightning on all but the first process)."""
        self._enabled = False

    def enable(self) -> None:
        """Show the bar."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar where the run stands."""
        total = trainer.max_steps if trainer.max_steps > 0 else None
        self._bar = tqdm(
            total=total,
            initial=trainer.global_step,
            unit="step",
            dynamic_ncols=True,
            disable=not self._enabled,
            mininterval=1,
        )

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Advance and show loss and errors."""
        if self._bar is None or self._bar.disable:
            return
        self._bar.update(trainer.global_step - self._bar.n)
        if trainer.global_step % 20 == 0:
            shown = {
                name.removeprefix("val/"): f"{float(value):.3g}" for name, value in trainer.callback_metrics.items()
            }
            self._bar.set_postfix(shown, refresh=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar, so that the message stands on a line of its own."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
