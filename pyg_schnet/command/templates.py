"""Settings that come with the package, by name; in a checkout they are in ``examples/configs``."""

import difflib
from pathlib import Path

from pyg_schnet.files.shipped import shipped


def folder() -> Path:
    """Where the files of settings are.

    Returns:
        Beside this file in an installed package, in a checkout ``examples/configs``.

    Raises:
        FileNotFoundError: If the installation lacks them.
    """
    installed, checkout = Path(__file__).parent / "settings", Path(__file__).parents[2] / "examples" / "configs"
    return shipped(installed, checkout, f"the files of settings are missing in {installed}")


def names() -> list[str]:
    """Names of all settings.

    Returns:
        The names, sorted.

    Example:
        >>> "md17" in names()
        True
    """
    return sorted(path.stem for path in folder().glob("*.yaml"))


def path_of(name: str) -> Path:
    """The file of settings that is meant.

    Args:
        name: A name, with or without ``.yaml``.

    Returns:
        Its path.

    Raises:
        FileNotFoundError: If there is none of this name.

    Example:
        >>> path_of("md17").name
        'md17.yaml'
    """
    path = folder() / f"{name.removesuffix('.yaml')}.yaml"
    if "/" not in name and path.is_file():
        return path
    close = difflib.get_close_matches(name.removesuffix(".yaml"), names(), 1)
    hint = f"did you mean {close[0]!r}?" if close else f"those that come with the package are {', '.join(names())}"
    raise FileNotFoundError(
        f"there is no file {name} of settings, and none of this name comes with the package; {hint}"
    )
