"""Forces of potentials with known derivatives."""

import pytest
import torch
from torch import Tensor

from pyg_schnet.ops import forces_from_energy


@pytest.fixture
def pos() -> Tensor:
    return torch.randn(4, 3, dtype=torch.float64).requires_grad_()


def test_harmonic_potential(pos: Tensor) -> None:
    forces = forces_from_energy(0.5 * 3.0 * pos.square().sum(), pos)
    torch.testing.assert_close(forces, -3.0 * pos.detach(), rtol=1e-15, atol=0)  # one product
    assert not forces.requires_grad


def test_morse_pair(pos: Tensor) -> None:
    vector = pos[1] - pos[0]
    distance = vector.norm()
    forces = forces_from_energy((1 - torch.exp(-1.3 * (distance - 1.1))).square(), pos)
    decay = torch.exp(-1.3 * (distance - 1.1))
    expected = (-2 * 1.3 * (1 - decay) * decay * vector / distance).detach()
    torch.testing.assert_close(forces[1], expected, rtol=1e-13, atol=0)  # some ten operations
    torch.testing.assert_close(forces[0], -expected, rtol=1e-13, atol=0)
    assert torch.equal(forces[2:], torch.zeros(2, 3, dtype=torch.float64))


def test_several_energies_at_once(pos: Tensor) -> None:
    energy = torch.stack([pos[:2].pow(3).sum(), pos[2:].sum()])
    expected = torch.cat([-3 * pos.detach()[:2].square(), -torch.ones(2, 3, dtype=torch.float64)])
    torch.testing.assert_close(forces_from_energy(energy, pos), expected, rtol=1e-15, atol=0)  # one product


def test_forces_can_be_differentiated_again(pos: Tensor) -> None:
    stiffness = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    forces = forces_from_energy(stiffness * pos.pow(4).sum(), pos, create_graph=True)
    by_stiffness, by_pos = torch.autograd.grad(forces.sum(), [stiffness, pos])
    torch.testing.assert_close(by_stiffness, -4 * pos.detach().pow(3).sum(), rtol=1e-13, atol=1e-13)  # twelve summands
    torch.testing.assert_close(by_pos, -24 * pos.detach().square(), rtol=1e-14, atol=0)  # a few products


def test_energy_that_does_not_depend_on_positions(pos: Tensor) -> None:
    zeros = torch.zeros(4, 3, dtype=torch.float64)
    assert torch.equal(forces_from_energy(torch.tensor([1.0]), pos), zeros)
    parameter = torch.ones(1, requires_grad=True)
    assert torch.equal(forces_from_energy(2 * parameter, pos, create_graph=True), zeros)


def test_dtype_is_that_of_the_positions() -> None:
    pos = torch.randn(2, 3).requires_grad_()
    assert forces_from_energy(pos.double().square().sum(), pos).dtype == torch.float32
