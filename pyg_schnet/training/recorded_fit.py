"""Steps of a run that a GPU records by itself, and what speaks against it."""

from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule
from torch import Tensor
from torch_geometric.data import Data

from pyg_schnet.models import AtomisticModel
from pyg_schnet.training.nonfinite import NonFiniteGuard
from pyg_schnet.training.say import say

#: Callbacks that look at gradients of each step before they are used, which recordings do not show.
_LOOKS = ("on_before_backward", "on_after_backward", "on_before_optimizer_step", "on_before_zero_grad")


class RecordedSteps(LightningModule):
    """A task whose steps are recorded where that can be: the hooks of Lightning then play them.

    Attributes:
        record_steps: True to record steps, on a CPU to call what would be recorded; False not to; ``None`` to do so on
            a GPU.
        recorder: What records steps, :class:`~pyg_schnet.training.RecordedTraining`, set by whoever runs the task;
            ``None`` for nothing.
    """

    record_steps: bool | None = None
    recorder: Any = None
    _recorded: Any = None
    _asked = False

    def gradients_of(self, batch: Data) -> Tensor | None:
        """Loss of a mini-batch whose gradients are known by then; ``None`` if steps are not recorded.

        Args:
            batch: Structures with labels.

        Returns:
            The loss.
        """
        if not self._asked:
            self._asked, self._recorded = True, self._recorder()
        return None if self._recorded is None else self._recorded.gradients(batch)

    def _recorder(self) -> Any:
        """What records the steps of this run, if it can."""
        wanted = self.record_steps
        if (
            self._trainer is None
            or self.recorder is None
            or wanted is False
            or (wanted is None and self.device.type != "cuda")
        ):
            return None
        reason = against_recording(self)
        if reason is not None:
            say(f"steps are not recorded: {reason}")
            return None
        clip, accumulate = clipping(self), self.trainer.accumulate_grad_batches
        return self.recorder(self, self.trainer.optimizers[0], accumulate=accumulate, clip=clip)

    def on_fit_end(self) -> None:
        """Let recordings go, with their memory."""
        self._recorded, self._asked = None, False

    def backward(self, loss: Tensor, *arguments: Any, **options: Any) -> None:
        """Gradients, unless they are known already."""
        if self._recorded is None:
            super().backward(loss, *arguments, **options)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        """Put gradients away, unless they are overwritten anyway."""
        if self._recorded is None:
            super().optimizer_zero_grad(epoch, batch_idx, optimizer)

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """New weights."""
        if not self._asked:
            self._asked, self._recorded = True, self._recorder()
        if self._recorded is None:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            return
        optimizer_closure()
        self._recorded.update()


def against_recording(task: Any) -> str | None:
    """Why the steps of a run cannot be recorded.

    Args:
        task: The task of the run, which has begun.

    Returns:
        The reason; ``None`` if they can.
    """
    trainer, model = task.trainer, task.model
    if trainer.world_size > 1:
        return "several processes share each mini-batch"
    if str(trainer.precision) not in {"32-true", "64-true"}:
        return f"precision {trainer.precision} scales or rounds on the way"
    if len(trainer.optimizers) != 1 or not isinstance(trainer.optimizers[0], torch.optim.Adam):
        return "the optimizer is not Adam"
    if not isinstance(model, AtomisticModel) or not model.recordable:
        return f"{type(model).__name__} looks at values of its input"
    own = [one for one in trainer.callbacks if not isinstance(one, NonFiniteGuard)]
    for one in own:
        if any(getattr(type(one), name) is not getattr(Callback, name) for name in _LOOKS):
            return f"{type(one).__name__} looks at gradients"
    return None


def clipping(task: LightningModule) -> Any:
    """What a run does with gradients before a step, as a function without arguments; ``None`` for nothing."""
    value = task.trainer.gradient_clip_val
    if not value:
        return None
    by_value = str(task.trainer.gradient_clip_algorithm or "norm").lower().endswith("value")
    clip = torch.nn.utils.clip_grad_value_ if by_value else torch.nn.utils.clip_grad_norm_
    return partial(_clipped, clip, task, float(value))


def _clipped(clip: Any, task: LightningModule, value: float) -> None:
    clip([one for one in task.parameters() if one.grad is not None], value)
