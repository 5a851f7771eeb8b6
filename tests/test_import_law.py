"""The import law of the house: a room imports only from rooms to its left, and optional worlds stay outside."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pyg_schnet

LEFT = "sizes < units = files = compiling = compat = batching < ops = graph < nn < models = transforms = datasets"
LAW = f"{LEFT} < training = simulation = analysis < command < __main__"
LEVEL = {room: level for level, rooms in enumerate(LAW.split(" < ")) for room in rooms.split(" = ")}
ROOT = Path(pyg_schnet.__file__).parent
MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
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
OPTIONAL |= {"vesin", "nvalchemiops", "plotly", "skimage", "sklearn", "scipy", "phonopy"}
FREE_OF_EXTRAS = ["ops", "graph", "nn", "models", "transforms", "datasets", "analysis"]


def room_of(module: Path) -> str:
    return module.parts[0].removesuffix(".py")


def imports_of(module: Path) -> set[str]:
    """Rooms that a module imports from; "" stands for the package itself or a relative import."""
    names: list[str] = []
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += ["pyg_schnet"] if node.level else [node.module or ""]
    return {[*name.split("."), ""][1] for name in names if name.split(".")[0] == "pyg_schnet"}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_room_imports_only_from_its_left(module: Path) -> None:
    room = room_of(module)
    forbidden = {other for other in imports_of(module) - {room} if LEVEL.get(other, 99) >= LEVEL[room]}
    assert not forbidden, f"{module} of {room!r} imports from {sorted(forbidden)}; the law is {LAW}"


def test_every_room_of_the_law_is_there() -> None:
    assert {room_of(module) for module in MODULES} == set(LEVEL)


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
