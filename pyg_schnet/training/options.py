"""Options of Lightning's trainer: which of them a run takes, and what it says to the others."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    ModelCheckpoint,
    ProgressBar,
    Timer,
    WeightAveraging,
)
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.plugins.io import CheckpointIO
from lightning_utilities.core.imports import RequirementCache

from pyg_schnet.training.averages import WeightAverage
from pyg_schnet.training.collapse import CollapseWatch
from pyg_schnet.training.end_of_run import BestCheckpoint, LastCheckpoint, Patience
from pyg_schnet.training.nonfinite import NonFiniteGuard
from pyg_schnet.training.progress import StepProgress
from pyg_schnet.training.say import say
from pyg_schnet.training.storing import WholeCheckpoints

#: Options that a run sets itself, their values that mean the same, and what to say to other values.
_OURS: dict[str, tuple[tuple[Any, ...], str]] = {
    "enable_checkpointing": (
        (None, True),
        "the model of a run is its best checkpoint, so that it cannot do without; leave out `enable_checkpointing`",
    ),
    "fast_dev_run": (
        (None, False, 0),
        "`fast_dev_run` stores nothing, but a run ends with its best model; try it out with `max_steps=2` in a folder "
        "of its own",
    ),
    "barebones": (
        (False,),
        "`barebones` stores nothing, but a run ends with its best model; leave it out, and the bar with "
        "`enable_progress_bar=False`",
    ),
    "inference_mode": (
        (False,),
        "forces are derivatives, which `inference_mode` does not have; leave it out",
    ),
    "use_distributed_sampler": (
        (False,),
        "the data module shares out the batches itself; leave out `use_distributed_sampler`",
    ),
    "check_val_every_n_epoch": (
        (None, 1),
        "a run is validated between epochs, after so many steps as `validate_every` says; set that instead of "
        "`check_val_every_n_epoch`",
    ),
    "val_check_interval": (
        (None, 1.0),
        "a run is validated between epochs, after so many steps as `validate_every` says; set that instead of "
        "`val_check_interval`",
    ),
}
#: Precisions whose weights have 16 bits or fewer.
_COARSE = ("16-true", "bf16-true", "transformer-engine", "transformer-engine-float16")


def checked(options: dict[str, Any]) -> dict[str, Any]:
    """Options for Lightning's trainer.

    Args:
        options: What a user gave.

    Returns:
        The same, with the defaults of a run.

    Raises:
        ValueError: If an option contradicts what a run is.
    """
    options = dict(options)
    for name, (same, said) in _OURS.items():
        value = options.pop(name, same[0])
        if not any(value is one or (value == one and type(value) is type(one)) for one in same):
            raise ValueError(said)
    if options.get("limit_val_batches") == 0:
        raise ValueError("the best model is that of the lowest validation loss; leave out `limit_val_batches=0`")
    if str(options.get("precision")) in _COARSE:
        raise ValueError(
            f"weights of 16 bits are too coarse to learn energies, got precision={options['precision']!r}; choose "
            "'bf16-mixed', '32-true' or '64-true'"
        )
    for name, default in (("devices", 1), ("max_epochs", -1), ("num_sanity_val_steps", 0)):
        if options.get(name) is None:
            options[name] = default
    if options.get("enable_model_summary") is None:
        options["enable_model_summary"] = False
    options["accelerator"] = _accelerator(options.get("accelerator", "auto"))
    return options


def steps_of(max_steps: Any) -> int:
    """A number of steps, also if it is written as 1e4.

    Args:
        max_steps: Largest number of steps; ``None`` or -1 for no limit.

    Returns:
        The number as an integer.

    Raises:
        ValueError: If it is none.
    """
    if max_steps is None:
        return -1
    if int(max_steps) != max_steps or max_steps < -1:
        raise ValueError(f"`max_steps` must be a number of steps, or -1 for no limit, got {max_steps}")
    return int(max_steps)


def minutes(max_minutes: float | None, options: dict[str, Any]) -> Any:
    """The limit of time of a run.

    Args:
        max_minutes: Minutes, ``None`` for no limit.
        options: Further options, of which ``max_time`` is taken out.

    Returns:
        What Lightning takes.

    Raises:
        ValueError: If there are two limits, or it is not positive.
    """
    max_time = options.pop("max_time", None)
    if max_minutes is None:
        return max_time
    if max_time is not None:
        raise ValueError(f"expected `max_minutes` or `max_time`, got both, {max_minutes} and {max_time}")
    if not 0 < max_minutes < 1e9:
        raise ValueError(f"`max_minutes` must be positive, got {max_minutes}")
    return timedelta(minutes=max_minutes)


def callbacks(
    directory: Path, patience: int, ema_decay: float, guard: NonFiniteGuard, given: Any, bar: Any
) -> list[Callback]:
    """Callbacks of a run, those of the user last.

    Args:
        directory: Folder of the run.
        patience: Validations without improvement after which it stops.
        ema_decay: Decay of the average of the weights.
        guard: What looks at losses.
        given: Further callbacks, or one.
        bar: True if there is a progress bar; ``None`` for yes.

    Returns:
        All of them.

    Raises:
        ValueError: If weights would be averaged twice.
    """
    own = [] if given is None else [given] if isinstance(given, Callback) else list(given)
    if any(isinstance(one, WeightAveraging) for one in own):
        raise ValueError("a run averages its weights already; set `ema_decay` instead of a callback for it")
    for one in own:  # a run that goes on has no losses yet when its first epoch ends
        if isinstance(one, EarlyStopping) and getattr(one, "_check_on_train_epoch_end", False) is None:
            vars(one)["_check_on_train_epoch_end"] = False
        if isinstance(one, ModelCheckpoint) and one.monitor and getattr(one, "_save_on_train_epoch_end", 0) is None:
            vars(one)["_save_on_train_epoch_end"] = False
    if patience < 1:
        raise ValueError(f"`patience` must be at least 1, got {patience}")
    if not 0 <= ema_decay < 1:
        raise ValueError(f"`ema_decay` must be at least 0 and below 1, got {ema_decay}")
    # everything happens at the end of a validation, so that a resumed run starts from the very same state; the guard
    # stands before them, because they store something
    common: dict[str, Any] = {"save_top_k": 1, "enable_version_counter": False, "save_on_train_epoch_end": False}
    progress = [] if bar is False or any(isinstance(one, ProgressBar) for one in own) else [StepProgress()]
    return [
        guard,
        WeightAverage(ema_decay),
        Patience("val/loss", patience=patience, check_on_train_epoch_end=False),
        BestCheckpoint(directory, "best", monitor="val/loss", **common),
        LastCheckpoint(directory, "last", **common),
        CollapseWatch(),
        *progress,
        *own,
    ]


def loggers(directory: Path, given: Any) -> list[Logger]:
    """Loggers of a run.

    Args:
        directory: Folder of the run.
        given: Further loggers, or ``False`` for none at all.

    Returns:
        All of them.
    """
    if given is False:
        return []
    own: list[Logger] = [CSVLogger(directory, name="log")]
    if RequirementCache("tensorboard"):
        own.append(TensorBoardLogger(directory, name="tensorboard"))
    if given is None or given is True:
        return own
    return [*own, *([given] if isinstance(given, Logger) else given)]


def plugins(directory: Path, given: Any) -> list[Any]:
    """Plugins of a run.

    Args:
        directory: Folder of the run.
        given: Further plugins, or one.

    Returns:
        All of them; checkpoints are written by a plugin of ours unless there is another one.
    """
    own = [] if given is None else list(given) if isinstance(given, (list, tuple)) else [given]
    return own if any(isinstance(one, CheckpointIO) for one in own) else [*own, WholeCheckpoints(directory)]


def has_timer(given: list[Callback]) -> bool:
    """True if a callback limits the time of a run."""
    return any(isinstance(one, Timer) and one.time_remaining() is not None for one in given)


def _accelerator(asked: Any) -> Any:
    """What to compute on; not on Apple's GPUs, which have no float64."""
    if asked not in {"auto", "gpu", "mps"} or not MPSAccelerator.is_available():
        return asked
    if asked == "mps":
        raise ValueError(
            "energies are summed in float64, which accelerator='mps' does not have; choose accelerator='cpu'"
        )
    if CUDAAccelerator.is_available():
        return asked
    say("the run takes the CPU: energies are summed in float64, which this machine's GPU (MPS) does not have")
    return "cpu"
