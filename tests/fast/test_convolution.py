"""The convolution against double loops, finite differences, identities, and SchNet with exact filters."""

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from pyg_schnet import Potential, SchNet, fast
from pyg_schnet.fast.bspline import FilterTable, evaluate, spline_weights
from pyg_schnet.fast.convolution import to_edges, to_nodes, to_table
from pyg_schnet.fast.knots import knot_spacing
from pyg_schnet.fast.spline import filter_table
from pyg_schnet.graph import Edges

START, SPACING, SIZE = 1.0, 0.4, 11
N, M, E, F = 5, 4, 8, 2


class Case:
    """Five targets, the last without edges, four sources, eight edges, one of them twice; float64."""

    def __init__(self, symmetric: bool = False) -> None:
        self.symmetric, kind = symmetric, {"dtype": torch.float64}
        self.g, self.x = torch.randn(N, F, **kind), torch.randn(N if symmetric else M, F, **kind)
        self.c, self.d = torch.randn(SIZE, F, **kind), 1.0 + 2.3 * torch.rand(E, **kind)
        self.s = torch.randn(E, **kind)
        self.edge_index = torch.tensor([[1, 3, 0, 2, 3, 0, 3, 2], [0, 0, 1, 3, 2, 3, 0, 2]])

    @property
    def table(self) -> FilterTable:
        return FilterTable(self.c, START, SPACING)

    def nodes(self, x: Tensor, c: Tensor, d: Tensor, s: Tensor | None, order: int = 0) -> Tensor:
        return to_nodes(x, FilterTable(c, START, SPACING), d, self.edge_index, N, s, order, self.symmetric)

    def edges(self, g: Tensor, x: Tensor, c: Tensor, d: Tensor, s: Tensor | None, order: int = 0) -> Tensor:
        return to_edges(g, x, FilterTable(c, START, SPACING), d, self.edge_index, s, order, self.symmetric)

    def to_table(self, g: Tensor, x: Tensor, d: Tensor, s: Tensor | None, order: int = 0) -> Tensor:
        return to_table(g, x, d, self.edge_index, SIZE, START, SPACING, s, order, self.symmetric)

    def all(self, order: int = 0) -> dict[str, tuple[Callable[..., Tensor], tuple[Any, ...]]]:
        g, x, c, d, s = self.g, self.x, self.c, self.d, self.s
        return {
            "nodes": (self.nodes, (x, c, d, s, order)),
            "edges": (self.edges, (g, x, c, d, s, order)),
            "table": (self.to_table, (g, x, d, s, order)),
        }


@contextlib.contextmanager
def by(way: str) -> Iterator[None]:
    """By compiled loops or, as on machines without Numba, by their twins."""
    if way == "loops":
        pytest.importorskip("numba")
    with fast.without(*["compiled loops"] * (way == "twins")):
        yield


@pytest.fixture(params=["loops", "twins"])
def _ways(request: pytest.FixtureRequest) -> Iterator[None]:
    with by(request.param):
        yield


@pytest.mark.usefixtures("_ways")
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("order", range(4))
def test_equal_loops_over_edges(symmetric: bool, order: int) -> None:
    case = Case(symmetric)
    y, a, table = torch.zeros(N, F), torch.zeros(E), torch.zeros(SIZE, F)
    y, a, table = y.double(), a.double(), table.double()
    w = evaluate(case.table, case.d, order)
    row, b = spline_weights(case.d, SIZE, START, SPACING, order)
    for e, (j, i) in enumerate(case.edge_index.t().tolist()):
        for target, source in [(i, j), (j, i)] if symmetric else [(i, j)]:
            y[target] += case.s[e] * case.x[source] * w[e]
            h = case.g[target] * case.x[source]
            a[e] += case.s[e] * (h * w[e]).sum()
            table[row[e] : row[e] + 6] += case.s[e] * b[e].unsqueeze(1) * h
    for (function, given), expected in zip(case.all(order).values(), (y, a, table), strict=True):
        # sums of some ten products of size h^-p
        torch.testing.assert_close(function(*given), expected, rtol=0, atol=1e-14 * 6.0**order)


@pytest.mark.parametrize("name", ["nodes", "edges", "table"])
@pytest.mark.parametrize(
    ("way", "order", "symmetric"),
    [("loops", order, symmetric) for order in range(4) for symmetric in (False, True)] + [("twins", 1, True)],
)
def test_first_and_second_derivatives(name: str, way: str, order: int, symmetric: bool) -> None:
    """The fifth derivative jumps at the knots: distances keep away from them."""
    case = Case(symmetric)
    case.d = START + SPACING * (torch.randint(0, 6, (E,)) + 0.2 + 0.6 * torch.rand(E)).double()
    function, given = case.all(order)[name]
    for value in given[:-1]:
        value.requires_grad_()
    with by(way):
        assert torch.autograd.gradcheck(function, given)
        assert torch.autograd.gradgradcheck(function, given)


@pytest.mark.parametrize("name", ["nodes", "table"])
def test_derivatives_without_weights(name: str) -> None:
    case = Case()
    function, given = case.all()[name]
    given = tuple(None if value is case.s else value for value in given)
    for value in given[:-1]:
        if value is not None:
            value.requires_grad_()
    assert torch.autograd.gradcheck(function, given)
    assert torch.autograd.gradgradcheck(function, given)


@pytest.mark.parametrize("order", range(3))
def test_all_are_gradients_of_one_form(order: int) -> None:
    case = Case()
    for value in (case.g, case.x, case.c, case.d, case.s):
        value.requires_grad_()
    results = {name: function(*given) for name, (function, given) in case.all(order).items()}
    form = results["edges"].sum()
    # 24 products of size h^-p
    for other in ((results["nodes"] * case.g).sum(), (results["table"] * case.c).sum()):
        torch.testing.assert_close(form, other, rtol=1e-12, atol=1e-13 * 6.0**order)
    dg, dc, dd, ds = torch.autograd.grad(form, (case.g, case.c, case.d, case.s))
    torch.testing.assert_close(dg, results["nodes"])
    torch.testing.assert_close(dc, results["table"])
    torch.testing.assert_close(dd, case.edges(case.g, case.x, case.c, case.d, case.s, order + 1))
    torch.testing.assert_close(ds, case.edges(case.g, case.x, case.c, case.d, None, order))


@pytest.mark.parametrize("order", range(2))
def test_symmetric_is_both_directions(order: int) -> None:
    case = Case(symmetric=True)
    once = {name: function(*given) for name, (function, given) in case.all(order).items()}
    case.symmetric = False
    forth = {name: function(*given) for name, (function, given) in case.all(order).items()}
    case.edge_index = case.edge_index.flip(0)
    for name, (function, given) in case.all(order).items():
        torch.testing.assert_close(once[name], forth[name] + function(*given))


def test_order_of_edges_does_not_matter() -> None:
    case, order = Case(), torch.randperm(E)
    before = case.nodes(case.x, case.c, case.d, case.s)
    case.edge_index = case.edge_index[:, order]
    torch.testing.assert_close(case.nodes(case.x, case.c, case.d[order], case.s[order]), before)


@pytest.mark.usefixtures("_ways")
def test_no_edges_no_nodes_no_features() -> None:
    table, none = FilterTable(torch.randn(SIZE, F), START, SPACING), torch.zeros(2, 0, dtype=torch.long)
    x, d = torch.randn(3, F, requires_grad=True), torch.zeros(0, requires_grad=True)
    assert torch.equal(to_nodes(x, table, d, none, 4), torch.zeros(4, F))
    assert to_edges(x, x, table, d, none).shape == (0,)
    assert torch.equal(to_table(x, x, d, none, SIZE, START, SPACING), torch.zeros(SIZE, F))
    assert to_nodes(x[:0], table, d, none, 0).shape == (0, F)
    dx, dd = torch.autograd.grad(to_nodes(x, table, d, none, 4).sum(), (x, d))
    assert torch.equal(dx, torch.zeros(3, F))
    assert dd.shape == (0,)


def test_bad_shapes_are_named() -> None:
    case = Case()
    with pytest.raises(ValueError, match=r"must be \[N, F\] and \[K, F\], got \[4, 1\]"):
        case.nodes(case.x[:, :1], case.c, case.d, None)
    with pytest.raises(ValueError, match=r"`distance` .* got \[\[2, 8\], \[7\]\]"):
        case.nodes(case.x, case.c, case.d[:7], None)
    case.symmetric = True
    with pytest.raises(ValueError, match="`symmetric` needs the same atoms"):
        case.nodes(case.x, case.c, case.d, None)
    with pytest.raises(TypeError, match="one dtype, got"):
        Case().nodes(case.x.float(), case.c, case.d, None)


@pytest.mark.parametrize("name", ["nodes", "edges", "table"])
def test_operations_for_compilers(name: str) -> None:
    case = Case(symmetric=True)
    target, source, at = case.edge_index[1], case.edge_index[0], (START, SPACING, 0, True)
    g, x, c, d, s = (value.requires_grad_() for value in (case.g, case.x, case.c, case.d, case.s))
    given: tuple[Any, ...] = {
        "nodes": (x, c, d, s, target, source, N, *at),
        "edges": (g, x, c, d, None, target, source, *at),
        "table": (g, x, d, s, target, source, SIZE, *at),
    }[name]
    operation = getattr(torch.ops.pyg_schnet, f"trilinear_{name}").default
    torch.library.opcheck(operation, given, test_utils=("test_schema", "test_autograd_registration", "test_faketensor"))


def test_compiles_without_graph_breaks() -> None:
    case = Case()
    plain = case.nodes(case.x, case.c, case.d, case.s)
    compiled = torch.compile(case.nodes, fullgraph=True, backend="eager")
    assert torch.equal(compiled(case.x, case.c, case.d, case.s), plain)


def test_compiled_gradients() -> None:
    case = Case(symmetric=True)
    given = [value.requires_grad_() for value in (case.x, case.c, case.d, case.s)]
    expected = torch.autograd.grad(case.nodes(*given).square().sum(), given)
    compiled = torch.compile(case.nodes, fullgraph=True, backend="aot_eager")
    for result, value in zip(torch.autograd.grad(compiled(*given).square().sum(), given), expected, strict=True):
        torch.testing.assert_close(result, value)


class TabulatedSchNet(SchNet):
    """SchNet whose filters are read from tables that are made anew in each call."""

    def represent(self, z: Tensor, edges: Edges) -> Tensor:
        d = edges.edge_weight
        low, high = (float(end) for end in d.detach().aminmax())
        x, basis = self.embedding(z), copy.deepcopy(self.basis).double()
        for block in self.interactions:
            conv = block.conv

            def filters(knots: Tensor, network: nn.Module = conv.nn) -> Tensor:
                weights = {name: value.double() for name, value in network.named_parameters()}
                return functional_call(network, weights, basis(knots))

            table = filter_table(filters, low, high, knot_spacing(gamma=float(self.basis.gamma)), d.dtype)
            h = to_nodes(conv.lin1(x), table, d, edges.pair_index, x.size(0), conv.cutoff(d), symmetric=True)
            x = x + block.lin(block.act(conv.lin2(h)))
        return x


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("preset", ["jcp2018", "pyg", "schnetpack"])
def test_schnet_with_tables_is_schnet(preset: str, dtype: torch.dtype, molecules: Any) -> None:
    """Energies, forces, and the gradients of a loss of both."""
    sizes = {"hidden_channels": 32, "num_filters": 24, "num_interactions": 3}
    exact, tabulated = SchNet.preset(preset, **sizes).double(), TabulatedSchNet(**SchNet.preset(preset, **sizes).config)
    tabulated.load_state_dict(exact.state_dict())
    target = torch.randn(molecules.pos.shape, dtype=torch.float64)
    results = []
    for model, kind in ((exact, torch.float64), (tabulated, dtype)):
        out = Potential(model.to(kind).train())(molecules.z, molecules.pos.to(kind), molecules.batch)
        loss = (out["forces"] - target.to(kind)).square().sum() + 0.01 * out["energy"].square().sum().to(kind)
        slopes = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
        flat = torch.cat([slope.flatten() for slope in slopes if slope is not None])
        results.append({"energy": out["energy"], "forces": out["forces"], "gradients": flat})
    # the accuracy that is promised: room for rounding in float32 (forces some 1e-6); in float64 the spline errs by 1e-7
    for name, limit in {"energy": 1e-6, "forces": 1e-5, "gradients": 1e-4}.items():
        expected, result = results[0][name].detach(), results[1][name].detach().double()
        assert float((result - expected).norm() / expected.norm()) < limit, name


def test_hessian_with_tables_is_exact(molecules: Any) -> None:
    sizes = {"hidden_channels": 16, "num_filters": 12, "num_interactions": 2}
    exact = SchNet.preset("schnetpack", **sizes).double()
    tabulated = TabulatedSchNet(**exact.config).double()
    tabulated.load_state_dict(exact.state_dict())
    for expected, result in zip(
        *(Potential(model.eval()).hessian(molecules.z, molecules.pos, molecules.batch) for model in (exact, tabulated)),
        strict=True,
    ):
        # the second derivative of the spline: 1e-5 of that of the filters
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
