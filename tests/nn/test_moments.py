"""Moments of latent charges: closed forms and laws of nature."""

import pytest
import torch
from torch import Tensor, nn

from pyg_schnet.nn import DipoleMoment, Polarizability, SpatialExtent
from pyg_schnet.nn.moments import neutral, squared_radius

Z = torch.tensor([8, 1, 1, 6, 7])
BATCH = torch.tensor([0, 0, 0, 2, 2])  # structure 1 is empty
POS = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
Y = torch.randn(5, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


def evaluate(readout: nn.Module, pos: Tensor, y: Tensor = Y) -> Tensor:
    return readout(y if readout.channels == 1 else torch.cat([y, y.flip(0)], 1), BATCH, 3, Z, pos)


def test_charges_are_neutral() -> None:
    charges = neutral(Y, BATCH, 3)
    total = charges.new_zeros(3, 1).index_add(0, BATCH, charges)
    assert total.abs().max() < 1e-15
    torch.testing.assert_close(charges[0] - charges[1], Y[0] - Y[1])  # all of a structure shift alike


def test_dipole_is_the_sum_of_charge_times_position() -> None:
    expected = torch.zeros(3, 3, dtype=torch.float64)
    for structure, atoms in ((0, [0, 1, 2]), (2, [3, 4])):
        mean = sum(float(Y[i]) for i in atoms) / len(atoms)
        expected[structure] = sum((float(Y[i]) - mean) * POS[i] for i in atoms)
    moment = evaluate(DipoleMoment(), POS)
    torch.testing.assert_close(moment, expected, rtol=1e-14, atol=1e-14)
    length = evaluate(DipoleMoment(magnitude=True), POS)
    torch.testing.assert_close(length.flatten(), expected.norm(dim=1), rtol=1e-14, atol=0)


@pytest.mark.parametrize("readout", [DipoleMoment(), DipoleMoment(True), SpatialExtent(), Polarizability()], ids=str)
def test_translation_and_rotation(readout: nn.Module, rotation: Tensor) -> None:
    before = evaluate(readout, POS)
    expected = before @ rotation.t() if before.size(1) == 3 else before
    after = evaluate(readout, POS @ rotation.t() + torch.tensor([5.0, -3.0, 100.0]))
    torch.testing.assert_close(after, expected, rtol=1e-10, atol=1e-11)  # squares of 100 lose five digits


def test_charges_about_the_centre_of_mass() -> None:
    masses = [0.0, 1.008, 0.0, 0.0, 0.0, 0.0, 12.011, 14.007, 15.999]
    readout = DipoleMoment(masses=masses)
    expected = torch.zeros(3, 3, dtype=torch.float64)
    for structure, atoms in ((0, [0, 1, 2]), (2, [3, 4])):
        mass = torch.tensor([[masses[z]] for z in Z[atoms].tolist()], dtype=torch.float64)
        center = (mass * POS[atoms]).sum(0) / mass.sum()
        expected[structure] = (Y[atoms] * (POS[atoms] - center)).sum(0)
    torch.testing.assert_close(evaluate(readout, POS), expected, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(evaluate(readout, POS + 7.0), expected, rtol=1e-12, atol=1e-12)  # digits of 7


def test_spatial_extent_about_the_centre_of_nuclear_charge() -> None:
    charge = Z.double().unsqueeze(1)
    expected = []
    for atoms in ([0, 1, 2], [3, 4]):
        center = (charge[atoms] * POS[atoms]).sum(0) / charge[atoms].sum()
        expected.append(float((Y[atoms].squeeze(1) * (POS[atoms] - center).square().sum(1)).sum()))
    extent = evaluate(SpatialExtent(), POS).flatten().tolist()
    assert extent == pytest.approx([expected[0], 0.0, expected[1]], rel=1e-13)
    assert squared_radius(Z, POS, BATCH, 3).shape == (5, 1)


def test_polarizability_is_the_trace_of_radial_vectors() -> None:
    """A third of the trace of sum a_i 1 + v_i r_i^T + r_i v_i^T with v_i = c_i r_i."""
    local, flow = Y, Y.flip(0)
    charge = Z.double().unsqueeze(1)
    traces = []
    for atoms in ([0, 1, 2], [3, 4]):
        center = (charge[atoms] * POS[atoms]).sum(0) / charge[atoms].sum()
        tensor = torch.zeros(3, 3, dtype=torch.float64)
        for i in atoms:
            r = POS[i] - center
            v = flow[i] * r
            tensor += local[i] * torch.eye(3, dtype=torch.float64) + torch.outer(v, r) + torch.outer(r, v)
        traces.append(float(tensor.trace()) / 3)
    assert evaluate(Polarizability(), POS).flatten().tolist() == pytest.approx([traces[0], 0.0, traces[1]], rel=1e-12)


def test_length_has_a_gradient_at_zero() -> None:
    y = torch.zeros(2, 1, dtype=torch.float64, requires_grad=True)
    pos = torch.randn(2, 3, dtype=torch.float64)
    batch = torch.zeros(2, dtype=torch.long)
    DipoleMoment(magnitude=True)(y, batch, 1, Z[:2], pos).sum().backward()
    assert torch.equal(y.grad, torch.zeros_like(y))


@pytest.mark.parametrize("readout", [DipoleMoment(), DipoleMoment(True), SpatialExtent(), Polarizability()], ids=str)
def test_derivatives(readout: nn.Module) -> None:
    inputs = (POS.clone().requires_grad_(), Y.clone().requires_grad_())
    occupied = [0, 2]  # the length of the empty structure is at the tip of a cone
    assert torch.autograd.gradcheck(lambda pos, y: evaluate(readout, pos, y)[occupied], inputs)
    assert torch.autograd.gradgradcheck(lambda pos, y: evaluate(readout, pos, y)[occupied], inputs)
