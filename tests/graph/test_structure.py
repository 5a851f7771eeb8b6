"""What a batch of structures must look like, and what is said when it does not."""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from pyg_schnet.graph import can_inspect, check_structures, hidden_values, values_hidden

POS = torch.arange(9.0).view(3, 3)


def spoiled(value: float) -> torch.Tensor:
    pos = POS.clone()
    pos[1, 2] = value
    return pos


@pytest.mark.parametrize(
    ("batch", "batch_size", "expected"),
    [
        (None, None, ([0, 0, 0], 1)),
        (None, 1, ([0, 0, 0], 1)),
        ([0, 0, 1], None, ([0, 0, 1], 2)),
        ([1, 1, 3], None, ([1, 1, 3], 4)),  # structures 0 and 2 are empty
        ([0, 0, 1], 5, ([0, 0, 1], 5)),
    ],
)
def test_batch_and_number_of_structures(
    batch: list[int] | None, batch_size: int | None, expected: tuple[list[int], int]
) -> None:
    found, size = check_structures(POS, None if batch is None else torch.tensor(batch), batch_size)
    assert (found.tolist(), size) == expected
    assert found.dtype == torch.long


@pytest.mark.parametrize(("batch_size", "expected"), [(None, 0), (0, 0), (3, 3)])
def test_no_atoms(batch_size: int | None, expected: int) -> None:
    nothing = torch.zeros(0, 3)
    assert check_structures(nothing)[1] == 1
    assert check_structures(nothing, torch.zeros(0, dtype=torch.long), batch_size)[1] == expected


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_any_floating_point_dtype(dtype: torch.dtype) -> None:
    assert check_structures(POS.to(dtype))[1] == 1


@pytest.mark.parametrize(
    ("pos", "error", "message"),
    [
        (spoiled(math.nan), ValueError, r"`pos` must be finite, got \[3.0, 4.0, nan\] for atom 1; repair or drop"),
        (spoiled(math.inf), ValueError, r"`pos` must be finite, got \[3.0, 4.0, inf\] for atom 1; repair or drop"),
        (spoiled(-math.inf), ValueError, r"`pos` must be finite, got \[3.0, 4.0, -inf\] for atom 1; repair or drop"),
        (POS[:, :2], ValueError, r"`pos` must have shape \[N, 3\], got \[3, 2\]"),
        (POS[0], ValueError, r"`pos` must have shape \[N, 3\], got \[3\]"),
        (POS[None], ValueError, r"`pos` must have shape \[N, 3\], got \[1, 3, 3\]"),
        (POS.long(), TypeError, r"`pos` must be a floating-point tensor \[N, 3\] in Angstrom, got torch.int64"),
        (POS.tolist(), TypeError, r"`pos` must be a floating-point tensor \[N, 3\] in Angstrom, got list"),
        (POS.numpy(), TypeError, r"`pos` must be a floating-point tensor \[N, 3\] in Angstrom, got ndarray"),
        (None, TypeError, r"`pos` must be a floating-point tensor \[N, 3\] in Angstrom, got NoneType"),
    ],
)
def test_impossible_positions_are_refused(pos: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_structures(pos)


@pytest.mark.parametrize(
    ("batch", "batch_size", "error", "message"),
    [
        (torch.tensor([0, 1, 0]), None, ValueError, r"`batch` must be sorted and not negative.*torch.argsort"),
        (torch.tensor([-1, 0, 0]), None, ValueError, r"`batch` must be sorted and not negative"),
        (torch.tensor([0, 0]), None, ValueError, r"`batch` must have shape \[3\] like `pos`, got \[2\]"),
        (torch.zeros(3, 1).long(), None, ValueError, r"`batch` must have shape \[3\] like `pos`, got \[3, 1\]"),
        (torch.zeros(3), None, TypeError, r"`batch` must be an int64 tensor \[N\], got torch.float32"),
        (torch.zeros(3).int(), None, TypeError, r"`batch` must be an int64 tensor \[N\], got torch.int32"),
        ([0, 0, 0], None, TypeError, r"`batch` must be an int64 tensor \[N\], got list"),
        (torch.tensor([0, 1, 2]), 2, ValueError, "`batch` names structure 2, but `batch_size` is 2; .* at least 3"),
        (None, 2, ValueError, "`batch_size` is 2, but without `batch` all atoms form one structure"),
        (None, 0, ValueError, "`batch_size` is 0, but without `batch` all atoms form one structure"),
    ],
)
def test_impossible_batch_is_refused(batch: Any, batch_size: int | None, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_structures(POS, batch, batch_size)


def test_unseen_values_are_those_of_one_thread_until_the_end() -> None:
    """Nested, and after an error too."""
    with hidden_values():
        with hidden_values():
            assert not can_inspect(POS)
        assert values_hidden()
        check_structures(spoiled(math.nan))  # nobody looks
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(can_inspect, POS).result()
    with pytest.raises(KeyError), hidden_values():
        raise KeyError
    assert can_inspect(POS)
    assert not values_hidden()
