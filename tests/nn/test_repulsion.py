"""The repulsion as a layer: brute force over atoms and images, and how it ends before atoms are bonded."""

import copy

import ase.data
import numpy as np
import pytest
import torch
from torch import Tensor

from pyg_schnet.graph import Edges, radius_graph
from pyg_schnet.nn import ZBLRepulsion
from pyg_schnet.nn.repulsion import COVALENT_RADII, make_repulsion
from pyg_schnet.ops import zbl_repulsion


def edges_of(pos: Tensor, cutoff: float, shared: bool, cell: Tensor | None = None) -> Edges:
    """Edges of one structure, whose directions have a vector of their own or share it."""
    periodic = {} if cell is None else {"cell": cell, "pbc": torch.ones(1, 3, dtype=torch.bool)}
    graph = radius_graph(pos, cutoff, **periodic)
    vectors = pos[graph.edge_index[0]] - pos[graph.edge_index[1]]
    vectors = vectors if cell is None else vectors + graph.edge_shift.to(pos.dtype) @ cell[0]
    if not shared:
        return Edges(graph.edge_index, vectors, None, graph.edge_index)
    one, pair = graph.pairs()
    return Edges(graph.edge_index, vectors[one], pair, graph.edge_index[:, one])


def pair_energy(d: float, first: int, second: int, cutoff: float = np.inf) -> float:
    """Without layers: the pure function, times a polynomial in the other of its two forms."""
    u = d / min(0.8 * (ase.data.covalent_radii[first] + ase.data.covalent_radii[second]), cutoff)
    if u >= 1:
        return 0.0
    numbers = (torch.tensor(float(one), dtype=torch.float64) for one in (d, first, second))
    return float(zbl_repulsion(*numbers)) * (1 - 28 * u**6 + 48 * u**7 - 21 * u**8)


def of_pair(distance: Tensor, first: int, second: int, cutoff: float) -> Tensor:
    """Energies of pairs of atoms, each far from the others."""
    count = distance.numel()
    z = torch.tensor([first] * count + [second] * count)
    pairs = torch.stack([torch.arange(count) + count, torch.arange(count)])
    vectors = distance.unsqueeze(1) * torch.tensor([[0.6, 0.0, 0.8]], dtype=distance.dtype)
    index, number = torch.cat([pairs, pairs.flip(0)], dim=1), torch.arange(count).repeat(2)
    return ZBLRepulsion(100, cutoff)(z, Edges(index, vectors, number, pairs)).view(2, count).sum(0)


def test_radii_are_those_of_ase() -> None:
    assert list(COVALENT_RADII) == ase.data.covalent_radii[1:97].tolist()
    reach = ZBLRepulsion(118, 5.0).reach
    assert reach.numel() == 119
    assert (reach > 0).all()  # of ghosts and of elements without a known radius, too
    assert ZBLRepulsion(8, 5.0).reach.tolist()[1:] == pytest.approx(0.8 * ase.data.covalent_radii[1:9])


@pytest.mark.parametrize("periodic", [False, True], ids=["open", "periodic"])
@pytest.mark.parametrize("shared", [False, True], ids=["both directions", "shared vectors"])
def test_brute_force(shared: bool, periodic: bool) -> None:
    z, pos = torch.tensor([1, 6, 7, 8, 14, 1]), 2.0 * torch.rand(6, 3, dtype=torch.float64)
    cell = torch.tensor([[[1.9, 0, 0], [0.4, 2.1, 0], [-0.3, 0.2, 2.3]]], dtype=torch.float64) if periodic else None
    shares = ZBLRepulsion(100, 3.0)(z, edges_of(pos, 3.0, shared, cell))
    steps = [range(-3, 4)] * 3 if periodic else [range(1)] * 3
    expected = np.zeros(6)
    for shift in np.stack(np.meshgrid(*steps), -1).reshape(-1, 3):
        offset = 0.0 if cell is None else shift @ cell[0].numpy()
        for i in range(6):
            for j in range(6):
                d = float(np.linalg.norm(pos[j].numpy() - pos[i].numpy() + offset))
                expected[i] += 0.5 * pair_energy(d, int(z[i]), int(z[j])) if d > 0 else 0.0
    assert shares.shape == (6, 1)
    assert expected.max() > 10.0
    np.testing.assert_allclose(shares[:, 0].numpy(), expected, rtol=1e-9)  # the polynomial cancels digits


@pytest.mark.parametrize(("pair", "cutoff", "end"), [((6, 8), 5.0, 0.8 * 0.76 + 0.8 * 0.66), ((14, 14), 1.5, 1.5)])
def test_two_continuous_derivatives_at_the_end(pair: tuple[int, int], cutoff: float, end: float) -> None:
    """Of the third order, the energy vanishes like the third power of what is left of the distance."""
    near = torch.tensor([1e-2, 1e-3, 1e-4], dtype=torch.float64)
    for distance, zero in ((end - near, False), (end + torch.tensor([0.0, 1e-4, 0.3, 20.0]).double(), True)):
        place = distance.clone().requires_grad_()
        energy = of_pair(place, *pair, cutoff)
        (slope,) = torch.autograd.grad(energy.sum(), place, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), place)
        for power, value in ((3, energy), (2, slope), (1, curvature)):
            if zero:
                assert not value.any()
            else:
                ratio = value.detach().abs() / near**power
                assert (ratio > 0).all()
                assert ratio[2] == pytest.approx(float(ratio[1]), rel=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_finite_at_any_distance_with_its_derivatives(dtype: torch.dtype) -> None:
    distance = torch.tensor([2e-8, 1e-4, 0.1, 1.0, 30.0, 300.0], dtype=dtype).requires_grad_()
    energy = of_pair(distance, 79, 79, 400.0)
    (slope,) = torch.autograd.grad(energy.sum(), distance, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), distance)
    for value in (energy, slope, curvature):
        assert value.dtype == dtype
        assert value.isfinite().all()


def test_ghosts_feel_nothing() -> None:
    """Atoms of number zero, whose pairs are as long as the cutoff."""
    vectors = torch.tensor([[3.0, 0, 0]]).requires_grad_()
    shares = ZBLRepulsion(10, 3.0)(torch.zeros(2, dtype=torch.long), Edges(*[torch.tensor([[1], [0]])], vectors, None,
                                   torch.tensor([[1], [0]])))  # fmt: skip
    (slope,) = torch.autograd.grad(shares.sum(), vectors)
    assert not shares.any()
    assert not slope.any()


def test_no_digits_are_lost_on_the_way_through_float32() -> None:
    layer = ZBLRepulsion(100, 5.0)
    for other in (layer.float().double(), copy.deepcopy(layer.float()).double()):
        assert other.reach.dtype == torch.float64
        assert torch.equal(other.reach, ZBLRepulsion(100, 5.0).reach)
    assert {*layer.state_dict()} == {"scale"}
    layer.load_state_dict({})  # weights that were learnt without a repulsion
    assert float(layer.scale) == 1.0


def test_names() -> None:
    assert make_repulsion(None, 10, 5.0) is None
    with pytest.raises(ValueError, match="`repulsion` must be 'zbl' or None for none, got 'lj'"):
        make_repulsion("lj", 10, 5.0)
    with pytest.raises(ValueError, match="`cutoff` must be positive, got -1"):
        ZBLRepulsion(10, -1.0)
