"""What comes with the package: beside the code in an installed package, in folders of their own in a checkout."""

from collections.abc import Sequence
from pathlib import Path


def shipped(installed: Path, checkout: Path, missing: str, files: Sequence[str] = ()) -> Path:
    """A folder that comes with the package.

    Args:
        installed: Where it is in an installed package.
        checkout: Where it is in a checkout.
        missing: What is said if it is in neither.
        files: Files that it must hold.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: If the installation lacks it.

    Example:
        >>> shipped(Path("nowhere"), Path(), "all is missing").exists()
        True
    """
    for folder in (installed, checkout):
        if folder.is_dir() and all((folder / file).is_file() for file in files):
            return folder
    raise FileNotFoundError(f"{missing}; install pyg_schnet again")
