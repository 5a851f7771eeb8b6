"""Where a model lies: at a path, in the package by its name, or in the Hugging Face hub."""

import os
import re
from pathlib import Path
from typing import Any

from pyg_schnet.models.hub import SCHEME, fetched
from pyg_schnet.models.published import PUBLISHED
from pyg_schnet.models.registry import bundled_model, bundled_names, nearest

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


def place_of(path: Any) -> Path:
    """The file or folder of a model.

    Args:
        path: A path; the name of a model that comes with the package, if nothing has this path; or
            ``"hf://owner/name"``, which is fetched from the Hugging Face hub if it is not in its cache.

    Returns:
        The path; there is a file or folder.

    Raises:
        TypeError: If it is no path.
        ValueError: If it is another address, or a model of the package is damaged.
        FileNotFoundError: If there is nothing.
        OSError: If the hub cannot be reached.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"`path` must be a path, got {type(path).__name__}")
    name = os.fspath(path)
    if str(name).startswith(SCHEME):
        return fetched(str(name))
    if _ADDRESS.match(str(name)) and not os.path.exists(name):
        raise ValueError(f"{name} is an address; download it first, then pass the path of the file")
    place = Path(path).expanduser() if str(name).startswith("~") else Path(path)
    if place.exists():
        return place
    if str(name) in bundled_names():
        return bundled_model(str(name)).checked_folder()
    if str(name) in PUBLISHED:
        raise FileNotFoundError(
            f"there is no model file {path}; SchNet.from_pretrained({str(name)!r}) reads the published model"
        )
    hint = f", and none of this name comes with the package; {nearest(str(name))}" if _is_name(str(name)) else ""
    raise FileNotFoundError(f"there is no model file {path}{hint}")


def _is_name(text: str) -> bool:
    """True if somebody may have meant a name, not a path."""
    return bool(re.fullmatch(r"[\w-]+", text))
