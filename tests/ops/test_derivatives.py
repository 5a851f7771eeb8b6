"""Forces, virials and stress of potentials with known derivatives."""

import pytest
import torch
from torch import Tensor

from pyg_schnet.ops import (
    cell_volume,
    edge_vectors,
    forces_from_edges,
    forces_from_energy,
    gradient,
    stress_from_virials,
    virials_from_edges,
)


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


# --- through the vectors of edges ---

EDGES = torch.tensor([[1, 2, 0, 3, 3], [0, 0, 2, 3, 1]])  # among them the edge of an atom to its own image
SHIFT = torch.tensor([[0, 0, 0], [1, 0, 0], [0, -1, 2], [0, 0, 1], [0, 0, 0]])
CELL = torch.tensor([[[3.0, 0.1, 0], [0.2, 4.0, 0.3], [0, 0.5, 5.0]]], dtype=torch.float64)


def anisotropic(vectors: Tensor) -> Tensor:
    """An energy that sees more than the lengths of the vectors, but is the same in all directions together."""
    gram = vectors @ vectors.T
    return (0.1 * gram).sin().sum() + vectors.norm(dim=1).pow(3).sum()


def test_forces_from_edges_are_those_from_the_energy(pos: Tensor) -> None:
    vectors = edge_vectors(pos, EDGES, SHIFT, CELL)
    energy = anisotropic(vectors)
    slope = gradient(energy, vectors, retain_graph=True)
    forces = forces_from_edges(slope, EDGES, 4)
    torch.testing.assert_close(forces, forces_from_energy(energy, pos), rtol=0, atol=1e-12)  # order of sums
    torch.testing.assert_close(forces.sum(0), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12)


def test_virials_and_stress_are_the_derivative_with_respect_to_strain(pos: Tensor) -> None:
    strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    deformation = torch.eye(3, dtype=torch.float64) + strain
    vectors = edge_vectors(pos @ deformation, EDGES, SHIFT, CELL @ deformation)
    by_strain, slope = torch.autograd.grad(anisotropic(vectors), [strain, vectors])
    virials = virials_from_edges(slope, vectors.detach(), EDGES, 4)
    # sums of five products of order 1e3 in another order
    torch.testing.assert_close(virials.sum(0), -by_strain, rtol=0, atol=1e-10)
    stress = stress_from_virials(virials, CELL, torch.zeros(4, dtype=torch.long))
    expected = by_strain / torch.linalg.det(CELL[0])
    torch.testing.assert_close(stress[0], expected, rtol=0, atol=1e-11)
    assert torch.equal(stress, stress.mT)


def test_each_atom_has_half_of_each_of_its_pairs() -> None:
    slope, vectors = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    expected = torch.zeros(4, 3, 3, dtype=torch.float64)
    for pair, (j, i) in enumerate(EDGES.T.tolist()):
        for atom in (j, i):
            expected[atom] -= 0.5 * torch.outer(vectors[pair], slope[pair])
    torch.testing.assert_close(virials_from_edges(slope, vectors, EDGES, 4), expected, rtol=0, atol=1e-14)  # order


def test_a_pair_that_pulls() -> None:
    """The signs: attraction has a negative virial, a positive stress, and the atoms come closer."""
    vectors, edges = torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[1], [0]])  # atom 1 is two Angstrom to the right
    slope = torch.tensor([[3.0, 0.0, 0.0]])  # the energy grows with the distance
    assert forces_from_edges(slope, edges, 2)[:, 0].tolist() == [3.0, -3.0]
    virials = virials_from_edges(slope, vectors, edges, 2)
    assert virials[:, 0, 0].tolist() == [-3.0, -3.0]
    stress = stress_from_virials(virials, 2 * torch.eye(3).unsqueeze(0), torch.zeros(2, dtype=torch.long))
    assert stress[0, 0, 0].item() == 6 / 8


def test_no_edges_and_no_atoms() -> None:
    none, edges = torch.zeros(0, 3), torch.zeros(2, 0, dtype=torch.long)
    assert torch.equal(forces_from_edges(none, edges, 2), torch.zeros(2, 3))
    assert torch.equal(virials_from_edges(none, none, edges, 2), torch.zeros(2, 3, 3))
    stress = stress_from_virials(torch.zeros(0, 3, 3), torch.eye(3).expand(2, 3, 3), torch.zeros(0, dtype=torch.long))
    assert torch.equal(stress, torch.zeros(2, 3, 3))


@pytest.mark.parametrize("cell", [torch.zeros(3, 3), torch.diag(torch.tensor([1.0, 2.0, torch.nan]))])
def test_no_volume_gives_no_stress_and_no_gradient(cell: Tensor) -> None:
    virials = torch.randn(2, 3, 3, requires_grad=True)
    stress = stress_from_virials(virials, torch.stack([cell, torch.eye(3)]), torch.tensor([0, 1]))
    assert stress[0].isnan().all()
    assert stress[1].isfinite().all()
    stress[1].sum().backward()
    assert virials.grad is not None
    assert not virials.grad[0].any()
    assert virials.grad[1].any()


def test_volume_is_the_determinant_of_either_hand() -> None:
    cell = torch.randn(50, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(cell_volume(cell), torch.linalg.det(cell).abs(), rtol=0, atol=1e-14)  # order one


def test_gradient_in_a_direction(pos: Tensor) -> None:
    direction = torch.randn(4, 3, dtype=torch.float64)
    slope = gradient(pos.pow(3), pos, direction)
    torch.testing.assert_close(slope, 3 * direction * pos.detach().square(), rtol=1e-15, atol=0)  # two products
    other = torch.ones(2, requires_grad=True)
    assert torch.equal(gradient(other, pos), torch.zeros_like(pos))
