"""Schedules of the learning rate."""

import math
import sys
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch

#: Names of the schedules: that of the papers, and two of today.
ScheduleName = Literal["exponential", "cosine", "plateau"]


def check_schedule(schedule: str, decay: float, decay_steps: int, warmup_steps: int, patience: int) -> None:
    """Check the settings of a schedule.

    Args:
        schedule: Its name.
        decay: See :func:`learning_rate_schedule`.
        decay_steps: See there.
        warmup_steps: See there.
        patience: See there.

    Raises:
        ValueError: If one is out of its range.
    """
    names = get_args(ScheduleName)
    if schedule not in names:
        raise ValueError(f"unknown schedule {schedule!r}; expected one of {', '.join(map(repr, names))}")
    if decay <= 0 or decay_steps < 1 or warmup_steps < 0:
        raise ValueError(
            "`decay` must be positive, `decay_steps` at least 1 and `warmup_steps` at least 0, "
            f"got {decay}, {decay_steps} and {warmup_steps}"
        )
    if schedule == "plateau" and (decay >= 1 or warmup_steps):
        raise ValueError(
            "the plateau schedule multiplies the rate by `decay`, which must be below 1, and has no warm-up; "
            f"got decay={decay}, warmup_steps={warmup_steps}"
        )
    if patience < 1:
        raise ValueError(f"`plateau_patience` must be at least 1, got {patience}")


def fitting_warmup(schedule: str, warmup_steps: int, max_steps: int) -> int:
    """The warm-up of a run that may be too short for the one that is asked for, as a trial of a few steps is.

    Args:
        schedule: Name of the schedule.
        warmup_steps: Steps of the warm-up that is asked for.
        max_steps: Steps of the run, -1 for no limit.

    Returns:
        The same, or a tenth of the run if a cosine schedule would otherwise end within the warm-up.

    Example:
        >>> fitting_warmup("cosine", 100, 5000), fitting_warmup("cosine", 100, 50)
        (100, 5)
    """
    return max_steps // 10 if schedule == "cosine" and 0 <= max_steps <= warmup_steps else warmup_steps


def learning_rate_schedule(
    optimizer: torch.optim.Optimizer,
    schedule: str,
    *,
    decay: float,
    decay_steps: int,
    warmup_steps: int,
    patience: int,
    max_steps: int,
    elapsed: Callable[[], float] | None = None,
) -> dict[str, Any]:
    r"""A schedule of the learning rate as Lightning expects it.

    .. math::
        \text{exponential:} \quad & \eta_0\, d^{\,t/n} \\
        \text{cosine:} \quad & \eta_0 \cos^2\!\Big(\frac{\pi}{2}
            \max\Big(\frac{t - w}{T - w}, \theta\Big)\Big) \\
        \text{plateau:} \quad & \eta_0\, d^{\,k}

    with the decay d, the steps n = ``decay_steps``, w = ``warmup_steps``, T = ``max_steps``, the part :math:`\theta` of
    the time of the run that is over, if there is a limit of time, and the number k of times that the validation loss
    has not fallen, by a ten-thousandth of itself, for ``patience`` validations. The exponential one, with d = 0.96 and
    n = 100,000, is that of Schütt et al., J. Chem. Phys. 148, 241722 (2018), section II.F. During a warm-up the rate
    rises linearly to that of the schedule, from a part 1 / (w + 1) of it at the first step. A cosine run that is
    prolonged goes on along the curve of its new length.

    Args:
        optimizer: The optimizer.
        schedule: ``"exponential"``, ``"cosine"`` or ``"plateau"``.
        decay: Factor on the rate.
        decay_steps: Steps in which an exponential schedule multiplies the rate by ``decay``.
        warmup_steps: Steps of the warm-up.
        patience: Validations without improvement after which the plateau schedule multiplies the rate by ``decay``.
        max_steps: Steps of the run; the cosine schedule ends there. -1 for no limit.
        elapsed: Tells which part of the time of the run is over, from 0 to 1; ``None`` for no limit of time. The cosine
            schedule ends with whatever limit comes first.

    Returns:
        The entry ``lr_scheduler`` of what ``configure_optimizers`` returns. Lightning never takes the steps of the
        plateau schedule, see :meth:`~pyg_schnet.training.TrainingTask.end_validation`.

    Raises:
        ValueError: If the cosine schedule does not know where the run ends.
    """
    if schedule == "plateau":
        # torch counts the validations that are allowed, not those that make a plateau
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=decay, patience=patience - 1)
        return {"scheduler": plateau, "monitor": "val/loss", "frequency": sys.maxsize}
    if schedule == "cosine" and max_steps <= warmup_steps and (elapsed is None or max_steps >= 0):
        raise ValueError(
            "the cosine schedule ends with the run, so it needs `max_steps` beyond the warm-up of "
            f"{warmup_steps} steps; got {'no limit' if max_steps < 0 else max_steps}; "
            "change `max_steps` or `warmup_steps`"
        )

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1) * main(step)
        return main(step)

    def main(step: int) -> float:
        if schedule == "exponential":
            return float(decay ** (step / decay_steps))
        done = max(step - warmup_steps, 0) / (max_steps - warmup_steps) if max_steps >= 0 else 0.0
        if elapsed is not None:
            done = max(done, elapsed())
        return math.cos(math.pi / 2 * min(done, 1)) ** 2

    return {"scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, factor), "interval": "step"}
