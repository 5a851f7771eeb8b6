"""The oldest versions that are tested are the oldest that are admitted."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: Tools that look at the code and never run it.
TOOLS = {"mypy", "ruff"}


@pytest.mark.skipif(not (ROOT / ".ci").is_dir(), reason="not a checkout of the sources")
def test_floors_are_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    asked, todo = list(project["dependencies"]), ["all", "test"]
    while todo:
        for one in extras[todo.pop()]:
            inner = re.fullmatch(r"pyg_schnet\[(.+)\]", one)
            todo += inner[1].split(",") if inner else []
            asked += [] if inner else [one]
    lines = (ROOT / ".ci" / "constraints-oldest.txt").read_text().splitlines()
    oldest = dict(line.split("==") for line in lines if "==" in line)
    for one in asked:
        name, floor = re.fullmatch(r"([\w-]+)(?:\[.*\])?>=([\d.]+)", one).groups()  # type: ignore[union-attr]
        if name not in TOOLS:
            assert name in oldest, f"{name}>={floor} has no line in constraints-oldest.txt"
            assert f"{oldest[name]}.".startswith(f"{floor}."), f"{name}: {oldest[name]} is tested, {floor} is admitted"
