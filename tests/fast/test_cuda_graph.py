"""What a GPU would do, in which order; where weights are."""

from typing import Any

import pytest
import torch
from torch import nn

from pyg_schnet.fast.cuda_graph import Addresses, Replay
from pyg_schnet.graph import can_inspect, values_hidden

CUDA = torch.device("cuda")
WARM_UP = ["side waits for main", "on side", "main waits for side"]


def test_three_steps_then_a_recording_then_replays(stage: Any) -> None:
    source, total, calls = torch.ones(3), torch.zeros(3), []

    def step() -> torch.Tensor:
        calls.append(values_hidden())
        return 2 * total.add_(source)

    replay = Replay(step, CUDA)
    for number in range(1, 7):
        source.fill_(number)  # a tensor that stays where it is
        expected = total + number
        result = replay()
        assert torch.equal(total, expected)
        assert torch.equal(result, 2 * expected)
        assert replay.recorded == (number > 3)
    assert calls == [True] * 4
    assert stage.events == [*(3 * WARM_UP), "record on side"]
    assert stage.tapes[0].played == 3
    assert not values_hidden()


def test_a_look_at_values_cannot_be_recorded(stage: Any) -> None:
    replay = Replay(lambda: float(torch.ones(1)), CUDA)
    for _ in range(3):
        replay()
    with pytest.warns(RuntimeWarning, match=r"steps cannot be recorded as a CUDA graph \(aten._local_scalar_dense"):
        assert replay() == 1.0
    assert replay() == 1.0  # without another warning
    assert not replay.recorded
    assert len(stage.tapes) == 1
    assert can_inspect(torch.ones(1))


def test_too_little_memory_is_what_it_is(stage: Any) -> None:
    def step() -> None:
        if stage.tapes:
            raise torch.OutOfMemoryError("CUDA out of memory")

    replay = Replay(step, CUDA)
    for _ in range(3):
        replay()
    with pytest.raises(torch.OutOfMemoryError, match="^CUDA out of memory"):
        replay()


def test_on_a_cpu_every_call_is_a_call() -> None:
    calls: list[bool] = []
    replay = Replay(lambda: calls.append(can_inspect(torch.ones(1))), torch.device("cpu"))
    for _ in range(5):
        replay()
    assert calls == [False] * 5
    assert not replay.recorded


def frozen_tables(model: Any) -> None:
    model.table = torch.ones(1)


def other_layer(model: Any) -> None:
    model[1] = nn.Linear(2, 2)


def other_parameter(model: Any) -> None:
    model[0].weight = nn.Parameter(torch.zeros(2, 2))


def equal_parameter(model: Any) -> None:
    model[0].weight = nn.Parameter(model[0].weight.detach().clone())


def equal_number(model: Any) -> None:
    model.shift = model.shift.clone()


def turned(model: Any) -> None:
    model[0].weight.data = model[0].weight.data.T


def shorter(model: Any) -> None:
    model[0].weight.data = model[0].weight.data[:1]


CHANGES = [
    frozen_tables,
    other_layer,
    other_parameter,
    equal_parameter,
    equal_number,
    turned,
    shorter,
    nn.Module.double,
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_makes_recordings_worthless(change: Any) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model.register_buffer("table", None)
    model.register_buffer("shift", torch.ones(()))
    weights = Addresses(model)
    with torch.no_grad():
        model[0].weight.add_(1.0)
    model.load_state_dict(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).state_dict(), strict=False)
    assert weights.hold()
    change(model)
    assert not weights.hold()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu() -> None:
    source, total = torch.ones(3, device="cuda"), torch.zeros(3, device="cuda")
    replay = Replay(lambda: 2 * total.add_(source), total.device)
    expected = 0.0
    for number in range(1, 8):
        source.fill_(number)
        expected += number
        assert replay().tolist() == [2 * expected] * 3
    assert replay.recorded
