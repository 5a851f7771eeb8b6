"""How the loops of this folder are compiled (extra ``fast``)."""

from collections.abc import Callable
from pathlib import Path

from pyg_schnet.compiling import compiled_with, part_with, stamp_of

#: A product and a sum may be rounded once; only sums over features, which one thread does, may change their order.
CONTRACT, REORDER = {"contract", "nsz"}, {"contract", "nsz", "reassoc"}
#: Stands for all files of this folder: loops of one call those of others.
STAMP = stamp_of(Path(__file__).parent)


def compiled(fastmath: set[str]) -> Callable[[Callable], Callable]:
    """Compile at the first call and keep the machine code, see :func:`pyg_schnet.compiling.compiled_with`."""
    return compiled_with(fastmath)


def part(fastmath: set[str] = CONTRACT) -> Callable[[Callable], Callable]:
    """Compile what only other loops call."""
    return part_with(fastmath, forceinline=True)
