"""Short ways can be turned off, for a block of code or a process, and those that are taken are recorded."""

import importlib.util
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

from pyg_schnet import Potential, SchNet, fast
from pyg_schnet.fast import convolution, spline
from pyg_schnet.fast.ways import WAYS, loops_enabled

MakeModel = Callable[..., SchNet]
needs_numba = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="needs numba")


def near(one: torch.Tensor, other: torch.Tensor) -> bool:
    """To the accuracy of gradients by tables."""
    return float((one - other).norm()) <= 1e-4 * float(other.norm())


@needs_numba
@pytest.mark.parametrize(
    ("off", "taken"),
    [
        ((), "molecules"),
        (("molecules",), "pass"),
        (("molecules", "pass"), "frozen tables"),
        (("compiled loops",), "frozen tables"),
        (("pass", "tables"), "molecules"),
        (("molecules", "pass", "frozen tables"), "networks"),
        (("frozen tables",), "molecules"),
        (WAYS, "networks"),
    ],
    ids=str,
)
def test_a_frozen_model_takes_the_next_way(
    off: tuple[str, ...], taken: str, molecules: Any, make_model: MakeModel, ways: list[str]
) -> None:
    potential = Potential(make_model().freeze())
    with fast.without(*off):
        found = potential(*molecules)
    assert ways == [taken]
    with fast.exactly():
        expected = potential(*molecules)
    assert ways == [taken, "networks"]
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
        assert torch.equal(found[name], value) == (taken == "networks")


@needs_numba
@pytest.mark.parametrize(
    ("off", "taken"),
    [((), "pass"), (("pass",), "tables"), (("compiled loops",), "tables"), (("pass", "tables"), "networks")],
    ids=str,
)
def test_a_model_in_training_takes_the_next_way(
    off: tuple[str, ...], taken: str, molecules: Any, make_model: MakeModel, ways: list[str]
) -> None:
    model = make_model(filters="table").train()
    slopes = []
    for context in (fast.without(*off), fast.exactly()):
        with context:
            loss = Potential(model)(*molecules)["forces"].square().sum()
        slopes.append(torch.autograd.grad(loss, model.interactions[0].lin.weight)[0])
    assert ways == [taken, "networks"]
    assert near(*slopes)


@needs_numba
@pytest.mark.parametrize("inside", ["energies", "gradients"])
def test_a_way_that_was_chosen_is_gone_back(inside: str, molecules: Any, make_model: MakeModel) -> None:
    """Also if something is turned off, or on again, in between."""
    for off in WAYS:
        model, slopes = make_model(filters="table").train(), []
        weights = list(model.parameters())
        for names in ((), (off,)):
            with fast.without(*(names if inside == "energies" else ())):
                loss = Potential(model)(*molecules)["forces"].square().sum()
            with fast.without(*(names if inside == "gradients" else ())):
                slopes.append(torch.autograd.grad(loss, weights, materialize_grads=True))
        for one, other in zip(*slopes, strict=True):
            assert near(one, other)


def test_loops_are_turned_off_inside_only_and_in_one_thread() -> None:
    def loops() -> list[bool]:
        return [loops_enabled(), *(there() is not None for there in (convolution.cpu_loops, spline.spline_loops))]

    before, elsewhere = loops(), list[list[bool]]()
    with fast.without("compiled loops"):
        assert loops() == [False] * 3
        assert convolution.gpu_loops() is None
        thread = threading.Thread(target=lambda: elsewhere.append(loops()))
        thread.start()
        thread.join()
        with fast.without("pass"), pytest.raises(KeyError), fast.without("molecules"):
            raise KeyError
        assert loops() == [False] * 3
    assert loops() == before == elsewhere[0]
    assert before[0]


def test_records_are_of_one_block(water: Any, make_model: MakeModel) -> None:
    model = make_model(filters="exact").eval()
    with fast.recorded() as outside:
        model(*water)
        with fast.recorded() as inside:
            model(*water)
            model(*water)
        model(*water)
    model(*water)
    assert (inside, outside) == (["networks"] * 2, ["networks"] * 2)


def test_ways_that_there_are_not() -> None:
    message = "short ways are 'molecules', 'pass', 'frozen tables', 'tables', 'compiled loops', got 'networks'"
    with pytest.raises(ValueError, match=message), fast.without("pass", "networks"):
        pass


SCRIPT = """
import torch
from pyg_schnet import Potential, SchNet, fast
from pyg_schnet.fast import convolution
with fast.recorded() as ways:
    potential = Potential(SchNet(8, 8, 1).freeze())
    potential(torch.tensor([8, 1]), torch.tensor([[0.0, 0, 0], [0.96, 0, 0]]))
print(ways, convolution.cpu_loops() is None)
"""


def test_all_are_turned_off_for_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYG_SCHNET_FAST", "0")
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['networks'] True"


@pytest.mark.parametrize("name", ["expanded", "wants_tables", "new_tables", "tables", "represent", "_read_out"])
def test_no_way_leaves_out_a_method_of_ones_own(name: str) -> None:
    called = []

    def own(self: SchNet, *given: object) -> object:
        called.append(name)
        return getattr(SchNet, name)(self, *given)

    model = type("Own", (SchNet,), {name: own})(8, 8, 1, 20, cutoff=4.0, filters="table").train()
    z, pos = torch.tensor([8, 1, 1]), torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    with fast.recorded() as ways:
        Potential(model)(z, pos)
    assert called
    assert ways == ["tables"]
