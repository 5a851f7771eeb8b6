"""What the command line says when something is wrong: one sentence, and the option that was meant."""

import difflib
import re
import sys
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

_UNKNOWN = re.compile(
    r"unrecognized arguments: -*([\w.]+)|does not accept option '([\w.]+)'|Option '([\w.]+)' is not accepted"
)
_NO_SETTINGS = "Unexpected config:"
_UNION = "Does not validate against any of the Union subtypes"


class ToolParser(ArgumentParser):
    """Options of a command that is one function; says what is wrong in one sentence."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """End with the message."""
        sys.exit(f"pyg-schnet: {plain(message, self)} (all options: {self.prog} --help)")


def plain(message: str, parser: Any = None) -> str:
    r"""What a message of jsonargparse comes down to.

    Args:
        message: What it says.
        parser: The parser, whose options are known.

    Returns:
        One line; for an option that does not exist, with the nearest one that does.

    Example:
        >>> plain("there  is\tno such file")
        'there is no such file'
    """
    found = _UNKNOWN.search(message)
    if found is None or parser is None:
        return _reason(message)
    name, known = next(filter(None, found.groups())), _options(parser)
    close = difflib.get_close_matches(name, known, 1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(known)}"
    return f"there is no option {name!r}; {hint}"


def _reason(message: str) -> str:
    if message.startswith(_NO_SETTINGS):
        given = " ".join(message.removeprefix(_NO_SETTINGS).split())[:80] or "nothing"
        return f"the file of settings (config) must hold names with values, as those in examples/configs, got {given}"
    if _UNION not in message:
        return " ".join(message.split())
    reasons = [reason.strip() for reason in re.findall(r"- (.+?)(?= - |\n|$| Given value type)", message)]
    said = [one for one in reasons if not one.startswith("Expected a")]
    if said:  # of the reasons of all alternatives, the first one that says something
        return said[0]
    named = re.findall(r"- Expected an? <class '([\w.]+)'>", message)
    kinds = " or ".join(sorted(named, key=lambda kind: kind == "NoneType"))  # nothing at the end, in any version
    head, given = message.split(_UNION, maxsplit=1)[0].strip(), message.rsplit("Given value:", 1)[-1].strip()
    return f"{head} expected {kinds}, got {given}".replace("NoneType", "null")


def _options(parser: Any) -> list[str]:
    """Options of a parser, those of its commands included."""
    names: dict[str, None] = {}
    for action in parser._actions:
        names[action.dest] = None
        for command in (action.choices or {}).values() if isinstance(action.choices, dict) else ():
            names |= dict.fromkeys(_options(command))
    hidden = {"help", "subcommand", "config", "print_config"}
    return [name for name in names if name not in hidden and not name.endswith(".help")]
