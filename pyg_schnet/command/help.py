"""``pyg-schnet fit --help``: options of this package in a line or two each, from the docstrings of what they set."""

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable
from typing import Any

from docstring_parser import parse

from pyg_schnet.command.cli import SchNetCLI
from pyg_schnet.command.data import structures
from pyg_schnet.datasets import Trajectory
from pyg_schnet.models import SchNet
from pyg_schnet.training import PotentialTask, PropertyTask, RunTrainer

#: Columns of a line, and of the names of options.
_LINE, _NAMES = 118, 34
#: Options of Lightning's trainer that many runs need.
_OFTEN = {
    "accelerator": ("auto", "Where to train: cpu, gpu, ..."),
    "devices": ("1", "How many devices to train on, or which ones."),
    "gradient_clip_val": ("null", "Longest gradient, longer ones are cut."),
    "precision": ("32-true", "64-true for double precision, bf16-mixed on GPUs."),
}
#: Arguments that settings have by another name, or not at all.
_LEFT_OUT = {
    "self",
    "model",
    "datamodule",
    "dataset",
    "transform",
    "pre_transform",
    "pre_filter",
    "kwargs",
    "spellings",
}
_LEFT_OUT |= {"callbacks", "logger", "log", "force_reload", "mean", "std", "atomref", "readout_options"}


def options_of(command: str) -> str:
    """The options of a command that a file of settings describes.

    Args:
        command: ``"fit"``, ``"validate"``, ``"test"`` or ``"predict"``.

    Returns:
        What ``pyg-schnet COMMAND --help`` shows.

    Example:
        >>> print(options_of("fit").splitlines()[0])
        usage: pyg-schnet fit --config SETTINGS [--OPTION VALUE ...]
    """
    method = getattr(SchNetCLI, command)
    settings = "SETTINGS" if command == "fit" else "RUN/config.yaml"
    lines = [f"usage: pyg-schnet {command} --config {settings} [--OPTION VALUE ...]"]
    lines += ["       pyg-schnet predict MODEL STRUCTURES [--OPTION VALUE ...]"] * (command == "predict") + [""]
    lines += [(method.__doc__ or "").split("\n\n")[0], ""]
    lines += _options("", method)
    lines += _line(
        "--config, -c FILE", "File of settings, or the name of one that comes with the package; several add up."
    )
    if command == "fit":
        lines += _line("--seed_everything 0", "Seed of the weights, and of the order of the examples.")
        lines += _line("--print_config", "Print all settings and end.")
        lines += _run_options()
    else:
        lines += ["", "All settings of the run are options, too: pyg-schnet fit --help."]
    lines += ["", f"All options, those of Lightning's trainer among them: pyg-schnet {command} --help-all"]
    return "\n".join(lines)


def _run_options() -> list[str]:
    """Settings of a run."""
    lines = ["", "Run:", *_options("trainer.", RunTrainer)]
    for name, (default, says) in _OFTEN.items():
        lines += _line(f"--trainer.{name} {default}", says)
    lines += [
        "",
        "Data:",
        *_line("--data.dataset CLASS", "The dataset, for example Trajectory, MD17 or QM9."),
        *_options("data.", structures),
    ]
    lines += ["", "Your own files (--data.dataset Trajectory):", *_options("data.dataset.", Trajectory)]
    lines += ["", "Task (--model PotentialTask, energies and forces):", *_options("model.", PotentialTask)]
    lines += ["", "Task (--model PropertyTask, any number), besides:"]
    shared = {*inspect.signature(PotentialTask).parameters}
    lines += _options("model.", PropertyTask, shared)
    return [*lines, "", "Network (--model.model SchNet):", *_options("model.model.", SchNet)]


def _options(prefix: str, of: Callable[..., Any], without: Iterable[str] = ()) -> list[str]:
    """Options that stand for the arguments of a function or a class."""
    said = {one.arg_name.lstrip("*"): one.description or "" for one in parse(of.__doc__ or "").params}
    lines: list[str] = []
    for name, parameter in inspect.signature(of).parameters.items():
        if name in _LEFT_OUT or name in set(without) or name not in said:
            continue
        lines += _line(f"--{prefix}{name}{_default(parameter)}", _first_sentence(said[name]))
    return lines


def _default(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty or parameter.default in ((), ""):
        return " ..."
    default = parameter.default
    return f" {'null' if default is None else str(default).lower() if isinstance(default, bool) else default}"


def _first_sentence(text: str) -> str:
    """The first sentence of a description, without marks."""
    text = " ".join(text.split())
    text = re.sub(r",? see :\w+:`[^`]*`(?=[.;,:]|$)", "", text)
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"\1", text)
    text = re.sub(r"``\"?([^`]*?)\"?``", r"\1", text).replace("``", "").replace('"', "")
    first = re.split(r"(?<=[a-z)\d])\. ", text, maxsplit=1)[0]
    if first.find(";") > 20:
        first = first[: first.index(";")]
    return first.rstrip(".") + "."


def _line(option: str, says: str) -> list[str]:
    """An option and what it does, which stands below if the option is long."""
    lines = textwrap.wrap(says, _LINE - _NAMES) or [""]
    head = f"  {option}"
    if len(head) >= _NAMES:
        return [head, *(" " * _NAMES + line for line in lines)]
    return [f"{head:{_NAMES}}{lines[0]}", *(" " * _NAMES + line for line in lines[1:])]
