"""Without an extra, one sentence names it."""

import subprocess
import sys

import pytest

BLOCK = "import sys; sys.modules[{name!r}] = None; "


@pytest.mark.parametrize(
    ("name", "code", "extra"),
    [
        ("lightning", "import pyg_schnet.training", "train"),
        ("ase", "import pyg_schnet.simulation.ase", "md"),
        ("rdkit", "from pyg_schnet.datasets import from_smiles; from_smiles('C')", "chem"),
        ("matplotlib", "from pyg_schnet.analysis.figure import new_figure; new_figure()", "plot"),
    ],
)
def test_missing_package(name, code, extra):
    blocked = BLOCK.format(name=name) + (BLOCK.format(name="matplotlib.figure") if name == "matplotlib" else "")
    done = subprocess.run([sys.executable, "-c", blocked + code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError: ")
    assert f'pip install "pyg_schnet[{extra}]"' in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", ["lightning", "jsonargparse"])
def test_command_line_without_its_packages(name):
    code = BLOCK.format(name=name) + "from pyg_schnet.command import main; main(['fit'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        'pyg-schnet: the command line needs Lightning; install it with pip install "pyg_schnet[train]"'
    )
