"""Modules and classes that have moved, under the names that they had before.

``from pyg_schnet.models.convert import from_pyg`` gives what ``from pyg_schnet.convert import from_pyg`` gives, because
both names stand for the very same module. Nothing is imported before somebody asks for it by its former name. The
package itself uses new names only.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

#: Former module: where it is now. ``""`` stands for a folder that is no more, some of whose modules are in this table.
MODULES: dict[str, str] = {
    "pyg_schnet.command.outcome": "pyg_schnet.command.results",
    "pyg_schnet.datasets.download": "pyg_schnet.files.download",
    "pyg_schnet.datasets.frames": "pyg_schnet.datasets.collate",
    "pyg_schnet.datasets.isolation": "pyg_schnet.datasets.unphysical",
    "pyg_schnet.datasets.source": "pyg_schnet.files.source",
    "pyg_schnet.models.filter_networks": "pyg_schnet.fast.filter_networks",
    "pyg_schnet.models.filter_tables": "pyg_schnet.fast.tables",
    "pyg_schnet.models.ghosts": "pyg_schnet.fast.padding",
    "pyg_schnet.models.origin": "pyg_schnet.fast.unchanged",
    "pyg_schnet.models.plan": "pyg_schnet.fast.weights",
    "pyg_schnet.models.replay": "pyg_schnet.fast.cuda_graph",
    "pyg_schnet.models.stand_in": "pyg_schnet.fast.bypass",
    "pyg_schnet.models.tabulated": "pyg_schnet.fast.tabulated",
    "pyg_schnet.models.captured": "pyg_schnet.simulation.recorded",
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
    "pyg_schnet.models.skin_pairs": "pyg_schnet.simulation.recorded_pairs",
    "pyg_schnet.ops.kernels": "",
    "pyg_schnet.ops.kernels.cpu": "pyg_schnet.fast.cpu.convolution",
    "pyg_schnet.ops.kernels.gpu": "pyg_schnet.fast.gpu.convolution",
    "pyg_schnet.ops.kernels.gpu_layout": "pyg_schnet.fast.gpu.edge_order",
    "pyg_schnet.ops.kernels.gpu_loops": "pyg_schnet.fast.gpu.convolution_kernels",
    "pyg_schnet.ops.kernels.threads": "pyg_schnet.threads",
    "pyg_schnet.ops.trilinear": "pyg_schnet.fast.convolution",
    "pyg_schnet.ops.trilinear_twins": "pyg_schnet.fast.convolution_reference",
    "pyg_schnet.simulation.place": "pyg_schnet.simulation.near_origin",
    "pyg_schnet.training.capturable": "pyg_schnet.training.recordable",
    "pyg_schnet.training.captured": "pyg_schnet.training.recorded",
    "pyg_schnet.training.ending": "pyg_schnet.training.end_of_run",
    "pyg_schnet.training.guard": "pyg_schnet.training.nonfinite",
    "pyg_schnet.training.protocol": "pyg_schnet.training.task",
}

#: Former ``package.name`` or ``module.name`` of a class or function: its module now, and its name there.
OBJECTS: dict[str, tuple[str, str]] = {
    "pyg_schnet.graph.may_inspect": ("pyg_schnet.graph.structure", "can_inspect"),
    "pyg_schnet.graph.unseen": ("pyg_schnet.graph.structure", "hidden_values"),
    "pyg_schnet.graph.values_unseen": ("pyg_schnet.graph.structure", "values_hidden"),
    "pyg_schnet.models.CapturedPotential": ("pyg_schnet.simulation.recorded", "RecordedPotential"),
    "pyg_schnet.models.captured.CapturedPotential": ("pyg_schnet.simulation.recorded", "RecordedPotential"),
    "pyg_schnet.models.skin_pairs.Moving": ("pyg_schnet.simulation.recorded_pairs", "MovingAtoms"),
    "pyg_schnet.ops.FilterTable": ("pyg_schnet.fast.bspline", "FilterTable"),
    "pyg_schnet.ops.evaluate": ("pyg_schnet.fast.bspline", "evaluate"),
    "pyg_schnet.ops.filter_table": ("pyg_schnet.fast.spline", "filter_table"),
    "pyg_schnet.ops.interpolate": ("pyg_schnet.fast.spline", "interpolate"),
    "pyg_schnet.ops.knot_spacing": ("pyg_schnet.fast.knots", "knot_spacing"),
    "pyg_schnet.ops.to_edges": ("pyg_schnet.fast.convolution", "to_edges"),
    "pyg_schnet.ops.to_nodes": ("pyg_schnet.fast.convolution", "to_nodes"),
    "pyg_schnet.ops.to_table": ("pyg_schnet.fast.convolution", "to_table"),
    "pyg_schnet.simulation.place.Place": ("pyg_schnet.simulation.near_origin", "NearOrigin"),
    "pyg_schnet.training.CapturedTraining": ("pyg_schnet.training.recorded", "RecordedTraining"),
    "pyg_schnet.training.capturable.Capturable": ("pyg_schnet.training.recordable", "RecordableOptimizer"),
    "pyg_schnet.training.captured.CapturedTraining": ("pyg_schnet.training.recorded", "RecordedTraining"),
    "pyg_schnet.training.guard.Place": ("pyg_schnet.training.nonfinite", "RunPosition"),
}


class _Package(ModuleType):
    """A package some of whose modules and names have moved."""

    def __getattr__(self, name: str) -> Any:
        """A former module or name, asked for when there is nothing else of this name."""
        full = f"{self.__name__}.{name}"
        if full in OBJECTS:
            module, now = OBJECTS[full]
            return getattr(importlib.import_module(module), now)
        if full in MODULES:
            return importlib.import_module(full)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        """The import system sets each module that it has imported, which must not hide a function of the same name."""
        full = f"{self.__name__}.{name}"
        if full not in MODULES or not (name in vars(self) or full in OBJECTS):
            super().__setattr__(name, value)


class _Loader(Loader):
    """Gives a module that has another name."""

    def __init__(self, new: str) -> None:
        self.new = new

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module in its new place, imported there if it is not yet."""
        if not self.new:
            return _Package(spec.name, "A folder that is no more; its modules have moved.")
        module = importlib.import_module(self.new)
        self.own = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give it what it had before: a former package its modules, a former module the names in it."""
        if not self.new:
            return
        former, module.__spec__ = module.__spec__, self.own  # the import system has put the former name there
        inside = f"{former.name if former is not None else ''}."
        for old, new in MODULES.items():
            if _parent(old) == inside:  # now, as the import system would put it over a function of the same name
                sys.modules[old] = importlib.import_module(new)
                _set_default(module, old, sys.modules[old])
        for old, (where, name) in OBJECTS.items():
            if _parent(old) == inside:
                _set_default(module, old, getattr(importlib.import_module(where), name))


def _parent(name: str) -> str:
    """Package or module of a full name, with the dot."""
    return name[: name.rindex(".") + 1]


def _set_default(module: ModuleType, full: str, value: Any) -> None:
    """Give a module what a full name ends with, unless it has something of this name."""
    vars(module).setdefault(full.rsplit(".", 1)[1], value)


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
        package: Name of the package.
    """
    sys.modules[package].__class__ = _Package
