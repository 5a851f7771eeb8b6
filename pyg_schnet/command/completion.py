"""``pyg-schnet --print-completion bash``: a script that completes commands and options (package ``shtab``)."""

import argparse
import importlib
from typing import Any

from pyg_schnet.command.words import COMMANDS, EXAMPLES, TOOLS, module_of


class _ParsersAloneError(Exception):
    """Carries the parsers out of Lightning's constructor, which would run a command next."""

    def __init__(self, parsers: dict[str, Any]) -> None:
        self.parsers = parsers


def script(shells: list[str]) -> str:
    """The script for a shell.

    Args:
        shells: Name of the shell; bash without one.

    Returns:
        What the shell is to evaluate.

    Raises:
        ImportError: If ``shtab`` is not installed.
        ValueError: If there is no such shell.
    """
    try:
        import shtab  # noqa: PLC0415
    except ImportError as error:
        raise ImportError('completion needs shtab; install it with pip install "pyg_schnet[train]"') from error
    shell = (shells or ["bash"])[0]
    if shell not in shtab.SUPPORTED_SHELLS:
        raise ValueError(f"--print-completion takes one of {', '.join(shtab.SUPPORTED_SHELLS)}, got {shell!r}")
    return shtab.complete(plain_parser(shtab.FILE), shell)


def plain_parser(files: Any = None) -> argparse.ArgumentParser:
    """All commands and their options, without what they mean.

    Args:
        files: What tells the shell to complete names of files.

    Returns:
        A parser of Python's own kind.
    """
    from pyg_schnet.command.tools import tool_parser  # noqa: PLC0415

    parser = argparse.ArgumentParser("pyg-schnet")
    parser.add_argument("--version", action="store_true", help="the version")
    commands = parser.add_subparsers()
    theirs = _lightning_parsers()
    for name, (does, _) in EXAMPLES.items():
        one = commands.add_parser(name, help=does)
        if name in TOOLS:
            file = module_of(name)
            function = getattr(importlib.import_module(f"pyg_schnet.command.{file}"), file)
            source, places, _ = tool_parser(name, function)
            for place in places:
                one.add_argument(place.name, nargs="*").complete = files  # type: ignore[attr-defined]
        else:
            source = theirs[name]
        for action in source._actions:
            options = [option for option in action.option_strings if option.startswith("--") and "+" not in option]
            if options and options[0] not in {"--help", "--print_shtab"}:
                one.add_argument(*options).complete = files  # type: ignore[attr-defined]
    return parser


def _lightning_parsers() -> dict[str, Any]:
    """Parsers of the commands that a file of settings describes."""
    from pyg_schnet.command.cli import SchNetCLI  # noqa: PLC0415

    class Parsers(SchNetCLI):
        def parse_arguments(self, parser: Any, args: Any) -> None:
            raise _ParsersAloneError(self._subcommand_parsers)

    try:
        Parsers([COMMANDS[0]])
    except _ParsersAloneError as found:
        return found.parsers
    raise RuntimeError("Lightning made no parsers")  # it always calls `parse_arguments`
