"""Curves and cuts against what the model's own layers give, and against sums over images by brute force."""

import itertools

import pytest
import torch
from torch import nn
from torch_geometric.data import Data

from pyg_schnet import CFConv, FilterNetwork, GaussianSmearing, Potential, SchNet, radius_graph
from pyg_schnet.analysis.filters.filters import distinct_filters, filter_curves, filter_cut
from pyg_schnet.models import DTNN, Committee, EnnS2S
from pyg_schnet.nn import TensorLayer
from pyg_schnet.sizes import SIZES

SMALL = {"hidden_channels": 8, "num_filters": 6, "num_interactions": 2}
HEXAGONAL = torch.tensor([[2.46, 0, 0], [-1.23, 2.46 * 0.75**0.5, 0], [0, 0, 6.7]], dtype=torch.float64)


def small(name="jcp2018-materials", **options):
    torch.manual_seed(0)
    return SchNet.preset(name, **SMALL | options).double().eval()


@pytest.mark.parametrize("preset", list(SchNet.presets()))
def test_curves_are_the_filters_of_the_layers(preset):
    """What a convolution multiplies features with: features of one at one end of a pair come out as the filter."""
    model = small(preset)
    distance = torch.tensor([0.7, 1.9, 3.3], dtype=torch.float64)
    curves = filter_curves(model, distance)
    assert curves.values.shape == (2, 3, 6)
    assert curves.names == ("interactions.0.conv", "interactions.1.conv")
    for block, values in zip(model.interactions, curves.values, strict=True):
        nn.init.eye_(block.conv.lin1.weight)  # 6 of 8 features pass
        nn.init.eye_(block.conv.lin2.weight)
        nn.init.zeros_(block.conv.lin2.bias)
        for place, d in enumerate(distance):
            x = torch.tensor([[0.0], [1.0]], dtype=torch.float64).expand(2, 8)
            edge = torch.tensor([[1], [0]])
            out = block.conv(x, edge, d[None], model.basis(d[None]))
            torch.testing.assert_close(out[0, :6], values[place], rtol=1e-12, atol=1e-14)  # one neighbour: norm is one


def test_cutoff_function():
    """Raw filters times the cosine, which is written out here, are those applied; beyond, atoms do not interact."""
    model = small("schnetpack")
    distance = torch.linspace(0, 7, 29, dtype=torch.float64)
    raw, applied = (filter_curves(model, distance, cutoff=c).values for c in (False, True))
    factor = torch.where(distance < 5.0, 0.5 * (torch.cos(torch.pi * distance / 5.0) + 1), 0.0)
    torch.testing.assert_close(applied, raw * factor[:, None], rtol=1e-12, atol=1e-15)
    assert bool(raw[:, -1].any())
    none = small()
    raw, applied = (filter_curves(none, distance, cutoff=c).values for c in (False, True))
    assert torch.equal(applied[:, distance < 5.0], raw[:, distance < 5.0])
    assert not bool(applied[:, distance >= 5.0].any())


def test_frozen_tables_are_read():
    """They are those of the networks to some 1e-9, and really what is shown: changed tables show."""
    model = small()
    exact = filter_curves(model)
    assert exact.distances[[0, -1]].tolist() == [0.0, 5.0]
    model.freeze()
    frozen = filter_curves(model)
    # splines at the house's spacing have errors of some 1e-7 of the values
    torch.testing.assert_close(frozen.values, exact.values, rtol=0, atol=1e-6)
    assert not torch.equal(frozen.values, exact.values)
    model.filter_tables.mul_(2.0)
    torch.testing.assert_close(filter_curves(model).values, 2 * frozen.values)
    with pytest.raises(ValueError, match="frozen tables end at the cutoff of 5 Angstrom, got a distance of 6"):
        filter_curves(model, [6.0], cutoff=False)
    assert not bool(filter_curves(model, [6.0]).values.any())


def test_frozen_blocks_beside_other_layers():
    """A layer of somebody's own is no block: it has no table."""
    model = small()
    model.extra = CFConv(8, 8, 6, FilterNetwork(50, 6), cutoff=4.0).double()
    exact = filter_curves(model, [1.0, 4.5])
    frozen = filter_curves(model.freeze(), [1.0, 4.5])
    assert frozen.names[-1] == "extra"
    assert torch.equal(frozen.values[-1], exact.values[-1])
    assert not bool(frozen.values[-1, 1].any())
    assert not torch.equal(frozen.values[0], exact.values[0])


def test_float32_shared_and_training_mode():
    model = SchNet(hidden_channels=8, num_filters=6, num_interactions=3, cutoff=5.0, shared_interactions=True).train()
    curves = filter_curves(Potential(model))
    assert curves.values.shape == (1, 500, 6)
    assert curves.values.dtype == torch.float32
    assert not curves.values.requires_grad
    assert model.training


def test_dtnn():
    """Its factor is linear in the expanded distance: W^df e + b, shared by all passes."""
    torch.manual_seed(0)
    model = DTNN(8, 5, 2, 20, 6.0, cutoff_function="cosine").double()
    distance = torch.tensor([1.0, 2.5], dtype=torch.float64)
    layer, attr = model.interaction.lin_edge, torch.exp(-12.5 * (distance[:, None] - model.basis.offset) ** 2)
    expected = attr @ layer.weight.T + layer.bias
    curves = filter_curves(model, distance, cutoff=False)
    torch.testing.assert_close(curves.values[0], expected, rtol=1e-12, atol=1e-12)
    applied = filter_curves(model, distance).values[0]
    factor = 0.5 * (torch.cos(torch.pi * distance / 6.0) + 1)
    torch.testing.assert_close(applied, expected * factor[:, None], rtol=1e-12, atol=1e-12)


class Mixed(nn.Module):
    """Layers of the papers in somebody's own model."""

    def __init__(self, num_filters=6):
        super().__init__()
        self.expand = GaussianSmearing(0.0, 4.0, 20)
        self.first = CFConv(8, 8, 6, FilterNetwork(20, 6), cutoff=3.0)
        self.second = TensorLayer(8, num_filters, 20)


def test_any_model_with_the_layers():
    model = Mixed()
    curves = filter_curves(model, [1.0, 3.5])
    assert curves.names == ("first", "second")
    assert not bool(curves.values[0, 1].any())
    assert bool(curves.values[1, 1].any())  # nothing says where it ends
    by_hand = filter_curves(model, [1.0, 3.5], basis=model.expand)
    assert torch.equal(by_hand.values, curves.values)
    assert float(filter_curves(model).distances[-1]) == pytest.approx(4.0)  # the last Gaussian
    with pytest.raises(ValueError, match="expected layers of one size, got 6, 7 filters"):
        filter_curves(Mixed(7))
    conv = CFConv(8, 8, 6, FilterNetwork(20, 6))
    with pytest.raises(ValueError, match="one radial basis, got CFConv with 0; pass `basis`"):
        filter_curves(conv, [1.0])
    assert filter_curves(conv, [1.0], basis=model.expand).values.shape == (1, 1, 6)


def test_bessel_basis_at_zero():
    """Finite where sin(kd)/d is a limit."""
    assert bool(filter_curves(small(basis="bessel")).values.isfinite().all())


def test_cut_of_a_single_atom_is_round():
    """Along both axes and the diagonals it is the curve of the distance."""
    model = small()
    cut = filter_cut(model, block=-1, width=6.0, resolution=41)
    assert cut.name == "interactions.1.conv"
    assert cut.images == 1
    y, x = torch.meshgrid(cut.coordinates, cut.coordinates, indexing="ij")
    expected = filter_curves(model, (x**2 + y**2).sqrt().flatten()).values[1]
    torch.testing.assert_close(cut.values.reshape(-1, 6), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("cell", [3.567 * torch.eye(3, dtype=torch.float64), HEXAGONAL], ids=["cubic", "hexagonal"])
def test_cut_in_a_crystal_is_the_sum_over_images(cell):
    """By brute force over far more images than can count, at every place."""
    model = small()
    cut = filter_cut(model, cell, resolution=5)
    shifts = torch.tensor(list(itertools.product(range(-5, 6), repeat=3)), dtype=torch.float64) @ cell
    for (row, y), (column, x) in itertools.product(enumerate(cut.coordinates), repeat=2):
        distance = (torch.stack([x, y, x * 0]) + shifts).norm(dim=1)
        expected = filter_curves(model, distance).values[0].sum(0)
        # sums of some 60 numbers of order one in another order
        torch.testing.assert_close(cut.values[row, column], expected, rtol=0, atol=1e-11)


def test_cut_in_a_crystal_is_what_the_convolution_does():
    """An atom with images of another at r: all its neighbours' filters together, from the house's own graph."""
    model = small()
    r = torch.tensor([1.0, -0.5, 0.0], dtype=torch.float64)
    pos = torch.stack([torch.zeros(3, dtype=torch.float64), r])
    graph = radius_graph(pos, 5.0, cell=HEXAGONAL[None], pbc=torch.ones(1, 3, dtype=torch.bool))
    source, target = graph.edge_index
    vectors = (pos[source] - pos[target] + graph.edge_shift.double() @ HEXAGONAL)[(target == 0) & (source == 1)]
    expected = filter_curves(model, vectors.norm(dim=1)).values[0].sum(0)
    cut = filter_cut(model, Data(cell=HEXAGONAL[None], pbc=torch.ones(1, 3, dtype=torch.bool)), width=4, resolution=9)
    assert cut.coordinates[[6, 3]].tolist() == [1.0, -0.5]
    torch.testing.assert_close(cut.values[3, 6], expected, rtol=0, atol=1e-11)


def test_symmetry_and_periodicity_of_the_lattice():
    """Four-fold and periodic for the cubic cell; six-fold, not four-fold, for the hexagonal one."""
    model = small()
    a = 3.567
    cubic = filter_cut(model, a * torch.eye(3, dtype=torch.float64), width=2 * a, resolution=17).values
    torch.testing.assert_close(cubic, cubic.rot90(1, (0, 1)), rtol=0, atol=1e-11)
    torch.testing.assert_close(cubic[:8], cubic[8:16], rtol=0, atol=1e-11)
    turn = torch.tensor([[0.5, 0.75**0.5, 0], [-(0.75**0.5), 0.5, 0]], dtype=torch.float64)
    straight, turned = (filter_cut(model, HEXAGONAL, resolution=9, plane=plane).values for plane in (None, turn))
    torch.testing.assert_close(straight, turned, rtol=0, atol=1e-11)
    quarter = filter_cut(model, HEXAGONAL, resolution=9).values.rot90(1, (0, 1))
    assert float((straight - quarter).abs().max()) > 0.1 * float(straight.std())


def test_layers_of_a_slab():
    """Open along z: images above the plane do not count."""
    model = small()
    cell = torch.diag(torch.tensor([4.0, 4.0, float("nan")], dtype=torch.float64))[None]
    slab = Data(cell=cell, pbc=torch.tensor([[True, True, False]]))
    tall = torch.diag(torch.tensor([4.0, 4.0, 100.0], dtype=torch.float64))
    values = filter_cut(model, slab, resolution=5).values
    torch.testing.assert_close(values, filter_cut(model, tall, resolution=5).values, rtol=0, atol=1e-12)


def test_chunks_do_not_matter(monkeypatch):
    model = small()
    whole = filter_cut(model, HEXAGONAL, resolution=7).values
    monkeypatch.setattr(SIZES, "filter_distances_at_once", 100)
    torch.testing.assert_close(filter_cut(model, HEXAGONAL, resolution=7, progress=True).values, whole)


def test_distinct_filters_are_large_and_unlike():
    values = torch.tensor([[1.0, 10.0, 9.9, 0.0, 0.0], [0.0, 0.0, 0.1, 2.0, 0.0]])
    assert distinct_filters(values, 2) == [1, 3]
    assert sorted(distinct_filters(values, 9)) == [0, 1, 2, 3, 4]  # each once, also where nothing is left


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda m: filter_curves("file"), TypeError, r"read a file with pyg_schnet.load"),
        (lambda m: filter_curves(EnnS2S()), ValueError, "got EnnS2S without; convert one of PyG"),
        (lambda m: filter_curves(Committee([m, small()])), ValueError, r"committee of 2.*committee\[0\]"),
        (lambda m: filter_curves(m, [-1.0]), ValueError, "not negative"),
        (lambda m: filter_curves(m, [float("nan")]), ValueError, "finite"),
        (lambda m: filter_curves(m, []), ValueError, r"\[D\], got \[0\]"),
        (lambda m: filter_cut(m, block=2), ValueError, "`block` must be at least -2 and at most 1, got 2"),
        (lambda m: filter_cut(m, block=0.5), TypeError, "`block` must be an integer, got float"),
        (lambda m: filter_cut(m, plane="xy"), TypeError, "`plane` must be the directions .* got 'xy'"),
        (lambda m: filter_cut(m, resolution=7.5), TypeError, "`resolution` must be an integer, got float"),
        (lambda m: filter_curves(m, ["a"]), TypeError, "`distances` must be a row of numbers"),
        (lambda m: filter_cut(m, width=-1.0), ValueError, "`width`, Angstrom, must be positive"),
        (lambda m: filter_cut(m, "diamond"), TypeError, "must be a Data or lattice vectors"),
        (lambda m: filter_cut(m, Data(z=torch.ones(1))), ValueError, "got no crystal"),
        (lambda m: filter_cut(m, torch.ones(3, 3)), ValueError, "span no volume"),
        (lambda m: filter_cut(m, torch.eye(2)), ValueError, r"one cell of lattice vectors \[3, 3\], got \[2, 2\]"),
        (lambda m: filter_cut(m, plane=torch.ones(2, 3)), ValueError, "orthogonal"),
        (lambda m: filter_cut(m, plane=torch.zeros(2, 3)), ValueError, "`plane` must be the directions"),
        (
            lambda m: filter_cut(TensorLayer(8, 5, 20), torch.eye(3), basis=GaussianSmearing(0.0, 4.0, 20)),
            ValueError,
            "needs an end",
        ),
    ],
)
def test_bad_input(call, kind, text):
    with pytest.raises(kind, match=text):
        call(small())
