"""Options of commands that are one function each, from its arguments and its docstring."""

import inspect
from typing import Any

from docstring_parser import parse  # comes with jsonargparse[signatures]

from pyg_schnet.command.messages import ToolParser

#: Values of options that are true or false.
_TRUTH = {"true", "false", "yes", "no"}


def tool_parser(name: str, function: Any) -> tuple[Any, list[inspect.Parameter], str | None]:
    """The options of a command that is one function.

    Args:
        name: Name of the command.
        function: The function.

    Returns:
        The parser, the arguments that have places, and the name of the one that may be many.
    """
    parser = ToolParser(prog=f"pyg-schnet {name}", description=(function.__doc__ or "").split("\n\n")[0])
    said = {one.arg_name.lstrip("*"): one.description for one in parse(function.__doc__ or "").params}
    places = [one for one in inspect.signature(function).parameters.values() if one.kind is not one.KEYWORD_ONLY]
    many = next((one.name for one in places if one.kind is one.VAR_POSITIONAL), None)
    for one in places:
        kind: dict[str, Any] = {} if one.default is one.empty else {"nargs": "?", "default": one.default}
        kind |= {"nargs": "*", "default": []} if one.name == many else {}
        parser.add_argument(one.name, help=said.get(one.name), **kind)
    skip: set[str | int] = {one.name for one in places if one.name != many}
    parser.add_function_arguments(function, skip=skip)
    return parser, places, many


def with_values(words: list[str], function: Any) -> list[str]:
    """Options that are true or false may stand without a value, which is true then.

    Args:
        words: Words of a command line.
        function: The function of the command.

    Returns:
        The words, each such option with a value behind it.

    Example:
        >>> def show(name: str, *, json: bool = False) -> None: ...
        >>> with_values(["--json", "ethanol"], show), with_values(["--json", "false"], show)
        (['--json', 'true', 'ethanol'], ['--json', 'false'])
    """
    parameters = inspect.signature(function).parameters.values()
    flags = {f"--{one.name}" for one in parameters if one.annotation is bool}
    found: list[str] = []
    for word, after in zip(words, [*words[1:], ""], strict=False):
        found.append(word)
        if word in flags and after.lower() not in _TRUTH:
            found.append("true")
    return found
