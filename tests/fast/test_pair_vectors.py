"""Vectors of pairs from a compiled loop: those of the operations of torch, and only where nobody asks for more."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from pyg_schnet.compiling import loops_of
from pyg_schnet.fast import pair_vectors as module
from pyg_schnet.fast.pair_vectors import pair_vectors
from pyg_schnet.graph import neighbor_pairs
from pyg_schnet.ops import edge_vectors

pytest.importorskip("numba")
Given = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A name for each call of the compiled loop."""
    loops, found = loops_of("pyg_schnet.fast.cpu.pair_vectors"), list[str]()
    write: Callable[..., None] = loops.write_vectors
    monkeypatch.setattr(loops, "write_vectors", lambda *given: (found.append("loop"), write(*given)))
    return found


def crystals(dtype: torch.dtype = torch.float64) -> Given:
    """Positions, pairs, shifts, cells and batch of three crystals, one a slab and one a wire."""
    generator = torch.Generator().manual_seed(3)
    sizes = torch.tensor([4, 7, 2])
    batch = torch.repeat_interleave(torch.arange(3), sizes)
    cell = 3.5 * torch.eye(3, dtype=torch.float64) + torch.rand(3, 3, 3, generator=generator, dtype=torch.float64)
    pbc = torch.tensor([[True, True, True], [True, True, False], [False, True, False]])
    pos = 4.0 * torch.rand(len(batch), 3, generator=generator, dtype=torch.float64)
    _, pairs, shift, _ = neighbor_pairs(pos, 5.0, batch, 3, cell, pbc)
    assert shift.any()
    return pos.to(dtype), pairs, shift, cell.to(dtype), batch


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_equal_to_the_operations_of_torch(dtype: torch.dtype, calls: list[str]) -> None:
    given = crystals(dtype)
    found, expected = pair_vectors(*given), edge_vectors(*crystals(torch.float64))
    assert calls == ["loop"]
    assert found.dtype == dtype
    assert float((found - expected).abs().max()) <= 40 * torch.finfo(dtype).eps  # a few roundings of numbers up to ten


@pytest.mark.parametrize("filling", [np.nan, np.inf])
def test_lattice_vectors_without_shifts_play_no_role(filling: float, calls: list[str]) -> None:
    pos, pairs, shift, cell, batch = crystals()
    expected, shift[:, 2] = edge_vectors(pos, pairs, shift * torch.tensor([1, 1, 0]), cell, batch), 0
    cell[:, 2] = filling
    torch.testing.assert_close(pair_vectors(pos, pairs, shift, cell, batch), expected)
    assert calls == ["loop"]


@pytest.mark.parametrize("number", [0, 3])
def test_derivatives_are_those_of_the_operations_of_torch(number: int, calls: list[str]) -> None:
    given = crystals()
    given[number].requires_grad_()
    vectors = pair_vectors(*given)
    assert calls == []
    assert vectors.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(pair_vectors(*given), vectors.detach())
    assert calls == ["loop"]


def test_forward_derivatives_and_transforms(calls: list[str]) -> None:
    pos, *others = crystals()
    direction = torch.ones_like(pos).cumsum(0)
    _, moved = torch.func.jvp(lambda x: pair_vectors(x, *others), (pos,), (direction,))
    pairs = others[0]
    torch.testing.assert_close(moved, direction[pairs[0]] - direction[pairs[1]])
    many = torch.func.vmap(lambda x: pair_vectors(x, *others))(torch.stack([pos, 2 * pos]))
    torch.testing.assert_close(many[0], edge_vectors(pos, *others))
    assert calls == []


def test_open_structures_kinds_that_differ_and_no_pairs(calls: list[str]) -> None:
    pos, pairs, shift, cell, batch = crystals()
    torch.testing.assert_close(pair_vectors(pos, pairs, shift), pos[pairs[0]] - pos[pairs[1]])
    assert pair_vectors(pos.float(), pairs, shift, cell, batch).dtype == torch.float64
    assert pair_vectors(pos, pairs[:, :0], shift[:0], cell, batch).shape == (0, 3)
    assert calls == []


def test_without_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    given = crystals()
    monkeypatch.setattr(module, "loops_of", lambda *_: None)
    torch.testing.assert_close(pair_vectors(*given), edge_vectors(*given))
