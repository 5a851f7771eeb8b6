"""A training run in one call."""

from pathlib import Path
from typing import Any

from pyg_schnet.training.data import SplitDataModule
from pyg_schnet.training.options import minutes
from pyg_schnet.training.result import FitResult
from pyg_schnet.training.task import TrainingTask
from pyg_schnet.training.trainer import RunTrainer


def fit(
    task: TrainingTask,
    data: SplitDataModule,
    directory: str | Path,
    *,
    max_steps: int = -1,
    max_minutes: float | None = None,
    resume: bool = False,
    info: dict[str, Any] | None = None,
    **trainer_options: Any,
) -> FitResult:
    """Train until the steps or minutes are used up or the validation loss no longer falls.

    What is written into ``directory`` and how an interrupted run goes on: see
    :class:`~pyg_schnet.training.RunTrainer`, of which this makes one and runs it.

    Args:
        task: Model and protocol.
        data: Data and their split.
        directory: Folder of the run.
        max_steps: Largest number of steps in all; -1 for no limit.
        max_minutes: Largest time in all, interruptions not counted; ``None`` for no limit.
        resume: True to go on with the run in ``directory``; without one a new run begins.
        info: Further facts for the header of the model file.
        **trainer_options: Further options of :class:`~pyg_schnet.training.RunTrainer`, for example ``validate_every``,
            ``patience``, ``ema_decay``, and of Lightning's ``Trainer``, for example ``accelerator="gpu"``.

    Returns:
        File and figures of the best model.

    Raises:
        BlockingIOError: If another run is at work in ``directory``.
        FileExistsError: If ``directory`` already holds a run and ``resume`` is false, or one that ended before its
            first checkpoint.
        FloatingPointError: If a loss or gradient is not finite, naming the examples.
        MemoryError: If memory is used up, naming the examples.
        OSError: If a checkpoint cannot be written.
        SystemExit: On Ctrl-C, with the way to go on; the best model is written before.
        ValueError: If there is no limit at all, the data do not fit, or the checkpoint is damaged or belongs to another
            run.
    """
    max_time = minutes(max_minutes, trainer_options)
    trainer = RunTrainer(directory, max_steps=max_steps, max_time=max_time, **trainer_options)
    return trainer.run(task, data, resume, info)
