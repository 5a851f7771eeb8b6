"""Which way a computation takes: a switch that turns all short ways off, and a record of those that were taken.

When a result looks wrong, compute it again without: if it stays as it is, speed has nothing to do with it.
"""

import contextlib
import os
import threading
from collections.abc import Iterator

import torch

_state = threading.local()
#: Environment variable that turns short ways off for a whole process when it is ``0``.
VARIABLE = "PYG_SCHNET_FAST"


def enabled() -> bool:
    """True unless short ways are turned off, for a block of code or for the process."""
    if torch.compiler.is_compiling():
        return True
    enabled: bool = getattr(_state, "enabled", True)
    return enabled and os.environ.get(VARIABLE) != "0"


@contextlib.contextmanager
def exactly() -> Iterator[None]:
    """Inside, everything is computed by the readable network, in this thread: no tables, no compiled passes.

    Frozen models evaluate their filter networks, too. Results are the same to the accuracy of the tables.

    Example:
        >>> import torch
        >>> from pyg_schnet import Potential, SchNet
        >>> potential = Potential(SchNet(16, 16, 1).freeze())
        >>> z, pos = torch.tensor([8, 1]), torch.tensor([[0.0, 0, 0], [0.96, 0, 0]])
        >>> out = potential(z, pos)
        >>> with exactly():
        ...     plain = potential(z, pos)
        >>> bool((out["energy"] - plain["energy"]).abs() < 1e-5)
        True
    """
    before = getattr(_state, "enabled", True)
    _state.enabled = False
    try:
        yield
    finally:
        _state.enabled = before


@contextlib.contextmanager
def recorded() -> Iterator[list[str]]:
    """Inside, each computation of a SchNet writes down which way it took, in this thread.

    Yields:
        A list that grows: ``"molecules"`` (energies and forces from positions on, in one compiled call), ``"pass"``
        (energies and derivatives, or those and gradients of weights, in compiled calls), ``"frozen tables"``,
        ``"tables"`` (made for the batch) and ``"networks"`` (evaluated for each pair).

    Example:
        >>> import torch
        >>> from pyg_schnet import SchNet
        >>> model = SchNet(16, 16, 1, filters="exact")
        >>> with recorded() as ways:
        ...     energy = model(torch.tensor([8, 1]), torch.tensor([[0.0, 0, 0], [0.96, 0, 0]]))
        >>> ways
        ['networks']
    """
    before, _state.taken = getattr(_state, "taken", None), list[str]()
    try:
        yield _state.taken
    finally:
        _state.taken = before


def note(way: str) -> None:
    """Write a way down, if somebody wants to know."""
    taken = None if torch.compiler.is_compiling() else getattr(_state, "taken", None)
    if taken is not None:
        taken.append(way)
