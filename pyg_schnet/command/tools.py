"""Options of commands that are one function each, from its arguments and its docstring."""

import inspect
from typing import Any

from docstring_parser import parse  # comes with jsonargparse[signatures]

from pyg_schnet.command.messages import ToolParser


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
