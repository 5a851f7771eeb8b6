"""How the loops of this folder are compiled (extra ``fast``)."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

try:
    from numba import njit
except ImportError as error:
    raise ImportError('the compiled convolution needs numba; install it with pip install "pyg_schnet[fast]"') from error

#: A product and a sum may be rounded once; only sums over features, which one thread does, may change their order.
CONTRACT, REORDER = {"contract", "nsz"}, {"contract", "nsz", "reassoc"}
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
#: Saves the time to compile what only Python would need.
NOT_FROM_PYTHON: dict[str, Any] = {"no_cpython_wrapper": True, "forceinline": True}
#: Stands for all files of this folder: loops of one call those of others.
STAMP = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")))).hexdigest()


def compiled(fastmath: set[str]) -> Callable[[Callable], Callable]:
    """Compile at the first call and keep the machine code beside the file, or elsewhere, or not at all."""

    def decorate(function: Callable) -> Callable:
        try:
            loops: Callable = njit(cache=True, fastmath=fastmath, **OPTIONS)(function)
        except RuntimeError:  # no folder can be written to
            return njit(fastmath=fastmath, **OPTIONS)(function)
        _stamp(loops)
        return loops

    return decorate


def _stamp(loops: Any) -> None:
    """Let machine code count as old when any file of this folder has changed; Numba itself looks at one file only."""
    kept: Any = getattr(getattr(loops, "_cache", None), "_cache_file", None)
    if hasattr(kept, "_source_stamp"):
        kept._source_stamp = STAMP


def part(fastmath: set[str] = CONTRACT) -> Callable[[Callable], Callable]:
    """Compile what only other loops call."""
    return njit(fastmath=fastmath, **OPTIONS, **NOT_FROM_PYTHON)
