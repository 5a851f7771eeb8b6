"""Which way a computation takes: short ways can be turned off, and those that were taken be recorded.

When a result looks wrong, compute it again without: if it stays as it is, speed has nothing to do with it.
"""

import contextlib
import os
import threading
from collections.abc import Iterator

import torch

#: Short ways, see :func:`recorded`, and the loops by which sums, splines and passes are computed on CPUs and GPUs.
WAYS = ("molecules", "pass", "frozen tables", "tables", "compiled loops")
#: Environment variable that turns all of them off for a whole process when it is ``0``.
VARIABLE = "PYG_SCHNET_FAST"


class _State(threading.local):
    """What is turned off in a thread, and where it writes down which ways it takes."""

    off: frozenset[str] = frozenset(WAYS if os.environ.get(VARIABLE) == "0" else ())
    taken: list[str] | None = None


_state = _State()


def enabled(way: str) -> bool:
    """True unless a short way is turned off, for a block of code or for the process."""
    return torch.compiler.is_compiling() or way not in _state.off


def loops_enabled() -> bool:
    """True unless compiled loops are turned off for a block of code; asked for each operation, so it asks no more."""
    return "compiled loops" not in _state.off


@contextlib.contextmanager
def without(*names: str) -> Iterator[None]:
    """Inside, such short ways are not taken in this thread; what comes next is.

    Without compiled loops there are no passes either, and all is computed by operations of torch, as on machines that
    have no Numba. A gradient that is asked for later, outside, may use them.

    Args:
        *names: One or several of :data:`WAYS`.

    Raises:
        ValueError: If there is no such way.

    Example:
        >>> import torch
        >>> from pyg_schnet import Potential, SchNet
        >>> potential = Potential(SchNet(16, 16, 1).freeze())
        >>> with without("molecules", "pass"), recorded() as ways:
        ...     out = potential(torch.tensor([8, 1]), torch.tensor([[0.0, 0, 0], [0.96, 0, 0]]))
        >>> ways
        ['frozen tables']
    """
    if unknown := set(names) - set(WAYS):
        raise ValueError(f"short ways are {', '.join(map(repr, WAYS))}, got {', '.join(map(repr, sorted(unknown)))}")
    before = _state.off
    _state.off = before | set(names)
    try:
        yield
    finally:
        _state.off = before


def exactly() -> contextlib.AbstractContextManager[None]:
    """Inside, everything is computed by the readable network, in this thread: no tables, no compiled passes.

    Frozen models evaluate their filter networks, too. Results are the same to the accuracy of the tables.

    Returns:
        A context.

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
    return without(*WAYS)


@contextlib.contextmanager
def recorded() -> Iterator[list[str]]:
    """Inside, each computation of a SchNet writes down which way it took, in this thread.

    Yields:
        A list that grows: ``"molecules"`` (energies and forces from positions on, in one compiled call), ``"pass"``
        (energies and derivatives, or features, and gradients of weights, in compiled calls), ``"frozen tables"``,
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
    before, taken = _state.taken, list[str]()
    _state.taken = taken
    try:
        yield taken
    finally:
        _state.taken = before


def note(way: str) -> None:
    """Write a way down inside of :func:`recorded`."""
    taken = None if torch.compiler.is_compiling() else _state.taken
    if taken is not None:
        taken.append(way)
