"""The search on a GPU: the graph of the search on a CPU, in few launches and with few looks at values."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pyg_schnet import Graph, radius_graph
from pyg_schnet.graph import few_pairs
from pyg_schnet.graph.boxes import boxes_around
from pyg_schnet.graph.crosscheck import KINDS
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
    expected = radius_graph(pos, cutoff, **options)  # compiled loops, which know nothing of what is tested here
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
SKEWED = torch.tensor([[[3.0, 0, 0], [900.0, 3, 0], [0, 0, 3]]]).double()
AXES = torch.tensor([[0, 0, 0], [1, 1, 0], [1, 1, 1], [0, 1, 0], [1, 1, 1]], dtype=torch.bool)


def axes(*periodic: int) -> Tensor:
    return torch.tensor([periodic], dtype=torch.bool)


PERIODIC: dict[str, Callable[[], tuple[Any, ...]]] = {
    "crystal": lambda: (points(40, 30), 3.0, {"cell": CELL, "pbc": EVERY}),
    "cell shorter than the cutoff": lambda: (points(4, 30), 6.0, {"cell": CELL / 3, "pbc": EVERY}),
    "large cell": lambda: (points(400, 60), 5.0, {"cell": 6 * CELL, "pbc": EVERY}),
    "images of one atom": lambda: (torch.zeros(1, 3), 3.0, {"cell": CELL.float() / 3, "pbc": EVERY}),
    "slab": lambda: (points(40, 30), 3.0, {"cell": CELL, "pbc": axes(1, 1, 0)}),
    "oblique slab": lambda: (points(90, 20), 3.0, {"cell": CELL, "pbc": axes(1, 0, 1)}),
    "wire": lambda: (points(60, 25), 4.0, {"cell": CELL, "pbc": axes(0, 1, 0)}),
    "wire of many images": lambda: (points(5, 4), 9.0, {"cell": CELL / 4, "pbc": axes(1, 0, 0)}),
    "open axes alone": lambda: (points(40, 9), 4.0, {"cell": CELL, "pbc": axes(0, 0, 0)}),
    "open without limit": lambda: (points(9, 9), float("inf"), {"cell": CELL, "pbc": axes(0, 0, 0)}),
    "skewed": lambda: (points(4, 5), 3.0, {"cell": SKEWED, "pbc": EVERY}),
    "more skewed than numbers can tell": lambda: (points(4, 5), 7.0, {"cell": SKEWED @ SKEWED[0].T, "pbc": EVERY}),
    "skewed slab": lambda: (points(9, 5), 4.0, {"cell": SKEWED, "pbc": axes(1, 1, 0)}),
    "far away": lambda: (points(40, 30) + 4e5, 3.0, {"cell": CELL, "pbc": axes(1, 0, 1)}),
    "batch": lambda: (
        points(22, 9),
        4.0,
        {"batch": BATCH, "batch_size": 5, "cell": CELLS, "pbc": EVERY.repeat(5, 1)},
    ),
    "mixed batch": lambda: (points(22, 9), 4.0, {"batch": BATCH, "batch_size": 5, "cell": CELLS, "pbc": AXES}),
    "mixed batch, skewed": lambda: (
        points(22, 9),
        4.0,
        {"batch": BATCH, "batch_size": 5, "cell": torch.cat([CELLS[:1], SKEWED, CELLS[:3]]), "pbc": AXES.flip(0)},
    ),
    "single atoms": lambda: (
        points(5, 9),
        8.0,
        {"batch": torch.arange(5), "batch_size": 5, "cell": CELLS, "pbc": AXES},
    ),
    "no atoms": lambda: (points(0, 9), 4.0, {"batch": BATCH[:0], "batch_size": 5, "cell": CELLS, "pbc": AXES}),
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
    assert launches <= 44 + 5 * counted
    assert waits <= 2 + counted


@pytest.mark.parametrize("kind", PERIODIC)
def test_periodic_structures(kind: str) -> None:
    pos, cutoff, options = PERIODIC[kind]()
    found, expected, (launches, waits) = both(pos, cutoff, **options)
    assert_same_graph(found, expected)
    assert launches <= 120
    assert waits <= 4


@pytest.mark.parametrize("kind", KINDS)
def test_random_structures(kind: str) -> None:
    generator = torch.Generator().manual_seed(2)
    for pos, batch, cell, pbc, cutoff in [KINDS[kind](generator) for _ in range(12)]:
        options = {"batch": batch, "batch_size": len(pbc), "cell": cell, "pbc": pbc}
        found, expected, (launches, waits) = both(pos, cutoff, **options)
        assert_same_graph(found, expected)
        assert launches <= 120
        assert waits <= 4


def test_lattices_may_be_on_the_cpu() -> None:
    pos, cutoff, options = PERIODIC["mixed batch"]()
    expected = radius_graph(pos, cutoff, **options)
    with pretended_gpu():
        found = radius_graph(pos.to("cuda"), cutoff, **(options | {"batch": BATCH.to("cuda")}))
        assert_same_graph(Graph(*(getattr(found, name).inner for name in FIELDS)), expected)


@pytest.mark.parametrize("kind", ["batch", "mixed batch", "large cell", "crystal", "skewed", "wire"])
@pytest.mark.parametrize("sizes", [(2000, 150), (1, 1), (50, 7)], ids=str)
def test_many_pieces_give_the_same(kind: str, sizes: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows and candidates in small portions."""
    monkeypatch.setattr(SIZES, "rows_on_device", sizes[0])
    monkeypatch.setattr(SIZES, "candidates_on_device", sizes[1])
    pos, cutoff, options = PERIODIC[kind]()
    if kind == "large cell":
        pos = pos[:60]
    found, expected, _ = both(pos, cutoff, **options)
    assert_same_graph(found, expected)


@pytest.mark.parametrize("options", [{}, {"batch": BATCH.repeat_interleave(3), "batch_size": 5}], ids=["one", "batch"])
def test_large_open_structures_are_put_in_boxes(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SIZES, "matrix_on_device", 0)
    monkeypatch.setattr(SIZES, "most_pairs", 10)
    found, expected, (_, waits) = both(points(66, 12), 3.0, **options)
    assert_same_graph(found, expected)
    assert waits <= 4
    line = torch.arange(30.0).unsqueeze(1) * torch.tensor([[1.0, 0, 0]])
    assert_same_graph(*both(line, 3.0)[:2])


@pytest.mark.parametrize(
    ("pos", "options", "message"),
    [
        (torch.zeros(2, 3), {}, "atoms 0 and 1 are at the same place"),
        (torch.tensor([[0.0, 0, 0], [float("nan"), 0, 0]]), {}, "`pos` must be finite"),
        (torch.rand(2, 3), {"batch": torch.tensor([1, 0]), "batch_size": 2}, "`batch` must be sorted"),
        (torch.rand(2, 3), {"batch": torch.tensor([-1, 0]), "batch_size": 2}, "`batch` must be sorted"),
        (
            torch.rand(2, 3),
            {"batch": torch.tensor([0, 3]), "batch_size": 2},
            "names structure 3, but `batch_size` is 2",
        ),
        (
            torch.rand(2, 3),
            {"batch": torch.tensor([0, 1]), "batch_size": 1},
            "names structure 1, but `batch_size` is 1",
        ),
        (torch.rand(2, 3), {"cell": torch.zeros(1, 3, 3), "pbc": EVERY}, "span no volume"),
        (torch.rand(2, 3), {"cell": CELL, "pbc": EVERY.repeat(2, 1)}, "`pbc` must have shape"),
        (torch.rand(2, 3), {"pbc": EVERY}, "`cell` is missing"),
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


def test_an_infinite_cutoff_is_refused_in_crystals() -> None:
    with pretended_gpu(), pytest.raises(ValueError, match="`cutoff` must be finite in periodic structures"):
        radius_graph(points(3, 5).to("cuda"), float("inf"), **on("cuda", {"cell": CELL, "pbc": axes(0, 0, 1)}))


def test_offsets_name_each_neighbouring_bin_once() -> None:
    low = np.zeros((1, 3))
    boxes = boxes_around(np.array([900]), low, np.array([[20.0, 0.0, 8.0]]), None, 1.0)
    offsets = boxes.offsets.tolist()
    every = offsets + [[-x for x in one] for one in offsets[1:]]
    assert offsets[0] == [0, 0, 0]
    assert sorted(every) == sorted([x, 0, z] for x in (-1, 0, 1) for z in (-1, 0, 1))


def test_bins_are_no_narrower_than_the_cutoff_and_open_axes_end_with_an_empty_one() -> None:
    pos = points(300, 20)
    low, high = pos.amin(0, keepdim=True), pos.amax(0, keepdim=True)
    boxes = boxes_around(np.array([300]), low.numpy(), high.numpy(), None, 2.0)
    relative = pos.numpy() @ boxes.inverse[0] - boxes.corner
    bins = np.floor(relative * boxes.number)
    assert (bins.min(0) >= 0).all()
    assert (bins.max(0) < boxes.number[0] - 1).all()
    assert (np.linalg.norm(boxes.cell[0], axis=1) / boxes.number[0] >= 2.0).all()


@pytest.mark.parametrize("matrix", [0, 10_000])
@pytest.mark.parametrize("most", [10, 10_000])
def test_pairs_without_edges(matrix: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In whatever way they are found, targets ascend."""
    monkeypatch.setattr(SIZES, "matrix_on_device", matrix)
    monkeypatch.setattr(SIZES, "most_pairs", most)
    pos, batch = points(66, 9), BATCH.repeat_interleave(3)
    graph = radius_graph(pos, 3.0, batch, batch_size=5)
    source, target = graph.edge_index[:, graph.pairs()[0]]
    with pretended_gpu():
        index, vector = (one.inner for one in few_pairs(pos.to("cuda"), 3.0, batch.to("cuda"), 5))
    assert (index[1].diff() >= 0).all()
    torch.testing.assert_close(vector, pos[index[0]] - pos[index[1]], rtol=0, atol=0)
    assert sorted(map(sorted, index.T.tolist())) == sorted(map(sorted, torch.stack([source, target]).T.tolist()))
