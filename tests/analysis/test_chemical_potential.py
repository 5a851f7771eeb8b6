import itertools

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data

from pyg_schnet import Potential, SchNet
from pyg_schnet.analysis import local_chemical_potential
from pyg_schnet.models import DTNN, AtomisticModel, Committee, EnnS2S
from pyg_schnet.models.elements import TrainingSet, UnknownElementWarning
from pyg_schnet.transforms import RadiusGraph

PRESETS = ("nips2017", "jcp2018", "jcp2018-materials", "schnetpack", "pyg")
EVERY = torch.ones(1, 3, dtype=torch.bool)


def network(preset, scramble, **options):
    """A small network of a preset, without zeros that hide mistakes."""
    sizes = {"hidden_channels": 12, "num_filters": 10, "num_interactions": 3}
    return scramble(SchNet.preset(preset, **(sizes | options)).double().eval())


def ring(number, radius, height=0.0):
    angle = torch.arange(number, dtype=torch.float64) * (2 * torch.pi / number)
    return torch.stack([radius * angle.cos(), radius * angle.sin(), torch.full_like(angle, height)], dim=1)


def benzene():
    return Data(z=torch.tensor([6] * 6 + [1] * 6), pos=torch.cat([ring(6, 1.39), ring(6, 2.48)]))


def diamond(a=3.567):
    pos = a * torch.tensor([[0.0, 0, 0], [0.25, 0.25, 0.25]], dtype=torch.float64)
    cell = a / 2 * torch.tensor([[[0.0, 1, 1], [1, 0, 1], [1, 1, 0]]], dtype=torch.float64)
    return Data(z=torch.tensor([6, 6]), pos=pos, cell=cell, pbc=EVERY)


def slab():
    """Three atoms in a skewed cell, periodic along two axes, one of them far outside."""
    pos = torch.tensor([[0.1, 0.2, 0.3], [1.7, 5.1, 2.2], [-7.5, 0.6, -1.4]], dtype=torch.float64)
    cell = torch.tensor([[[3.1, 0, 0.2], [2.4, 3.4, 0], [0, 0, 0]]], dtype=torch.float64)
    return Data(z=torch.tensor([8, 13, 1]), pos=pos, cell=cell, pbc=torch.tensor([[True, True, False]]))


def directly(model, data, point, probe):
    """Contribution of a probe that is appended, every edge found by trying all images."""
    num_atoms = data.z.size(0)
    pos = torch.cat([data.pos, point[None]])
    cell = data.get("cell")
    most = [0, 0, 0]
    if cell is not None:
        most = [12 if periodic else 0 for periodic in data.pbc[0].tolist()]
    edges, shifts = [], []
    steps = torch.tensor(list(itertools.product(*(range(-n, n + 1) for n in most))))
    move = torch.zeros(len(steps), 3).double() if cell is None else steps.double() @ cell[0]
    for target in range(num_atoms + 1):
        for source in range(num_atoms):
            distance = (pos[source] + move - pos[target]).norm(dim=1)
            for image in ((distance < model.cutoff) & (distance > 0)).nonzero().flatten().tolist():
                edges.append((source, target))
                shifts.append(steps[image])
    graph = {"edge_index": torch.tensor(edges).T, "edge_shift": torch.stack(shifts)}
    z = torch.cat([data.z, torch.tensor([probe])])
    return model.contributions(z, pos, cell=cell, pbc=data.get("pbc"), **graph)[-1, 0]


@pytest.mark.parametrize("structure", [benzene, diamond, slab])
@pytest.mark.parametrize("preset", [*PRESETS, "dtnn"])
def test_equation_6_equals_the_direct_evaluation(preset, structure, scramble):
    open_axes = structure is benzene
    cutoff = {} if open_axes else {"cutoff": 4.0}
    if preset == "dtnn":
        model = scramble(DTNN(12, 10, 2, zero_output=False, **cutoff).double().eval())
    else:
        model = network(preset, scramble, **cutoff)
    data = structure()
    points = 6 * torch.rand(4, 3, dtype=torch.float64) - 3
    expected = torch.stack([directly(model, data, point, probe=7) for point in points])
    found = local_chemical_potential(model, data, points, probe=7)
    assert found.dtype == torch.float64
    assert not found.requires_grad
    torch.testing.assert_close(found, expected.detach(), rtol=1e-12, atol=1e-12)


def test_around_benzene_it_has_six_fold_symmetry(scramble):
    model = network("jcp2018", scramble)
    found = local_chemical_potential(model, benzene(), torch.cat([ring(6, 2.1, 1.2), ring(6, 2.1, -1.2)]))
    torch.testing.assert_close(found, found[:1].expand(12), rtol=0, atol=1e-12)
    between = local_chemical_potential(model, benzene(), ring(12, 2.1, 1.2))
    assert (between[1::2] - between[0]).abs().min() > 1e-4  # between two bonds it differs


def test_in_diamond_it_has_the_symmetry_of_the_lattice(scramble):
    model, data = network("jcp2018-materials", scramble), diamond()
    points = 4 * torch.rand(6, 3, dtype=torch.float64)
    found = local_chemical_potential(model, data, points)
    cells = torch.tensor([[0.0, 0, 1], [-3, 2, 0], [1, 1, 1], [40, -7, 3], [0, 5, 0], [-1, 0, 0]], dtype=torch.float64)
    moved = local_chemical_potential(model, data, points + cells @ data.cell[0])
    torch.testing.assert_close(moved, found, rtol=1e-11, atol=1e-11)
    inverted = local_chemical_potential(model, data, data.pos[1] - points)  # about the middle of a bond
    torch.testing.assert_close(inverted, found, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize("structure", [benzene, slab])
def test_gradients_are_slopes(structure, chunk, scramble):
    model, data = network("schnetpack", scramble, cutoff=4.5), structure()
    points = (4 * torch.rand(5, 3, dtype=torch.float64)).requires_grad_()
    value = local_chemical_potential(model, data, points, chunk=chunk)
    (slope,) = torch.autograd.grad(value.sum(), points)
    step = 1e-5
    for axis in range(3):
        shift = step * torch.eye(3, dtype=torch.float64)[axis]
        with torch.no_grad():
            high, low = (local_chemical_potential(model, data, points + sign * shift) for sign in (1, -1))
        numeric = (high - low) / (2 * step)
        torch.testing.assert_close(slope[:, axis], numeric, rtol=1e-7, atol=1e-8)  # of central differences


def test_chunks_change_nothing(scramble):
    for model, data in [(network("jcp2018", scramble), benzene()), (network("jcp2018-materials", scramble), diamond())]:
        points = 9 * torch.rand(23, 3, dtype=torch.float64)
        whole = local_chemical_potential(model, data, points)
        for chunk in (1, 7, 23, 1000):
            torch.testing.assert_close(
                local_chemical_potential(model, data, points, chunk=chunk), whole, rtol=1e-12, atol=1e-12
            )


def test_points_keep_their_order_among_many_images(scramble):
    cell = 11.0 * torch.eye(3, dtype=torch.float64)[None]
    pos = 11.0 * torch.rand(90, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    model, data = network("jcp2018", scramble, cutoff=2.5), Data(z=torch.full((90,), 6), pos=pos, cell=cell, pbc=EVERY)
    points = 11.0 * torch.rand(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    together = local_chemical_potential(model, data, points)  # all in one chunk, near ones after one another
    alone = [local_chemical_potential(model, data, point[None]) for point in points]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-12)


@pytest.mark.parametrize("far", [0.0, 3e4])
def test_float32_is_the_same_to_its_digits_wherever_the_crystal_is(far, scramble):
    exact, data = network("jcp2018-materials", scramble), diamond()
    rounded = network("jcp2018-materials", scramble)
    rounded.load_state_dict(exact.state_dict())
    rounded.float()
    small = Data(z=data.z, pos=data.pos.float(), cell=data.cell.float(), pbc=data.pbc)
    points = 3 * torch.rand(50, 3, dtype=torch.float64)
    # whole cells, so that the field stays, by the lattice vectors that the float32 structure has
    away = torch.round(far / small.cell[0].double().norm(dim=1)) @ small.cell[0].double()
    for filters in ("exact", "table"):
        rounded.filters = filters
        found = local_chemical_potential(rounded, small, points + away)
        wanted = local_chemical_potential(exact, data, points)
        assert (found - wanted).abs().max() < 1e-4 * wanted.std()  # a tenth of this is seen


def test_frozen_models_and_potentials(scramble):
    model = network("jcp2018", scramble)
    points = 5 * torch.rand(9, 3, dtype=torch.float64)
    wanted = local_chemical_potential(model, benzene(), points)
    frozen = local_chemical_potential(Potential(model.freeze()), benzene(), points)
    torch.testing.assert_close(frozen, wanted, rtol=1e-7, atol=1e-7)  # accuracy of tables


def test_of_a_committee_it_is_the_mean(scramble):
    members = [network("jcp2018", scramble), network("jcp2018", scramble)]
    points = 5 * torch.rand(4, 3, dtype=torch.float64)
    each = [local_chemical_potential(member, benzene(), points) for member in members]
    assert (each[0] - each[1]).abs().min() > 1e-6
    for committee in (Committee(members),):
        torch.testing.assert_close(local_chemical_potential(committee, benzene(), points), (each[0] + each[1]) / 2)


def test_references_are_included(scramble):
    model = network("jcp2018", scramble)
    points, plain = 4 * torch.rand(3, 3, dtype=torch.float64), None
    plain = local_chemical_potential(model, benzene(), points, probe=8)
    model.reference.mean.fill_(2.5)
    torch.testing.assert_close(local_chemical_potential(model, benzene(), points, probe=8), plain + 2.5)


def test_points_of_any_kind_and_shape(scramble):
    model = network("jcp2018", scramble)
    points = 4 * np.random.default_rng(0).random((2, 3, 3))
    wanted = local_chemical_potential(model, benzene(), torch.from_numpy(points).reshape(-1, 3))
    for given in (points, points.tolist(), torch.from_numpy(points)):
        found = local_chemical_potential(model, benzene(), given)
        assert found.shape == (2, 3)
        torch.testing.assert_close(found.reshape(-1), wanted)
    assert local_chemical_potential(model, benzene(), torch.zeros(0, 3)).shape == (0,)
    with torch.inference_mode():
        torch.testing.assert_close(
            local_chemical_potential(model, benzene(), torch.from_numpy(points)), wanted.view(2, 3)
        )


def test_out_of_reach_it_is_that_of_a_lone_atom(scramble):
    model = network("schnetpack", scramble)
    lone = model.contributions(torch.tensor([6]), torch.zeros(1, 3, dtype=torch.float64))[0, 0].detach()
    found = local_chemical_potential(model, benzene(), torch.tensor([[100.0, 0, 0], [0, 0, -50.0]]))
    torch.testing.assert_close(found, lone.expand(2))


def test_a_graph_that_is_there_is_taken(scramble):
    model, points = network("schnetpack", scramble), 4 * torch.rand(3, 3, dtype=torch.float64)
    wanted = local_chemical_potential(model, diamond(), points)
    with_graph = RadiusGraph(7.0)(diamond())
    torch.testing.assert_close(local_chemical_potential(model, with_graph, points), wanted, rtol=1e-12, atol=1e-12)
    with_graph.edge_index, with_graph.edge_shift = with_graph.edge_index[:, :9], with_graph.edge_shift[:9]
    assert (local_chemical_potential(model, with_graph, points) - wanted).abs().min() > 1e-9


def test_one_structure_as_a_batch(scramble):
    model, points = network("jcp2018", scramble), 4 * torch.rand(3, 3, dtype=torch.float64)
    batch = Batch.from_data_list([benzene()])
    torch.testing.assert_close(
        local_chemical_potential(model, batch, points), local_chemical_potential(model, benzene(), points)
    )
    with pytest.raises(ValueError, match="one structure, got a batch of 2"):
        local_chemical_potential(model, Batch.from_data_list([benzene(), benzene()]), points)


def test_no_gradients_of_the_weights_are_kept(scramble):
    model = network("jcp2018", scramble)
    points = torch.full((3, 3), 3.0, dtype=torch.float64)
    assert not local_chemical_potential(model, benzene(), points).requires_grad
    with torch.no_grad():
        assert not local_chemical_potential(model, benzene(), points.requires_grad_()).requires_grad


class Gossip(SchNet):
    """A network in which all atoms feel all others, without edges."""

    def represent(self, z, edges):
        x = super().represent(z, edges)
        return x + x.mean(0)


@pytest.mark.parametrize(
    ("model", "change", "options", "error", "match"),
    [
        (torch.nn.Linear(1, 1), {}, {}, TypeError, "AtomisticModel, .* got Linear"),
        (Gossip(8, 8, 1), {}, {}, ValueError, "Gossip lets a probe change the features"),
        (EnnS2S(16), {}, {}, ValueError, "contributions of atoms exist"),
        (SchNet(8, 8, 1, readout="dipole"), {}, {}, ValueError, "contributions of atoms exist"),
        (None, {}, {"probe": 0}, ValueError, "`probe` must be an atomic number from 1 to 118, .* got 0"),
        (None, {}, {"probe": 6.0}, TypeError, "must be an atomic number"),
        (None, {}, {"probe": 200}, ValueError, "`probe` must be .* from 1 to 118, .* got 200"),
        (None, {}, {"chunk": 0}, ValueError, "`chunk` must be at least 1, got 0"),
        (None, {}, {"points": torch.zeros(4, 2)}, ValueError, r"shape \[P, 3\], got \[4, 2\]"),
        (None, {}, {"points": [[0.0, 0.0, 2.0], [1.0]]}, TypeError, "`points` must be numbers in rows of three"),
        (None, {}, {"points": torch.zeros(4, 3, dtype=torch.long)}, TypeError, "floating-point tensor"),
        (
            None,
            {},
            {"points": torch.tensor([[0.0, 9, 9], [torch.nan, 0, 0]])},
            ValueError,
            "point 1 of 2 is not finite",
        ),
        (None, {}, {"points": torch.tensor([[0.0, 9, 9], [1.39, 0, 0]]).double()}, ValueError, "on top of atom 0"),
        (None, {"pos": None}, {}, ValueError, "`pos` is missing"),
    ],
)
def test_bad_input(model, change, options, error, match):
    data = benzene()
    for name, value in change.items():
        data[name] = value
    model = SchNet(8, 8, 1).double() if model is None else model
    if isinstance(model, AtomisticModel):
        model = model.double()
    given = {"points": torch.full((2, 3), 4.0)} | options
    with pytest.raises(error, match=match):
        local_chemical_potential(model, data, **given)


def test_a_broken_model_is_said_to_be_one(scramble):
    model = network("jcp2018", scramble)
    with torch.no_grad():
        model.embedding.weight[6] = torch.nan
    with pytest.raises(ValueError, match="not finite: the model is broken"):
        local_chemical_potential(model, benzene(), torch.full((1, 3), 4.0))


def test_an_element_never_seen_is_named(scramble):
    model = network("jcp2018", scramble)
    model.training_set = TrainingSet({1: 60, 6: 60}, structures=10, compositions=4)
    points = torch.full((1, 3), 4.0)
    local_chemical_potential(model, benzene(), points)
    with pytest.warns(UnknownElementWarning, match="element N"):
        local_chemical_potential(model, benzene(), points, probe=7)
    with pytest.raises(ValueError, match="element O"):
        local_chemical_potential(model, benzene(), points, probe=8, strict=True)
