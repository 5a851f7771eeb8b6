"""The convolution against a double loop, its derivatives against finite differences."""

import pytest
import torch
from torch import Tensor

from pyg_schnet.ops import cfconv


def example(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, int]:
    """Six atoms, the last one isolated, edges in random order, one of them twice."""
    edge_index = torch.tensor([[1, 4, 0, 2, 3, 0, 1, 4], [0, 0, 1, 3, 2, 4, 0, 1]])
    x, w = torch.randn(6, 3, dtype=torch.float64), torch.randn(8, 3, dtype=torch.float64)
    return x.to(dtype), w.to(dtype), edge_index, 6


def loop(x: Tensor, w: Tensor, edge_index: Tensor, num_targets: int) -> Tensor:
    """Equation (3), edge by edge."""
    y = torch.zeros(num_targets, x.size(1), dtype=x.dtype)
    for e, (j, i) in enumerate(edge_index.t().tolist()):
        y[i] += x[j] * w[e]
    return y


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equals_a_loop(dtype: torch.dtype) -> None:
    x, w, edge_index, num_targets = example(dtype)
    y = cfconv(x, w, edge_index, num_targets)
    assert y.dtype == dtype
    # sums of at most three products of order one
    torch.testing.assert_close(y, loop(x, w, edge_index, num_targets), rtol=0, atol=8 * torch.finfo(dtype).eps)


def test_isolated_atom_and_no_edges_give_zero() -> None:
    x, w, edge_index, num_targets = example()
    assert torch.equal(cfconv(x, w, edge_index, num_targets)[5], torch.zeros(3, dtype=torch.float64))
    assert torch.equal(cfconv(x, w[:0], edge_index[:, :0], 6), torch.zeros(6, 3, dtype=torch.float64))
    assert cfconv(x[:0], w[:0], edge_index[:, :0], 0).shape == (0, 3)


def test_targets_need_not_be_the_sources() -> None:
    x, w = torch.tensor([[2.0, 3.0]]), torch.tensor([[5.0, 7.0]])
    y = cfconv(x, w, torch.tensor([[0], [2]]), num_targets=4)
    assert y.tolist() == [[0, 0], [0, 0], [10, 21], [0, 0]]


def test_order_of_edges_does_not_matter() -> None:
    x, w, edge_index, num_targets = example()
    order = torch.randperm(8)
    y = cfconv(x, w[order], edge_index[:, order], num_targets)
    torch.testing.assert_close(y, cfconv(x, w, edge_index, num_targets), rtol=0, atol=1e-15)  # order of three summands


def test_permutation_of_atoms_permutes_the_result() -> None:
    x, w, edge_index, num_targets = example()
    order = torch.randperm(6)
    y = cfconv(x[order], w, order.argsort()[edge_index], num_targets)
    assert torch.equal(y, cfconv(x, w, edge_index, num_targets)[order])


def test_linear_in_features_and_filters() -> None:
    x, w, edge_index, num_targets = example()
    y = cfconv(x, w, edge_index, num_targets)
    # powers of two scale without rounding
    assert torch.equal(cfconv(2 * x, w, edge_index, num_targets), 2 * y)
    assert torch.equal(cfconv(x, -4 * w, edge_index, num_targets), -4 * y)


@pytest.mark.parametrize("edges", [8, 0])
def test_first_and_second_derivatives(edges: int) -> None:
    x, w, edge_index, num_targets = example()
    inputs = (x.requires_grad_(), w[:edges].requires_grad_(), edge_index[:, :edges], num_targets)
    assert torch.autograd.gradcheck(cfconv, inputs)
    assert torch.autograd.gradgradcheck(cfconv, inputs)


def test_devices_agree(device: torch.device) -> None:
    x, w, edge_index, num_targets = example()
    y = cfconv(x.to(device), w.to(device), edge_index.to(device), num_targets)
    assert y.device.type == device.type
    torch.testing.assert_close(y.cpu(), loop(x, w, edge_index, num_targets), rtol=0, atol=1e-15)  # three summands
