"""Machine code that is kept, and when it is too old."""

import importlib

import pytest

pytest.importorskip("numba")
jit = importlib.import_module("pyg_schnet.ops.kernels.jit")


def test_numba_asks_for_the_stamp() -> None:
    """It is an attribute that Numba does not promise: without it, one file would be looked at, as Numba does."""
    loops = importlib.import_module("pyg_schnet.ops.kernels.loops")
    assert loops.add_to_nodes._cache._cache_file._source_stamp == jit.STAMP
