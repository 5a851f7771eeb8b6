"""The words of the command line: which commands there are, and what is done to words before they are read."""

import difflib
import re
import textwrap
from pathlib import Path

#: Commands that a file of settings describes.
COMMANDS = ("fit", "validate", "test", "predict")
#: Commands that need no file of settings, each a function of its name in a file of its name, see :func:`module_of`.
TOOLS = ("demo", "doctor", "export", "init", "join", "look", "md", "models", "relax", "serve", "warm-up")
#: All commands in the order of their use: what they do, and an example.
EXAMPLES: dict[str, tuple[str, str]] = {
    "init": ("look at data of your own and write settings that train on them", "init frames.xyz"),
    "fit": ("train", "fit --config settings.yaml"),
    "test": ("errors on unseen structures, with tables and figures", "test --config results/frames/config.yaml"),
    "validate": ("the same for the validation set", "validate --config results/frames/config.yaml"),
    "predict": ("predict the structures of files", "predict results/frames new.xyz --output out.xyz"),
    "join": ("predictions of all shards as one file", "join out.csv"),
    "models": ("trained models that come with the package, and their cards", "models md17-ethanol"),
    "md": ("molecular dynamics", "md results/frames start.xyz --steps 2000 --temperature 300"),
    "relax": ("relax structures to their minima", "relax results/frames start.xyz"),
    "look": ("what a model learned, on one page", "look results/frames start.xyz"),
    "doctor": ("whether a model is sound", "doctor results/frames start.xyz"),
    "serve": ("forces for another program, over i-PI's sockets", "serve results/frames start.xyz --unix schnet"),
    "export": ("a package for programs in C++", "export results/frames model.pt2"),
    "warm-up": ("compile all loops once, for images and clusters", "warm-up --numbers float32"),
    "demo": ("learn a force field of ethanol, measure its errors and move it, in four minutes", "demo --minutes 2"),
}


def module_of(command: str) -> str:
    """Name of the file and of the function of a command.

    Args:
        command: One of :data:`TOOLS`.

    Returns:
        The name.

    Example:
        >>> module_of("warm-up")
        'warm_up'
    """
    return command.replace("-", "_")


def overview() -> str:
    """What ``pyg-schnet --help`` shows.

    Returns:
        All commands with an example each.

    Example:
        >>> all(name in overview() for name in (*COMMANDS, *TOOLS))
        True
    """
    from pyg_schnet.command.templates import names  # noqa: PLC0415

    width = max(map(len, EXAMPLES))
    lines = ["usage: pyg-schnet COMMAND [OPTIONS]", "", "SchNet from your structures to results. Commands:", ""]
    for name, (does, example) in EXAMPLES.items():
        lines += [f"  {name:{width}}  {does}", f"  {'':{width}}  $ pyg-schnet {example}"]
    lines += [
        "",
        "pyg-schnet COMMAND --help explains its options; fit --help-all has those of Lightning's trainer, too.",
        *textwrap.wrap(f"Settings to start from, by name (fit --config NAME): {', '.join(names())}", 115),
        'pyg-schnet --version says the version; eval "$(pyg-schnet --print-completion bash)" completes commands and',
        "options with the tabulator key (or zsh, tcsh).",
    ]
    return "\n".join(lines)


def unknown_command(word: str) -> str:
    """What to say of a command that does not exist.

    Args:
        word: What was given.

    Returns:
        One sentence, with the nearest command.

    Example:
        >>> unknown_command("fti")
        "there is no command 'fti'; did you mean 'fit'?"
    """
    close = difflib.get_close_matches(word, EXAMPLES, 1, cutoff=0.5)
    return f"there is no command {word!r}; " + (
        f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(EXAMPLES)}"
    )


def prepared(words: list[str]) -> list[str]:
    """Words of a command line as parsers take them.

    Options may be written with hyphens, ``--energy-unit`` for ``--energy_unit``, and settings be named that come with
    the package, ``--config md17``.

    Args:
        words: As they were given.

    Returns:
        The same words; names of settings are paths.

    Raises:
        FileNotFoundError: If there are no such settings.

    Example:
        >>> prepared(["md", "--energy-unit", "eV", "--steps=5"])
        ['md', '--energy_unit', 'eV', '--steps=5']
    """
    found: list[str] = []
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if re.fullmatch(r"--[A-Za-z][\w.+-]*", name):
            name = "--" + name[2:].replace("-", "_")
        after = found[-1] if place else ""
        if name == "--config" and equals:
            value = _settings(value)
        elif after in {"--config", "-c"} and not word.startswith("-"):
            name, equals, value = _settings(word), "", ""
        found.append(name + equals + value)
    return found


def _settings(name: str) -> str:
    """The path of a file of settings; text of settings and files that are there stay as they are."""
    from pyg_schnet.command.templates import path_of  # noqa: PLC0415

    if Path(name).exists() or not re.fullmatch(r"[\w./~-]+", name) or name == "null":
        return name
    return str(path_of(name))
