"""Splines against polynomials, derivatives and the filter networks they stand for."""

import functools
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from pyg_schnet import FilterNetwork, fast
from pyg_schnet.fast.bspline import FilterTable, evaluate
from pyg_schnet.fast.knots import EXTRA_KNOTS, WITHOUT_SLOPES, knot_spacing
from pyg_schnet.fast.spline import filter_table, interpolate, interpolation, system_rows
from pyg_schnet.ops import cosine_cutoff, gaussian_basis

EPS = torch.finfo(torch.float64).eps


def random_table(size: int = 14, features: int = 3) -> FilterTable:
    return FilterTable(torch.randn(size, features, dtype=torch.float64), start=0.7, spacing=0.2)


def network(gaussians: int, cutoff: float, gamma: float | None, activate_last: bool) -> Callable[[Tensor], Tensor]:
    """A filter network with Glorot weights as a function of the distance."""
    centers = torch.linspace(0, cutoff, gaussians, dtype=torch.float64)
    gamma = 0.5 / float(centers[1]) ** 2 if gamma is None else gamma
    filters = FilterNetwork(gaussians, 64, activate_last).double().requires_grad_(False)
    return lambda d: filters(gaussian_basis(d, centers, gamma))


def slope(function: Callable[[Tensor], Tensor], d: Tensor) -> Tensor:
    return torch.autograd.functional.jvp(function, d, torch.ones_like(d))[1]


@pytest.mark.parametrize("number", [8, 9, 60])
def test_meets_values_at_knots(number: int) -> None:
    values = torch.randn(number, 2, dtype=torch.float64)
    table = FilterTable(interpolate(values), start=-1.0, spacing=0.3)
    assert table.stop == pytest.approx(-1.0 + 0.3 * (number - 1), rel=1e-14)
    knots = -1.0 + 0.3 * torch.arange(number, dtype=torch.float64)
    # the system's condition is some 1e3 at the ends
    torch.testing.assert_close(evaluate(table, knots), values, rtol=0, atol=1e-11)


@pytest.mark.parametrize("order", range(6))
def test_polynomials_of_degree_five_are_exact_up_to_and_beyond_the_ends(order: int) -> None:
    powers = torch.tensor([0.3, -1.0, 0.5, 0.25, -0.7, 0.2], dtype=torch.float64)

    def polynomial(d: Tensor, order: int = 0) -> Tensor:
        terms = [math.perm(k, order) * powers[k] * d ** (k - order) for k in range(order, 6)]
        return torch.stack(terms).sum(0).unsqueeze(1)

    table = FilterTable(interpolate(polynomial(0.5 * torch.arange(10, dtype=torch.float64))), 0.0, 0.5)
    d = torch.linspace(-0.3, 4.8, 57, dtype=torch.float64)
    # values of up to 500 at the ends, rounded; each derivative divides the error by the spacing
    torch.testing.assert_close(evaluate(table, d, order), polynomial(d, order), rtol=1e-9, atol=1e-9 * 4**order)


def test_derivatives_are_those_of_autograd() -> None:
    table, d = random_table(), (0.5 + 2.4 * torch.rand(20, dtype=torch.float64)).requires_grad_()
    value = evaluate(table, d)
    for order in range(1, 7):
        (value,) = torch.autograd.grad(value[:, 1].sum(), d, create_graph=True)
        expected = evaluate(table, d, order)
        # sums of six terms of size h^-p
        torch.testing.assert_close(value, expected[:, 1], rtol=0, atol=50 * EPS * 5.0**order * 10)
        value = expected


@pytest.mark.parametrize("order", range(5))
def test_four_derivatives_are_continuous(order: int) -> None:
    table = random_table()
    knots = 0.7 + 0.2 * torch.arange(1, 9, dtype=torch.float64)
    left, right = evaluate(table, knots - 1e-9, order), evaluate(table, knots + 1e-9, order)
    # the next derivative is some h^-(p + 1) times 10, over 2e-9
    torch.testing.assert_close(left, right, rtol=0, atol=2e-9 * 5.0 ** (order + 1) * 100)


def test_gradients() -> None:
    table, d = random_table(), 0.8 + 2 * torch.rand(5, dtype=torch.float64)

    def of_values(values: Tensor, d: Tensor) -> Tensor:
        return evaluate(FilterTable(interpolate(values), table.start, table.spacing), d, order=1)

    inputs = (torch.randn(12, 2, dtype=torch.float64, requires_grad=True), d.requires_grad_())
    assert torch.autograd.gradcheck(of_values, inputs)
    assert torch.autograd.gradgradcheck(of_values, inputs)


@pytest.fixture(params=["loops", "dense"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """With Numba, and as if there were none."""
    if request.param == "loops":
        pytest.importorskip("numba")
    with fast.without(*["compiled loops"] * (request.param == "dense")):
        yield request.param


def system(number: int) -> Tensor:
    """The whole matrix."""
    matrix = torch.zeros(number + 4, number + 16, dtype=torch.float64)
    for row, numbers in enumerate(system_rows(number)):
        matrix[row, row : row + 13] = torch.tensor(numbers, dtype=torch.float64)
    return matrix[:, 6:-6]


def largest(x: Tensor) -> float:
    return float(x.detach().abs().max()) if x.numel() else 0.0


def test_system() -> None:
    matrix = system(9)
    values = torch.tensor([1, 26, 66, 26, 1], dtype=torch.float64) / 120
    jump = torch.tensor([1, -6, 15, -20, 15, -6, 1], dtype=torch.float64) / 20
    for row in range(13):
        first, numbers = (row - 2, values) if 2 <= row < 11 else (row if row < 2 else row - 6, jump)
        expected = torch.zeros(13, dtype=torch.float64)
        expected[first : first + len(numbers)] = numbers
        assert torch.equal(matrix[row], expected)


@pytest.mark.parametrize("number", [8, 9, 10, 11, 12, 13, 15, 16, 17, 20, 63, 340, 600])
@pytest.mark.parametrize("shape", [(1,), (16,), (37,), (3, 32), (2, 2, 5), (0,), (0, 7)], ids=str)
def test_solves_the_system(number: int, shape: tuple[int, ...], way: str) -> None:
    *many, columns = shape
    values = torch.randn(*many, number, columns, dtype=torch.float64, requires_grad=True)
    coefficients = interpolate(values)
    ends = values.new_zeros(*many, 2, columns)
    right = torch.cat([ends, values.detach(), ends], dim=-2)
    assert coefficients.shape == right.shape
    expected = torch.linalg.solve(system(number), right)
    torch.testing.assert_close(coefficients, expected, rtol=0, atol=5e-14 * largest(expected))
    g = torch.randn_like(coefficients)
    (slope,) = torch.autograd.grad(coefficients, values, g)
    expected = torch.linalg.solve(system(number).T, g)[..., 2:-2, :]
    torch.testing.assert_close(slope, expected, rtol=0, atol=5e-14 * largest(expected))


@pytest.mark.parametrize("columns", [3, 16])
@pytest.mark.parametrize("number", [8, 19])
def test_gradients_of_the_solution(number: int, columns: int, way: str) -> None:
    values = torch.randn(2, number, columns, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(interpolate, values, fast_mode=True)
    assert torch.autograd.gradgradcheck(interpolate, values, fast_mode=True)


def test_loops_and_dense_agree_to_round_off() -> None:
    pytest.importorskip("numba")
    values = torch.randn(336, 6, 48, dtype=torch.float64).transpose(0, 1)[:, :, ::2]  # not contiguous
    ours = interpolate(values), interpolate(values, torch.float32)
    with fast.without("compiled loops"):
        expected = interpolate(values)
    assert (ours[0] - expected).abs().max() <= 1e-14 * expected.abs().max()
    assert ours[1].dtype == torch.float32
    torch.testing.assert_close(ours[1], expected.float(), rtol=1.2e-7, atol=1e-12)  # rounded at the other side
    assert all(one.is_contiguous() for one in ours)


def test_kinds_of_coefficients_and_of_gradients(way: str) -> None:
    values = torch.randn(12, 5, dtype=torch.float64, requires_grad=True)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        coefficients = interpolate(values, dtype)
        assert coefficients.dtype == dtype
        (slope,) = torch.autograd.grad(coefficients, values, torch.ones_like(coefficients))
        matrix = interpolation(12)
        rounding = len(matrix) * EPS * float(matrix.abs().sum(0).max())  # of a sum in any order
        torch.testing.assert_close(slope, matrix.sum(0).unsqueeze(1).expand(-1, 5), rtol=0, atol=rounding)
    single = values.detach().float()
    assert interpolate(single).dtype == torch.float32
    torch.testing.assert_close(interpolate(single), interpolate(single.double()).float(), rtol=0, atol=2e-4)


def test_what_loops_do_not_know_goes_the_dense_way() -> None:
    """Transforms of ``torch.func``, forward derivatives, gradients of many at once."""
    values, matrix = torch.randn(12, 5, dtype=torch.float64), interpolation(12)
    close = functools.partial(torch.testing.assert_close, rtol=0, atol=1e-9)  # 16 numbers up to 1e5, twice
    close(torch.func.vmap(interpolate)(values.expand(2, -1, -1)), (matrix @ values).expand(2, -1, -1))
    close(torch.func.grad(lambda v: interpolate(v).square().sum())(values), 2 * matrix.T @ matrix @ values)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(values, 2 * values)
        close(torch.autograd.forward_ad.unpack_dual(interpolate(dual)).tangent, 2 * matrix @ values)
    values.requires_grad_()
    many = torch.randn(3, 16, 5, dtype=torch.float64)
    (slopes,) = torch.autograd.grad(interpolate(values), values, many, is_grads_batched=True)
    close(slopes, matrix.T @ many)


def test_effect_of_a_value_decays() -> None:
    row = interpolation(101)[52].abs()  # middle
    # the largest root of the quintic spline's characteristic polynomial
    assert float(row[65] / row[64]) == pytest.approx(0.4306, abs=1e-3)


def test_nan_stays_nan() -> None:
    value = evaluate(random_table(), torch.tensor([math.nan, 1.0], dtype=torch.float64))
    assert value[0].isnan().all()
    assert value[1].isfinite().all()


def test_no_distances() -> None:
    assert evaluate(random_table(), torch.zeros(0, dtype=torch.float64)).shape == (0, 3)


def test_knots_are_multiples_of_the_spacing() -> None:
    seen = []

    def function(knots: Tensor) -> Tensor:
        seen.append(knots)
        return knots.unsqueeze(1).float()

    table = filter_table(function, 1.03, 1.71, spacing=0.1)
    expected = 0.1 * torch.arange(10 - EXTRA_KNOTS, 18 + EXTRA_KNOTS + 1, dtype=torch.float64)
    torch.testing.assert_close(seen[0], expected, rtol=0, atol=1e-15)
    assert table.start == pytest.approx(0.6)
    assert table.stop == pytest.approx(2.2)
    assert table.coefficients.dtype == torch.float32
    assert filter_table(function, 1.0, 2.0, 0.1, torch.float64).coefficients.dtype == torch.float64


@pytest.mark.parametrize(
    ("gaussians", "cutoff", "gamma", "activate_last"),
    [(200, 20.0, 10.0, True), (50, 10.0, None, False), (20, 5.0, None, False)],
    ids=["papers", "pyg", "schnetpack"],
)
@pytest.mark.parametrize(
    ("finest", "value", "first"),
    [(1.0, 3e-8, 1e-6), (1.5, 3e-7, 6e-6), (WITHOUT_SLOPES, 7e-7, 1.3e-5), (2.0, 1.2e-6, 2.5e-5)],
)
def test_error_against_filter_networks(
    gaussians: int, cutoff: float, gamma: float | None, activate_last: bool, finest: float, value: float, first: float
) -> None:
    """Largest errors, in units of the standard deviations of W and dW/dd; some twice what was found for any basis."""
    exact = network(gaussians, cutoff, gamma, activate_last)
    width = cutoff / (gaussians - 1) if gamma is None else (2 * gamma) ** -0.5
    spacing = finest * knot_spacing(gamma=0.5 / width**2)
    assert spacing == pytest.approx(finest * width / 10)
    high = min(cutoff, 10.0)
    d = torch.linspace(0.8, high, 4001, dtype=torch.float64)
    w, dw = exact(d), slope(exact, d)
    table = filter_table(exact, 0.8, high, spacing)
    assert float((evaluate(table, d) - w).abs().max() / w.std()) < value
    assert float((evaluate(table, d, 1) - dw).abs().max() / dw.std()) < first
    rounded = table._replace(coefficients=table.coefficients.float().double())
    # rounding of coefficients to float32: 6e-8 of the largest, divided by the spacing in the derivative
    assert float((evaluate(rounded, d) - w).abs().max() / w.std()) < value + 4e-7
    assert float((evaluate(rounded, d, 1) - dw).abs().max() / dw.std()) < first + 6e-6


def test_error_falls_with_the_sixth_power() -> None:
    exact, d = network(20, 5.0, None, False), torch.linspace(1.0, 5.0, 2001, dtype=torch.float64)
    off = [float((evaluate(filter_table(exact, 1.0, 5.0, h), d) - exact(d)).abs().max()) for h in (0.08, 0.04)]
    assert off[0] / off[1] > 2**5


def test_cutoff_function_is_better_not_tabulated() -> None:
    """The second derivative of the cosine jumps at the cutoff; a spline through it is wrong nearby.

    Continued as a cosine beyond the cutoff, with a knot at the cutoff, it is exact up to there. As a factor of its own
    (``weight`` of the operations), any cutoff function is exact.
    """
    bare, cutoff, spacing = network(20, 5.0, None, False), 5.0, 0.025
    d = torch.linspace(4.0, 5.0, 1001, dtype=torch.float64)

    def ends(d: Tensor) -> Tensor:
        return bare(d) * cosine_cutoff(d, cutoff).unsqueeze(1)

    def continues(d: Tensor) -> Tensor:
        return bare(d) * 0.5 * (torch.cos(d * (math.pi / cutoff)) + 1).unsqueeze(1)

    off = []
    for function in (ends, continues):
        table = filter_table(function, 4.0, cutoff, spacing)
        off.append(float((evaluate(table, d, 1) - slope(ends, d)).abs().max() / slope(bare, d).std()))
    # found: 7e-4 of the standard deviation of the derivative of the filter itself, against 7e-8
    assert off[0] > 1e-4
    assert off[1] < 1e-6


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="`spacing` must be positive, got 0.0"):
        filter_table(torch.sin, 0.0, 1.0, 0.0)
    with pytest.raises(ValueError, match="finite interval, got 2.0 and 1.0"):
        filter_table(torch.sin, 2.0, 1.0, 0.1)
    with pytest.raises(ValueError, match="at least 8 knots, got 7"):
        interpolate(torch.zeros(7, 1))
    with pytest.raises(ValueError, match="at least 8 knots, got 7"):
        interpolate(torch.zeros(9, 7, 1))
    with pytest.raises(ValueError, match="`values` must be .* got \\[9\\]"):
        interpolate(torch.zeros(9))
    with pytest.raises(ValueError, match="`order` must be .* got -1"):
        evaluate(random_table(), torch.ones(1, dtype=torch.float64), -1)
    with pytest.raises(ValueError, match="either `gamma` or `frequency`"):
        knot_spacing()
    with pytest.raises(ValueError, match="must be positive, got -1.0"):
        knot_spacing(gamma=-1.0)
    assert knot_spacing(frequency=4.0) == pytest.approx(0.025)
