"""The command line ``pyg-schnet``: training, tests and predictions from one file of settings."""

from pyg_schnet import former_names
from pyg_schnet.command.main import main

__all__ = ["main"]

former_names.attach(__name__)
