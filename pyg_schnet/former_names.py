"""Modules and classes that have moved, under the names that they had before.

``from pyg_schnet.models.convert import from_pyg`` gives what ``from pyg_schnet.convert import from_pyg`` gives, because
both names stand for the very same module. Nothing is imported before somebody asks for it by its former name. The
package itself uses new names only.
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

#: Former module: where it is now. ``""`` stands for a folder that is no more, some of whose modules are in this table.
MODULES: dict[str, str] = {
    "pyg_schnet.datasets.download": "pyg_schnet.files.download",
    "pyg_schnet.datasets.source": "pyg_schnet.files.source",
    "pyg_schnet.models.convert": "pyg_schnet.convert",
    "pyg_schnet.models.convert.bundle": "pyg_schnet.convert.tensorflow_checkpoint",
    "pyg_schnet.models.convert.download": "pyg_schnet.files.download",
    "pyg_schnet.models.convert.inert": "pyg_schnet.convert.safe_pickle",
    "pyg_schnet.models.convert.pretrained": "pyg_schnet.convert.pretrained",
    "pyg_schnet.models.convert.pyg": "pyg_schnet.convert.pyg",
    "pyg_schnet.models.convert.schnetpack": "pyg_schnet.convert.schnetpack",
    "pyg_schnet.models.convert.schnetpack_module": "pyg_schnet.convert.schnetpack_module",
    "pyg_schnet.models.convert.tensorflow": "pyg_schnet.convert.tensorflow",
    "pyg_schnet.models.convert.to_schnetpack": "pyg_schnet.convert.to_schnetpack",
    "pyg_schnet.models.convert.weights": "pyg_schnet.convert.weights",
}

#: Former name in a package, in ``package.name``: its module now, and its name there.
OBJECTS: dict[str, tuple[str, str]] = {}


class _Loader(Loader):
    """Gives a module that has another name."""

    def __init__(self, new: str) -> None:
        self.new = new

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module in its new place, imported there if it is not yet."""
        if not self.new:
            return ModuleType(spec.name, "A folder that is no more; its modules have moved.")
        module = importlib.import_module(self.new)
        self.own = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give a former package its modules; else nothing is left to execute."""
        if not self.new:
            attach(module.__name__)
            return
        former, module.__spec__ = module.__spec__, self.own  # the import system has put the former name there
        for old, new in MODULES.items():
            package, _, name = old.rpartition(".")
            if former is not None and package == former.name:  # at once: later, an attribute of this name would be lost
                sys.modules[old] = importlib.import_module(new)
                if not hasattr(module, name):
                    setattr(module, name, sys.modules[old])


class _Finder(MetaPathFinder):
    """Finds modules of the table. It is asked first: folders that an older version left behind must not win."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """How a former module is loaded; ``None`` for all others."""
        new = MODULES.get(fullname)
        return None if new is None else ModuleSpec(fullname, _Loader(new), is_package=not new)


def install() -> None:
    """Let former modules be imported from now on; a second call changes nothing."""
    if not any(type(finder).__qualname__ == _Finder.__qualname__ for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def attach(package: str) -> None:
    """Let former modules and names be attributes of a package, too; they are neither listed nor imported before.

    Args:
        package: Name of the package, which is being imported and has all other names already.
    """
    namespace = vars(sys.modules[package])
    own: Callable[[str], Any] | None = namespace.get("__getattr__")

    def find(name: str) -> Any:
        full = f"{package}.{name}"
        if full in MODULES:
            return importlib.import_module(full)
        if full in OBJECTS:
            module, now = OBJECTS[full]
            return getattr(importlib.import_module(module), now)
        if own is not None:
            return own(name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    namespace["__getattr__"] = find
