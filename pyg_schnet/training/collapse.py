"""Says so when a run has lost what it had learnt, instead of going on for hours in silence."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from pyg_schnet.training.say import say

#: A run has collapsed when its validation loss is so many times the lowest one, in so many validations in a row.
TIMES, IN_A_ROW = 10.0, 3


class CollapseWatch(Callback):
    """Says once that a run has collapsed: one large step, and the network gives the same for all structures.

    The run goes on, since its best model is stored and ``patience`` ends it; most never recover.
    """

    def __init__(self) -> None:
        self._lowest, self._lowest_step = float("inf"), 0
        self._above = 0
        self._said = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the loss of this validation with the lowest one."""
        loss = trainer.callback_metrics.get("val/loss")
        if loss is None or trainer.sanity_checking or self._said:
            return
        now = float(loss)
        if now < self._lowest:
            self._lowest, self._lowest_step = now, trainer.global_step
        self._above = self._above + 1 if now > TIMES * self._lowest else 0
        if self._above == IN_A_ROW:
            self._said = True
            say(
                f"the validation loss is {now:.3g} at step {trainer.global_step}, {now / self._lowest:.0f} times what "
                f"it was at step {self._lowest_step} ({self._lowest:.3g}): the run has collapsed and will hardly "
                "recover; its best model is kept. Begin anew with a lower `learning_rate`, a longer `warmup_steps` or "
                "with `gradient_clip_val`"
            )

    def state_dict(self) -> dict[str, float | int | bool]:
        """What a run that goes on needs to know.

        Returns:
            Lowest loss, its step, and validations in a row that were far above it.
        """
        return {"lowest": self._lowest, "lowest_step": self._lowest_step, "above": self._above, "said": self._said}

    def load_state_dict(self, state_dict: dict[str, float | int | bool]) -> None:
        """Go on from there.

        Args:
            state_dict: As :meth:`state_dict` returned it.
        """
        self._lowest, self._lowest_step = float(state_dict["lowest"]), int(state_dict["lowest_step"])
        self._above, self._said = int(state_dict["above"]), bool(state_dict["said"])
