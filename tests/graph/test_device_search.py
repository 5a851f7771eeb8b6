"""The search on a GPU: the graph of the search on a CPU, in few launches and with few looks at values."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from pyg_schnet import Graph, radius_graph
from pyg_schnet.graph import device_search
from pyg_schnet.graph.device_search import device_graph
from pyg_schnet.sizes import SIZES
from tests.conftest import FIELDS, assert_same_graph
from tests.pretended_gpu import OnGpu, pretended_gpu

BATCH = torch.tensor([0] * 7 + [1] * 3 + [3] * 12)
EVERY = torch.ones(1, 3, dtype=torch.bool)
CELL = 7.0 * torch.eye(3, dtype=torch.float64).unsqueeze(0) + torch.tensor(
    [[[0.3, 0.1, 0.6], [0.5, 0.2, 0.1], [0.4, 0.6, 0.3]]], dtype=torch.float64
)
CELLS = torch.cat([CELL, CELL / 3, CELL * 2, CELL, CELL])


def points(number: int, edge: float) -> Tensor:
    return edge * torch.rand(number, 3, dtype=torch.float64) - 10


def on(place: Any, options: dict[str, Any]) -> dict[str, Any]:
    return {name: value.to(place) if isinstance(value, Tensor) else value for name, value in options.items()}


def both(pos: Tensor, cutoff: float, **options: Any) -> tuple[Graph, Graph, tuple[int, int]]:
    """The graph of a CPU, that of a GPU, and how many launches and waits it took."""
    expected = radius_graph(pos, cutoff, **options, backend="torch")
    with pretended_gpu() as gpu:
        pos, options = pos.to("cuda"), on("cuda", options)
        gpu.clear()
        found = radius_graph(pos, cutoff, **options)
        total = gpu.total
        assert not gpu.atomic
        assert all(isinstance(getattr(found, name), OnGpu) for name in FIELDS)
        return Graph(*(getattr(found, name).inner for name in FIELDS)), expected, total


OPEN: dict[str, Callable[[], tuple[Any, ...]]] = {
    "batch": lambda: (points(22, 6), 3.0, {"batch": BATCH, "batch_size": 5}),
    "complete": lambda: (points(22, 6), float("inf"), {"batch": BATCH}),
    "float32": lambda: (points(22, 6).float(), 3.0, {}),
    "two": lambda: (torch.tensor([[0.0, 0, 0], [1, 0, 0]]), 3.0, {}),
    "far away": lambda: (torch.tensor([[0.0, 0, 0], [10, 0, 0]]), 3.0, {}),
    "one": lambda: (torch.zeros(1, 3), 3.0, {}),
}
PERIODIC: dict[str, Callable[[], tuple[Any, ...]]] = {
    "crystal": lambda: (points(40, 30), 3.0, {"cell": CELL, "pbc": EVERY}),
    "cell shorter than the cutoff": lambda: (points(4, 30), 6.0, {"cell": CELL / 3, "pbc": EVERY}),
    "large cell": lambda: (points(400, 60), 5.0, {"cell": 6 * CELL, "pbc": EVERY}),
    "images of one atom": lambda: (torch.zeros(1, 3), 3.0, {"cell": CELL.float() / 3, "pbc": EVERY}),
    "batch": lambda: (
        points(22, 9),
        4.0,
        {"batch": BATCH, "batch_size": 5, "cell": CELLS, "pbc": EVERY.repeat(5, 1)},
    ),
}
#: Left to the search of all devices.
OTHER: dict[str, Callable[[], tuple[Any, ...]]] = {
    "slab": lambda: (points(40, 30), 3.0, {"cell": CELL, "pbc": torch.tensor([[True, True, False]])}),
    "skewed": lambda: (
        points(4, 5),
        3.0,
        {"cell": torch.tensor([[[3.0, 0, 0], [900.0, 3, 0], [0, 0, 3]]]).double(), "pbc": EVERY},
    ),
}


@pytest.mark.parametrize("kind", OPEN)
def test_open_structures(kind: str) -> None:
    pos, cutoff, options = OPEN[kind]()
    found, expected, (launches, waits) = both(pos, cutoff, **options)
    assert_same_graph(found, expected)
    counted = "batch" in options and "batch_size" not in options  # structures, which takes a look of its own
    assert launches <= 30 + 5 * counted
    assert waits <= 1 + counted


@pytest.mark.parametrize("kind", OPEN)
def test_many_open_structures(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many atoms for a matrix of all distances."""
    monkeypatch.setattr(SIZES, "matrix_on_device", 0)
    pos, cutoff, options = OPEN[kind]()
    found, expected, (launches, waits) = both(pos, cutoff, **options)
    assert_same_graph(found, expected)
    counted = "batch" in options and "batch_size" not in options
    assert launches <= 40 + 5 * counted
    assert waits <= 2 + counted


@pytest.mark.parametrize("kind", PERIODIC)
def test_crystals(kind: str) -> None:
    pos, cutoff, options = PERIODIC[kind]()
    both(pos, cutoff, **options)  # the first time, offsets of bins are made
    found, expected, (launches, waits) = both(pos, cutoff, **options)
    assert_same_graph(found, expected)
    assert launches <= (125 if kind == "batch" else 120)
    assert waits <= 4


@pytest.mark.parametrize("kind", OTHER)
def test_what_is_left_to_others(kind: str) -> None:
    pos, cutoff, options = OTHER[kind]()
    found, expected, _ = both(pos, cutoff, **options)
    assert_same_graph(found, expected)


@pytest.mark.parametrize("kind", ["batch", "large cell", "crystal"])
def test_many_pieces_give_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows and candidates in small portions; cells of one kind, lest they are left to others."""
    monkeypatch.setattr(SIZES, "rows_on_device", 2000)
    monkeypatch.setattr(SIZES, "candidates_on_device", 150)
    pos, cutoff, options = PERIODIC[kind]()
    if kind == "batch":
        options["cell"] = CELL.repeat(5, 1, 1)
    found, expected, _ = both(pos, cutoff, **options)
    assert_same_graph(found, expected)


@pytest.mark.parametrize("options", [{}, {"batch": BATCH.repeat_interleave(3), "batch_size": 5}], ids=["one", "batch"])
def test_large_open_structures_are_put_in_boxes(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SIZES, "matrix_on_device", 0)
    monkeypatch.setattr(SIZES, "most_pairs", 10)
    found, expected, (_, waits) = both(points(66, 12), 3.0, **options)
    assert_same_graph(found, expected)
    assert waits <= 5
    line = torch.arange(30.0).unsqueeze(1) * torch.tensor([[1.0, 0, 0]])
    assert_same_graph(*both(line, 3.0)[:2])


@pytest.mark.parametrize(
    ("pos", "options", "message"),
    [
        (torch.zeros(2, 3), {}, "atoms 0 and 1 are at the same place"),
        (torch.tensor([[0.0, 0, 0], [float("nan"), 0, 0]]), {}, "`pos` must be finite"),
        (torch.rand(2, 3), {"batch": torch.tensor([1, 0]), "batch_size": 2}, "`batch` must be sorted"),
        (torch.rand(2, 3), {"cell": torch.zeros(1, 3, 3), "pbc": EVERY}, "span no volume"),
        (torch.stack([0 * CELL[0, 0], CELL[0, 0]]), {"cell": CELL, "pbc": EVERY}, "at the same place"),
        (torch.rand(2, 3), {"cell": CELL.float()}, "`pbc` is missing"),
    ],
)
@pytest.mark.parametrize("matrix", [0, 100])
def test_mistakes_have_their_sentences(
    pos: Tensor, options: dict[str, Any], message: str, matrix: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SIZES, "matrix_on_device", matrix)
    with pretended_gpu(), pytest.raises(ValueError, match=message):
        radius_graph(pos.to("cuda"), 3.0, **on("cuda", options))


def test_offsets_name_each_neighbouring_bin_once() -> None:
    offsets = device_search._offsets(1, 2, 0, torch.device("cpu")).tolist()
    every = offsets + [[-x for x in one] for one in offsets[1:]]
    assert offsets[0] == [0, 0, 0]
    assert sorted(every) == sorted([x, y, 0] for x in (-1, 0, 1) for y in (-2, -1, 0, 1, 2))


def test_no_atoms_are_nobodys_neighbours() -> None:
    assert device_graph(torch.zeros(0, 3), 3.0, torch.zeros(0, dtype=torch.long), 0, None, None) is None
