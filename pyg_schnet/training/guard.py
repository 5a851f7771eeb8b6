"""Ends a run whose loss is no longer a number, or that runs out of memory, with what is needed to find out why."""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

#: On a GPU, losses are looked at once in so many steps, because each look waits for the device.
LOOK_EVERY = 50
#: So many examples of a batch are named.
_NAMED = 32


class NonFiniteGuard(Callback):
    """Ends a run at the first loss or gradient that is not finite, before it reaches the weights or a checkpoint.

    On a CPU every step is looked at, before the weights change; on a GPU losses are gathered and looked at once in
    :data:`LOOK_EVERY` steps and before each validation.

    Raises:
        FloatingPointError: When it happens, naming step and examples.
    """

    def __init__(self) -> None:
        self._losses: list[Tensor] = []
        self._places: list[tuple[int, int, int]] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Look at the gradient, on a CPU only."""
        if pl_module.device.type != "cpu":
            return
        gradients = [one.grad for one in pl_module.parameters() if one.grad is not None]
        norms = torch._foreach_norm(gradients)
        if not torch.stack(norms).isfinite().all():
            self._report(trainer, "gradient", (trainer.global_step, trainer.current_epoch, trainer.fit_loop.batch_idx))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Gather the loss of the step."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        self._losses.append(loss.detach())
        self._places.append((trainer.global_step, trainer.current_epoch, batch_idx))
        if loss.device.type == "cpu" or len(self._losses) >= LOOK_EVERY:
            self._look(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look before anything is stored."""
        self._look(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look before anything is stored."""
        self._look(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the loss of the validation, before it is stored."""
        loss = trainer.callback_metrics.get("val/loss")
        if loss is not None and not torch.isfinite(loss):
            raise FloatingPointError(
                f"the validation loss is {float(loss)} at step {trainer.global_step}; look for labels or positions that "
                f"are not finite among the validation examples, or lower the learning rate{_way_back(trainer)}"
            )

    def _look(self, trainer: Trainer) -> None:
        if self._losses:
            bad = (~torch.stack(self._losses).isfinite()).nonzero().flatten()
            places = self._places
            self._losses, self._places = [], []
            if len(bad):
                self._report(trainer, "loss", places[int(bad[0])])

    @staticmethod
    def _report(trainer: Trainer, what: str, place: tuple[int, int, int]) -> None:
        step, epoch, batch = place
        raise FloatingPointError(
            f"the {what} is not finite at step {step}, of {_named(trainer, epoch, batch)}; look at these structures and "
            f"labels, or lower the learning rate or clip gradients{_way_back(trainer)}"
        )


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is used up, on a GPU or a CPU.

    Args:
        error: The error.

    Returns:
        Whether it does.
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "not enough memory" in str(error)


def memory_report(trainer: Trainer) -> str:
    """What to say when memory is used up in training.

    Args:
        trainer: The trainer of the run.

    Returns:
        One sentence that names the batch and its size.
    """
    named = _named(trainer, trainer.current_epoch, trainer.fit_loop.batch_idx)
    return (
        f"out of memory at step {trainer.global_step}, with {named}; take a smaller batch (`batch_size`), "
        f"accumulate gradients (`accumulate_grad_batches`) or more devices{_way_back(trainer)}"
    )


def _named(trainer: Trainer, epoch: int, batch: int) -> str:
    data = getattr(trainer, "datamodule", None)
    if data is None or not hasattr(data, "examples_of"):
        return f"batch {batch} of epoch {epoch}"
    examples = data.examples_of(epoch, batch)
    atoms = [data.dataset[int(example)].num_nodes for example in examples[:_NAMED]]
    more = f" and {len(examples) - _NAMED} more" if len(examples) > _NAMED else ""
    listed = ", ".join(map(str, examples[:_NAMED].tolist()))
    return f"the batch of examples {listed}{more} ({min(atoms)} to {max(atoms)} atoms each)"


def _way_back(trainer: Trainer) -> str:
    directory = getattr(trainer, "directory", None)
    if directory is None or not (directory / "last.ckpt").exists():
        return "; nothing was stored before"
    return f"; the last good state is {directory / 'last.ckpt'}"
