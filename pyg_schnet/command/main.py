"""Entry point of ``pyg-schnet``."""

import logging
import sys
import warnings
from typing import Any

#: What ends a command with one sentence instead of a traceback.
_SAID = (ValueError, TypeError, OSError, FloatingPointError, MemoryError, ImportError)


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

    from pyg_schnet.command.cli import SchNetCLI  # noqa: PLC0415
    from pyg_schnet.command.messages import plain  # noqa: PLC0415

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="lightning")
        warnings.simplefilter("ignore", DeprecationWarning)  # Lightning calls jsonargparse by names of before
        try:
            SchNetCLI(args)
        except (*_SAID, MisconfigurationException) as error:
            sys.exit(f"pyg-schnet: {plain(str(error))}")
