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


def test_a_model_that_is_made_without_memory_gets_some() -> None:
    empty = nn.Sequential(Reference(9, mean=1.0)).to("meta")
    given = Reference(9, mean=2.5, std=0.5, atomref=torch.arange(10.0))
    model = empty.to_empty(device="cpu")
    model[0].load_state_dict(given.state_dict())
    assert torch.equal(model[0](Z), given(Z))


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


# --- several targets, and fits ---


def test_each_target_has_its_own() -> None:
    atomref = torch.arange(20.0, dtype=torch.float64).view(10, 2)
    reference = Reference(9, mean=[0.5, -1.0], std=2.0, atomref=atomref, channels=2)
    assert reference(Z).tolist() == [[2.5, 2.0], [12.5, 12.0], [16.5, 16.0]]
    assert reference.std.tolist() == [2.0, 2.0]


def test_references_of_structures() -> None:
    z, batch, of = torch.tensor([1, 6, 8]), torch.tensor([0, 0, 2]), {}
    for how in ("add", "mean", "once", None):
        reference = Reference(9, mean=1.0, atomref=torch.arange(10.0), how=how)
        of[how] = reference.of_structures(z, batch, 4).flatten().tolist()
    assert of["add"] == [9.0, 0.0, 9.0, 0.0]
    assert of["mean"] == [4.5, 0.0, 9.0, 0.0]
    assert of["once"] == [8.0, 1.0, 9.0, 1.0]
    assert of[None] == [0.0] * 4


def molecules_of(elements: list[int], count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random compositions of two to nine atoms."""
    sizes = torch.randint(2, 10, (count,))
    z = torch.tensor(elements)[torch.randint(len(elements), (int(sizes.sum()),))]
    return z, torch.arange(count).repeat_interleave(sizes)


def test_fit_finds_values_that_made_the_data() -> None:
    truth = torch.zeros(10, 2, dtype=torch.float64)
    truth[[1, 6, 7, 8]] = torch.tensor([[-13.6, 1.0], [-1029.8, 2.0], [-1485.3, 3.0], [-2042.6, 4.0]]).double()
    z, batch = molecules_of([1, 6, 7, 8], 60)
    values = truth.new_zeros(60, 2).index_add(0, batch, truth[z])
    reference = Reference(9, mean=3.0, std=7.0, channels=2)
    reference.fit(z, batch, values)
    # sums of up to 2e4 are exact to 4e-12; least squares multiplies that by the condition number, about 10
    torch.testing.assert_close(reference.atomref, truth, rtol=0, atol=1e-9)
    assert reference.mean.tolist() == [0.0, 0.0]
    assert reference.std.tolist() == [1.0, 1.0]  # nothing is left that could be scaled
    assert not reference.trivial


def test_fit_is_least_squares_with_the_spread_that_remains() -> None:
    z, batch = molecules_of([1, 6], 50)
    noise = torch.randn(50, dtype=torch.float64)
    count = torch.stack([torch.bincount(batch[z == element], minlength=50) for element in (1, 6)], 1).double()
    values = count @ torch.tensor([-1.0, -5.0]).double() + noise
    reference = Reference(9)
    reference.fit(z, batch, values)
    expected = torch.linalg.solve(count.t() @ count, count.t() @ values)  # the normal equations
    torch.testing.assert_close(reference.atomref[[1, 6], 0], expected, rtol=1e-10, atol=0)
    rest = (values - count @ expected) / count.sum(1)
    assert reference.std.item() == pytest.approx(rest.std(correction=0).item(), rel=1e-10)


def test_fit_of_isomers_shares_their_energy() -> None:
    """Counts that depend on each other have no unique solution; the prediction is right all the same."""
    z, batch = torch.tensor([6, 1, 1, 6, 1, 1]), torch.tensor([0, 0, 0, 1, 1, 1])
    reference = Reference(9)
    reference.fit(z, batch, torch.tensor([-10.0, -12.0]))
    assert reference.of_structures(z, batch, 2).flatten().tolist() == pytest.approx([-11.0, -11.0], rel=1e-12)


@pytest.mark.parametrize("how", ["add", "mean", "once"])
def test_fit_is_what_the_readout_makes_of_it(how: str) -> None:
    """The reference of the structures is the least-squares prediction, whatever the readout."""
    truth, (z, batch) = Reference(9, atomref=torch.arange(10.0) - 20.0, how=how), molecules_of([1, 6, 8], 40)
    values = truth.of_structures(z, batch, 40)
    reference = Reference(9, how=how)
    reference.fit(z, batch, values)
    # a condition number of some 10 times round-off of sums up to 200
    torch.testing.assert_close(reference.of_structures(z, batch, 40), values, rtol=0, atol=1e-11)
    noisy = values + torch.randn(40, 1, dtype=torch.float64)
    reference.fit(z, batch, noisy)
    rest = noisy - reference.of_structures(z, batch, 40)
    rest = rest / torch.bincount(batch).unsqueeze(1) if how == "add" else rest
    assert reference.std.item() == pytest.approx(rest.std(correction=0).item(), rel=1e-6)


def test_fit_without_a_reference_is_refused() -> None:
    with pytest.raises(ValueError, match="this readout has no reference that could be fitted"):
        Reference(9, how=None).fit(Z, torch.zeros(3, dtype=torch.long), torch.ones(1))


@pytest.mark.parametrize(
    ("z", "batch", "values", "message"),
    [
        ([1, 6, 8], torch.zeros(3).long(), torch.ones(1), "`z` must be an int64 tensor, got list"),
        (Z.float(), torch.zeros(3).long(), torch.ones(1), "`z` must be an int64 tensor, got torch.float32"),
        (Z, [0, 0, 0], torch.ones(1), "`batch` must be an int64 tensor, got list"),
        (Z, torch.zeros(3).long(), 1.0, "`values` must be a tensor, got float"),
    ],
)
def test_fit_refuses_other_kinds(z: Any, batch: Any, values: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Reference(9).fit(z, batch, values)


def test_values_written_past_set_count() -> None:
    """As averages of weights and distributed training write buffers."""
    reference = Reference(9)
    reference.mean.fill_(2.0)
    assert not reference.trivial
    assert reference.of_structures(Z, torch.zeros(3, dtype=torch.long), 1).tolist() == [[6.0]]


@pytest.mark.parametrize(
    ("z", "batch", "values", "message"),
    [
        ([1, 6], [0, -1], [1.0], "`batch` must name one of the 1 structures"),
        ([1, 6], [0, 0], [[1.0, 2.0]], "`values` must have 1 targets like the model, got 2"),
        ([1, 6], [0, 1], [1.0], "`batch` must name one of the 1 structures of `values` for each of the 2 atoms"),
        ([1, 60], [0, 0], [1.0], "`z` must hold atomic numbers from 1 to 9, at least one"),
        ([], [], [1.0], "`z` must hold atomic numbers from 1 to 9, at least one"),
        ([1, 6], [0, 0], [math.nan], "`values` must be finite, got NaN or infinite values; leave such structures out"),
    ],
)
def test_fit_refuses_impossible_data(z: list, batch: list, values: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Reference(9).fit(torch.tensor(z).long(), torch.tensor(batch).long(), torch.tensor(values))


def test_states_of_scalars_still_load() -> None:
    """Files of format 1 hold a scalar mean and a single column."""
    reference = Reference(9)
    old = {"mean": torch.tensor(1.0).double(), "std": torch.tensor(2.0).double(), "atomref": torch.arange(10.0)}
    reference.load_state_dict(old)
    assert reference(Z).tolist() == [[2.0], [7.0], [9.0]]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_scale_of_a_fit_is_that_of_each_target(order: tuple[int, int]) -> None:
    """Of two targets of sizes of their own; round-off of the large one is more than all of the small one."""
    z, batch = torch.tensor([1, 1, 8, 1, 1, 8, 8, 1, 8]), torch.tensor([0, 0, 1, 2, 2, 2, 3, 4, 4])
    large = torch.tensor([-2e8, -9e8, -11e8, -9e8, -10e8], dtype=torch.float64)  # as elements say
    small = torch.tensor([2e-5, 1e-5, 4e-5, 2e-5, 9e-5], dtype=torch.float64)
    reference = Reference(10, channels=2)
    reference.fit(z, batch, torch.stack([large, small], dim=1)[:, list(order)])
    std = dict(zip(order, reference.std.tolist(), strict=True))
    assert std[0] == 1.0  # nothing remains
    assert 1e-6 < std[1] < 1e-4
