"""Compiled and exported models give what the plain ones give, for the size they saw first and for others."""

import io
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.export import Dim

from pyg_schnet import Potential, SchNet, radius_graph
from pyg_schnet.models import DTNN

SIZES = {"num_interactions": 2, "hidden_channels": 10, "num_filters": 7, "num_gaussians": 12, "cutoff": 4.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "jcp2018": {"repulsion": "zbl"},
    "pyg": {},
    "jcp2018-materials": {"mean": -1.0, "shared_interactions": True},
    "schnetpack": {"basis": "bessel", "cutoff_function": "mollifier", "readout": "dipole_magnitude"},
}
every_variant = pytest.mark.parametrize("variant", VARIANTS)
ROUND_OFF = {"rtol": 1e-12, "atol": 1e-12}  # the same float64 operations, perhaps in another order

pytestmark = [
    # of torch itself, while it traces
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


#: What one piece needs before torch 2.10, see README: sizes that depend on values, such as the number of neighbours.
ALLOWED = {"capture_dynamic_output_shape_ops": True} if torch.__version__.startswith(("2.8.", "2.9.")) else {}


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch.compiler.reset()
    with torch._dynamo.config.patch(ALLOWED):
        yield
    torch.compiler.reset()


def make(variant: str, scramble: Callable) -> SchNet:
    return scramble(SchNet.preset(variant, **(SIZES | VARIANTS[variant]))).double()


def structures(*sizes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random structures of these numbers of atoms."""
    count = sum(sizes)
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return torch.randint(1, 9, (count,)), 4 * torch.rand(count, 3, dtype=torch.float64), batch


def graph_of(pos: Tensor, batch: Tensor) -> dict[str, Tensor]:
    return {"edge_index": radius_graph(pos, 6.0, batch).edge_index}  # longer than the model's cutoff of 4


@pytest.mark.parametrize("given", [False, True], ids=["own graph", "given graph"])
@every_variant
def test_compiled_in_one_piece(variant: str, given: bool, scramble: Callable) -> None:
    """Without a single break of the graph, and without compiling again for every new size."""
    model = make(variant, scramble)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for sizes in [(5, 7), (6, 3), (9, 2), (1, 8), (4, 4)]:
        z, pos, batch = structures(*sizes)
        graph = graph_of(pos, batch) if given else {}
        with torch.compiler.set_stance("default" if sizes in [(5, 7), (6, 3)] else "fail_on_recompile"):
            y = compiled(z, pos, batch, batch_size=2, **graph)
        torch.testing.assert_close(y, model(z, pos, batch, **graph), **ROUND_OFF)


def test_compiled_crystals(scramble: Callable) -> None:
    model = make("jcp2018-materials", scramble)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    cell = 5 * torch.eye(3, dtype=torch.float64).repeat(2, 1, 1) + 0.3 * torch.rand(2, 3, 3, dtype=torch.float64)
    pbc = torch.tensor([[True, True, True], [True, False, True]])
    z, pos, batch = structures(4, 3)
    y = compiled(z, pos, batch, cell=cell, pbc=pbc, batch_size=2)
    torch.testing.assert_close(y, model(z, pos, batch, cell=cell, pbc=pbc), **ROUND_OFF)


def test_gradients_of_a_compiled_model(scramble: Callable) -> None:
    model = make("pyg", scramble)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    z, pos, batch = structures(5, 7)
    gradients = []
    for call in (compiled, model):
        moved = pos.clone().requires_grad_()
        call(z, moved, batch, batch_size=2).sum().backward()
        gradients.append([moved.grad, *(parameter.grad.clone() for parameter in model.parameters())])
        model.zero_grad()
    for ours, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, plain, **ROUND_OFF)


def test_forces_of_a_compiled_network(scramble: Callable) -> None:
    """Compile what is expensive; the potential around it stays as it is."""
    model = make("pyg", scramble).eval()
    z, pos, batch = structures(5, 7)
    plain = Potential(model)(z, pos, batch)
    model.represent = torch.compile(model.represent, backend="aot_eager")  # type: ignore[method-assign]
    compiled = Potential(model)(z, pos, batch)
    for name in ("energy", "forces"):
        torch.testing.assert_close(compiled[name], plain[name], **ROUND_OFF)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch's default compiler needs a C++ compiler on a CPU")
def test_default_compiler(scramble: Callable) -> None:
    model = scramble(SchNet(6, 5, 1, 6, 4.0)).double()
    compiled = torch.compile(model, dynamic=True)
    for sizes in [(5, 7), (6, 3)]:
        z, pos, batch = structures(*sizes)
        graph = graph_of(pos, batch)
        y = compiled(z, pos, batch, batch_size=2, **graph)
        torch.testing.assert_close(y, model(z, pos, batch, **graph), **ROUND_OFF)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch's default compiler needs a C++ compiler on a CPU")
@pytest.mark.parametrize("filters", ["exact", "table"])
def test_one_structure_by_the_default_compiler(filters: str, scramble: Callable) -> None:
    """Sizes fixed, no batch."""
    model = scramble(SchNet(6, 5, 1, 6, 4.0, filters=filters)).double()
    z, pos, _ = structures(6)
    torch.testing.assert_close(torch.compile(model, fullgraph=True)(z, pos), model(z, pos), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("frozen", [False, True], ids=["learned", "frozen"])
def test_tables_in_compiled_models(frozen: bool, scramble: Callable) -> None:
    """Made for all distances, in one piece, with the gradients of the weights."""
    model = scramble(SchNet(6, 5, 2, 6, 4.0, filters="table")).double()
    compiled = torch.compile(model.freeze() if frozen else model, backend="aot_eager", fullgraph=True, dynamic=True)
    for sizes in [(5, 7), (6, 3)]:
        z, pos, batch = structures(*sizes)
        y, expected = (call(z, pos, batch, batch_size=2) for call in (compiled, model))
        torch.testing.assert_close(y, expected, rtol=1e-6, atol=1e-8)
        if not frozen:
            weights = list(model.parameters())
            ours, theirs = (torch.autograd.grad(one.sum(), weights) for one in (y, expected))
            for one, other in zip(ours, theirs, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_other_models_compile(scramble: Callable) -> None:
    model = scramble(DTNN()).double()
    z, pos, batch = structures(5, 7)
    y = torch.compile(model, backend="eager", fullgraph=True)(z, pos, batch, batch_size=2)
    torch.testing.assert_close(y, model(z, pos, batch), **ROUND_OFF)


@pytest.mark.parametrize("given", [False, True], ids=["own graph", "given graph"])
@every_variant
def test_exported_for_any_size(variant: str, given: bool, scramble: Callable) -> None:
    model = make(variant, scramble).eval()
    atoms, edges = Dim("atoms", min=2), Dim("edges", min=2)
    z, pos, batch = structures(5, 7)
    graph = graph_of(pos, batch) if given else {}
    shapes: dict[str, Any] = {"z": {0: atoms}, "pos": {0: atoms}, "batch": {0: atoms}, "batch_size": None}
    shapes |= {"edge_index": {1: edges}} if given else {}
    program = torch.export.export(model, (z, pos, batch), {**graph, "batch_size": 2}, dynamic_shapes=shapes)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    exported = torch.export.load(file).module()
    for sizes in [(5, 7), (6, 3), (1, 20)]:
        z, pos, batch = structures(*sizes)
        graph = graph_of(pos, batch) if given else {}
        y = exported(z, pos, batch, **graph, batch_size=2)
        torch.testing.assert_close(y, model(z, pos, batch, **graph), **ROUND_OFF)


def test_exported_for_one_size(scramble: Callable) -> None:
    model = make("jcp2018", scramble).eval()
    z, pos, _ = structures(6)
    exported = torch.export.export(model, (z, pos)).module()
    torch.testing.assert_close(exported(z, 1.1 * pos), model(z, 1.1 * pos), **ROUND_OFF)
    with pytest.raises((RuntimeError, AssertionError)):
        exported(*structures(7)[:2])
