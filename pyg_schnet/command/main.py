"""Entry point of ``pyg-schnet``."""

import importlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any

from pyg_schnet.command.words import COMMANDS, TOOLS, module_of, overview, prepared, unknown_command

#: What ends a command with one sentence instead of a traceback.
_SAID = (ValueError, TypeError, OSError, FloatingPointError, MemoryError, ImportError)


def main(args: Any = None) -> None:
    """Run a command.

    Args:
        args: Words of the command line; those of this process by default.
    """
    given = sys.argv[1:] if args is None else list(args)
    if given[:1] in ([], ["--help"], ["-h"], ["help"]):
        print(overview())
        return
    if given[0] == "--version":
        print(f"pyg_schnet {sys.modules['pyg_schnet'].__version__}")
        return
    if find_spec("jsonargparse") is None or find_spec("lightning") is None:
        sys.exit('pyg-schnet: the command line needs Lightning; install it with pip install "pyg_schnet[train]"')
    from pyg_schnet.command.messages import plain  # noqa: PLC0415

    with warnings.catch_warnings(), _plain_warnings():
        try:
            words = prepared(given)
            if words[0] in TOOLS:
                _run_tool(words)
            elif words[0] == "--print_completion":
                from pyg_schnet.command.completion import script  # noqa: PLC0415

                print(script(words[1:]))
            elif words[0] in COMMANDS:
                _run_lightning(words)
            else:
                raise ValueError(unknown_command(words[0]))
            sys.stdout.flush()
        except BrokenPipeError:  # `head`, say, has read enough of what is printed; errors of sockets are caught earlier
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except _SAID as error:
            sys.exit(f"pyg-schnet: {plain(str(error))}")
        except KeyboardInterrupt:
            sys.stderr.write("pyg-schnet: interrupted; no file was left half-written\n")
            sys.exit(130)  # as shells expect it of SIGINT


def _run_lightning(words: list[str]) -> None:
    """Train, test, validate or predict, as a file of settings says."""
    from lightning.fabric.utilities.exceptions import MisconfigurationException  # noqa: PLC0415

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=UserWarning, module="lightning")
    warnings.simplefilter("ignore", DeprecationWarning)  # Lightning calls jsonargparse by names of before
    if {"--help", "-h"} & {*words}:
        from pyg_schnet.command.help import options_of  # noqa: PLC0415

        print(options_of(words[0]))
        return
    from pyg_schnet.command.cli import SchNetCLI  # noqa: PLC0415
    from pyg_schnet.models import load  # noqa: PLC0415

    read = cache(load)  # a model that is asked what it predicts is not read again
    words = ["--help" if word == "--help_all" else word for word in words]
    if words[0] == "predict" and "--help" not in words:
        from pyg_schnet.command.without_settings import with_task  # noqa: PLC0415

        words = with_task(words, read)
    try:
        with _as_words_of_the_process(words):
            SchNetCLI(read=read)
    except MisconfigurationException as error:
        raise ValueError(str(error)) from error


@contextmanager
def _as_words_of_the_process(words: list[str]) -> Iterator[None]:
    """What Lightning looks at, also where it starts the other processes of a run."""
    before = sys.argv
    sys.argv = [before[0], *words]
    try:
        yield
    finally:
        sys.argv = before


def _run_tool(words: list[str]) -> None:
    """Call the function that a command names: its arguments in order, those that need a name as options."""
    from pyg_schnet.command.tools import tool_parser, with_values  # noqa: PLC0415

    warnings.simplefilter("ignore", DeprecationWarning)
    name = module_of(words[0])
    function = getattr(importlib.import_module(f"pyg_schnet.command.{name}"), name)
    parser, places, many = tool_parser(words[0], function)
    values = vars(parser.parse_args(with_values(words[1:], function)).clone())
    several = values.pop(many) if many else []
    function(*(values.pop(one.name) for one in places if one.name != many), *several, **values)


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Warnings are shown as one sentence, without the line of code that they come from."""
    usual = warnings.formatwarning
    warnings.formatwarning = lambda message, *_: f"pyg-schnet: warning: {' '.join(str(message).split())}\n"
    try:
        yield
    finally:
        warnings.formatwarning = usual
