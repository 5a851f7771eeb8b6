"""Every layer: the contract all of them keep, and the closed form of each."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.explain.algorithm.utils import clear_masks, set_masks
from torch_geometric.nn import GATConv, HeteroConv, MessagePassing, Sequential
from torch_geometric.nn.models import schnet as pyg

from pyg_schnet import SchNet, radius_graph
from pyg_schnet.nn import (
    AtomEmbedding,
    Atomwise,
    BesselBasis,
    CFConv,
    CosineCutoff,
    FilterNetwork,
    GaussianSmearing,
    InteractionBlock,
    MollifierCutoff,
    NoCutoff,
    PolynomialCutoff,
    Readout,
    Reference,
    ShiftedSoftplus,
    TensorLayer,
)
from pyg_schnet.nn.activation import activation
from pyg_schnet.ops import cosine_cutoff, polynomial_cutoff, shifted_softplus

Scramble = Callable[[nn.Module], nn.Module]


def edges(num_atoms: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Graph, distances and expanded distances [E, 6] of random atoms, the last one isolated."""
    pos = 3 * torch.rand(num_atoms, 3, dtype=torch.float64)
    pos[-1:] += 100.0
    edge_index = radius_graph(pos, 4.0).edge_index
    distance = (pos[edge_index[0]] - pos[edge_index[1]]).norm(dim=1).to(dtype)
    return edge_index, distance, torch.rand(edge_index.size(1), 6, dtype=dtype)


def conv_inputs(n: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    return (torch.randn(n, 5, dtype=dtype), *edges(n, dtype))


def readout_inputs(n: int, dtype: torch.dtype) -> tuple[Any, ...]:
    return torch.randn(n, 2, dtype=dtype), torch.arange(n) // 2, 4


def cfconv() -> CFConv:
    return CFConv(5, 8, 7, FilterNetwork(6, 7), cutoff=4.0)


def numbers(n: int, _: torch.dtype) -> tuple[Tensor]:
    return (torch.arange(n) % 9 + 1,)


def random(*shape: int) -> Callable[[int, torch.dtype], tuple[Tensor]]:
    return lambda n, dtype: (torch.randn(n, *shape, dtype=dtype),)


#: name: layer, its input for n atoms (or edges), shape of its output for n atoms ("E" for the number of edges)
LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[..., tuple], tuple[int, ...]]] = {
    "ShiftedSoftplus": (ShiftedSoftplus, random(3), (3,)),
    "GaussianSmearing": (lambda: GaussianSmearing(0.0, 4.0, 9), random(), (9,)),
    "CosineCutoff": (lambda: CosineCutoff(4.0), random(), ()),
    "MollifierCutoff": (lambda: MollifierCutoff(4.0), random(), ()),
    "PolynomialCutoff": (lambda: PolynomialCutoff(4.0, exponent=4), random(), ()),
    "BesselBasis": (lambda: BesselBasis(4.0, 9, trainable=True), random(), (9,)),
    "GaussianSmearing, trainable": (lambda: GaussianSmearing(0.0, 4.0, 9, trainable=True), random(), (9,)),
    "NoCutoff": (NoCutoff, random(), ()),
    "FilterNetwork": (lambda: FilterNetwork(6, 7), random(6), (7,)),
    "AtomEmbedding": (lambda: AtomEmbedding(9, 5), numbers, (5,)),
    "CFConv": (cfconv, conv_inputs, (8,)),
    "InteractionBlock": (lambda: InteractionBlock(5, 6, 7, cutoff=4.0), conv_inputs, (5,)),
    "TensorLayer": (lambda: TensorLayer(5, 7, 6, cutoff=4.0), conv_inputs, (5,)),
    "Atomwise": (lambda: Atomwise(6, 2), random(6), (2,)),
    "Readout": (lambda: Readout("mean"), readout_inputs, (2,)),
    "Reference": (lambda: Reference(9, mean=1.5, atomref=torch.rand(10)), numbers, (1,)),
}
every_layer = pytest.mark.parametrize("name", LAYERS)
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@every_dtype
@pytest.mark.parametrize("size", [7, 1, 0])
@every_layer
def test_shape_and_dtype(name: str, size: int, dtype: torch.dtype, device: torch.device, scramble: Scramble) -> None:
    """Also without any atom, and with a single one, which has no edge."""
    make, inputs, shape = LAYERS[name]
    layer = scramble(make()).to(device, dtype)
    given = [value.to(device) if isinstance(value, Tensor) else value for value in inputs(size, dtype)]
    y = layer(*given)
    assert y.shape == (4 if name == "Readout" else size, *shape)
    assert y.dtype == (torch.float64 if name == "Reference" else dtype)
    assert y.device.type == device.type
    assert torch.isfinite(y).all()


@every_layer
def test_state_survives_a_round_trip(name: str, scramble: Scramble) -> None:
    make, inputs, _ = LAYERS[name]
    layer, other = scramble(make()).double(), make().double()
    given = inputs(7, torch.float64)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(*given), layer(*given))


@every_layer
def test_float32_follows_float64(name: str, scramble: Scramble) -> None:
    make, inputs, _ = LAYERS[name]
    layer = scramble(make())
    given = inputs(7, torch.float32)
    y32 = layer(*given)
    wide = [value.double() if isinstance(value, Tensor) and value.is_floating_point() else value for value in given]
    # some ten roundings of numbers of order one to ten
    torch.testing.assert_close(y32.double(), layer.double()(*wide), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["FilterNetwork", "AtomEmbedding", "CFConv", "InteractionBlock", "TensorLayer", "Atomwise"]
)
def test_reset_draws_every_weight_anew(name: str) -> None:
    layer = LAYERS[name][0]()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(7.0)
    layer.reset_parameters()
    for key, parameter in layer.named_parameters():
        if key.endswith("bias"):
            assert not parameter.any(), key
        else:
            assert parameter.std() > 0.05, key
            assert parameter.abs().max() < 7.0, key


# --- Gaussian basis and cutoff ---


def test_gaussian_smearing_is_that_of_pyg() -> None:
    distance = torch.linspace(0, 12, 50)
    ours, theirs = GaussianSmearing(0.0, 10.0, 50), pyg.GaussianSmearing(0.0, 10.0, 50)
    assert torch.equal(ours.offset, theirs.offset)
    torch.testing.assert_close(ours(distance), theirs(distance), rtol=1e-6, atol=1e-30)  # one product; 1e-30 is zero


def test_trainable_bases_start_as_the_fixed_ones_and_go_back() -> None:
    distance = torch.linspace(0, 4, 9)
    for make in (lambda **kind: GaussianSmearing(0.0, 4.0, 7, **kind), lambda **kind: BesselBasis(4.0, 7, **kind)):
        fixed, learned = make(), make(trainable=True)
        assert torch.equal(learned(distance), fixed(distance))
        assert not list(fixed.parameters())
        learned(distance).square().sum().backward()
        for parameter in learned.parameters():
            assert parameter.grad.any()
            parameter.data.add_(0.1)
        assert not torch.equal(learned(distance), fixed(distance))
        learned.reset_parameters()
        assert torch.equal(learned(distance), fixed(distance))


def test_width_does_not_depend_on_the_default_dtype() -> None:
    expected = GaussianSmearing(0.0, 4.0, 13).gamma
    torch.set_default_dtype(torch.float64)
    try:
        assert GaussianSmearing(0.0, 4.0, 13).gamma == expected
    finally:
        torch.set_default_dtype(torch.float32)


def test_gaussian_smearing_grid_and_width() -> None:
    basis = GaussianSmearing(1.0, 3.0, 5, gamma=2.5).double()
    assert basis.offset.tolist() == [1.0, 1.5, 2.0, 2.5, 3.0]
    expected = [math.exp(-2.5 * (1.7 - mu) ** 2) for mu in (1.0, 1.5, 2.0, 2.5, 3.0)]
    assert basis(torch.tensor([1.7]).double()).flatten().tolist() == pytest.approx(expected, rel=1e-6)  # 1.7 in float32
    assert GaussianSmearing(0.0, 2.0, 5).gamma == 0.5 / 0.5**2
    assert not list(basis.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_gaussians": 1}, "`num_gaussians` must be at least 2, got 1"),
        ({"start": 2.0, "stop": 2.0}, "`stop` must be larger than `start`, got 2.0 and 2.0"),
        ({"stop": math.nan}, "`stop` must be larger than `start`, got nan and 0.0"),
        ({"gamma": 0.0}, "`gamma` must be positive, got 0.0"),
        ({"gamma": -1.0}, "`gamma` must be positive, got -1.0"),
        ({"gamma": math.nan}, "`gamma` must be positive, got nan"),
    ],
)
def test_impossible_basis_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GaussianSmearing(**arguments)


@pytest.mark.parametrize("cutoff", [0.0, -2.0, math.nan, math.inf])
@pytest.mark.parametrize("make", [CosineCutoff, lambda c: CFConv(4, 4, 4, FilterNetwork(4, 4), c)])
def test_impossible_cutoff_is_refused(make: Callable[[float], nn.Module], cutoff: float) -> None:
    with pytest.raises(ValueError, match=f"`cutoff` must be positive.*, got {cutoff}"):
        make(cutoff)


def test_cutoff_layers() -> None:
    distance = torch.linspace(0, 8, 20)
    assert torch.equal(CosineCutoff(5.0)(distance), cosine_cutoff(distance, 5.0))
    assert torch.equal(NoCutoff()(distance), torch.ones(20))
    assert "5.0" in repr(CosineCutoff(5.0))


@pytest.mark.parametrize("exponent", [1, 3, 6])
def test_exponent_of_the_polynomial_cutoff_counts(exponent: int) -> None:
    distance = torch.linspace(0, 6, 20)
    layer = PolynomialCutoff(5.0, exponent=exponent)
    assert torch.equal(layer(distance), polynomial_cutoff(distance, 5.0, exponent))
    assert torch.equal(layer(distance), PolynomialCutoff(5.0)(distance)) == (exponent == 6)


@pytest.mark.parametrize("exponent", [0, -1])
def test_impossible_exponent_is_refused(exponent: int) -> None:
    with pytest.raises(ValueError, match=f"`exponent` must be at least 1, got {exponent}"):
        PolynomialCutoff(5.0, exponent)


@pytest.mark.parametrize(
    ("name", "shift", "linear"),
    [("ssp", math.log(2), False), ("ssp-pyg", 0.6931471824645996, True), ("ssp-schnetpack", math.log(2), True)],
)
def test_softplus_of_other_packages(name: str, shift: float, linear: bool) -> None:
    """PyG rounds ln 2 to float32; PyG and SchNetPack take the softplus for x above 20, which is 1.2e-9 less."""
    x = torch.tensor([0.0, 19.5, 20.5], dtype=torch.float64)
    softplus = [math.log(2), 19.5 + math.log1p(math.exp(-19.5)), 20.5 + (0 if linear else math.log1p(math.exp(-20.5)))]
    expected = torch.tensor(softplus, dtype=torch.float64) - shift
    torch.testing.assert_close(activation(name)(x), expected, rtol=0, atol=1e-14)
    early = ShiftedSoftplus(shift=0.5, linear_from=1.0)(torch.tensor([2.0]))
    assert early.item() == 1.5


# --- filter network, embedding, readout network ---


@pytest.mark.parametrize("activate_last", [True, False])
def test_filter_network_in_closed_form(activate_last: bool, scramble: Scramble) -> None:
    network = scramble(FilterNetwork(6, 7, activate_last)).double()
    e = torch.randn(3, 6, dtype=torch.float64)
    first, second = (layer for layer in network if isinstance(layer, nn.Linear))
    y = torch.log(0.5 * torch.exp(e @ first.weight.t() + first.bias) + 0.5) @ second.weight.t() + second.bias
    y = torch.log(0.5 * torch.exp(y) + 0.5) if activate_last else y
    torch.testing.assert_close(network(e), y, rtol=1e-13, atol=1e-14)  # some twenty float64 operations


def test_filter_network_takes_another_activation() -> None:
    network = FilterNetwork(6, 7, activate_last=True, act=nn.Tanh()).double()
    y = network(100 * torch.randn(3, 6, dtype=torch.float64))
    assert (y.abs() <= 1).all()  # as no shifted softplus is
    assert (y < -math.log(2)).any()


def test_embedding_looks_up_rows_and_learns_only_those() -> None:
    embedding = AtomEmbedding(9, 4)
    y = embedding(torch.tensor([9, 1, 9]))
    assert torch.equal(y, embedding.weight[[9, 1, 9]])
    y.sum().backward()
    assert embedding.weight.grad.sum(1).tolist() == [0, 4, 0, 0, 0, 0, 0, 0, 0, 8]


@pytest.mark.parametrize(
    ("z", "error", "message"),
    [
        ([0, 1], ValueError, "`z` must hold atomic numbers from 1 to 9, got 0; remove such atoms"),
        ([-3, 1], ValueError, "`z` must hold atomic numbers from 1 to 9, got -3"),
        ([1, 10], ValueError, "`z` must hold atomic numbers from 1 to 9, got 10"),
        ([1.0, 6.0], TypeError, r"`z` must hold atomic numbers as int64 \[N\], got torch.float32"),
    ],
)
def test_impossible_atomic_number_is_refused(z: list[float], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        AtomEmbedding(9, 4)(torch.tensor(z))


def test_atomwise_in_closed_form() -> None:
    layer = Atomwise(4).double()
    with torch.no_grad():
        layer.lin1.weight.copy_(torch.tensor([[1.0, 2, 0, 0], [0, 0, 3, -1]]))
        layer.lin2.weight.copy_(torch.tensor([[5.0, 7.0]]))
        layer.lin2.bias.fill_(0.25)
    y = layer(torch.tensor([[1.0, 1, 1, 1]], dtype=torch.float64))
    expected = 5 * math.log(0.5 * math.exp(3) + 0.5) + 7 * math.log(0.5 * math.exp(2) + 0.5) + 0.25
    assert y.item() == pytest.approx(expected, rel=1e-15)  # a few roundings


# --- convolution ---


def test_cfconv_by_hand() -> None:
    """Identity everywhere but in the convolution: x_i = sum_j x_j w_ij C(d_ij) + b."""
    conv = CFConv(2, 2, 2, nn.Identity(), cutoff=4.0)
    with torch.no_grad():
        conv.lin1.weight.copy_(torch.eye(2))
        conv.lin2.weight.copy_(torch.eye(2))
        conv.lin2.bias.copy_(torch.tensor([0.5, -0.5]))
    edge_index = torch.tensor([[1, 2, 0], [0, 0, 2]])
    w = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    y = conv(torch.tensor([[1.0, 1], [10, 20], [100, 200]]), edge_index, torch.tensor([2.0, 0.0, 4.0]), w)
    # C(2) = 1/2, C(0) = 1, C(4) = 0
    expected = torch.tensor([[5 + 300 + 0.5, 20 + 800 - 0.5], [0.5, -0.5], [0.5, -0.5]])
    torch.testing.assert_close(y, expected, rtol=1e-6, atol=0)  # float32


def test_cfconv_equals_that_of_pyg(scramble: Scramble) -> None:
    network = FilterNetwork(6, 7, activate_last=False)
    ours = scramble(CFConv(5, 8, 7, network, cutoff=4.0)).double()
    theirs = pyg.CFConv(5, 8, 7, network, cutoff=4.0).double()
    theirs.load_state_dict(ours.state_dict())
    inputs = conv_inputs(12, torch.float64)
    # the same sums in another order; both share ln 2 through the network
    torch.testing.assert_close(ours(*inputs), theirs(*inputs), rtol=1e-12, atol=1e-13)


def test_cfconv_is_zero_beyond_the_cutoff_where_pyg_is_not(scramble: Scramble) -> None:
    conv = scramble(cfconv())
    x, edge_index, _, edge_attr = conv_inputs(5, torch.float32)
    y = conv(x, edge_index, torch.full((edge_index.size(1),), 6.0), edge_attr)
    assert torch.equal(y, conv.lin2.bias.expand(5, 8))


def test_isolated_atom_gets_the_bias_only(scramble: Scramble) -> None:
    conv = scramble(cfconv())
    inputs = conv_inputs(6, torch.float32)
    assert torch.equal(conv(*inputs)[5], conv.lin2.bias)
    assert not torch.equal(conv(*inputs)[0], conv.lin2.bias)


def test_general_message_passing_equals_the_fused_path(scramble: Scramble) -> None:
    conv = scramble(cfconv()).double()
    x, edge_index, edge_weight, edge_attr = conv_inputs(9, torch.float64)
    assert isinstance(conv, MessagePassing)
    features, w = conv.lin1(x), conv.filters(edge_weight, edge_attr)
    general = conv.lin2(conv.propagate(edge_index, x=features, w=w))
    torch.testing.assert_close(conv(x, edge_index, edge_weight, edge_attr), general, rtol=1e-13, atol=1e-14)  # order


def test_explainer_masks_messages(scramble: Scramble) -> None:
    """A mask of zeros and ones acts like leaving out the edges with zeros."""
    conv = scramble(cfconv()).double()
    x, edge_index, edge_weight, edge_attr = conv_inputs(7, torch.float64)
    kept = torch.arange(edge_index.size(1)) % 3 != 0
    set_masks(conv, nn.Parameter(kept.double()), edge_index, apply_sigmoid=False)
    masked = conv(x, edge_index, edge_weight, edge_attr)
    clear_masks(conv)
    expected = conv(x, edge_index[:, kept], edge_weight[kept], edge_attr[kept])
    torch.testing.assert_close(masked, expected, rtol=1e-13, atol=1e-14)  # order of the sums
    assert not torch.allclose(masked, conv(x, edge_index, edge_weight, edge_attr))


@pytest.mark.parametrize("explain", [False, True])
@pytest.mark.parametrize("make", [cfconv, lambda: InteractionBlock(5, 6, 7, cutoff=4.0)], ids=["CFConv", "block"])
def test_filters_by_pair_equal_filters_by_edge(make: Callable, explain: bool, scramble: Scramble) -> None:
    layer = scramble(make()).double()
    graph = radius_graph(3 * torch.rand(8, 3, dtype=torch.float64), 4.0)
    pairs, pair = graph.pairs()
    if explain:
        set_masks(layer, nn.Parameter(torch.rand(len(pair)).double()), graph.edge_index, apply_sigmoid=False)
    distance = 4 * torch.rand(len(pairs), dtype=torch.float64)
    attr = torch.rand(len(pairs), 6, dtype=torch.float64)
    x = torch.randn(8, 5, dtype=torch.float64)
    by_edge = layer(x, graph.edge_index, distance[pair], attr[pair])
    by_pair = layer(x, graph.edge_index, distance, attr, pair)
    torch.testing.assert_close(by_pair, by_edge, rtol=1e-13, atol=1e-14)  # matrix products of other shapes


@pytest.mark.parametrize("normalization", [None, "mean", "smooth"])
@pytest.mark.parametrize("explain", [False, True])
def test_bipartite_graph(explain: bool, normalization: str | None, scramble: Scramble) -> None:
    """Sources and targets of different kinds: the same as one graph that holds both, seen from the targets."""
    conv = scramble(CFConv(5, 8, 7, FilterNetwork(6, 7), cutoff=4.0, normalization=normalization)).double()
    x, edge_index = torch.randn(4, 5, dtype=torch.float64), torch.tensor([[0, 1, 2, 3, 0], [0, 0, 2, 1, 2]])
    weight, attr = 4 * torch.rand(5, dtype=torch.float64), torch.rand(5, 6, dtype=torch.float64)
    targets = torch.randn(3, 11, dtype=torch.float64)  # of another size: only their number counts
    if explain:
        set_masks(conv, nn.Parameter(torch.ones(5).double()), edge_index, apply_sigmoid=False)
    y = conv((x, targets), edge_index, weight, attr)
    clear_masks(conv)
    both = torch.cat([x, torch.zeros(3, 5, dtype=torch.float64)])
    expected = conv(both, edge_index + torch.tensor([[0], [4]]), weight, attr)[4:]
    torch.testing.assert_close(y, expected, rtol=1e-13, atol=1e-14)  # order of the sums


def test_bipartite_graph_needs_its_targets() -> None:
    with pytest.raises(TypeError, match="features of the targets are missing in `x`"):
        cfconv()((torch.rand(2, 5), None), torch.zeros(2, 1).long(), torch.rand(1), torch.rand(1, 6))
    assert repr(cfconv()) == "CFConv(5, 8)"


def test_heterogeneous_graph(scramble: Scramble) -> None:
    """In PyG's HeteroConv, every relation has its own filters; results at the same target are added."""
    relations = {("a", "to", "b"): (5, 4, 3), ("b", "near", "b"): (6, 3, 3), ("b", "back", "a"): (6, 3, 4)}
    convs = {relation: CFConv(c, 8, 7, FilterNetwork(6, 7), cutoff=4.0) for relation, (c, *_) in relations.items()}
    model = scramble(HeteroConv(convs)).double()
    x = {"a": torch.randn(4, 5, dtype=torch.float64), "b": torch.randn(3, 6, dtype=torch.float64)}
    index, weight, attr = {}, {}, {}
    for relation, (_, sources, targets) in relations.items():
        index[relation] = torch.stack([torch.randint(sources, (9,)), torch.randint(targets, (9,))])
        weight[relation] = 4 * torch.rand(9, dtype=torch.float64)
        attr[relation] = torch.rand(9, 6, dtype=torch.float64)
    y = model(x, index, edge_weight_dict=weight, edge_attr_dict=attr)
    expected = {"a": 0.0, "b": 0.0}
    for (kind, name, target), conv in convs.items():
        edges = (kind, name, target)
        both = x[kind] if kind == target else (x[kind], x[target])
        expected[target] = expected[target] + conv(both, index[edges], weight[edges], attr[edges])
    for kind in ("a", "b"):
        torch.testing.assert_close(y[kind], expected[kind], rtol=1e-13, atol=1e-14)


def test_derivatives_of_the_convolution(scramble: Scramble) -> None:
    conv = scramble(cfconv()).double()
    basis = GaussianSmearing(0.0, 4.0, 6).double()
    x, edge_index, distance, _ = conv_inputs(4, torch.float64)

    def forward(x: Tensor, distance: Tensor) -> Tensor:
        return conv(x, edge_index, distance, basis(distance))

    inputs = (x.requires_grad_(), distance.requires_grad_())
    assert torch.autograd.gradcheck(forward, inputs)
    assert torch.autograd.gradgradcheck(forward, inputs)


def test_convolution_in_a_pyg_sequential_beside_another_layer(scramble: Scramble) -> None:
    conv, gat = scramble(cfconv()), scramble(GATConv(8, 4))
    model = Sequential(
        "x, edge_index, edge_weight, edge_attr",
        [(conv, "x, edge_index, edge_weight, edge_attr -> x"), nn.Tanh(), (gat, "x, edge_index -> x")],
    )
    x, edge_index, edge_weight, edge_attr = conv_inputs(6, torch.float32)
    expected = gat(conv(x, edge_index, edge_weight, edge_attr).tanh(), edge_index)
    assert torch.equal(model(x, edge_index, edge_weight, edge_attr), expected)


def test_any_module_makes_filters_and_cutoffs() -> None:
    class Half(nn.Module):
        def forward(self, distance: Tensor) -> Tensor:
            return torch.full_like(distance, 0.5)

    network = nn.Linear(6, 7)
    conv, plain = CFConv(5, 8, 7, network, cutoff=Half()), CFConv(5, 8, 7, network)
    _, _, distance, attr = conv_inputs(5, torch.float32)
    assert torch.equal(conv.filters(distance, attr), 0.5 * network(attr))
    assert torch.equal(plain.filters(distance, attr), network(attr))
    conv.reset_parameters()  # nn.Linear knows how


# --- interaction block ---


def test_interaction_block_is_the_chain_of_figure_1(scramble: Scramble) -> None:
    block = scramble(InteractionBlock(5, 6, 7, cutoff=4.0)).double()
    x, edge_index, distance, attr = conv_inputs(6, torch.float64)
    w = block.conv.nn(attr) * cosine_cutoff(distance, 4.0)[:, None]
    y = torch.zeros(6, 7, dtype=torch.float64)
    for e, (j, i) in enumerate(edge_index.t().tolist()):
        y[i] += (x[j] @ block.conv.lin1.weight.t()) * w[e]
    y = shifted_softplus(y @ block.conv.lin2.weight.t() + block.conv.lin2.bias)
    expected = y @ block.lin.weight.t() + block.lin.bias
    torch.testing.assert_close(block(x, edge_index, distance, attr), expected, rtol=1e-12, atol=1e-13)  # order


@pytest.mark.parametrize("activate_last", [True, False])
def test_interaction_block_equals_that_of_pyg(activate_last: bool, scramble: Scramble) -> None:
    """The same weights; with the papers' second activation it must differ."""
    ours = scramble(InteractionBlock(5, 6, 7, 4.0, activate_last, ShiftedSoftplus(float(torch.tensor(2.0).log()))))
    theirs = pyg.InteractionBlock(5, 6, 7, 4.0)
    names = {"conv.nn.0": "mlp.0", "conv.nn.2": "mlp.2", "conv.lin1": "conv.lin1", "conv.lin2": "conv.lin2"}
    for ours_name, theirs_name in (names | {"lin": "lin"}).items():
        theirs.get_submodule(theirs_name).load_state_dict(ours.get_submodule(ours_name).state_dict())
    inputs = conv_inputs(6, torch.float64)
    y, y_pyg = ours.double()(*inputs), theirs.double()(*inputs)
    assert torch.allclose(y, y_pyg, rtol=1e-12, atol=1e-13) is not activate_last  # order of sums


@pytest.mark.parametrize("column", [False, True], ids=["[E]", "[E, 1]"])
def test_the_same_calls_as_in_pyg_give_the_same(column: bool, scramble: Scramble) -> None:
    """Layers by their first arguments, nothing else said."""
    distance = 3.9 * torch.rand(9, dtype=torch.float64)  # PyG's cutoff function rises again beyond the cutoff
    distance = distance.unsqueeze(1) if column else distance
    x, edge_index = torch.rand(4, 5, dtype=torch.float64), torch.randint(4, (2, 9))
    ours, theirs = GaussianSmearing(0.0, 4.0, 6).double(), pyg.GaussianSmearing(0.0, 4.0, 6).double()
    attr = theirs(distance)
    torch.testing.assert_close(ours(distance), attr, rtol=1e-13, atol=1e-13)
    block, other = scramble(InteractionBlock(5, 6, 7, 4.0)).double(), pyg.InteractionBlock(5, 6, 7, 4.0).double()
    names = [name.replace("conv.nn.", "mlp.") for name, _ in block.named_parameters()]
    weights = dict(zip(names, block.state_dict().values(), strict=True))
    other.load_state_dict(weights | {name.replace("mlp.", "conv.nn."): value for name, value in weights.items()})
    expected = other(x, edge_index, distance, attr)
    # PyG rounds the ln 2 of its ssp to float32
    torch.testing.assert_close(block(x, edge_index, distance, attr), expected, rtol=1e-6, atol=1e-6)
    conv = pyg.CFConv(5, 8, 7, block.conv.nn, 4.0).double()
    mine = CFConv(5, 8, 7, block.conv.nn, 4.0).double()
    conv.load_state_dict(mine.state_dict())
    torch.testing.assert_close(
        mine(x, edge_index, distance, attr), conv(x, edge_index, distance, attr), rtol=1e-13, atol=1e-13
    )


def test_layers_and_model_have_the_same_defaults() -> None:
    model = SchNet(6, 5, 1, 8, 4.0)
    block: Any = model.interactions[0]
    same = InteractionBlock(6, 8, 5, 4.0)
    assert repr(same) == repr(block)
    assert repr(FilterNetwork(8, 5)) == repr(block.conv.nn)
    assert repr(GaussianSmearing(0.0, 4.0, 8)) == repr(model.basis)
