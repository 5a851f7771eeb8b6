"""``pyg-schnet warm-up``: what is compiled and kept is what later processes need."""

import os
import re
import subprocess
import sys

import pytest

from pyg_schnet.command import main
from pyg_schnet.models import warm_up as module

pytest.importorskip("numba")
SCRIPT = """
import torch
from pyg_schnet import radius_graph
from pyg_schnet.models.warm_up import _misses
pos = torch.rand(40, 3, generator=torch.Generator().manual_seed(3)) * 6
radius_graph(pos, 2.0)
radius_graph(pos, 2.0, cell=7 * torch.eye(3)[None], pbc=torch.ones(1, 3, dtype=torch.bool))
print(_misses(), "misses")
"""


def test_later_processes_compile_nothing(tmp_path):
    """Loops for neighbours are compiled in an empty folder, and found there by another process."""
    surroundings = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "kept")}
    warm = "from pyg_schnet.models.warm_up import warm_up\nprint(list(warm_up(['neighbours'])))"

    def said(script):
        command = [sys.executable, "-c", script]
        return subprocess.run(command, env=surroundings, capture_output=True, text=True, check=True).stdout

    first = said(warm)
    assert "new=0" not in first
    assert str(tmp_path / "kept") in first
    assert list((tmp_path / "kept").rglob("*.nbc"))
    assert said(SCRIPT).strip() == "0 misses"


def test_the_command_says_what_it_did_and_where_it_lies(capsys):
    main(["warm-up", "--kinds", "[neighbours]"])
    assert "neighbours" in capsys.readouterr().out
    main(["warm-up", "--kinds", "[neighbours]"])
    said = capsys.readouterr().out
    assert re.search(r"^0 loops compiled in \d+ s; the machine code lies in /", said, re.MULTILINE)


@pytest.mark.parametrize("kind", ["training", "inference", "training-large", "inference-large", "dynamics"])
def test_each_kind_does_what_it_is_for(kind, monkeypatch):
    """Passes are taken, not what stands in for them."""
    from pyg_schnet import fast

    with fast.recorded() as ways:
        (found,) = module.warm_up([kind])
    assert found.kind == kind
    assert set(ways) <= {"pass", "molecules"}
    assert ways or kind == "dynamics"


def test_refusals(monkeypatch):
    def refusal(*words):
        with pytest.raises(SystemExit) as stopped:
            main(["warm-up", *words])
        return str(stopped.value)

    assert "there is no kind 'trainings' of computations; expected some of neighbours, " in refusal(
        "--kinds", "[trainings]"
    )
    assert "`numbers` must be one of float32, float64, got 'float16'" in refusal("--numbers", "float16")
    monkeypatch.setattr(module, "trouble_with", lambda package: "")
    assert 'is not installed; install it with pip install "pyg_schnet[fast]"' in refusal()
