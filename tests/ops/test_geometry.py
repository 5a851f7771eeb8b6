"""Edge vectors against the formula, ASE and finite differences."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pyg_schnet.ops import edge_vectors

CELLS = torch.tensor(
    [[[3.0, 0.1, 0], [0.2, 4.0, 0.3], [0, 0.5, 5.0]], [[6.0, 0, 1], [0, 7, 0], [0.4, 0, 8]]], dtype=torch.float64
)


def example() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Positions, edges, shifts and batch of two periodic structures."""
    pos = torch.randn(5, 3, dtype=torch.float64)
    edge_index = torch.tensor([[1, 0, 0, 4, 2], [0, 1, 0, 3, 3]])
    edge_shift = torch.tensor([[0, 0, 0], [1, -2, 0], [0, 0, 1], [-1, 0, 3], [0, 1, 0]])
    return pos, edge_index, edge_shift, torch.tensor([0, 0, 1, 1, 1])


def test_open_system_is_source_minus_target() -> None:
    pos, edge_index, edge_shift, batch = example()
    expected = torch.stack([pos[j] - pos[i] for j, i in edge_index.t().tolist()])
    assert torch.equal(edge_vectors(pos, edge_index), expected)
    assert torch.equal(edge_vectors(pos, edge_index, torch.zeros_like(edge_shift), CELLS, batch), expected)
    assert torch.equal(edge_vectors(pos, edge_index, None, CELLS, batch), expected)


def test_shifts_count_in_lattice_vectors_of_the_right_structure() -> None:
    pos, edge_index, edge_shift, batch = example()
    expected = [
        pos[j] - pos[i] + sum(edge_shift[e, k] * CELLS[batch[i], k] for k in range(3))
        for e, (j, i) in enumerate(edge_index.t().tolist())
    ]
    vectors = edge_vectors(pos, edge_index, edge_shift, CELLS, batch)
    torch.testing.assert_close(vectors, torch.stack(expected), rtol=0, atol=1e-14)  # order of four summands of order 10


def test_one_structure_needs_no_batch() -> None:
    pos, edge_index, edge_shift, _ = example()
    batch = torch.zeros(5, dtype=torch.long)
    with_batch = edge_vectors(pos, edge_index, edge_shift, CELLS[:1], batch)
    assert torch.equal(edge_vectors(pos, edge_index, edge_shift, CELLS[:1]), with_batch)


def test_agrees_with_ase_for_a_crystal() -> None:
    ase, neighborlist = pytest.importorskip("ase"), pytest.importorskip("ase.neighborlist")
    pos = torch.rand(4, 3, dtype=torch.float64) * 4
    atoms = ase.Atoms("CNOF", positions=pos.numpy(), cell=CELLS[0].numpy(), pbc=True)
    i, j, vectors, shift = neighborlist.neighbor_list("ijDS", atoms, 6.0)
    edge_index = torch.from_numpy(np.stack([j, i]))
    ours = edge_vectors(pos, edge_index, torch.from_numpy(shift), CELLS[:1])
    assert len(i) > 100
    torch.testing.assert_close(ours, torch.from_numpy(vectors), rtol=0, atol=1e-13)  # ASE wraps atoms first


def test_derivatives_with_respect_to_positions_and_cell() -> None:
    pos, edge_index, edge_shift, batch = example()

    def vectors(pos: Tensor, cell: Tensor) -> Tensor:
        return edge_vectors(pos, edge_index, edge_shift, cell, batch)

    inputs = (pos.requires_grad_(), CELLS.clone().requires_grad_())
    assert torch.autograd.gradcheck(vectors, inputs)


@pytest.mark.parametrize("filling", [np.nan, np.inf])
def test_lattice_vectors_without_shifts_play_no_role(filling: float) -> None:
    pos, edge_index, edge_shift, batch = example()
    edge_shift = edge_shift * torch.tensor([1, 1, 0])
    expected, cell = edge_vectors(pos, edge_index, edge_shift, CELLS, batch), CELLS.clone()
    cell[:, 2] = filling
    cell.requires_grad_()
    vectors = edge_vectors(pos.requires_grad_(), edge_index, edge_shift, cell, batch)
    assert torch.equal(vectors, expected)
    vectors.square().sum().backward()
    assert pos.grad is not None
    assert pos.grad.isfinite().all()
    shifted = edge_vectors(pos, edge_index, edge_shift + torch.tensor([0, 0, 1]), cell, batch)
    assert not shifted.isfinite().all(1).any()  # those with shifts do, and are not hidden


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_dtype_and_no_edges(dtype: torch.dtype) -> None:
    pos, edge_index, edge_shift, batch = example()
    vectors = edge_vectors(pos.to(dtype), edge_index, edge_shift, CELLS.to(dtype), batch)
    assert vectors.dtype == dtype
    assert edge_vectors(pos.to(dtype), edge_index[:, :0], edge_shift[:0], CELLS.to(dtype), batch).shape == (0, 3)
