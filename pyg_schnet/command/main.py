"""Entry point of ``pyg-schnet``."""

import importlib
import inspect
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: What ends a command with one sentence instead of a traceback.
_SAID = (ValueError, TypeError, OSError, FloatingPointError, MemoryError, ImportError)
#: Commands that need no file of settings, each a function of its name in a file of its name.
TOOLS = ("doctor", "init", "look", "md", "relax", "serve")


def main(args: Any = None) -> None:
    """Run a command.

    Args:
        args: Words of the command line; those of this process by default.
    """
    try:
        import jsonargparse  # noqa: F401, PLC0415
        import lightning  # noqa: F401, PLC0415
    except ImportError:
        sys.exit('pyg-schnet: the command line needs Lightning; install it with pip install "pyg_schnet[train]"')
    from lightning.fabric.utilities.exceptions import MisconfigurationException  # noqa: PLC0415

    from pyg_schnet.command.messages import plain  # noqa: PLC0415

    words = sys.argv[1:] if args is None else list(args)

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings(), _plain_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="lightning")
        warnings.simplefilter("ignore", DeprecationWarning)  # Lightning calls jsonargparse by names of before
        try:
            if words and words[0] in TOOLS:
                _run_tool(words)
            else:
                from pyg_schnet.command.cli import SchNetCLI  # noqa: PLC0415

                SchNetCLI(args)
        except (*_SAID, MisconfigurationException) as error:
            sys.exit(f"pyg-schnet: {plain(str(error))}")
        except KeyboardInterrupt:
            sys.stderr.write("pyg-schnet: interrupted; no file was left half-written\n")
            sys.exit(130)  # as shells expect it of SIGINT


def _run_tool(words: list[str]) -> None:
    """Call the function that a command names: its arguments in order, those that need a name as options."""
    from docstring_parser import parse  # noqa: PLC0415, comes with jsonargparse[signatures]

    from pyg_schnet.command.messages import ToolParser  # noqa: PLC0415

    function = getattr(importlib.import_module(f"pyg_schnet.command.{words[0]}"), words[0])
    parser = ToolParser(prog=f"pyg-schnet {words[0]}", description=(function.__doc__ or "").split("\n\n")[0])
    said = {one.arg_name.lstrip("*"): one.description for one in parse(function.__doc__ or "").params}
    places = [one for one in inspect.signature(function).parameters.values() if one.kind is not one.KEYWORD_ONLY]
    many = next((one.name for one in places if one.kind is one.VAR_POSITIONAL), None)
    for one in places:
        number: dict[str, Any] = {} if one.default is one.empty else {"nargs": "?", "default": one.default}
        number |= {"nargs": "*", "default": []} if one.name == many else {}
        parser.add_argument(one.name, help=said.get(one.name), **number)
    skip: set[str | int] = {one.name for one in places if one.name != many}
    parser.add_function_arguments(function, skip=skip)
    values = vars(parser.parse_args(words[1:]).clone())
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
