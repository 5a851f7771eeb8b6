"""The average of the weights, where the weights are."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage(EMAWeightAveraging):
    """Exponential moving average of the weights, on the device of the run: no copies to the CPU in each step.

    Args:
        decay: What is left of the average in a step.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(decay=decay, use_buffers=False)
        self._move, self._begun = get_ema_multi_avg_fn(decay), False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the average, which is where the model will be."""
        self._device, self._begun = trainer.strategy.root_device, False
        super().setup(trainer, pl_module, stage)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Follow the weights by a step."""
        average, step = self._average_model, trainer.global_step
        if average is None or pl_module.device.type != "cuda":
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            return
        if step <= self._latest_update_step or not self.should_update(step_idx=step - 1):
            return
        if not self._begun and int(average.n_averaged) == 0:  # the one look at it
            average.update_parameters(pl_module)
        else:
            self._move([*average.module.parameters()], [*pl_module.parameters()], average.n_averaged)
            average.n_averaged += 1
        self._begun, self._latest_update_step = True, step
