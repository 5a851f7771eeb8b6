"""Triton kernels against the plain twins in float64: natively where there is a GPU, else by Triton's interpreter."""

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from pyg_schnet import Potential, SchNet, fast
from pyg_schnet.fast import convolution
from pyg_schnet.fast.gpu import convolution as gpu
from pyg_schnet.fast.gpu import convolution_kernels as gpu_loops
from pyg_schnet.fast.gpu import edge_order as gpu_layout
from pyg_schnet.sizes import SIZES
from tests.fast.operands import NAMES, Grid, Operands, floats, mapped, operands, public, strided, with_derivatives
from tests.fast.operands import twin as plain_twin

NATIVE = torch.cuda.is_available()
triton = pytest.importorskip(
    "triton", minversion="3.4" if NATIVE else "3.7"
)  # earlier interpreters fail with new NumPy
DEVICE = torch.device("cuda" if NATIVE else "cpu")

GRID = Grid(start=0.9, spacing=0.4, size=9, margin=0.2)


@pytest.fixture(scope="module", autouse=True)
def _interpreted() -> Iterator[None]:
    """Kernels for the interpreter, which is told what saves it most of its time."""
    if NATIVE:
        yield
        return
    interpreter = importlib.import_module("triton.runtime.interpreter")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        importlib.reload(gpu_loops)
        # sums by NumPy instead of one number at a time
        patch.setattr(triton.language.standard, "_sum_combine", gpu_loops._add)
        prepared = interpreter._patch_lang(gpu_loops.nodes_kernel.fn)
        if prepared is not None:  # prepare Triton's language once, not for every call of a part; older ones cannot
            patch.setattr(interpreter, "_patch_lang", lambda function: interpreter._LangPatchScope())
        yield
        if prepared is not None:
            prepared.restore()
    importlib.reload(gpu_loops)


@pytest.fixture
def _through_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """All operations by kernels."""
    monkeypatch.setattr(convolution, "cpu_loops", lambda: gpu)


def everything(
    nodes: int = 3, edges: int = 16, features: int = 5, dtype: torch.dtype = torch.float32, **how: Any
) -> Operands:
    given: Operands = mapped(lambda value: value.to(DEVICE), operands(GRID, nodes, edges, features, dtype, **how))
    return given


def arguments(name: str, *sizes: Any, **how: Any) -> tuple[Any, ...]:
    return everything(*sizes, **how).of(name)


def wide(given: Any) -> Any:
    """In float64, whatever the operands."""
    return mapped(lambda value: value.double() if value.is_floating_point() else value, given)


def twin(name: str, given: tuple[Any, ...]) -> Tensor:
    return plain_twin(name, wide(given))


def error(result: Tensor, expected: Tensor) -> float:
    """Largest error, relative to the largest number."""
    assert result.shape == expected.shape
    if expected.numel() == 0:
        return 0.0
    return float((result.double() - expected).abs().max() / expected.abs().max().clamp_min(1e-300))


def close(result: Tensor, expected: Tensor, factor: float = 30.0) -> None:
    """Sums of some ten products; splines and their derivatives lose a digit."""
    assert error(result, expected) < factor * torch.finfo(result.dtype).eps


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("order", "symmetric", "weighted"),
    [(0, False, False), (0, True, True), (1, True, False), (2, False, True), (3, True, True), (5, False, True)],
)
def test_equal_twins(name: str, order: int, symmetric: bool, weighted: bool) -> None:
    given = arguments(name, weighted=weighted, order=order, symmetric=symmetric)
    close(getattr(gpu, name)(*given), twin(name, given))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("nodes", "edges", "features"),
    [(0, 0, 4), (1, 1, 1), (3, 0, 4), (4, 9, 0), (2, 37, 3), (1, 3, 70)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sizes(name: str, nodes: int, edges: int, features: int, dtype: torch.dtype) -> None:
    given = arguments(name, nodes, edges, features, dtype, symmetric=True)
    result = getattr(gpu, name)(*given)
    assert result.dtype == dtype
    close(result, twin(name, given), factor=60.0)  # sums of up to 74 products


@pytest.mark.parametrize("name", NAMES)
def test_beyond_the_last_derivative_all_is_zero(name: str) -> None:
    assert not getattr(gpu, name)(*arguments(name, order=6)).any()
    with pytest.raises(ValueError, match="`order` must be the order of a derivative"):
        getattr(gpu, name)(*arguments(name, order=-1))


def test_tables_need_six_rows() -> None:
    x, c, *rest = arguments("nodes")
    with pytest.raises(ValueError, match="at least 6 rows, got 5"):
        gpu.nodes(x, c[:5], *rest)


@pytest.mark.usefixtures("_through_kernels")
def test_first_and_second_derivatives() -> None:
    """Of a graph that is not symmetric; of others, see SchNet below."""
    given = arguments("nodes", 2, 3, 2, torch.float64)
    ways = (lambda *given: public("nodes", given)), (lambda *given: twin("nodes", given))
    for result, expected in zip(*(with_derivatives(way, given) for way in ways), strict=True):
        close(result.detach(), expected.detach(), factor=400.0)  # chains of two operations


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("wanted", [(True,) * 5, (True, False, False, True, False), (False, True, True, False, True)])
def test_all_gradients_at_once(symmetric: bool, wanted: tuple[bool, bool, bool, bool, bool]) -> None:
    given = everything(2, 8, symmetric=symmetric)
    exact: Operands = wide(given)
    leaves = [leaf.requires_grad_() for leaf in floats(exact)]
    expected = torch.autograd.grad((exact.pairs.s * plain_twin("edges", exact.of("edges"))).sum(), leaves)
    results = gpu.gradients(*given, wanted)
    for need, result, value in zip(wanted, results, expected, strict=True):
        assert (result is not None) == need
        if result is not None:
            close(result, value, factor=60.0)  # slopes are differences of numbers four times as large


@pytest.mark.parametrize("name", NAMES)
def test_any_layout_of_memory_and_indices_of_32_bits(name: str) -> None:
    given = arguments(name, features=6)
    apart = mapped(lambda value: strided(value, value.dtype if value.is_floating_point() else torch.int32), given)
    assert torch.equal(getattr(gpu, name)(*apart), getattr(gpu, name)(*given))


def poisoned(value: Tensor) -> Tensor:
    return value.fill_(torch.nan) if value.is_floating_point() else value


@pytest.mark.parametrize("name", NAMES)
def test_poisoned_memory_and_the_same_bits_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = arguments(name)
    expected = getattr(gpu, name)(*given)
    for owner, function in ((Tensor, "new_empty"), (torch, "empty_like")):
        plain = getattr(owner, function)
        monkeypatch.setattr(owner, function, lambda *given, plain=plain, **kind: poisoned(plain(*given, **kind)))
    with gpu_layout.forgetting():
        for _ in range(10 if NATIVE else 1):
            assert torch.equal(getattr(gpu, name)(*given), expected)


def test_shares_of_crowded_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    given = arguments("table", edges=40)
    monkeypatch.setattr(SIZES, "edges_per_program", 4)
    close(gpu.table(*given), twin("table", given))


def test_nan_of_one_distance_reaches_its_edge_only() -> None:
    given = arguments("edges")
    given[3].d[2] = torch.nan
    assert gpu.edges(*given).isnan().nonzero().flatten().tolist() == [2]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("kind", "step"), [(torch.float16, 2.0**-11), (torch.bfloat16, 2.0**-8)])
def test_storage_of_16_bits(name: str, kind: torch.dtype, step: float) -> None:
    """Errors are as large as the rounding of what is stored, and not smaller."""
    given, function = arguments(name, features=32), getattr(gpu, name)
    expected = twin(name, given)
    with gpu.storage(features=kind):
        features = error(function(*given), expected)
    with gpu.storage(table=kind):
        table = error(function(*given), expected)
    assert 0.02 * step < features < 4.0 * step
    assert table < 1e-5 if name == "table" else 0.02 * step < table < 4.0 * step


def test_storage_is_for_float32() -> None:
    given = arguments("nodes", dtype=torch.float64)
    with gpu.storage(torch.bfloat16, torch.bfloat16):
        close(gpu.nodes(*given), twin("nodes", given))
    assert gpu._storage == (None, None)
    with pytest.raises(TypeError, match=r"`features` must be None, .* or torch.bfloat16, got torch.int16"):
        gpu.storage(torch.int16).__enter__()


def test_schnet_is_the_exact_one(monkeypatch: pytest.MonkeyPatch, water: tuple[Tensor, Tensor]) -> None:
    """Energies, forces, and the gradients of a loss of both."""
    sizes = {"hidden_channels": 8, "num_filters": 6, "num_interactions": 2, "num_gaussians": 4, "cutoff": 5.0}
    exact = SchNet(**sizes).double()
    model = SchNet(**sizes, filters="table")
    model.load_state_dict(exact.state_dict())
    (z, pos), target = water, torch.randn(3, 3, dtype=torch.float64)
    results, calls, groups, group = [], list[str](), list[Any](), gpu_layout._group
    monkeypatch.setattr(gpu_layout, "_group", lambda *given: (groups.append(given), group(*given))[1])
    for name in NAMES:
        kernel: Callable[..., Tensor] = getattr(gpu, name)
        monkeypatch.setattr(gpu, name, lambda *given, n=name, kernel=kernel: (calls.append(n), kernel(*given))[1])
    for one, kind, device in ((exact, torch.float64, "cpu"), (model, torch.float32, DEVICE)):
        with fast.without("pass"):  # the way of a CPU
            out = Potential(one.to(device).train())(z.to(device), pos.to(device, kind))
        loss = (out["forces"] - target.to(device, kind)).square().sum() + 0.01 * out["energy"].square().sum().to(kind)
        slopes = torch.autograd.grad(loss, list(one.parameters()), allow_unused=True)
        flat = torch.cat([slope.flatten() for slope in slopes if slope is not None])
        results.append({"energy": out["energy"], "forces": out["forces"], "gradients": flat})
        monkeypatch.setattr(convolution, "cpu_loops", lambda: gpu)
    assert set(calls) == set(NAMES)
    assert len(groups) == 2  # by node and by interval, for both blocks and all derivatives
    # the accuracy that is promised: room for rounding in float32 (forces some 1e-6); in float64 the spline errs by 1e-7
    for name, limit in {"energy": 1e-6, "forces": 1e-5, "gradients": 1e-4}.items():
        expected, result = results[0][name].detach(), results[1][name].detach().double().cpu()
        assert float((result - expected).norm() / expected.norm()) < limit, name
