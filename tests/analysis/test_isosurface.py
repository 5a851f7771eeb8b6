import math

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

pytest.importorskip("skimage")

from pyg_schnet.analysis.surfaces.isosurface import effective_distance, isosurface


def ring(number, radius):
    angle = torch.arange(number, dtype=torch.float64) * (2 * torch.pi / number)
    return torch.stack([radius * angle.cos(), radius * angle.sin(), torch.zeros_like(angle)], dim=1)


def benzene():
    return Data(z=torch.tensor([6] * 6 + [1] * 6), pos=torch.cat([ring(6, 1.39), ring(6, 2.48)]))


def atom(*places):
    pos = torch.tensor(places or [[0.3, -0.2, 0.1]], dtype=torch.float64)
    return Data(z=torch.full((len(pos),), 6), pos=pos)


def euler(surface):
    """Vertices - edges + triangles, of a surface whose every edge is in two triangles, once in either direction."""
    t, count = surface.triangles, len(surface.vertices)
    edges = torch.cat([t[:, [0, 1]], t[:, [1, 2]], t[:, [2, 0]]])
    forth, back = (edges[:, 0] * count + edges[:, 1]).sort().values, (edges[:, 1] * count + edges[:, 0]).sort().values
    assert (forth[1:] != forth[:-1]).all()
    assert torch.equal(forth, back)
    assert torch.equal(t.unique(), torch.arange(count))  # no corner is left over
    return count - len(edges) // 2 + len(t)


@pytest.mark.parametrize(("power", "level"), [(-2.0, 4.0), (-1.0, 2.0), (-6.0, 64.0), (-0.5, math.sqrt(2.0))])
def test_around_one_atom_it_is_a_sphere(power, level):
    surface = isosurface(atom(), level, power)
    far = (surface.vertices - atom().pos).norm(dim=1)
    assert (far - 0.5).abs().max() < 1e-12  # TOLERANCE times the radius
    assert euler(surface) == 2
    # a polyhedron inside a sphere, with edges of about a fifth of the radius
    assert 0.98 < surface.area / (4 * math.pi * 0.25) < 1
    assert 0.96 < surface.volume / (4 / 3 * math.pi * 0.125) < 1


def test_area_approaches_that_of_the_sphere_with_the_square_of_the_spacing():
    missing = [math.pi - isosurface(atom(), 4.0, spacing=spacing).area for spacing in (0.12, 0.06, 0.03)]
    assert missing[0] / missing[1] == pytest.approx(4, rel=0.1)  # how the grid lies beside the atom differs
    assert missing[1] / missing[2] == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize(
    ("structure", "power", "level", "number"),
    [
        (benzene(), -2.0, 3.7, 2),  # figure 5: the ring is closed
        (benzene(), -30.0, 0.8**-30, 0),  # spheres that meet leave a hole in the ring
        (atom([0.0, 0, 0], [0, 0, 9.0]), -2.0, 3.7, 4),  # two surfaces
    ],
)
def test_surfaces_are_closed(structure, power, level, number):
    surface = isosurface(structure, level, power)
    assert euler(surface) == number
    assert surface.volume > 0


@pytest.mark.parametrize(("power", "level"), [(-2.0, 3.7), (-6.0, 1.7**-6)])
def test_every_corner_is_on_the_level_and_every_triangle_looks_outside(power, level):
    data = benzene()
    surface = isosurface(data, level, power, spacing=0.2)
    distances = torch.cdist(surface.vertices, data.pos)
    assert (distances.pow(power).sum(1) / level - 1).abs().max() < 1e-11  # TOLERANCE times the power
    a, b, c = surface.vertices[surface.triangles].unbind(1)
    normal, middle = torch.linalg.cross(b - a, c - a), (a + b + c) / 3
    step = 0.02 * normal / normal.norm(dim=1, keepdim=True)
    outside = torch.cdist(middle + step, data.pos).pow(power).sum(1)
    inside = torch.cdist(middle - step, data.pos).pow(power).sum(1)
    assert (outside < inside).all()


def test_all_of_a_molecule_is_inside():
    """The box reaches as far as many atoms together do, far beyond the sphere around one."""
    pos = torch.cartesian_prod(*[1.2 * torch.arange(3.0, dtype=torch.float64)] * 3)
    data = Data(z=torch.full((27,), 6), pos=pos)
    surface = isosurface(data, spacing=0.2)
    assert euler(surface) == 2
    for corner in surface.vertices[surface.vertices.abs().argmax(0)]:
        assert torch.cdist(corner[None], pos).pow(-2).sum() == pytest.approx(3.7, rel=1e-10)
    far = surface.vertices.amax(0) - pos.amax(0)
    assert (far > 1.0).all()  # twice the radius around one atom


def test_it_turns_with_the_molecule(rotation):
    data = benzene()
    turned = Data(z=data.z, pos=data.pos @ rotation.T + 5.0)
    first, second = isosurface(data), isosurface(turned)
    assert first.area == pytest.approx(second.area, rel=2e-3)  # of the triangles, which are others
    assert first.volume == pytest.approx(second.volume, rel=2e-3)


def test_effective_distance_and_its_gradient():
    generator = np.random.default_rng(0)
    points, pos = generator.normal(size=(40, 3)), generator.normal(size=(5, 3))
    for power in (-2.0, -0.7, -8.0):
        place = torch.tensor(points, requires_grad=True)
        expected = torch.cdist(place, torch.tensor(pos)).pow(power).sum(1).pow(1 / power)
        (slope,) = torch.autograd.grad(expected.sum(), place)
        distance, gradient = effective_distance(points, pos, power)
        np.testing.assert_allclose(distance, expected.detach(), rtol=1e-13)
        np.testing.assert_allclose(gradient, slope, rtol=1e-10, atol=1e-12)
    distance, gradient = effective_distance(pos[:2], pos, -2.0)
    assert (distance == 0).all()
    assert (gradient == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_positions_of_any_kind(dtype):
    pos = benzene().pos.to(dtype).requires_grad_()
    surface = isosurface(Data(z=benzene().z, pos=pos), spacing=0.25)
    assert surface.vertices.dtype == torch.float64
    assert not surface.vertices.requires_grad
    assert surface.triangles.dtype == torch.int64


def test_sums_of_distances_have_no_surface():
    """As figure 5 has it in print; and the sum is never as small as that."""
    with pytest.raises(ValueError, match="`power` must be negative, got 1"):
        isosurface(benzene(), 3.7, 1.0)
    points = 4 * torch.rand(2000, 3, dtype=torch.float64) - 2
    assert torch.cdist(points, benzene().pos).sum(1).min() > 23


@pytest.mark.parametrize(
    ("change", "options", "kind", "text"),
    [
        ({}, {"level": 0.0}, ValueError, "`level`.* must be positive"),
        ({}, {"level": math.nan}, ValueError, "`level`.* must be positive"),
        ({}, {"level": 1e-9}, ValueError, "expected 0.001 to 1000"),
        ({}, {"power": "2"}, TypeError, "`power` must be a number"),
        ({}, {"spacing": 0.4}, ValueError, "at most half the radius 0.52"),
        ({}, {"spacing": -0.1}, ValueError, "`spacing`.* must be positive"),
        ({}, {"spacing": 0.002}, ValueError, "expected at most 30,000,000; pass a larger `spacing`"),
        ({"pbc": torch.ones(1, 3) > 0, "cell": torch.eye(3)[None]}, {}, ValueError, "expected a molecule"),
        ({"pos": torch.full((12, 3), math.nan)}, {}, ValueError, "finite"),
        ({"z": torch.zeros(12)}, {}, TypeError, "`z` must hold atomic numbers"),
        ({"batch": torch.arange(12) // 6}, {}, ValueError, "expected one structure"),
    ],
)
def test_bad_input(change, options, kind, text):
    data = benzene()
    data.update(change)
    with pytest.raises(kind, match=text):
        isosurface(data, **options)
    with pytest.raises(TypeError, match="must be a Data"):
        isosurface([data])
