"""A profile of a user's run has a row for each phase of ours."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from pyg_schnet import Potential, SchNet

pytest.importorskip("numba")


def phases(call: Callable[[], Tensor]) -> set[str]:
    """Rows of ours in a profile."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        call()
    prefix = "pyg_schnet::"
    return {row.key.removeprefix(prefix) for row in found.key_averages() if row.key.startswith(prefix)}


def test_each_phase_of_a_training_step_is_a_row() -> None:
    model = SchNet(16, 16, 2, 20, cutoff=4.0, filters="table")
    z, pos = torch.randint(1, 9, (24,)), 3 * torch.randn(24, 3)

    def step() -> Tensor:
        loss = Potential(model.train())(z, pos)["forces"].square().sum()
        loss.backward()
        return loss

    assert {"search", "tables", "pass forwards", "pass backwards"} <= phases(step)


def test_nothing_is_in_the_way_of_those_who_do_not_look() -> None:
    """A phase is a row only while somebody profiles."""
    model = SchNet(16, 16, 2, 20, cutoff=4.0).freeze()
    z, pos = torch.tensor([8, 1, 1]), torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    before = Potential(model)(z, pos, virials=True)
    assert "pass forwards" in phases(lambda: Potential(model)(z, pos, virials=True)["energy"])
    after = Potential(model)(z, pos, virials=True)
    assert all(torch.equal(before[name], after[name]) for name in before)
