"""Very skewed cells: shorter vectors of the same lattice, and graphs in the vectors that were given."""

import time

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from pyg_schnet import Graph, radius_graph
from pyg_schnet.graph import edges
from pyg_schnet.graph.backends import BACKENDS
from pyg_schnet.graph.lattice import lattice_of
from pyg_schnet.graph.reduction import MOST_SKEWED, in_old_vectors, reduced
from tests.conftest import assert_same_graph

ALL = torch.ones(1, 3, dtype=torch.bool)
CELL = torch.tensor([[[4.0, 0.3, -0.2], [1.1, 3.6, 0.4], [-0.9, 0.7, 5.0]]], dtype=torch.float64)


def skew(steps: list[tuple[int, int, int]]) -> Tensor:
    """An integer matrix of determinant one: add multiples of rows to others, one after the other."""
    matrix = torch.eye(3, dtype=torch.long)
    for target, source, factor in steps:
        matrix[target] += factor * matrix[source]
    return matrix


def rows(graph: Graph, shift: Tensor) -> np.ndarray:
    """Target, source and shift of every edge, sorted."""
    found = torch.cat([graph.edge_index.flip(0).t(), shift], dim=1).numpy()
    return found[np.lexsort(found.T[::-1])]


def skewed(steps: list[tuple[int, int, int]]) -> tuple[Tensor, Tensor]:
    """Matrix and cell, unless its relative volume is so small that it is refused as flat."""
    matrix = skew(steps)
    cell = (matrix.double() @ CELL[0]).unsqueeze(0)
    assume(torch.linalg.det(CELL[0]) > 1e-7 * cell.norm(dim=2).prod())
    return matrix, cell


axes = st.sampled_from([(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)])
skews = st.lists(st.tuples(axes, st.integers(-300, 300)).map(lambda step: (*step[0], step[1])), min_size=1, max_size=3)


@given(steps=skews, seed=st.integers(0, 2**31))
def test_any_vectors_of_a_lattice_give_its_graph(steps: list[tuple[int, int, int]], seed: int) -> None:
    """Cells of up to some thousand Angstrom, so that distances of random atoms are far enough from the cutoff."""
    matrix, cell = skewed(steps)
    generator = torch.Generator().manual_seed(seed)
    pos = torch.rand(4, 3, dtype=torch.float64, generator=generator) @ CELL[0]
    expected = radius_graph(pos, 4.5, cell=CELL, pbc=ALL, backend="torch")
    graph = radius_graph(pos, 4.5, cell=cell, pbc=ALL, backend="torch")
    np.testing.assert_array_equal(
        rows(graph, in_old_vectors(graph.edge_shift, matrix)), rows(expected, expected.edge_shift)
    )
    found = torch.cat([graph.edge_index.flip(0).t(), graph.edge_shift], dim=1)
    assert np.array_equal(np.lexsort(found.numpy().T[::-1]), np.arange(len(found)))  # by target, source and shift
    assert torch.equal(graph.edge_index[:, graph.reverse], graph.edge_index.flip(0))
    assert torch.equal(graph.edge_shift[graph.reverse], -graph.edge_shift)


@given(steps=skews)
def test_reduced_vectors_are_short_and_span_the_same_lattice(steps: list[tuple[int, int, int]]) -> None:
    lattice = lattice_of(skewed(steps)[1], ALL, 1, CELL.device)
    short = reduced(lattice)
    if short is None:
        assert (lattice.cell.norm(dim=2) <= MOST_SKEWED * lattice.height).all()
        return
    new, matrix = short
    torch.testing.assert_close(matrix.double() @ lattice.cell, new.cell, rtol=0, atol=1e-4)  # of sums of up to 1e11
    torch.testing.assert_close(new.height, 1 / torch.linalg.inv(new.cell).norm(dim=1))
    assert (new.cell.norm(dim=2) < 2 * new.height).all()
    assert new.cell.norm(dim=2).max() < 6  # of the lattice above


@pytest.mark.parametrize("pbc", [(True, True, False), (False, True, True)])
def test_open_axes_stay(pbc: tuple[bool, bool, bool]) -> None:
    first, second = [axis for axis in range(3) if pbc[axis]]
    matrix = skew([(first, second, 7000)])
    cell = (matrix.double() @ CELL[0]).unsqueeze(0)
    lattice = lattice_of(cell, torch.tensor([pbc]), 1, CELL.device)
    new, found = reduced(lattice)
    assert torch.equal(found[0].double() @ matrix.double(), torch.eye(3).double())
    assert torch.equal(new.cell[0, pbc.index(False)], lattice.cell[0, pbc.index(False)])


def test_ordinary_cells_are_left_alone() -> None:
    for cell in (CELL, torch.diag(torch.tensor([0.5, 40.0, 1e4])).double().unsqueeze(0)):
        assert reduced(lattice_of(cell, ALL, 1, CELL.device)) is None


@pytest.mark.parametrize("name", [name for name in BACKENDS if BACKENDS[name].periodic])
def test_every_backend_is_fast(name: str) -> None:
    if not BACKENDS[name].installed():
        pytest.skip(f"{BACKENDS[name].package} is not installed")
    cell = torch.cat([CELL, (skew([(0, 1, 10**6)]).double() @ CELL[0]).unsqueeze(0)])
    pos, batch = torch.rand(8, 3, dtype=torch.float64) @ CELL[0], torch.arange(8) // 4
    start = time.perf_counter()
    graph = radius_graph(pos, 4.5, batch, cell, ALL.expand(2, 3), name)
    assert time.perf_counter() - start < 5  # of the images of the given vectors there would be 1e7
    apart = radius_graph(pos, 4.5, batch, CELL.expand(2, 3, 3), ALL.expand(2, 3), name)
    assert torch.equal(graph.rowptr, apart.rowptr)


def test_images_too_many_to_count_are_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    pos = torch.rand(5, 3, dtype=torch.float64) @ CELL[0]
    expected = radius_graph(pos, 7.0, cell=CELL, pbc=ALL, backend="torch")
    monkeypatch.setattr(edges, "LARGEST_KEY", 0)
    graph = radius_graph(pos, 7.0, cell=CELL, pbc=ALL, backend="torch")
    assert_same_graph(graph, expected)
    assert radius_graph(pos[:1], 1.0, backend="torch").reverse.numel() == 0


@pytest.mark.parametrize("far", [3, 114_000, 1 << 19, 1 << 22])
def test_images_however_far_are_in_order(far: int) -> None:
    """Numbers that say target, source and image: with room for those of the edges beside them, without, and too large
    for 64 bits.
    """
    corners = torch.tensor([[far, far, far], [-far, far, far - 1]])
    image = torch.cat([torch.randint(-far, far + 1, (398, 3)), corners]).unique(dim=0)
    image = image[(image != 0).any(dim=1)]
    atom = torch.zeros(len(image), dtype=torch.long)
    graph = edges.both_directions(atom, atom, image, image, 1)
    found = graph.edge_shift.tolist()
    assert found == sorted([*image.tolist(), *(-image).tolist()])
    assert torch.equal(graph.edge_shift[graph.reverse], -graph.edge_shift)
