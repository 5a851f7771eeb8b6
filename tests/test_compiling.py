"""An optional package or kept machine code that cannot be used never fails a calculation."""

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyg_schnet import compiling
from pyg_schnet.compiling import loops_of, trouble_with

LOOPS = """
from pyg_schnet.compiling import compiled

@compiled()
def double(x):
    return 2 * x
"""


@pytest.fixture(autouse=True)
def _forget() -> Any:
    yield
    for function in (trouble_with, loops_of, compiling.stamp_of):
        function.cache_clear()


# --- machine code that is kept ---


class Kept:
    """Loops that are compiled or read from a folder, each time as if in a new process."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        numba = pytest.importorskip("numba")
        self.source, self.cache = folder / "source" / "loops.py", folder / "cache"
        self.source.parent.mkdir()
        self.source.write_text(LOOPS)
        monkeypatch.setattr(numba.config, "CACHE_DIR", str(self.cache))

    def run(self) -> tuple[int, int]:
        """What the loops give, and how often machine code was found."""
        compiling.stamp_of.cache_clear()
        spec: Any = importlib.util.spec_from_file_location("loops", self.source)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found = module.double(21)
        return found, sum(module.double.stats.cache_hits.values())

    def files(self, suffix: str) -> list[Path]:
        return list(self.cache.rglob(f"*.{suffix}"))


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    return Kept(tmp_path, monkeypatch)


def flipped(content: bytes) -> bytes:
    """One bit of the machine code is another one, which no unpickler notices."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "half": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "text": lambda content: b"not a pickle",
    "flipped": flipped,
    "longer": lambda content: content + b"more",
}


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_code_is_compiled_and_written_anew(suffix: str, damage: str, kept: Kept) -> None:
    assert [kept.run(), kept.run()] == [(42, 0), (42, 1)]
    files = kept.files(suffix)
    assert files
    for file in files:
        file.write_bytes(DAMAGES[damage](file.read_bytes()))
    assert kept.run()[0] == 42
    assert kept.run() == (42, 1)


def test_a_changed_file_beside_it_counts(kept: Kept) -> None:
    kept.run()
    kept.source.with_name("other.py").write_text("x = 1\n")
    assert [kept.run(), kept.run()] == [(42, 0), (42, 1)]


def test_code_of_another_version_of_numba(kept: Kept) -> None:
    kept.run()
    (index,) = kept.files("nbi")
    version = importlib.import_module("numba").__version__.encode()
    assert version in index.read_bytes()
    index.write_bytes(index.read_bytes().replace(version, version[:-1] + b"x"))
    assert [kept.run(), kept.run()] == [(42, 0), (42, 1)]


def test_a_full_disk(kept: Kept) -> None:
    """No file may be longer than nothing, so that every write to one fails."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        found = [kept.run(), kept.run()]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert found == [(42, 0), (42, 0)]
    assert [kept.run(), kept.run()] == [(42, 0), (42, 1)]


def test_folders_that_cannot_be_written_to(kept: Kept) -> None:
    kept.cache.write_text("a file in the way")
    assert kept.run()[0] == 42


def test_a_folder_that_vanishes(kept: Kept) -> None:
    kept.run()
    for file in [*kept.files("nbi"), *kept.files("nbc")]:
        file.unlink()
    assert [kept.run(), kept.run()] == [(42, 0), (42, 1)]


# --- packages that are broken ---


@pytest.mark.parametrize(
    "code",
    [
        "raise ImportError('numpy.core.multiarray failed to import')",
        "raise AttributeError('module numpy has no attribute bool')",
        "raise SystemError('initialization failed')",
        "raise RuntimeError('module compiled against another ABI')",
        "raise OSError('undefined symbol: _ZN2at')",
        "import no_such_module_at_all",
        "def (",
    ],
)
def test_a_broken_package_is_said_once(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_package.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(RuntimeWarning, match="broken_package is installed but cannot be used") as said:  # noqa: PT031
        assert trouble_with("broken_package")
        assert trouble_with("broken_package")
        assert loops_of("pyg_schnet.fast.cpu.convolution", "broken_package") is None
    assert len(said) == 1


def test_a_missing_package_is_not_said() -> None:
    assert trouble_with("no_such_package") == ""
    assert loops_of("pyg_schnet.fast.cpu.convolution", "no_such_package") is None


WHOLE = """
import torch
from pyg_schnet import Potential, SchNet, radius_graph
pos = torch.arange(60.0).view(20, 3) * 0.4
print(radius_graph(pos, 3.0).edge_index.shape[1])
model = SchNet(8, 8, 1, num_gaussians=8, cutoff=3.0, filters="table").eval()
for one in (model, model.freeze()):
    print(Potential(one)(torch.ones(20, dtype=torch.long), pos)["forces"].shape[0])
try:
    radius_graph(pos, 3.0, backend="numba")
except ImportError as error:
    print(error)
"""


def whole(environment: dict[str, str]) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", WHOLE], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_packages_that_are_broken_are_done_without(tmp_path: Path) -> None:
    reason = "module numpy has no attribute bool"
    for name, kind in {"numba": "AttributeError", "vesin": "OSError", "triton": "ImportError"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise {kind}({reason!r})")
    edges, *atoms, error = whole({"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])})
    assert int(edges) > 0
    assert atoms == ["20", "20"]
    assert f"backend 'numba' needs numba, which is installed but cannot be used ({reason})" in error


def test_compilation_may_be_switched_off() -> None:
    pytest.importorskip("numba")
    edges, *atoms, error = whole({"NUMBA_DISABLE_JIT": "1"})
    assert int(edges) > 0
    assert atoms == ["20", "20"]
    assert "cannot be used (NUMBA_DISABLE_JIT is set)" in error
