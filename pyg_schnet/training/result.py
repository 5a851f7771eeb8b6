"""What a run leaves behind: checkpoints, the best model, its figures."""

import math
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import WeightAveraging

from pyg_schnet.datasets import StructureLoader
from pyg_schnet.models import properties, save
from pyg_schnet.models.checkpoint import check_layers
from pyg_schnet.training.casting import in_dtype_of
from pyg_schnet.training.end_of_run import BestCheckpoint, LastStep


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


def finish(trainer: Any, task: Any, data: Any, first_step: int, seconds: float, info: dict[str, Any]) -> FitResult:
    """Give the model its best weights and write it.

    Args:
        trainer: The trainer of the run.
        task: Its task.
        data: Its data.
        first_step: Step at which this call began.
        seconds: Wall time of this call.
        info: Further facts for the header of the model file.

    Returns:
        File and figures of the best model.
    """
    best_step, loss = _restore_best(trainer, task, data)
    steps, path = trainer.global_step, trainer.directory / "model.safetensors"
    result = FitResult(path, steps, best_step, seconds, (steps - first_step) / seconds, loss)
    if task.hparams.get("rho") == 0 and task.hparams.get("forces", True):
        fit_integration_constant(task.model, data)
    if trainer.is_global_zero:
        figures = {name: value for name, value in asdict(result).items() if name != "model"}
        training = info | dict(task.hparams) | figures
        try:
            check_layers(task.model)
        except ValueError as error:  # adapters, for example: what was learned must not be lost by it
            path.unlink(missing_ok=True)
            warnings.warn(f"{path} is not written, the trained model is `task.model`: {error}", stacklevel=2)
        else:
            save(task.model, path, units=task.model.units | {"pos": "Ang"}, training=training)
    trainer.strategy.barrier()
    return result


def fit_integration_constant(model: Any, data: Any) -> None:
    r"""Fit the constant that forces do not determine to the energies of the training set.

    .. math:: \mu \leftarrow \mu + \frac{\sum_s n_s (E_s - \hat E_s)}{\sum_s n_s^2}

    the least-squares shift per atom: for a single molecule the mean error of its energies, for structures of different
    sizes the one that is proportional to their number of atoms n. Where the readout does not add up atoms, the mean is
    that of the structure and n is 1.

    Args:
        model: The model, whose reference is changed.
        data: The data module of the run.
    """
    weighted, squares = 0.0, 0.0
    with torch.no_grad():
        device = model.reference.mean.device
        for batch in StructureLoader(data.dataset[data.split["train"]], data.batch_size):
            moved = in_dtype_of(model, batch.to(device))
            atoms = moved.ptr.diff().double()
            atoms = atoms if model.reference.how == "add" else torch.ones_like(atoms)
            rest = moved.energy.view(-1).double() - properties(model, moved).squeeze(1)
            known = rest.isfinite()
            weighted += float((atoms * rest)[known].sum())
            squares += float(atoms[known].square().sum())
    if squares:
        model.reference.mean += weighted / squares


def _restore_best(trainer: Any, task: Any, data: Any) -> tuple[int, float]:
    """Give the model its best weights; return their step and validation loss."""
    best = next(one for one in trainer.callbacks if isinstance(one, BestCheckpoint))
    last = next(one for one in trainer.callbacks if isinstance(one, LastStep))
    steps, stored, loss = trainer.global_step, best.stored(), math.inf
    score = math.inf if best.best_model_score is None else float(best.best_model_score)
    if last.validated != steps or stored is None:
        for callback in trainer.callbacks:
            if trainer.stopped and isinstance(callback, WeightAveraging):
                callback.on_train_end(trainer, task)  # the model takes the average of its weights
        with warnings.catch_warnings(action="ignore"):
            (metrics,) = trainer.validate(task, datamodule=data, verbose=False)
        loss = float(metrics["val/loss"])
    if stored is None or loss < score:
        return steps, loss
    task.load_state_dict(stored["state_dict"])
    return stored["global_step"], score
