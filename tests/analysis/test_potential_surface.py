import pytest
import torch
from torch_geometric.data import Data

pytest.importorskip("skimage")

from pyg_schnet import Potential
from pyg_schnet.analysis import local_chemical_potential
from pyg_schnet.analysis.surfaces.isosurface import isosurface
from pyg_schnet.analysis.surfaces.potential_surface import PotentialSurface, potential_surface
from pyg_schnet.models import DTNN, Committee
from pyg_schnet.units import KCAL_PER_MOL

WATER = Data(
    z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], dtype=torch.float64)
)


def felt_directly(model, data, point, probe):
    """Contribution of a probe that is appended, with edges among the atoms and from them to the probe."""
    count = len(data.z)
    pairs = [(j, i) for i in range(count + 1) for j in range(count) if i != j]
    z, pos = torch.cat([data.z, torch.tensor([probe])]), torch.cat([data.pos, point[None]])
    return model.contributions(z, pos, edge_index=torch.tensor(pairs).T, edge_shift=None)[-1, 0]


@pytest.mark.parametrize("kind", ["schnet", "dtnn"])
def test_values_are_those_at_the_corners(kind, make_model, scramble):
    model = make_model(cutoff=20.0) if kind == "schnet" else scramble(DTNN(8, 6, 2, zero_output=False).double())
    surface = potential_surface(model, WATER, 7, spacing=0.2)
    alone = isosurface(WATER, spacing=0.2)
    assert torch.equal(surface.vertices, alone.vertices)
    assert torch.equal(surface.triangles, alone.triangles)
    some = range(0, len(surface.vertices), 97)
    expected = torch.stack([felt_directly(model, WATER, surface.vertices[i], 7) for i in some]).detach()
    # float64, sums in another order
    torch.testing.assert_close(surface.values[list(some)], expected, rtol=1e-10, atol=1e-10)
    assert float(surface.values.std()) > 1e-4
    assert surface.probe == 7
    assert torch.equal(surface.data.z, WATER.z)
    assert not surface.values.requires_grad


def test_values_and_reference_are_in_ev(make_model):
    model = make_model(mean=-3.0, std=2.0, atomref=torch.linspace(0, -50, 119))
    plain = potential_surface(model, WATER, spacing=0.25)
    assert plain.unit == "eV"
    assert plain.reference == pytest.approx(-3.0 - 50 * 6 / 118)
    for units in ({"energy": "kcal/mol"}, {"U0": "kcal/mol"}, {"formation_energy": "kcal/mol/atom"}):
        model.units = units
        other = potential_surface(Potential(model), WATER, spacing=0.25)
        assert other.unit == "eV"
        assert other.reference == pytest.approx(KCAL_PER_MOL * plain.reference)
        torch.testing.assert_close(other.values, KCAL_PER_MOL * plain.values)
    model.units = {"mu": "D"}
    other = potential_surface(model, WATER, spacing=0.25)
    assert other.unit == "D"
    torch.testing.assert_close(other.values, plain.values)


def test_one_of_several_targets(make_model):
    model = make_model(out_channels=3, mean=[1.0, 2.0, 3.0])
    model.units = {"gap": "eV", "mu": "D", "U0": "Ha"}
    every = local_chemical_potential(model, WATER, isosurface(WATER, spacing=0.25).vertices).detach()
    second = potential_surface(model, WATER, spacing=0.25, target=1)
    assert (second.unit, second.reference) == ("D", 2.0)
    torch.testing.assert_close(second.values, every[:, 1])
    with pytest.raises(ValueError, match="`target` must be at least 0 and at most 2, got 3"):
        potential_surface(model, WATER, spacing=0.25, target=3)


def test_committee(make_model):
    members = [make_model(mean=mean) for mean in (1.0, 4.0)]
    surface = potential_surface(Committee(members), WATER, spacing=0.25)
    each = [potential_surface(member, WATER, spacing=0.25) for member in members]
    assert surface.reference == 2.5
    torch.testing.assert_close(surface.values, (each[0].values + each[1].values) / 2)


def test_float32_and_frozen_models(make_model):
    model = make_model()
    expected = potential_surface(model, WATER, spacing=0.25)
    single = model.float().eval()
    for parameter in single.parameters():
        parameter.requires_grad_(False)
    data = Data(z=WATER.z, pos=WATER.pos.float())
    found = potential_surface(single, data, spacing=0.25)
    assert found.values.dtype == torch.float64
    # positions and weights have been rounded to seven digits
    torch.testing.assert_close(found.values, expected.values, rtol=1e-4, atol=1e-4)


def test_spread_and_steepness_of_a_linear_potential():
    """On a sphere of radius R, k.r has the spread kR / sqrt 3 and the mean slope pi k / 4."""
    atom = Data(z=torch.tensor([6]), pos=torch.zeros(1, 3).double())
    mesh = isosurface(atom, level=1.0, spacing=0.08)
    direction = torch.tensor([2.0, -1.0, 2.0]).double()
    surface = PotentialSurface(*mesh, mesh.vertices @ direction + 7.0, 0.0, "eV", 6, atom.z, atom.pos)
    # triangles are inside the sphere by a square of their size
    assert surface.spread == pytest.approx(3 / 3**0.5, rel=3e-3)
    assert surface.steepness == pytest.approx(3 * torch.pi / 4, rel=3e-3)
    constant = surface._replace(values=torch.full_like(surface.values, -5.0))
    assert constant.spread == pytest.approx(0, abs=1e-12)
    assert constant.steepness == pytest.approx(0, abs=1e-12)


def test_bad_input(make_model):
    with pytest.raises(TypeError, match="`model` must be"):
        potential_surface(torch.nn.Linear(1, 1), WATER, spacing=0.25)
    with pytest.raises(ValueError, match="atomic number"):
        potential_surface(make_model(), WATER, 0, spacing=0.25)
    with pytest.raises(TypeError, match="float"):
        potential_surface(make_model().float(), WATER, spacing=0.25)
    broken = make_model()
    torch.nn.init.constant_(next(broken.output.parameters()), torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        potential_surface(broken, WATER, spacing=0.25)
