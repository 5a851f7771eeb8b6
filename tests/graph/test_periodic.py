"""Periodic radius graphs against brute force over images and ASE, laws of lattices, and refused input."""

import importlib.util
import itertools
import math
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from pyg_schnet import Graph, radius_graph
from pyg_schnet.graph import within_cutoff
from pyg_schnet.graph.lattice import lattice_of
from pyg_schnet.graph.search import candidate_pairs
from pyg_schnet.ops import edge_vectors
from pyg_schnet.sizes import SIZES
from tests.conftest import FIELDS, assert_same_graph

from .looks import Looks

ALL = (True, True, True)
needs_numba = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="Numba is not installed")
TRICLINIC = torch.tensor([[[4.0, 0.3, -0.2], [1.1, 3.6, 0.4], [-0.9, 0.7, 5.0]]], dtype=torch.float64)


# --- the oracle: every image, nothing shared with the source ---


class Images(NamedTuple):
    """What brute force finds in one structure."""

    rows: np.ndarray  # target, source and shift of every edge [E, 5]
    distance: np.ndarray  # of every edge [E]
    closest: float  # smallest of all distances
    margin: float  # smallest difference of a distance from the cutoff


def dual_of(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """Reciprocal vectors of the periodic axes as columns [3, k], within the span of the lattice."""
    return np.linalg.pinv(cell[pbc])


def images_of(cell: np.ndarray, pbc: np.ndarray, cutoff: float) -> np.ndarray:
    """How many images on each side of the nearest one the cutoff can reach along each periodic axis [k]."""
    return np.floor(cutoff * np.linalg.norm(dual_of(cell, pbc), axis=0) + 0.5 + 1e-9).astype(int)


def brute_force(pos: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float) -> Images:
    """Distances of all pairs in all images that may be close, by the sign formula."""
    vector = pos[None] - pos[:, None]  # [i, j, 3]
    nearest = -np.rint(vector @ dual_of(cell, pbc))  # [i, j, k]
    reach = images_of(cell, pbc, cutoff)
    span = 2 * reach + 1
    steps = np.indices(tuple(span)).reshape(len(span), int(np.prod(span))).T - reach  # [m, k]
    shift = nearest[:, :, None] + steps  # [i, j, m, k]
    distance = np.linalg.norm(vector[:, :, None] + shift @ cell[pbc], axis=-1)
    distance[np.eye(len(pos), dtype=bool)[:, :, None] & (shift == 0).all(axis=-1)] = math.inf  # the atom itself
    target, source, image = np.nonzero(distance < cutoff)
    rows = np.zeros((len(target), 5), dtype=np.int64)
    rows[:, 0], rows[:, 1] = target, source
    rows[:, 2:][:, pbc] = shift[target, source, image]
    closest = distance.min(initial=math.inf)
    return Images(rows, distance[target, source, image], closest, np.abs(distance - cutoff).min(initial=math.inf))


def brute_force_batch(
    pos: np.ndarray, cell: np.ndarray, pbc: np.ndarray, batch: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray, list[Images]]:
    """Rows and distances of all structures in the order of ``ordered``, and what was found in each."""
    found = [brute_force(pos[batch == k], cell[k], pbc[k], cutoff) for k in range(len(cell))]
    first = np.searchsorted(batch, np.arange(len(cell)))
    rows = [renumbered(images.rows, start) for images, start in zip(found, first, strict=True)]
    stacked = np.concatenate([np.zeros((0, 5), dtype=np.int64), *rows])
    order = ordered(stacked)
    return stacked[order], np.concatenate([np.zeros(0), *(images.distance for images in found)])[order], found


def renumbered(rows: np.ndarray, first: int) -> np.ndarray:
    """Rows of a structure whose atoms start at ``first`` in the batch."""
    return rows + np.array([first, first, 0, 0, 0])


def ordered(rows: np.ndarray) -> np.ndarray:
    """Permutation that sorts rows by target, source and shift."""
    return np.lexsort(rows.T[::-1])


def rows_of(graph: Graph) -> np.ndarray:
    """Target, source and shift of every edge in the order of the graph [E, 5]."""
    return torch.cat([graph.edge_index.flip(0).t(), graph.edge_shift], dim=1).numpy()


def sorted_rows(graph: Graph) -> np.ndarray:
    rows = rows_of(graph)
    return rows[ordered(rows)]


def lengths(graph: Graph, pos: Tensor, cell: Tensor, batch: Tensor | None = None) -> Tensor:
    """Distance of every edge, in float64."""
    return edge_vectors(pos.double(), graph.edge_index, graph.edge_shift, cell.double(), batch).norm(dim=1)


def check_consistent(graph: Graph, num_atoms: int) -> None:
    """Whatever is promised of any graph beyond which edges it has."""
    edge_index, shift, reverse = graph.edge_index, graph.edge_shift, graph.reverse
    number = torch.arange(edge_index.size(1))
    for name in FIELDS:
        assert getattr(graph, name).dtype == torch.long
    assert shift.shape == (len(number), 3)
    assert ((edge_index[1] * num_atoms + edge_index[0]).diff() >= 0).all()
    assert torch.equal(graph.rowptr, torch.searchsorted(edge_index[1].contiguous(), torch.arange(num_atoms + 1)))
    assert torch.equal(edge_index[:, reverse], edge_index.flip(0))
    assert torch.equal(shift[reverse], -shift)
    assert torch.equal(reverse[reverse], number)
    assert not (reverse == number).any()  # of an atom and its image too, there are two edges
    edges, pair = graph.pairs()
    assert torch.equal(edges, number[number < reverse])
    assert torch.equal(pair[edges], torch.arange(len(number) // 2))
    assert torch.equal(edges[pair], torch.minimum(number, reverse))


# --- any batch ---


class Recipe(NamedTuple):
    """One structure of a batch, up to random numbers."""

    size: int
    pbc: tuple[bool, bool, bool]
    shape: str
    left_handed: bool
    on_grid: bool  # atoms at quarters of the lattice vectors, on the faces of the cell too
    spread: int  # how many cells away from its own an atom may be
    zero_rows: bool  # whether the rows of open axes are zero or arbitrary


def lattice_vectors(shape: str, rng: np.random.Generator) -> np.ndarray:
    """A cell of the given kind, none thinner than 0.2 Angstrom."""
    while True:
        if shape == "cubic":
            return rng.uniform(1.5, 6.0) * np.eye(3)
        if shape == "triclinic":
            cell = rng.normal(scale=3.0, size=(3, 3))
        elif shape == "unreduced":
            cell = (np.eye(3) + np.tril(rng.integers(-3, 4, (3, 3)), -1)) @ np.diag(rng.uniform(2.0, 5.0, 3))
        elif shape == "flat":
            cell = np.diag([0.4, 5.0, 7.0])[rng.permutation(3)] + rng.normal(scale=0.1, size=(3, 3))
        else:  # skewed: angles of some ten degrees
            cell = rng.normal(size=3) * 2 + rng.normal(scale=0.5, size=(3, 3))
        cell = cell @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
        if abs(np.linalg.det(cell)) > 1e-3 and (1 / np.linalg.norm(np.linalg.inv(cell), axis=0)).min() > 0.2:
            return cell


def atoms_of(recipe: Recipe, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Positions and cell of one structure."""
    cell, pbc = lattice_vectors(recipe.shape, rng), np.array(recipe.pbc)
    if (np.linalg.det(cell) < 0) != recipe.left_handed:
        cell = cell[[1, 0, 2]]
    grid = np.stack(np.unravel_index(rng.choice(64, recipe.size, replace=False), (4, 4, 4)), axis=1) / 4
    fractional = grid if recipe.on_grid else rng.random((recipe.size, 3))
    cells = rng.integers(-recipe.spread, recipe.spread + 1, (recipe.size, 3)) * pbc
    pos = (fractional + cells) @ cell
    cell[~pbc] = 0.0 if recipe.zero_rows else rng.normal(size=(3, 3))[~pbc]
    return pos, cell


recipes = st.builds(
    Recipe,
    size=st.integers(0, 6),
    pbc=st.sampled_from([*itertools.product([False, True], repeat=3), *[ALL] * 4]),
    shape=st.sampled_from(["cubic", "triclinic", "unreduced", "flat", "skewed"]),
    left_handed=st.booleans(),
    on_grid=st.booleans(),
    spread=st.sampled_from([0, 1, 500]),
    zero_rows=st.booleans(),
)


def affordable(cutoff: float, atoms: list[tuple[np.ndarray, np.ndarray]], pbc: np.ndarray) -> float:
    """A cutoff for which brute force looks at no more than ten thousand images."""
    while (
        sum(
            len(pos) ** 2 * np.prod(2 * images_of(cell, axes, cutoff) + 1.0)
            for (pos, cell), axes in zip(atoms, pbc, strict=True)
        )
        > 1e4
    ):
        cutoff *= 0.8
    return cutoff


def test_any_batch_equals_brute_force() -> None:
    seen: Counter[str] = Counter()
    numba = importlib.util.find_spec("numba")

    @settings(max_examples=1300)
    @given(
        structures=st.lists(recipes, max_size=4),
        cutoff=st.sampled_from([0.5, 2.0, 4.0, 6.0, 12.0]),
        dtype=st.sampled_from([torch.float32, torch.float64]),
        seed=st.integers(0, 2**31),
    )
    def check(structures: list[Recipe], cutoff: float, dtype: torch.dtype, seed: int) -> None:
        rng = np.random.default_rng(seed)
        atoms = [atoms_of(recipe, rng) for recipe in structures]
        axes = np.array([recipe.pbc for recipe in structures], dtype=bool).reshape(-1, 3)
        cutoff = affordable(cutoff * rng.uniform(0.8, 1.2), atoms, axes)
        pos = torch.from_numpy(np.concatenate([np.zeros((0, 3)), *(p for p, _ in atoms)])).to(dtype)
        cell = torch.from_numpy(np.array([c for _, c in atoms]).reshape(-1, 3, 3)).to(dtype)
        batch = np.repeat(np.arange(len(atoms)), [recipe.size for recipe in structures]).astype(np.int64)
        rows, distance, found = brute_force_batch(pos.double().numpy(), cell.double().numpy(), axes, batch, cutoff)
        # round-off of coordinates of some thousand Angstrom is 1e-12
        assume(all(images.margin > 1e-9 and images.closest > 1e-3 for images in found))

        given_batch = torch.from_numpy(batch)
        pbc = torch.from_numpy(axes)
        graph = radius_graph(pos, cutoff, given_batch, cell, pbc, "torch", batch_size=len(atoms))
        if numba:
            assert_same_graph(radius_graph(pos, cutoff, given_batch, cell, pbc, "numba", batch_size=len(atoms)), graph)
        np.testing.assert_array_equal(sorted_rows(graph), rows)
        check_consistent(graph, len(pos))
        ours = lengths(graph, pos, cell, given_batch).numpy()[ordered(rows_of(graph))]
        np.testing.assert_allclose(ours, distance, rtol=0, atol=1e-9)  # as above

        kinds = {int(sum(recipe.pbc)) for recipe in structures if recipe.size}
        seen.update(f"{kind} periodic axes" for kind in kinds)
        seen.update({recipe.shape for recipe in structures if recipe.size and all(recipe.pbc)})
        seen["cases"] += 1
        seen["mixed"] += len(kinds) > 1
        seen["empty structure"] += any(recipe.size == 0 for recipe in structures)
        seen["left-handed"] += any(recipe.left_handed and all(recipe.pbc) for recipe in structures)
        seen["self images"] += bool((rows[:, 0] == rows[:, 1]).any())
        seen["tens of images"] += bool((np.unique(rows[:, :2], axis=0, return_counts=True)[1] > 20).any())
        seen[str(dtype)] += 1

    check()
    assert seen["cases"] >= 1000
    assert len(seen) == 17
    assert min(seen.values()) > 100, seen


# --- named structures, against ASE ---


def graphite(build: Any) -> Any:
    from ase import Atoms

    places = [(0, 0, 0.25), (0, 0, 0.75), (1 / 3, 2 / 3, 0.25), (2 / 3, 1 / 3, 0.75)]
    return Atoms("C4", scaled_positions=places, cell=[2.461, 2.461, 6.708, 90, 90, 120], pbc=True)


def with_axes(atoms: Any, *pbc: bool) -> Any:
    atoms.pbc = pbc
    return atoms


def outside(atoms: Any) -> Any:
    """Left-handed cell, atoms many cells away."""
    atoms.cell[[0, 1]] = atoms.cell[[1, 0]]
    atoms.positions += np.random.default_rng(0).integers(-9, 10, (len(atoms), 3)) @ atoms.cell.array
    return atoms


NAMED: dict[str, tuple[Callable[[Any], Any], float]] = {
    "diamond": (lambda build: build.bulk("C", "diamond", 3.567), 5.0),
    "graphite": (graphite, 6.1),
    "NaCl": (lambda build: build.bulk("NaCl", "rocksalt", 5.64), 6.0),
    "NaCl, conventional": (lambda build: build.bulk("NaCl", "rocksalt", 5.64, cubic=True), 6.0),
    "NaCl, left-handed and unwrapped": (lambda build: outside(build.bulk("NaCl", "rocksalt", 5.64, cubic=True)), 6.0),
    "hcp Ti": (lambda build: build.bulk("Ti", "hcp", 2.95, c=4.68), 6.0),
    "fcc, cutoff of three cells": (lambda build: build.bulk("Cu", "fcc", 3.61), 10.9),
    "simple cubic, cutoff of three cells": (lambda build: build.bulk("Po", "sc", 3.35), 10.1),
    "fcc111": (lambda build: build.fcc111("Cu", (2, 2, 3), vacuum=8.0), 6.0),
    "fcc100 without vacuum": (lambda build: build.fcc100("Al", (1, 1, 4)), 7.0),
    "fcc110, one open axis in the plane": (
        lambda build: with_axes(build.fcc110("Al", (2, 3, 4), vacuum=5.0), True, False, True),
        6.0,
    ),
    "fcc100 wire": (lambda build: with_axes(build.fcc100("Al", (2, 2, 3), vacuum=4.0), False, True, False), 6.0),
    "graphene": (lambda build: with_axes(build.graphene(vacuum=5.0), True, True, False), 5.0),
    "nanotube": (lambda build: build.nanotube(6, 0, length=1), 5.0),
    "molecule": (lambda build: build.molecule("C6H6"), 3.0),
}


def named(name: str) -> Any:
    """The structure as ASE's atoms."""
    return NAMED[name][0](pytest.importorskip("ase.build"))


def tensors(atoms: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Positions [N, 3], cell [1, 3, 3] and periodic axes [1, 3]."""
    return (
        torch.from_numpy(atoms.positions),
        torch.from_numpy(atoms.cell.array)[None],
        torch.from_numpy(atoms.pbc)[None],
    )


@pytest.mark.parametrize("name", NAMED)
def test_named_structures_equal_ase(name: str) -> None:
    neighborlist = pytest.importorskip("ase.neighborlist")
    atoms, cutoff = named(name), NAMED[name][1]
    i, j, shift, vector = neighborlist.neighbor_list("ijSD", atoms, cutoff)
    expected = np.column_stack([i, j, shift])
    order = ordered(expected)
    pos, cell, pbc = tensors(atoms)
    graph = radius_graph(pos, cutoff, cell=cell, pbc=pbc)
    assert len(i) > 0
    np.testing.assert_array_equal(sorted_rows(graph), expected[order])
    check_consistent(graph, len(pos))
    ours = edge_vectors(pos, graph.edge_index, graph.edge_shift, cell).numpy()[ordered(rows_of(graph))]
    np.testing.assert_allclose(ours, vector[order], rtol=0, atol=1e-12)  # ASE wraps atoms from up to 100 Angstrom away


def test_a_batch_is_its_structures_side_by_side() -> None:
    parts = [tensors(named(name)) for name in NAMED]
    pos, cell, pbc = (torch.cat(values) for values in zip(*parts, strict=True))
    sizes = torch.tensor([len(part[0]) for part in parts])
    graph = radius_graph(pos, 5.03, torch.arange(len(parts)).repeat_interleave(sizes), cell, pbc)
    alone = [rows_of(radius_graph(p, 5.03, cell=c, pbc=axes)) for p, c, axes in parts]
    first = (sizes.cumsum(0) - sizes).tolist()
    np.testing.assert_array_equal(
        rows_of(graph), np.concatenate([renumbered(rows, start) for rows, start in zip(alone, first, strict=True)])
    )
    check_consistent(graph, len(pos))


@pytest.mark.parametrize(
    ("name", "coordination", "bond"),
    [("diamond", 4, 1.5446), ("NaCl", 6, 2.82), ("graphene", 3, 1.42), ("fcc, cutoff of three cells", 12, 2.5527)],
)
def test_coordination_of_textbook_structures(name: str, coordination: int, bond: float) -> None:
    pos, cell, pbc = tensors(named(name))
    graph = radius_graph(pos, 1.1 * bond, cell=cell, pbc=pbc)
    assert graph.rowptr.diff().tolist() == [coordination] * len(pos)
    distance = lengths(graph, pos, cell)
    torch.testing.assert_close(distance, torch.full_like(distance, bond), rtol=0, atol=1e-3)  # of the constants above


# --- many bins, many chunks ---


@pytest.mark.parametrize("size", [500, 40])
@pytest.mark.parametrize("pbc", [(False, False, False), (True, False, True), ALL], ids=str)
def test_many_bins_equal_brute_force(pbc: tuple[bool, ...], size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SIZES, "most_pairs", -1)
    cell, axes = 6 * TRICLINIC, np.array(pbc)
    pos = (3 * torch.rand(size, 3, dtype=torch.float64) - 1) @ cell[0]  # three cells wide, so wrapped or far apart
    expected = brute_force(pos.numpy(), cell[0].numpy(), axes, 3.5)
    graph = radius_graph(pos, 3.5, cell=cell, pbc=torch.tensor([pbc]), backend="torch")
    assert expected.margin > 1e-9
    np.testing.assert_array_equal(sorted_rows(graph), expected.rows[ordered(expected.rows)])
    check_consistent(graph, size)
    lattice = lattice_of(cell, torch.tensor([pbc]), 1, cell.device)
    with Looks() as looks:
        candidate_pairs(pos, 3.5, torch.zeros(size, dtype=torch.long), 1, lattice)
    # at most eight atoms in a bin on average, so 27 x 8 / 2 partners; one bin would make these pairs of everyone
    assert sum(looks.compared) < min(108 * size, 0.75 * size * (size - 1) / 2 * 3 ** sum(pbc))


@pytest.mark.parametrize(("rows", "pairs"), [(1, 1), (7, 3), (50, 1000), (500, 50)])
def test_chunks_change_nothing(rows: int, pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = torch.tensor([8, 0, 1, 30, 2])
    batch = torch.arange(5).repeat_interleave(sizes)
    scale = torch.tensor([1.0, 2, 1, 2.5, 0.5], dtype=torch.float64)
    cell = scale[:, None, None] * TRICLINIC
    pbc = torch.tensor([ALL, ALL, (True, False, False), (True, True, False), ALL])
    pos = torch.einsum("nk,nkl->nl", torch.rand(len(batch), 3, dtype=torch.float64), cell[batch])
    expected = radius_graph(pos, 4.0, batch, cell, pbc, "torch")
    given = pos, 4.0, batch, 5, lattice_of(cell, pbc, 5, cell.device)
    monkeypatch.setattr(SIZES, "rows_per_chunk", 1)
    monkeypatch.setattr(SIZES, "pairs_per_chunk", 1)
    with Looks() as one_by_one:
        candidate_pairs(*given)
    monkeypatch.setattr(SIZES, "rows_per_chunk", rows)
    monkeypatch.setattr(SIZES, "pairs_per_chunk", pairs)
    assert_same_graph(radius_graph(pos, 4.0, batch, cell, pbc, "torch"), expected)
    with Looks() as looks:
        candidate_pairs(*given)
    assert sum(looks.compared) == sum(one_by_one.compared)
    assert max(looks.compared) <= pairs + max(one_by_one.compared)  # the row that goes beyond is done as a whole
    assert max(looks.placed) <= max(rows, *one_by_one.placed)  # never less than those of one atom
    assert 2 < len(looks.compared) <= len(one_by_one.compared)


# --- laws of lattices ---


def crystal(size: int = 6) -> Tensor:
    return torch.rand(size, 3, dtype=torch.float64) @ TRICLINIC[0]


def test_moving_atoms_by_lattice_vectors_changes_shifts_only() -> None:
    pos, pbc = crystal(), torch.tensor([ALL])
    graph = radius_graph(pos, 5.0, cell=TRICLINIC, pbc=pbc)
    cells = torch.randint(-3, 4, pos.shape)
    moved_pos = pos + cells.double() @ TRICLINIC[0]
    moved = radius_graph(moved_pos, 5.0, cell=TRICLINIC, pbc=pbc)
    source, target = graph.edge_index
    expected = np.column_stack([target, source, graph.edge_shift - cells[source] + cells[target]])
    np.testing.assert_array_equal(sorted_rows(moved), expected[ordered(expected)])
    before, after = (lengths(g, p, TRICLINIC)[ordered(rows_of(g))] for g, p in ((graph, pos), (moved, moved_pos)))
    torch.testing.assert_close(after.sort().values, before.sort().values, rtol=0, atol=1e-12)  # coordinates of order 10


def distances_per_atom(pos: Tensor, cell: Tensor, pbc: tuple[bool, ...], cutoff: float) -> list[Tensor]:
    graph = radius_graph(pos, cutoff, cell=cell, pbc=torch.tensor([pbc]))
    parts = lengths(graph, pos, cell).split(graph.rowptr.diff().tolist())
    return [part.sort().values for part in parts]


@pytest.mark.parametrize("pbc", [ALL, (True, False, True), (False, True, False)], ids=str)
def test_atoms_of_a_supercell_have_the_neighbors_of_the_cell(pbc: tuple[bool, ...]) -> None:
    pos = crystal()
    repeats = torch.tensor([3, 2, 2]).where(torch.tensor(pbc), 1)
    copies = torch.cartesian_prod(*(torch.arange(n) for n in repeats)).double() @ TRICLINIC[0]
    supercell = (copies[:, None] + pos).view(-1, 3)
    expected = distances_per_atom(pos, TRICLINIC, pbc, 5.0) * len(copies)
    found = distances_per_atom(supercell, repeats.double()[:, None] * TRICLINIC, pbc, 5.0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)  # coordinates of order 10
    assert min(map(len, expected)) > 3


@pytest.mark.parametrize(
    "integers",
    [
        [[0, 1, 0], [1, 0, 0], [0, 0, 1]],  # left-handed
        [[-1, 0, 0], [0, -1, 0], [0, 0, -1]],
        [[1, 0, 0], [4, 1, 0], [-7, 3, 1]],  # unreduced
        [[1, 0, 0], [150, 1, 0], [0, 0, 1]],  # two vectors at 0.4 degrees
        [[1, 200, 0], [0, 1, 0], [0, 0, -1]],
    ],
    ids=str,
)
def test_the_choice_of_lattice_vectors_does_not_matter(integers: list[list[int]]) -> None:
    pos, matrix = crystal(3), torch.tensor(integers, dtype=torch.float64)
    expected = distances_per_atom(pos, TRICLINIC, ALL, 5.0)
    found = distances_per_atom(pos, (matrix @ TRICLINIC[0])[None], ALL, 5.0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)  # shifts of some hundred cells of 700 Angstrom


def test_rotation_and_translation(rotation: Tensor) -> None:
    pos, pbc = crystal(), torch.tensor([ALL])
    graph = radius_graph(pos, 5.0, cell=TRICLINIC, pbc=pbc)
    rotated = radius_graph(pos @ rotation, 5.0, cell=TRICLINIC @ rotation, pbc=pbc)
    moved = radius_graph(pos + torch.tensor([70.0, -3.0, 1e3]), 5.0, cell=TRICLINIC, pbc=pbc)
    for other in (rotated, moved):
        np.testing.assert_array_equal(sorted_rows(other), sorted_rows(graph))


@pytest.mark.parametrize("pbc", [(False, False, True), (True, True, False)], ids=str)
def test_rows_of_open_axes_play_no_role(pbc: tuple[bool, ...]) -> None:
    pos, axes = crystal(), torch.tensor([pbc])
    expected = radius_graph(pos, 5.0, cell=TRICLINIC, pbc=axes)
    for row in ([0.0, 0, 0], TRICLINIC[0, pbc.index(True)].tolist(), [1e-9, 0, 0], [0, 1e9, 0], [math.nan] * 3):
        cell = torch.where(axes[..., None], TRICLINIC, torch.tensor(row, dtype=torch.float64))
        assert_same_graph(radius_graph(pos, 5.0, cell=cell, pbc=axes), expected)
    assert not expected.edge_shift[:, ~axes[0]].any()
    assert expected.edge_shift[:, axes[0]].any()


@pytest.mark.parametrize("pbc", [ALL, (False, True, True)], ids=str)
def test_float32_gives_the_edges_of_float64(pbc: tuple[bool, ...]) -> None:
    """Pairs within a rounding of the cutoff, through the boundary, where float32 would decide at random."""
    cutoff, count = 1.7, 400
    cell = TRICLINIC.float().repeat(count, 1, 1)
    first = torch.rand(count, 3) @ TRICLINIC[0].float()
    direction = torch.nn.functional.normalize(torch.randn(count, 3))
    pos = torch.stack([first, first + cutoff * direction + cell[:, 2]], dim=1).view(-1, 3)
    batch, axes = torch.arange(2 * count) // 2, torch.tensor(pbc).repeat(count, 1)
    single = radius_graph(pos, cutoff, batch, cell, axes)
    assert_same_graph(single, radius_graph(pos.double(), cutoff, batch, cell.double(), axes))
    assert 0.25 * 2 * count < len(single.reverse) < 0.75 * 2 * count  # both answers occur


def test_devices_agree(device: torch.device) -> None:
    pos, batch = torch.cat([crystal(), crystal(9)]), torch.tensor([0] * 6 + [1] * 9)
    cell, pbc = TRICLINIC.repeat(2, 1, 1), torch.tensor([ALL, (True, False, False)])
    graph = radius_graph(*(x.to(device) if isinstance(x, Tensor) else x for x in (pos, 6.0, batch, cell, pbc)))
    expected = radius_graph(pos, 6.0, batch, cell, pbc)
    for name in FIELDS:
        assert getattr(graph, name).device.type == device.type
        assert torch.equal(getattr(graph, name).cpu(), getattr(expected, name))


# --- exactly at the cutoff ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("constant", [3.0, 3.3, 0.1])
@pytest.mark.parametrize(("pbc", "neighbors"), [(ALL, 6), ((True, False, True), 4), ((False, True, False), 2)])
def test_distance_of_exactly_the_cutoff_is_no_edge(
    pbc: tuple[bool, ...], neighbors: int, constant: float, dtype: torch.dtype
) -> None:
    cell = constant * torch.eye(3, dtype=dtype)[None]
    cutoff = float(cell[0, 0, 0])  # the lattice constant as it is stored
    for place in (0.0, 0.7, -20.0):
        pos, axes = torch.full((1, 3), place, dtype=dtype), torch.tensor([pbc])
        assert radius_graph(pos, cutoff, cell=cell, pbc=axes).reverse.numel() == 0
        above = radius_graph(pos, math.nextafter(cutoff, math.inf), cell=cell, pbc=axes)
        assert above.reverse.numel() == neighbors
        check_consistent(above, 1)


@pytest.mark.parametrize("backend", ["torch", pytest.param("numba", marks=needs_numba)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pairs_at_the_last_bit_of_the_cutoff_in_far_images(backend: str, dtype: torch.dtype) -> None:
    """Hundreds of cells away, where wrapping rounds: search and `within_cutoff` decide alike, and by the last bit."""
    both = 0
    for _ in range(6):
        cell = (5 * torch.eye(3) + 0.5 * torch.randn(3, 3)).to(dtype)[None]
        pbc, batch = torch.tensor([ALL]), torch.zeros(4, dtype=torch.long)
        pos = (torch.rand(4, 3, dtype=dtype) + torch.randint(-300, 300, (4, 3))) @ cell[0]
        wide = radius_graph(pos, 4.0, cell=cell, pbc=pbc, backend=backend)
        for distance in lengths(wide, pos, cell)[::7].tolist():
            found = []
            for cutoff in (math.nextafter(distance, 0), distance, math.nextafter(distance, 9), distance * (1 + 3e-16)):
                kept = within_cutoff(pos, wide.edge_index, wide.edge_shift, cell, batch, cutoff)
                graph = radius_graph(pos, cutoff, cell=cell, pbc=pbc, backend=backend)
                np.testing.assert_array_equal(rows_of(graph), rows_of(wide)[kept.numpy()])
                found.append(int(kept.sum()))
            both += found[0] < found[-1]
    assert both > 20  # cutoffs without and with a pair


# --- derivatives ---


def test_derivatives_of_distances_with_respect_to_positions_and_cell() -> None:
    pos = torch.cat([crystal(2), crystal(3)]).requires_grad_()
    batch, pbc = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([ALL, (True, False, True)])
    cell = (TRICLINIC * torch.tensor([0.8, 1.0], dtype=torch.float64)[:, None, None]).requires_grad_()
    graph = radius_graph(pos, 4.5, batch, cell, pbc)
    assert not any(getattr(graph, name).requires_grad for name in FIELDS)

    def distances(pos: Tensor, cell: Tensor) -> Tensor:
        return edge_vectors(pos, graph.edge_index, graph.edge_shift, cell, batch).norm(dim=1)

    assert (graph.edge_shift != 0).any(dim=1).sum() > 10
    assert torch.autograd.gradcheck(distances, (pos, cell))
    by_pos, by_cell = torch.autograd.grad(distances(pos, cell).square().sum(), (pos, cell))
    assert not by_cell[1, 1].any()  # the open axis
    assert by_cell[pbc].abs().min() > 0
    # a crystal as a whole has no force; sums of some hundred terms of order ten
    torch.testing.assert_close(by_pos[:2].sum(dim=0), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-11)


# --- degenerate input ---


@pytest.mark.parametrize("pbc", [ALL, (True, False, False)], ids=str)
def test_no_atoms(pbc: tuple[bool, ...]) -> None:
    graph = radius_graph(torch.zeros(0, 3), 5.0, cell=torch.eye(3)[None], pbc=torch.tensor([pbc]))
    check_consistent(graph, 0)
    assert graph.edge_index.shape == (2, 0)
    assert graph.rowptr.tolist() == [0]
    nobody = torch.zeros(0, dtype=torch.long)
    cells, axes = torch.eye(3).repeat(2, 1, 1), torch.tensor([pbc, pbc])
    assert_same_graph(radius_graph(torch.zeros(0, 3), 5.0, nobody, cells, axes, batch_size=2), graph)


@pytest.mark.parametrize(
    ("second", "shift"),
    [([1.0, 2.0, 3.0], 0), ([5.0, 2.0, 3.0], 1), ([1.0, -2.0, 3.0], 1), ([9.0, 10.0, -1.0], 3)],
    ids=str,
)
def test_two_atoms_at_the_same_place_are_refused(second: list[float], shift: int) -> None:
    """In any image: a cubic cell of 4 Angstrom; binary fractions, so that the places are exactly the same."""
    pos = torch.tensor([[0.5, 0.5, 0.5], [1.0, 2.0, 3.0], second])
    arguments = {"cell": 4 * torch.eye(3)[None], "pbc": torch.tensor([ALL])}
    with pytest.raises(ValueError, match=r"atoms 1 and 2 are at the same place \[1.0, 2.0, 3.0\].*remove one"):
        radius_graph(pos, 0.3, **arguments)
    if shift:
        assert radius_graph(pos, 0.3).reverse.numel() == 0  # as a molecule they are apart


def test_atoms_at_both_ends_of_the_cell_are_at_the_same_place() -> None:
    pos = torch.stack([torch.zeros(3, dtype=torch.float64), TRICLINIC[0, 1]])
    with pytest.raises(ValueError, match="atoms 0 and 1 are at the same place"):
        radius_graph(pos, 3.0, cell=TRICLINIC, pbc=torch.tensor([ALL]))
    open_there = radius_graph(pos, 3.0, cell=TRICLINIC, pbc=torch.tensor([[True, False, True]]))
    assert open_there.reverse.numel() == 0


CELL, PBC = 4 * torch.eye(3)[None], torch.tensor([ALL])
NOWHERE = r"the periodic lattice vectors of structure 0 span no volume: cell .*, pbc .*; expected finite, linearly"


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"cell": None}, ValueError, "`pbc` names periodic axes but `cell` is missing; pass the lattice vectors"),
        ({"pbc": None}, ValueError, "`cell` is given but `pbc` is missing; pass the periodic axes"),
        ({"cutoff": math.inf}, ValueError, "`cutoff` must be finite in periodic structures"),
        ({"cutoff": math.nan}, ValueError, "`cutoff` must be positive, got nan"),
        ({"pos": torch.full((1, 3), math.nan)}, ValueError, "`pos` must be finite, got .*nan.* for atom 0"),
        ({"cell": 0 * CELL}, ValueError, NOWHERE),
        ({"cell": math.nan * CELL}, ValueError, NOWHERE),
        ({"cell": math.inf * torch.ones(1, 3, 3)}, ValueError, NOWHERE),
        ({"cell": torch.ones(1, 3, 3)}, ValueError, NOWHERE),
        ({"cell": CELL[0]}, ValueError, r"`cell` must have shape \[1, 3, 3\], got \[3, 3\]"),
        ({"cell": CELL.repeat(2, 1, 1)}, ValueError, r"`cell` must have shape \[1, 3, 3\], got \[2, 3, 3\]"),
        ({"cell": CELL.long()}, TypeError, r"`cell` must be a floating-point tensor \[1, 3, 3\], got torch.int64"),
        ({"cell": CELL.tolist()}, TypeError, r"`cell` must be a floating-point tensor \[1, 3, 3\], got list"),
        ({"cell": CELL.numpy()}, TypeError, r"`cell` must be a floating-point tensor \[1, 3, 3\], got ndarray"),
        ({"pbc": PBC[0]}, ValueError, r"`pbc` must have shape \[1, 3\], got \[3\]"),
        ({"pbc": PBC.repeat(2, 1)}, ValueError, r"`pbc` must have shape \[1, 3\], got \[2, 3\]"),
        ({"pbc": PBC.long()}, TypeError, r"`pbc` must be a bool tensor \[1, 3\], got torch.int64"),
        ({"pbc": [ALL]}, TypeError, r"`pbc` must be a bool tensor \[1, 3\], got list"),
        ({"pbc": True}, TypeError, r"`pbc` must be a bool tensor \[1, 3\], got bool"),
    ],
)
def test_bad_input_is_refused(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"pos": torch.zeros(1, 3), "cutoff": 3.0, "cell": CELL, "pbc": PBC} | changed
    with pytest.raises(error, match=message):
        radius_graph(**arguments)


@pytest.mark.parametrize("pbc", [None, ~PBC], ids=["none", "open"])
def test_infinite_cutoff_needs_open_structures_only(pbc: Tensor | None) -> None:
    pos = torch.tensor([[0.0, 0, 0], [99.0, 0, 0]])
    graph = radius_graph(pos, math.inf, cell=None if pbc is None else CELL, pbc=pbc)
    assert graph.edge_index.tolist() == [[1, 0], [0, 1]]
