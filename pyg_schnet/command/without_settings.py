"""``pyg-schnet predict MODEL STRUCTURES`` without the settings of a run: what is predicted, the model itself says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyg_schnet.models import Committee, load
from pyg_schnet.units import target_unit

#: File of settings in the folder of a run.
CONFIG = "config.yaml"
#: Options that name the settings of a run.
_CONFIG = ("--config", "-c")
#: Where results go, and a dataset, which the parser asks for and nobody opens.
_REST = ["--trainer.directory", ".", "--data.dataset", "pyg_schnet.datasets.QM9"]


def with_task(words: list[str], read: Callable[[str], Any] = load) -> list[str]:
    """Words of ``predict`` with the task that they leave out.

    Args:
        words: Words of the command line. Before the options may stand a model and the structures to predict, for
            ``--weights`` and ``--input``.
        read: What reads the model, if that has to be asked what it predicts.

    Returns:
        The same words if they name settings or no model; else with the settings of the run, if the model is the folder
        of one, or with the task of the model, and with the folder that they are given in as that of the results.

    Raises:
        FileNotFoundError: If there is no such model.
        ValueError: If the model does not say what it predicts, or there are too many words before the options or no
            structures.

    Example:
        >>> with_task(["predict", "qm9-schnet", "new.xyz"])[-6:]
        ['--model.targets', '[U0]', '--weights', 'qm9-schnet', '--input', 'new.xyz']
    """
    count = next((number for number, word in enumerate(words[1:]) if word.startswith("-")), len(words) - 1)
    places, options = words[1 : count + 1], words[count + 1 :]
    if len(places) > 2:
        raise ValueError(f"predict takes a model and the structures for it, got also {' '.join(places[2:])!r}")
    named = [word for option, place in zip(("--weights", "--input"), places, strict=False) for word in (option, place)]
    words = [words[0], *named, *options]
    if any(word.partition("=")[0] in _CONFIG for word in words):
        return words
    weights = _value_of("--weights", words)
    if weights is None or "--model" in words:
        return words
    if _value_of("--input", words) is None:
        raise ValueError(f"name the structures to predict, too: pyg-schnet predict {weights} FILE")
    settings = Path(weights) / CONFIG
    if settings.is_file():
        return [words[0], "--config", str(settings), *words[1:]]
    return [words[0], *_REST, *_task_of(read(weights), weights), *words[1:]]


def _value_of(option: str, words: list[str]) -> str | None:
    """What follows an option."""
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == option:
            return value if equals else next(iter(words[number + 1 :]), None)
    return None


def _task_of(trained: Any, weights: str) -> list[str]:
    """Options of the task that a model was trained for."""
    first = trained[0] if isinstance(trained, Committee) else trained
    names = [name for name, unit in first.units.items() if target_unit({name: unit})]
    if names == ["energy"] or (not names and first.out_channels == 1 and first.config["readout"] == "add"):
        return ["--model", "pyg_schnet.training.PotentialTask", "--model.model", "pyg_schnet.SchNet"]
    if len(names) != first.out_channels:
        raise ValueError(
            f"{weights} does not say what it predicts (`units` of pyg_schnet.save); name the settings of its run "
            "(--config RUN/config.yaml)"
        )
    task = ["--model", "pyg_schnet.training.PropertyTask", "--model.model", "pyg_schnet.SchNet"]
    return [*task, "--model.model.out_channels", str(len(names)), "--model.targets", f"[{','.join(names)}]"]
