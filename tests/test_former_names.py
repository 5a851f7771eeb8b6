"""Former names of modules and classes give what has a new name now."""

import importlib
import importlib.util
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyg_schnet
from pyg_schnet.former_names import MODULES, OBJECTS, install

ROOT = Path(pyg_schnet.__file__).parent
#: Packages that parts of ours need.
NEEDS = {"pyg_schnet.training": "lightning", "pyg_schnet.command": "jsonargparse", ".gpu": "triton"}


def need(old: str) -> None:
    """Skip if a package is missing."""
    for part, package in NEEDS.items():
        if part in old:
            pytest.importorskip(package)


def run(code: str) -> None:
    """Run it in a process of its own, in which no former module has been imported yet."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("old", MODULES)
def test_a_former_module_is_the_new_one(old: str) -> None:
    need(old)
    module = importlib.import_module(old)
    assert importlib.import_module(old) is module is sys.modules[old]
    if MODULES[old]:
        new = importlib.import_module(MODULES[old])
        assert module is new
        assert (new.__name__, new.__spec__.name) == (MODULES[old], MODULES[old])


@pytest.mark.parametrize("old", MODULES)
def test_nothing_is_left_at_the_former_place(old: str) -> None:
    path = ROOT.joinpath(*old.split(".")[1:])
    assert not path.with_suffix(".py").exists()
    assert not list(path.glob("*.py"))


@pytest.mark.parametrize("old", [*MODULES, *OBJECTS])
def test_a_former_name_is_an_attribute_but_not_listed(old: str) -> None:
    need(old)
    package, name = old.rsplit(".", 1)
    holder = importlib.import_module(package)
    found = getattr(holder, name)
    if old == "pyg_schnet.models.convert.to_schnetpack":  # a function has always had the name of its module there
        assert found is pyg_schnet.convert.to_schnetpack
        return
    assert name not in getattr(holder, "__all__", ())
    if old in OBJECTS:
        where, now = OBJECTS[old]
        assert found is getattr(importlib.import_module(where), now)
    else:
        assert found is importlib.import_module(old)


def test_each_way_of_importing() -> None:
    """Each with other modules, so that no way is prepared by another one."""
    run(
        f"""
import importlib, sys
from importlib.util import find_spec
import pyg_schnet
assert not {set(MODULES)} & set(sys.modules)
from pyg_schnet.datasets import download
from pyg_schnet.datasets.source import RemoteFile
import pyg_schnet.files.download
assert download is pyg_schnet.files.download is pyg_schnet.datasets.download
assert RemoteFile is pyg_schnet.files.download.RemoteFile
assert pyg_schnet.models.convert is pyg_schnet.convert
from pyg_schnet.models.convert import inert, tensorflow
import pyg_schnet.models.convert.bundle as bundle
assert tensorflow.__name__ == tensorflow.__spec__.name == "pyg_schnet.convert.tensorflow"
assert bundle is pyg_schnet.convert.tensorflow_checkpoint
assert inert is pyg_schnet.convert.safe_pickle is importlib.import_module("pyg_schnet.models.convert.inert")
assert find_spec("pyg_schnet.models.convert") is not None
assert find_spec("pyg_schnet.models.nonsense") is None
"""
    )


def test_a_module_does_not_take_the_place_of_a_function() -> None:
    run(
        """
import pyg_schnet.models.convert.to_schnetpack
from pyg_schnet.convert import to_schnetpack
assert callable(to_schnetpack)
"""
    )


def test_a_pickle_of_before() -> None:
    """One names the module in which a class was."""
    from pyg_schnet.files.source import RemoteFile

    text = pickle.dumps(RemoteFile("a.npz"), protocol=0)
    before = text.replace(b"pyg_schnet.files.download", b"pyg_schnet.datasets.source")
    assert before != text
    assert pickle.loads(before) == RemoteFile("a.npz")
    recorded = pickle.loads(b"cpyg_schnet.models.captured\nCapturedPotential\n.")
    assert recorded is pyg_schnet.simulation.RecordedPotential is pyg_schnet.models.CapturedPotential


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder that is no more, and a module whose name is that of a function, which has moved or is still there."""
    monkeypatch.setitem(MODULES, "pyg_schnet.gone", "")
    monkeypatch.setitem(MODULES, "pyg_schnet.gone.numbers", "pyg_schnet.units")
    monkeypatch.setitem(MODULES, "pyg_schnet.models.conversion", "pyg_schnet.units")
    monkeypatch.setitem(OBJECTS, "pyg_schnet.models.conversion", ("pyg_schnet.units", "conversion"))
    monkeypatch.setitem(MODULES, "pyg_schnet.models.save", "pyg_schnet.units")
    yield
    for name in ("gone", "gone.numbers", "models.conversion", "models.save"):
        sys.modules.pop(f"pyg_schnet.{name}", None)
    vars(pyg_schnet).pop("gone", None)


@pytest.mark.usefixtures("table")
def test_a_folder_that_is_no_more() -> None:
    numbers = importlib.import_module("pyg_schnet.gone.numbers")
    assert numbers is pyg_schnet.units is pyg_schnet.gone.numbers
    with pytest.raises(AttributeError, match="module 'pyg_schnet.gone' has no attribute 'nonsense'"):
        _ = pyg_schnet.gone.nonsense
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'pyg_schnet\.gone\.nonsense'"):
        importlib.import_module("pyg_schnet.gone.nonsense")


@pytest.mark.usefixtures("table")
def test_a_module_with_the_name_of_a_function() -> None:
    save = pyg_schnet.models.save
    for _ in range(2):
        assert pyg_schnet.models.conversion is pyg_schnet.units.conversion
        assert importlib.import_module("pyg_schnet.models.conversion") is pyg_schnet.units
        assert importlib.import_module("pyg_schnet.models.save") is pyg_schnet.units
        assert pyg_schnet.models.save is save is pyg_schnet.save


def test_a_folder_that_an_older_version_left_behind_does_not_win(tmp_path: Path) -> None:
    """Python takes any folder for a package, also one with nothing but compiled files in it."""
    run(
        f"""
import pathlib
import pyg_schnet.models
pathlib.Path({str(tmp_path)!r}, "convert").mkdir()
pyg_schnet.models.__path__.insert(0, {str(tmp_path)!r})
import pyg_schnet.models.convert as one
assert one.__name__ == "pyg_schnet.convert"
"""
    )


def test_what_is_not_in_the_table() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'pyg_schnet\.models\.nonsense'"):
        importlib.import_module("pyg_schnet.models.nonsense")
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = pyg_schnet.models.nonsense
    with pytest.raises(ImportError, match="cannot import name 'nonsense'"):
        from pyg_schnet.datasets import nonsense  # noqa: F401


def test_a_second_installation_changes_nothing() -> None:
    before = list(sys.meta_path)
    install()
    assert sys.meta_path == before
