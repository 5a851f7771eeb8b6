"""Infrared intensities of charges on springs, in closed form, and dipole derivatives by finite differences."""

import copy
import math

import pytest
import torch
from ase import units
from ase.build import molecule
from torch_geometric.data import Data

from pyg_schnet import SchNet
from pyg_schnet.analysis.vibrations.infrared import dipole_derivatives, infrared_intensities
from pyg_schnet.analysis.vibrations.normal_modes import normal_modes
from pyg_schnet.models import AtomisticModel, Committee
from pyg_schnet.simulation.ase import atoms_to_data

from .springs import Springs

#: N_A / (12 epsilon_0 c^2) e^2/u in km/mol
UNIT = units._Nav / (12 * units._eps0 * units._c**2) * units._e**2 / units._amu * 1e-3


class Charges(AtomisticModel):
    """Atoms keep the charges that belong to their elements."""

    def __init__(self, **options):
        super().__init__(8, 5.0, {"readout": "dipole"} | options, readout=options.get("readout", "dipole"))

    def represent(self, z, edges):
        return self.embedding(z)


def charges_of(model, z):
    q = model.output(model.embedding(z)).double().flatten()
    return (q - q.mean()).detach()


@pytest.fixture
def charges():
    torch.manual_seed(3)
    return Charges().double()


def test_point_charges_on_a_spring(charges):
    """A = N_A / (12 epsilon_0 c^2) q^2 / mu."""
    data = Data(z=torch.tensor([1, 9]), pos=torch.tensor([[0.0, 0, 0], [0.0, 0.55, 0.73]], dtype=torch.float64))
    modes = normal_modes(Springs(40.0, float(data.pos[1].norm())), data)
    q = charges_of(charges, data.z)
    reduced = float(modes.masses.prod() / modes.masses.sum())
    found = infrared_intensities(modes, charges, data, dipole_unit="e*Ang")
    assert found[:5].tolist() == [0.0] * 5
    assert float(found[5]) == pytest.approx(UNIT * float(q[0]) ** 2 / reduced, rel=1e-10)
    debye = infrared_intensities(modes, charges)  # the structure of the modes; Debye unless the model says otherwise
    assert float(debye[5]) == pytest.approx(float(found[5]) * units.Debye**2, rel=1e-8)
    assert pytest.approx(42.2561, rel=1e-5) == UNIT * units.Debye**2
    charges.units = {"mu": "e*Ang"}
    assert torch.equal(infrared_intensities(modes, charges), found)


def test_carbon_dioxide_stretches_in_the_infrared_when_it_is_asymmetric(charges):
    pos = torch.tensor([[0.0, 0, 0], [0.0, 0, 1.16], [0.0, 0, -1.16]], dtype=torch.float64)
    data = Data(z=torch.tensor([6, 8, 8]), pos=pos)
    modes = normal_modes(Springs(100.0, 1.16, cutoff=1.5, bend=4.8, angle=math.pi), data)
    bend, same, symmetric, asymmetric = infrared_intensities(modes, charges)[~modes.rigid].tolist()
    assert symmetric == pytest.approx(0.0, abs=1e-12 * asymmetric)
    q, m = charges_of(charges, data.z), modes.masses
    # charges 2q on carbon, -q on oxygen against the reduced mass of carbon and both oxygens
    expected = UNIT * units.Debye**2 * float(q[0]) ** 2 * float(1 / m[0] + 1 / (2 * m[1]))
    assert bend == pytest.approx(expected, rel=1e-7)
    assert same == pytest.approx(expected, rel=1e-7)
    assert asymmetric == pytest.approx(expected, rel=1e-7)


def test_finite_differences_of_the_dipole_moment(make_model):
    data = atoms_to_data(molecule("NH3"), torch.float64)
    data.pbc = data.cell = None
    model, h = make_model(readout="dipole").eval(), 1e-5
    found = dipole_derivatives(model, data, dipole_unit="e*Ang")
    for atom, axis in [(0, 1), (2, 0)]:
        ends = []
        for step in (h, -h):
            pos = data.pos.clone()
            pos[atom, axis] += step
            ends.append(model(data.z, pos)[0])
        torch.testing.assert_close(found[atom, axis], ((ends[0] - ends[1]) / (2 * h)).detach(), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(found.sum(0), torch.zeros(3, 3, dtype=torch.float64), rtol=0, atol=1e-10)  # neutral


def test_whatever_the_model_is(make_model):
    data = atoms_to_data(molecule("NH3"))
    model = make_model(readout="dipole").float()
    expected = dipole_derivatives(copy.deepcopy(model).double(), data)
    torch.testing.assert_close(dipole_derivatives(copy.deepcopy(model).freeze(), data), expected)
    length = make_model(readout="dipole_magnitude").float()
    length.load_state_dict(model.state_dict())
    torch.testing.assert_close(dipole_derivatives(length, data), expected)
    assert length.readout.magnitude
    torch.testing.assert_close(dipole_derivatives(Committee([model, copy.deepcopy(model)]), data), expected)


def test_bad_input(charges):
    data = Data(z=torch.tensor([1, 9]), pos=torch.tensor([[0.0, 0, 0], [0.0, 0, 0.9]], dtype=torch.float64))
    modes = normal_modes(Springs(40.0, 0.9), data)
    with pytest.raises(ValueError, match="must predict a dipole moment, got readout='add'"):
        infrared_intensities(modes, SchNet(8, 8, 1))
    with pytest.raises(TypeError, match="must be a model with readout='dipole', got str"):
        infrared_intensities(modes, "model")
    with pytest.raises(ValueError, match="`dipole_unit` must be one of 'D', .* got 'C m'"):
        infrared_intensities(modes, charges, dipole_unit="C m")
    other = Data(z=torch.tensor([1, 17]), pos=data.pos)
    with pytest.raises(ValueError, match=r"must be the molecule of the modes, \[1, 9\], got atomic numbers \[1, 17\]"):
        infrared_intensities(modes, charges, other)
    crystal = Data(z=data.z, pos=data.pos, cell=4 * torch.eye(3)[None], pbc=torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="not defined in periodic structures"):
        infrared_intensities(modes, charges, crystal)


def test_in_inference_mode_they_are_the_same(charges):
    pos = torch.tensor([[0.0, 0, 0], [0.0, 0.55, 0.73]], dtype=torch.float64)
    expected = dipole_derivatives(charges, Data(z=torch.tensor([1, 9]), pos=pos))
    with torch.inference_mode():
        inside = Data(z=torch.tensor([1, 9]), pos=pos.clone())
        torch.testing.assert_close(dipole_derivatives(charges, inside), expected)
    torch.testing.assert_close(dipole_derivatives(charges, inside), expected)
