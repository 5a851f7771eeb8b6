"""The Verlet list against `radius_graph` and brute force at every step of long walks, and how rarely it searches."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from pyg_schnet import Graph, SchNet, radius_graph
from pyg_schnet.graph import VerletList
from tests.conftest import FIELDS, assert_same_graph
from tests.pretended_gpu import pretended_gpu

ALL, NONE, SLAB, WIRE = (True, True, True), (False, False, False), (True, True, False), (False, True, False)


class World(NamedTuple):
    """A batch of structures, float64."""

    pos: Tensor
    batch: Tensor
    cell: Tensor
    pbc: Tensor

    def arguments(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Copies, which the caller may do with what he likes."""
        return self.pos.clone(), self.batch.clone(), self.cell.clone(), self.pbc.clone()


def random(*shape: int) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def mixed(kinds: list[tuple[int, float, tuple[bool, ...]]]) -> World:
    """Structures of (atoms, edge of the cell in Angstrom, periodic axes) in skewed cells."""
    batch = torch.arange(len(kinds)).repeat_interleave(torch.tensor([size for size, _, _ in kinds]))
    skew = torch.eye(3, dtype=torch.float64) + 0.25 * (random(len(kinds), 3, 3) - 0.5)
    cell = torch.tensor([edge for _, edge, _ in kinds], dtype=torch.float64)[:, None, None] * skew
    pos = torch.einsum("nk,nkl->nl", random(len(batch), 3), cell[batch])
    return World(pos, batch, cell, torch.tensor([list(pbc) for _, _, pbc in kinds]))


def zoo() -> World:
    """Molecules, slabs and crystals of all sizes, empty ones too, one cell smaller than the cutoff."""
    crystals = [(1, 2.0, ALL), (0, 4.0, ALL), (12, 5.0, ALL), (9, 4.0, SLAB), (5, 3.5, WIRE), (4, 2.5, ALL)]
    molecules = [(7, 3.0, NONE), (1, 3.0, NONE), (2, 6.0, NONE), (0, 1.0, NONE)]
    return mixed([molecules[0], *crystals[:3], molecules[1], *crystals[3:], *molecules[2:]])


def wrapped(world: World) -> Tensor:
    """Positions moved into the cell along the periodic axes."""
    cell = torch.where(world.pbc[:, :, None], world.cell, torch.eye(3, dtype=torch.float64))
    turns = torch.linalg.solve(cell[world.batch].mT, world.pos.unsqueeze(-1)).squeeze(-1).floor()
    turns = torch.where(world.pbc[world.batch], turns, 0.0)
    return world.pos - torch.einsum("nk,nkl->nl", turns, cell[world.batch])


def exact(world: World, cutoff: float = 3.0) -> Graph:
    return radius_graph(world.pos, cutoff, world.batch, world.cell, world.pbc, batch_size=len(world.cell))


def edges_of(graph: Graph) -> list[tuple[int, ...]]:
    """(target, source, shift) of every edge, in the order of the graph."""
    columns = torch.cat([graph.edge_index.flip(0), graph.edge_shift.T])
    return [tuple(edge) for edge in columns.T.tolist()]


def brute_force(world: World, cutoff: float) -> list[tuple[int, ...]]:
    """All (target, source, shift) closer than the cutoff, in order, from every image that could be; no wrapping."""
    found = []
    for structure in range(len(world.cell)):
        atoms = (world.batch == structure).nonzero().squeeze(1)
        if not len(atoms):
            continue
        pos, cell, pbc = world.pos[atoms], world.cell[structure], world.pbc[structure]
        reach = [0, 0, 0]
        if pbc.any():
            # the part of a vector along a periodic direction is a combination of the periodic vectors alone
            inverse = torch.linalg.pinv(cell[pbc])
            span = ((pos[:, None] - pos) @ inverse).abs().flatten(0, 1).amax(dim=0)
            most = (span + cutoff * inverse.norm(dim=0)).ceil()
            for axis, images in zip(pbc.nonzero().flatten().tolist(), most.tolist(), strict=True):
                reach[axis] = int(images)
        images = torch.tensor(list(itertools.product(*(range(-n, n + 1) for n in reach))))
        vector = pos - pos[:, None] + (images.double() @ cell)[:, None, None]  # [images, target, source, 3]
        near = vector.square().sum(dim=-1) < cutoff**2
        near[(images == 0).all(dim=1)] &= ~torch.eye(len(pos), dtype=torch.bool)
        image, target, source = near.nonzero().T
        found.append(torch.cat([atoms[target][:, None], atoms[source][:, None], images[image]], dim=1))
    return sorted(tuple(edge) for part in found for edge in part.tolist())


def walk(world: World, steps: int, length: float | Tensor, wrap: bool = False, strain: float = 0.0) -> Iterator[World]:
    """A random walk; with strain, cell and atoms of the periodic structures are deformed every seventh step."""
    for step in range(steps):
        yield world
        world = world._replace(pos=world.pos + length * normal(*world.pos.shape))
        if strain and step % 7 == 6:
            deform = torch.eye(3, dtype=torch.float64) + strain * normal(len(world.cell), 3, 3)
            pos = torch.einsum("nk,nkl->nl", world.pos, deform[world.batch])
            world = world._replace(pos=pos, cell=world.cell @ deform)
        if wrap:
            world = world._replace(pos=wrapped(world))


@pytest.mark.parametrize("wrap", [False, True], ids=["free", "wrapped"])
@pytest.mark.parametrize("strain", [0.0, 0.01], ids=["nvt", "npt"])
def test_every_step_of_a_walk(wrap: bool, strain: float) -> None:
    """Structures of their own tempo, so that each is searched at times of its own."""
    world, neighbors, searched = zoo(), VerletList(3.0, 1.0), set()
    tempo = torch.tensor([0.01, 0.2, 0.1, 0.06, 0.1, 0.002, 0.1, 0.03, 0.15, 0.1], dtype=torch.float64)
    for step, now in enumerate(walk(world, 200, tempo[world.batch][:, None], wrap, strain)):
        before, arguments = neighbors.rebuilds, now.arguments()
        graph = neighbors(*arguments, batch_size=10)
        searched.add(neighbors.rebuilds - before)
        assert_same_graph(graph, exact(now))
        if step % 10 == 0:
            assert edges_of(graph) == brute_force(now, 3.0)
        for argument in arguments:
            argument.zero_()  # what the caller does with his tensors is his business
    assert {0, 1, 2, 10} <= searched  # no structure, some, and at first or with a new cell all of them
    assert neighbors.rebuilds < 200 * 10 / 2


@pytest.mark.parametrize("skin", [0.0, 0.3, 1.5, 6.0])
def test_any_skin(skin: float) -> None:
    neighbors, world = VerletList(2.5, skin), zoo()
    for now in walk(world, 60, 0.05, wrap=True, strain=0.005):
        graph = neighbors(*now.arguments(), batch_size=10)
        assert_same_graph(graph, exact(now, 2.5))


@pytest.mark.parametrize("pbc", [ALL, NONE, SLAB], ids=["crystal", "molecule", "slab"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_single_structure_without_batch(pbc: tuple[bool, ...], dtype: torch.dtype) -> None:
    """Small displacements from a moving place: many steps without a search, each of many searches at another time."""
    world, neighbors, steps = mixed([(30, 6.0, pbc)]), VerletList(3.0, 0.8), 150
    for now in walk(world, steps, 0.03, wrap=True):
        pos, cell = now.pos.to(dtype), now.cell.to(dtype)
        assert_same_graph(neighbors(pos, cell=cell, pbc=now.pbc), radius_graph(pos, 3.0, cell=cell, pbc=now.pbc))
    assert 3 < neighbors.rebuilds < steps / 2


def test_molecules_without_cell() -> None:
    world, neighbors = mixed([(n, 4.0, NONE) for n in (20, 3, 1, 12)]), VerletList(3.0, 1.0)
    for now in walk(world, 150, 0.05):
        graph = neighbors(now.pos, now.batch)
        assert_same_graph(graph, radius_graph(now.pos, 3.0, now.batch))
        assert edges_of(graph) == brute_force(now, 3.0)
    assert 4 * 3 < neighbors.rebuilds < 4 * 150 / 2


def test_two_atoms_that_meet() -> None:
    """What SchNetPack's list misses: one molecule resets the reference positions of the others."""
    pos = torch.tensor([[0.0, 0, 0], [9.0, 0, 0], [0.0, 0, 0], [9.0, 0, 0]], dtype=torch.float64)
    batch, neighbors, seen = torch.tensor([0, 0, 1, 1]), VerletList(5.0, 2.0), set()
    for step in range(80):
        pos[1, 0] -= 0.09  # slowly towards its neighbour
        pos[3, 0] += 1.2 * (-1) ** (step // 40)  # so fast that it is searched at every step
        graph = neighbors(pos, batch)
        seen.add(graph.edge_index.size(1))
        assert edges_of(graph) == edges_of(radius_graph(pos, 5.0, batch))
    assert seen >= {0, 2}


def test_only_the_structure_that_moved_is_searched() -> None:
    world, neighbors = zoo(), VerletList(3.0, 1.0)
    neighbors(*world.arguments(), batch_size=10)
    assert neighbors.rebuilds == 10
    for step in range(20):
        atom = int((world.batch == 3).nonzero()[step % 12])
        world.pos[atom] += torch.tensor([0.0, 0.6, 0.0])
        graph = neighbors(*world.arguments(), batch_size=10)
        assert neighbors.rebuilds == 11 + step
        assert_same_graph(graph, exact(world))


def test_a_slow_structure_is_searched_at_its_own_time() -> None:
    """It moves from where it was at its own last search, however often the other one was searched since."""
    pos = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [0.0, 0, 0], [1.0, 0, 0]], dtype=torch.float64)
    batch, neighbors, counts = torch.tensor([0, 0, 1, 1]), VerletList(5.0, 2.0), []
    for _ in range(9):
        counts.append((neighbors(pos, batch), neighbors.rebuilds)[1])
        pos[1, 1] += 0.375  # exact in binary; beyond 1 A at every third step
        pos[3, 1] += 1.5  # at every step
    assert counts == [2, 3, 4, 6, 7, 8, 10, 11, 12]


@pytest.mark.parametrize("skin", [0.0, 1.0])
def test_a_resting_batch_is_searched_once(skin: float) -> None:
    world, neighbors = zoo(), VerletList(3.0, skin)
    for _ in range(5):
        graph = neighbors(*world.arguments(), batch_size=10)
    assert neighbors.rebuilds == 10
    assert_same_graph(graph, exact(world))


def test_half_the_skin_is_the_limit() -> None:
    pos, neighbors = torch.tensor([[0.0, 0, 0], [1.0, 0, 0]], dtype=torch.float64), VerletList(2.0, 1.0)
    neighbors(pos)
    pos[1, 0] = 1.5  # exact in binary
    neighbors(pos)
    assert neighbors.rebuilds == 1
    pos[1, 0] = math.nextafter(1.5, 2.0)
    neighbors(pos)
    assert neighbors.rebuilds == 2


def test_pairs_that_just_reach_each_other_within_half_the_skin() -> None:
    """Two atoms at the very edge of cutoff + skin, both half the skin closer: the pair lies within a rounding of the
    cutoff, on either side of it.
    """
    direction = torch.nn.functional.normalize(normal(400, 3))
    first = 10 * random(400, 3)
    batch, neighbors = torch.arange(800) // 2, VerletList(3.0, 1.0)
    start = torch.stack([first, first + 4.0 * direction], dim=1).view(800, 3)
    neighbors(start, batch)
    closer = torch.stack([first + 0.5 * direction, first + 3.5 * direction], dim=1).view(800, 3)
    expected = radius_graph(closer, 3.0, batch)
    assert 100 < expected.edge_index.size(1) < 700  # of 800: both answers occur
    assert_same_graph(neighbors(closer, batch), expected)


@pytest.mark.parametrize("pbc", [ALL, SLAB], ids=["crystal", "slab"])
def test_whole_lattice_vectors_are_no_displacement(pbc: tuple[bool, ...]) -> None:
    """Wrapping, and jumps of many cells; along an open axis it is a displacement like any other."""
    world, neighbors = mixed([(8, 4.0, NONE), (20, 5.0, pbc), (6, 3.0, ALL)]), VerletList(3.0, 1.0)
    neighbors(*world.arguments())
    axes = world.pbc[world.batch].double()
    for step in range(30):
        turns = normal(len(world.pos), 3).round() * axes
        jump = torch.einsum("nk,nkl->nl", turns, world.cell[world.batch])
        now = world._replace(pos=world.pos + jump + 0.1 * (random(*world.pos.shape) - 0.5))
        graph = neighbors(*now.arguments())
        assert_same_graph(graph, exact(now))
        if step % 10 == 0:
            assert edges_of(graph) == brute_force(now, 3.0)
    assert neighbors.rebuilds == 3
    across = world.cell[1, 2]  # the third axis, which the slab does not have
    graph = neighbors(world.pos + (world.batch == 1)[:, None] * across * (torch.arange(34) < 12)[:, None], *world[1:])
    assert neighbors.rebuilds == (3 if pbc == ALL else 4)


def test_a_jump_and_a_search_in_one_step() -> None:
    """One structure wraps an atom while another must be searched, and later the other way round."""
    world, neighbors = mixed([(10, 4.0, ALL), (10, 4.0, ALL)]), VerletList(3.0, 1.0)
    neighbors(*world.arguments())
    for step in range(12):
        jumper, mover = step % 2, 1 - step % 2
        world.pos[10 * jumper + step % 5] += world.cell[jumper, step % 3]
        world.pos[10 * mover + 7] += 0.5
        assert_same_graph(neighbors(*world.arguments()), exact(world))
        assert neighbors.rebuilds == 3 + step


def test_cell_and_periodic_axes_of_one_structure_change() -> None:
    world, neighbors = mixed([(8, 4.0, ALL), (9, 4.0, ALL), (7, 4.0, NONE)]), VerletList(3.0, 1.0)
    neighbors(*world.arguments())
    expected = 3

    def check(searched: int) -> None:
        nonlocal expected
        expected += searched
        assert_same_graph(neighbors(*world.arguments()), exact(world))
        assert neighbors.rebuilds == expected

    world.cell[1, 0, 1] += 1e-12  # changed at all
    check(1)
    world.cell[0] *= 1.1
    check(1)
    world.pbc[1, 2] = False
    check(1)
    world.cell[1, 2] = math.nan  # rows of open axes play no role
    check(0)
    world.pbc[:] = False
    check(2)
    world.cell[:] = 7.0
    check(0)
    world.pbc[2, 0] = True  # the first periodic axis again
    check(1)
    world.cell[2, 0] *= 1.5
    check(1)


def test_everything_is_searched_when_the_kind_of_batch_changes() -> None:
    pos, neighbors = 3 * random(12, 3), VerletList(3.0, 1.0)
    cell, pbc, batch = 5 * torch.eye(3).repeat(2, 1, 1), torch.ones(2, 3, dtype=torch.bool), torch.arange(12) // 6
    calls: list[tuple[tuple[Any, ...], dict[str, Any], int]] = [
        ((pos,), {}, 1),
        ((pos, batch), {}, 2),
        ((pos, batch), {"batch_size": 4}, 4),
        ((pos, torch.arange(12) // 4), {}, 3),
        ((pos, torch.arange(12) // 3), {}, 4),  # the same shape, other values
        ((pos[:7], batch[:7]), {}, 2),
        ((pos[:7].float(), batch[:7]), {}, 2),
        ((pos.float(), batch, cell, pbc), {}, 2),
        ((pos.float(), batch, cell.double(), pbc), {}, 2),
        ((pos.float(), batch), {}, 2),
        ((pos[:0],), {}, 1),
        ((pos[:0], batch[:0]), {}, 0),
        ((pos[:0], batch[:0]), {"batch_size": 3}, 3),
        ((pos,), {}, 1),
    ]
    for (first, *others), options, searched in calls:
        before = neighbors.rebuilds
        for _ in range(2):  # the second time there is nothing to do
            graph = neighbors(first, *others, **options)
            assert_same_graph(graph, radius_graph(first, 3.0, *others, **options))
            assert neighbors.rebuilds == before + searched


def test_devices_agree(device: torch.device) -> None:
    neighbors = VerletList(3.0, 1.0)
    for now in walk(zoo(), 60, 0.1, wrap=True):
        graph = neighbors(*(argument.to(device) for argument in now), batch_size=10)
        expected = exact(now)
        for name in FIELDS:
            assert getattr(graph, name).device.type == device.type
            assert torch.equal(getattr(graph, name).cpu(), getattr(expected, name))
    assert 10 < neighbors.rebuilds < 60 * 10 / 2


def test_graphs_belong_to_the_caller() -> None:
    world, neighbors = zoo(), VerletList(3.0, 0.0)
    for _ in range(3):
        graph = neighbors(*world.arguments(), batch_size=10)
        assert_same_graph(graph, exact(world))
        for name in FIELDS:
            getattr(graph, name).fill_(-7)


def test_positions_and_cells_that_require_gradients() -> None:
    world, neighbors = mixed([(6, 3.0, ALL)]), VerletList(3.0, 1.0)
    for _ in range(2):
        pos, cell = world.pos.clone().requires_grad_(), world.cell.clone().requires_grad_()
        with torch.inference_mode():
            neighbors(world.pos, cell=world.cell, pbc=world.pbc)
        graph = neighbors(pos, cell=cell, pbc=world.pbc)
        assert not graph.edge_shift.requires_grad
        world.pos[0] += 0.6


def test_a_failed_call_leaves_the_list_as_it_was() -> None:
    world, neighbors = mixed([(10, 4.0, ALL), (10, 4.0, NONE)]), VerletList(3.0, 1.0)
    neighbors(*world.arguments())
    pos, batch, cell, pbc = world.arguments()
    pos[13, 1] = math.nan
    with pytest.raises(ValueError, match="`pos` must be finite.*for atom 13"):
        neighbors(pos, batch, cell, pbc)
    with pytest.raises(ValueError, match="structure 0 span no volume"):
        neighbors(world.pos, batch, 0 * cell, pbc)
    with pytest.raises(ValueError, match="`batch` must be sorted"):
        neighbors(world.pos, batch.flip(0), cell, pbc)
    with pytest.raises(ValueError, match="`batch` must have shape"):
        neighbors(world.pos, batch[:3], cell, pbc)
    with pytest.raises(TypeError, match="`pos` must be a floating-point tensor"):
        neighbors([[0.0, 0, 0]], batch, cell, pbc)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`pbc` is missing"):
        neighbors(world.pos, batch, cell)
    assert_same_graph(neighbors(*world.arguments()), exact(world))
    assert neighbors.rebuilds == 2


@pytest.mark.parametrize("far", [0.1, 3.0], ids=["held", "searched"])
def test_two_atoms_at_the_same_place_are_refused(far: float) -> None:
    """Whether they are found in the list held or in a new search."""
    pos, neighbors = torch.tensor([[0.0, 0, 0], [9.0, 0, 0], [9.0, 0, far]]), VerletList(4.0, 1.0)
    neighbors(pos)
    pos[2, 2] = 0.0
    with pytest.raises(ValueError, match=r"atoms 1 and 2 are at the same place \[9.0, 0.0, 0.0\].*remove one"):
        neighbors(pos)


@pytest.mark.parametrize(
    ("cutoff", "skin", "error", "message"),
    [
        (0.0, 1.0, ValueError, "`cutoff` must be positive, got 0.0"),
        ("5", 1.0, TypeError, "`cutoff` must be a number in Angstrom, got str"),
        (math.inf, 1.0, ValueError, "`cutoff` of a Verlet list must be finite, got inf; `radius_graph"),
        (5.0, -0.5, ValueError, "`skin` must be finite and not negative, got -0.5; 0.5 to 2 Angstrom are usual"),
        (5.0, math.inf, ValueError, "`skin` must be finite and not negative, got inf"),
        (5.0, math.nan, ValueError, "`skin` must be finite and not negative, got nan"),
        (5.0, None, TypeError, "`skin` must be a number in Angstrom, got NoneType"),
        (5.0, True, TypeError, "`skin` must be a number in Angstrom, got bool"),
    ],
)
def test_impossible_lengths_are_refused(cutoff: Any, skin: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        VerletList(cutoff, skin)


def test_it_prints_what_it_is() -> None:
    assert repr(VerletList(5, 1)) == "VerletList(cutoff=5.0, skin=1.0)"


def test_schnet_with_the_edges_of_the_list(make_model: Callable[..., SchNet]) -> None:
    """Energies of the list's edges are those of the model's own graph; only the order of summation may differ, so
    1e-12 of the largest energy is a thousand roundings.
    """
    model, neighbors = make_model(cutoff=3.0), VerletList(3.0, 1.0)
    world = mixed([(7, 3.0, NONE), (9, 4.0, NONE), (4, 3.0, NONE)])
    z = torch.randint(1, 10, (20,))
    for now in walk(world, 20, 0.1):
        graph = neighbors(now.pos, now.batch)
        own = model(z, now.pos, now.batch)
        listed = model(z, now.pos, now.batch, edge_index=graph.edge_index, edge_shift=graph.edge_shift)
        torch.testing.assert_close(listed, own, rtol=0, atol=1e-12 * float(own.detach().abs().max()))


def test_schnet_on_crystals_with_the_edges_of_the_list(make_model: Callable[..., SchNet]) -> None:
    """The same with a cell, atoms crossing its faces; tolerance as above."""
    model, neighbors = make_model(cutoff=3.0), VerletList(3.0, 1.0)
    world = mixed([(7, 3.0, NONE), (9, 4.0, ALL), (4, 2.5, SLAB)])
    z = torch.randint(1, 10, (20,))
    for now in walk(world, 20, 0.1, wrap=True):
        pos, batch, cell, pbc = now
        graph = neighbors(pos, batch, cell, pbc)
        own = model(z, pos, batch, cell=cell, pbc=pbc)
        edges = {"edge_index": graph.edge_index, "edge_shift": graph.edge_shift}
        listed = model(z, pos, batch, cell=cell, **edges)
        torch.testing.assert_close(listed, own, rtol=0, atol=1e-12 * float(own.detach().abs().max()))


def test_on_a_gpu_steps_without_a_search_wait_twice() -> None:
    """The edges of a CPU at each step; whether to search, and how many edges there are, is all that is asked."""
    batch = torch.tensor([0] * 6 + [1] * 9)
    cell = torch.stack([5.0 * torch.eye(3), 6.0 * torch.eye(3)]).double()
    axes = torch.tensor([[True, False, True], [True, True, True]])
    pos = 5 * torch.rand(15, 3, dtype=torch.float64)
    with pretended_gpu() as gpu:
        neighbors, given = VerletList(3.0, 0.5), (batch.to("cuda"), cell.to("cuda"), axes.to("cuda"))
        for step in range(6):
            moved = pos + (0.05 if step < 3 else 0.3) * torch.rand(pos.shape, dtype=torch.float64)
            on_gpu, before = moved.to("cuda"), neighbors.rebuilds
            gpu.clear()
            found = neighbors(on_gpu, *given)
            assert gpu.total[1] <= (2 if neighbors.rebuilds == before else 11), gpu.report()
            expected = radius_graph(moved, 3.0, batch, cell, axes)
            assert_same_graph(Graph(*(getattr(found, name).inner for name in FIELDS)), expected)
        assert 2 < neighbors.rebuilds < 12
