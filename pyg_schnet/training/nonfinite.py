"""Ends a run whose loss is no longer a number, or that runs out of memory, with what is needed to find out why."""

from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from pyg_schnet.compat import norms

#: On a GPU, losses are looked at once in so many steps, because each look waits for the device.
LOOK_EVERY = 50
#: So many examples of a batch are named.
_NAMED = 32
#: Torch's words on a CPU (Linux, Windows), of a GPU's driver and of its libraries, none of which raises an error of its
#: own kind.
_MEMORY_IS_USED_UP = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")


class RunPosition(NamedTuple):
    """Where a run stands: the step it works on, counted from 1, the epoch and the mini-batches of it."""

    step: int
    epoch: int
    batches: range


class NonFiniteGuard(Callback):
    """Ends a run at the first loss or gradient that is not finite, before it reaches a checkpoint.

    On a CPU every step is looked at, before the weights change; on a GPU losses are gathered and looked at once in
    :data:`LOOK_EVERY` steps and before each validation. Of several processes all end, wherever it happened.

    Raises:
        FloatingPointError: When it happens, naming step and examples.
    """

    def __init__(self) -> None:
        self._losses: list[Tensor] = []
        self._positions: list[RunPosition] = []
        self._position: RunPosition | None = None  # none outside of training steps

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note where the run stands."""
        self._position = RunPosition(trainer.global_step + 1, trainer.current_epoch, range(batch_idx, batch_idx + 1))

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Look at the gradient, on a CPU only."""
        gradients = [one.grad for one in pl_module.parameters() if one.grad is not None]
        if pl_module.device.type != "cpu" or not gradients or self._position is None:
            return
        if not torch.stack(norms(gradients)).isfinite().all():
            last = self._position.batches[0]
            first = last - last % trainer.accumulate_grad_batches  # any of them may be to blame
            self._report(trainer, "gradient", self._position._replace(batches=range(first, last + 1)))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Gather the loss of the step."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if loss is None or self._position is None:  # Lightning's word for a step that was left out
            return
        self._losses.append(loss.detach())
        self._positions.append(self._position)
        if loss.device.type == "cpu" or len(self._losses) >= LOOK_EVERY:
            self._look(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look before anything is stored."""
        self._look(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look before anything is stored."""
        self._look(trainer)
        self._position = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the loss of the validation, before it is stored."""
        loss = trainer.callback_metrics.get("val/loss")
        if loss is not None and not torch.isfinite(loss):
            raise FloatingPointError(
                f"the validation loss is {float(loss)} at step {trainer.global_step}; look for labels or positions "
                f"that are not finite among the validation examples, or lower the learning rate{_way_back(trainer)}"
            )

    def memory_report(self, trainer: Trainer) -> str:
        """What to say when memory is used up.

        Args:
            trainer: The trainer of the run.

        Returns:
            One sentence that names the batch and its size.
        """
        if self._position is None:
            where = f"after step {trainer.global_step}, in a validation or at the start"
        else:
            where = f"at step {self._position.step}, with {_named(trainer, self._position)}"
        return (
            f"out of memory {where}; take a smaller batch (`batch_size`), accumulate gradients "
            f"(`accumulate_grad_batches`) or take more devices{_way_back(trainer)}"
        )

    def _look(self, trainer: Trainer) -> None:
        if not self._losses:
            return
        losses, positions = torch.stack(self._losses), self._positions
        self._losses, self._positions = [], []
        bad = (~losses.isfinite()).long()
        if trainer.world_size > 1:  # a loss is that of a share of the batch
            bad = trainer.strategy.reduce(bad, reduce_op="max")
        if bad.any():
            self._report(trainer, "loss", positions[int(bad.argmax())])

    @staticmethod
    def _report(trainer: Trainer, what: str, position: RunPosition) -> None:
        raise FloatingPointError(
            f"the {what} is not finite at step {position.step}, of {_named(trainer, position)}; look at these "
            f"structures and labels, or lower the learning rate or clip gradients{_way_back(trainer)}"
        )


def out_of_memory(error: BaseException) -> bool:
    """True if an error says that memory is used up, on a GPU or a CPU.

    Args:
        error: The error.

    Returns:
        True if it does.

    Example:
        >>> out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."))
        True
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _MEMORY_IS_USED_UP)


def _named(trainer: Trainer, position: RunPosition) -> str:
    data = getattr(trainer, "datamodule", None)
    if data is None or not hasattr(data, "examples_of"):
        return f"batch {', '.join(map(str, position.batches))} of epoch {position.epoch}"
    examples = torch.cat([data.examples_of(position.epoch, batch) for batch in position.batches])
    atoms = [data.dataset[int(example)].num_nodes for example in examples[:_NAMED]]
    more = f" and {len(examples) - _NAMED} more" if len(examples) > _NAMED else ""
    listed = ", ".join(map(str, examples[:_NAMED].tolist()))
    return f"the batch of examples {listed}{more} ({min(atoms)} to {max(atoms)} atoms each)"


def _way_back(trainer: Trainer) -> str:
    directory = getattr(trainer, "directory", None)
    if directory is None or not (directory / "last.ckpt").exists():
        return "; nothing was stored before"
    return f"; the last good state is {directory / 'last.ckpt'}"
