"""References stay float64 and say what is impossible."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from pyg_schnet.nn import Reference

Z = torch.tensor([1, 6, 8])


def test_mean_plus_value_of_the_element() -> None:
    atomref = torch.arange(10.0, dtype=torch.float64)
    assert Reference(9, mean=0.5, std=3.0, atomref=atomref)(Z).tolist() == [[1.5], [6.5], [8.5]]
    assert Reference(9, atomref=atomref.unsqueeze(-1))(Z).tolist() == [[1.0], [6.0], [8.0]]
    assert Reference(9, mean=-2.0)(Z).tolist() == [[-2.0]] * 3
    assert Reference(9)(Z).tolist() == [[0.0]] * 3
    assert Reference(9, std=3.0).std.item() == 3.0


def test_short_table_is_filled_with_zeros() -> None:
    assert Reference(9, atomref=torch.tensor([0.0, 7.0]))(Z).tolist() == [[7.0], [0.0], [0.0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_stays_float64_whatever_the_model_is(dtype: torch.dtype) -> None:
    total = -4209.123456789012  # eV, of an ethanol; a float32 step there is 5e-4
    model = nn.Sequential(nn.Linear(2, 2), Reference(9, mean=total, atomref=torch.full((10,), 1e-9).double()))
    model.to(dtype)
    model = copy.deepcopy(model)
    assert model[0].weight.dtype == dtype
    assert {buffer.dtype for buffer in model[1].buffers()} == {torch.float64}
    assert model[1](Z)[0].item() == total + 1e-9


def test_follows_the_model_to_a_device(device: torch.device) -> None:
    reference = Reference(9, mean=1.0).to(device)
    assert {buffer.device.type for buffer in reference.buffers()} == {device.type}


@pytest.mark.parametrize(
    ("arguments", "trivial"),
    [({}, True), ({"std": 2.0}, True), ({"mean": 0.1}, False), ({"atomref": torch.tensor([0.0, 1e-9])}, False)],
)
def test_knows_whether_there_is_something_to_add(arguments: dict[str, Any], trivial: bool) -> None:
    reference, other = Reference(9, **arguments), Reference(9, mean=5.0)
    assert reference.trivial is trivial
    other.load_state_dict(reference.state_dict())
    assert other.trivial is trivial
    reference.set(mean=1.0, std=2.0)
    assert not reference.trivial


def test_set_replaces_mean_and_std() -> None:
    reference = Reference(9, mean=1.0, std=2.0, atomref=torch.tensor([0.0, 4.0]))
    reference.set(mean=10.0, std=3.0)
    assert reference(Z).tolist() == [[14.0], [10.0], [10.0]]
    assert reference.std.item() == 3.0


@pytest.mark.parametrize("std", [0.0, -1.0, math.nan])
def test_impossible_std_is_refused(std: float) -> None:
    with pytest.raises(ValueError, match=f"`std` must be positive and finite, got {std}"):
        Reference(9, std=std)
    reference = Reference(9)
    with pytest.raises(ValueError, match=f"`std` must be positive and finite, got {std}"):
        reference.load_state_dict(reference.state_dict() | {"std": torch.tensor(std)})


def test_impossible_std_leaves_the_reference_as_it_was() -> None:
    reference = Reference(9, mean=1.0, std=2.0)
    with pytest.raises(ValueError, match=r"`std` must be positive and finite, got 0\.0"):
        reference.set(mean=5.0, std=0.0)
    assert (reference.mean.item(), reference.std.item()) == (1.0, 2.0)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"mean": math.nan}, "mean"),
        ({"mean": math.inf}, "mean"),
        ({"std": math.inf}, "std"),
        ({"atomref": torch.tensor([0.0, math.nan])}, "atomref"),
    ],
)
def test_references_must_be_finite(arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}`"):
        Reference(9, **arguments)


def test_table_beyond_the_elements_is_refused() -> None:
    with pytest.raises(ValueError, match="`atomref` must have at most 10 values, one per atomic number, got 11"):
        Reference(9, atomref=torch.zeros(11))
