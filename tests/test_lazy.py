"""Rooms after ``import pyg_schnet`` alone."""

import subprocess
import sys

import pytest

import pyg_schnet

CODE = """
import sys
import torch_geometric
import pyg_schnet
assert not {"lightning", "ase", "pyg_schnet.datasets", "pyg_schnet.training", "pyg_schnet.simulation"} & {*sys.modules}
pyg_schnet.datasets.MD17, pyg_schnet.transforms.RadiusGraph, pyg_schnet.analysis.evaluate, pyg_schnet.models.Committee
pyg_schnet.training.fit, pyg_schnet.simulation.SchNetCalculator, pyg_schnet.simulation.ase.SchNetCalculator
"""

WITHOUT = """
import sys
sys.modules["lightning"] = sys.modules["ase"] = None
import pyg_schnet
for get in (lambda: pyg_schnet.training, lambda: pyg_schnet.simulation.SchNetCalculator):
    try:
        get()
    except ImportError as error:
        print(error)
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_rooms_come_when_they_are_asked_for() -> None:
    pytest.importorskip("lightning")
    pytest.importorskip("ase")
    run(CODE)


def test_a_missing_extra_gives_its_sentence() -> None:
    training, simulation = run(WITHOUT).splitlines()
    assert 'pip install "pyg_schnet[train]"' in training
    assert 'pip install "pyg_schnet[md]"' in simulation


def test_names_are_listed_and_others_are_not_there() -> None:
    assert {"datasets", "transforms", "analysis", "models", "simulation", "SchNet"} <= set(dir(pyg_schnet))
    assert "datasets" not in pyg_schnet.__all__  # or `import *` would need all extras
    for module in (pyg_schnet, pyg_schnet.simulation):
        with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
            _ = module.nonsense
