"""Machine code that is kept, and when it is too old."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")
jit = importlib.import_module("pyg_schnet.ops.kernels.jit")


def test_numba_asks_for_the_stamp() -> None:
    """It is an attribute that Numba does not promise: without it, one file would be looked at, as Numba does."""
    loops = importlib.import_module("pyg_schnet.ops.kernels.loops")
    assert loops.add_to_nodes._cache._cache_file._source_stamp == jit.STAMP


def test_a_change_of_any_file_counts(tmp_path: Path) -> None:
    """A copy of this folder's way to compile, with two files of which one changes."""
    folder = tmp_path / "rooms"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "jit.py").write_text(Path(jit.__file__).read_text())
    (folder / "outer.py").write_text(
        "from rooms.inner import inner\nfrom rooms.jit import CONTRACT, compiled\n\n\n"
        "@compiled(CONTRACT)\ndef outer(x):\n    return inner(x)\n"
    )
    found = []
    for number in (2, 2, 3):
        (folder / "inner.py").write_text(
            f"from rooms.jit import part\n\n\n@part()\ndef inner(x):\n    return x + {number}\n"
        )
        code = "from rooms.outer import outer; print(outer(1), sum(outer.stats.cache_hits.values()))"
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        found.append(done.stdout.split())
    assert found == [["3", "0"], ["3", "1"], ["4", "0"]]
