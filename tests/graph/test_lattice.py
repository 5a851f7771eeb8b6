"""Lattices: heights against closed forms, the completion of open axes, refused cells."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from pyg_schnet.graph.lattice import Lattice, lattice_of

CPU = torch.device("cpu")
TRICLINIC = torch.tensor([[4.0, 0.3, -0.2], [1.1, 3.6, 0.4], [-0.9, 0.7, 5.0]], dtype=torch.float64)
SOME_PERIODIC = [axes for axes in itertools.product([False, True], repeat=3) if any(axes)]
#: Inverses of well conditioned cells of order one to ten, in float64
ROUND_OFF = {"rtol": 0, "atol": 1e-13}


def lattice(cell: Tensor, pbc: Any = (True, True, True)) -> Lattice:
    """The lattice of one structure."""
    found = lattice_of(cell[None], torch.tensor([pbc]), 1, CPU)
    assert found is not None
    return found


def hexagonal(a: float, c: float) -> Tensor:
    return torch.tensor([[a, 0, 0], [-a / 2, a * math.sqrt(3) / 2, 0], [0, 0, c]], dtype=torch.float64)


def monoclinic(a: float, b: float, c: float, beta: float) -> Tensor:
    return torch.tensor([[a, 0, 0], [0, b, 0], [c * math.cos(beta), 0, c * math.sin(beta)]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("cell", "pbc", "heights"),
    [
        (torch.diag(torch.tensor([2.0, 3.0, 4.0])), (True, True, True), [2, 3, 4]),
        (torch.diag(torch.tensor([2.0, -3.0, 4.0])), (True, True, True), [2, 3, 4]),
        (torch.diag(torch.tensor([2.0, 3.0, 4.0]))[[1, 2, 0]], (True, True, True), [3, 4, 2]),
        (hexagonal(3.0, 7.0), (True, True, True), [3 * math.sqrt(3) / 2, 3 * math.sqrt(3) / 2, 7]),
        (hexagonal(3.0, 7.0), (True, True, False), [3 * math.sqrt(3) / 2, 3 * math.sqrt(3) / 2, 1]),
        (hexagonal(3.0, 7.0), (False, True, True), [1, 3, 7]),  # the second alone in its plane: its length
        (hexagonal(3.0, 7.0), (False, True, False), [1, 3, 1]),
        (monoclinic(3.0, 4.0, 5.0, 1.2), (True, True, True), [3 * math.sin(1.2), 4, 5 * math.sin(1.2)]),
        (monoclinic(3.0, 4.0, 5.0, 1.2), (True, False, True), [3 * math.sin(1.2), 1, 5 * math.sin(1.2)]),
        # the primitive cell of fcc: planes (111) at a / sqrt(3)
        (2.0 * (torch.ones(3, 3) - torch.eye(3)).double(), (True, True, True), [4 / math.sqrt(3)] * 3),
    ],
)
def test_heights_in_closed_form(cell: Tensor, pbc: tuple[bool, ...], heights: list[float]) -> None:
    found = lattice(cell, pbc).height
    torch.testing.assert_close(found, torch.tensor([heights], dtype=torch.float64), **ROUND_OFF)


def test_heights_of_a_triclinic_cell() -> None:
    """Volume over the area of the face, and in a plane area over the length of the other vector."""
    a, b, c = TRICLINIC
    cross, volume = torch.linalg.cross, torch.linalg.det(TRICLINIC)
    expected = volume / torch.stack([cross(b, c).norm(), cross(c, a).norm(), cross(a, b).norm()])
    torch.testing.assert_close(lattice(TRICLINIC).height[0], expected, **ROUND_OFF)
    area = cross(a, c).norm()
    expected = torch.stack([area / c.norm(), torch.ones_like(area), area / a.norm()])
    torch.testing.assert_close(lattice(TRICLINIC, (True, False, True)).height[0], expected, **ROUND_OFF)


@pytest.mark.parametrize("pbc", SOME_PERIODIC, ids=str)
@pytest.mark.parametrize("flip", [False, True], ids=["right-handed", "left-handed"])
@pytest.mark.parametrize("cell", [TRICLINIC, torch.eye(3).double(), hexagonal(2.46, 20.0)], ids=["abc", "cubic", "hex"])
def test_completion_is_orthonormal_to_the_periodic_vectors(cell: Tensor, flip: bool, pbc: tuple[bool, ...]) -> None:
    cell = cell[[1, 0, 2]] if flip else cell
    axes = torch.tensor(pbc)
    found = lattice(torch.where(axes[:, None], cell, math.nan), pbc)
    full, added = found.cell[0], found.cell[0][~axes]
    assert torch.equal(full[axes], cell[axes])
    torch.testing.assert_close(added @ added.t(), torch.eye(len(added)).double(), **ROUND_OFF)
    torch.testing.assert_close(added @ full[axes].t(), torch.zeros(len(added), int(axes.sum())).double(), **ROUND_OFF)
    torch.testing.assert_close(full @ found.inverse[0], torch.eye(3).double(), **ROUND_OFF)
    torch.testing.assert_close(found.height[0][~axes], torch.ones(len(added)).double(), **ROUND_OFF)


@pytest.mark.parametrize("direction", range(3))
@pytest.mark.parametrize("axis", range(3))
def test_a_single_axis_may_point_anywhere(axis: int, direction: int) -> None:
    """Also along a coordinate axis, where a fixed choice of normals would vanish."""
    cell = torch.zeros(3, 3, dtype=torch.float64)
    cell[axis, direction] = -2.0
    found = lattice(cell, [k == axis for k in range(3)])
    assert found.height[0].tolist() == pytest.approx([2.0 if k == axis else 1.0 for k in range(3)], abs=1e-15)
    assert torch.linalg.det(found.cell[0]).abs().item() == pytest.approx(2.0, abs=1e-15)


def test_a_batch_is_its_structures() -> None:
    cells = torch.stack([TRICLINIC * k for k in range(1, 9)])
    pbc = torch.tensor([(False, False, False), *SOME_PERIODIC])
    together = lattice_of(cells, pbc, 8, CPU)
    for k in range(1, 8):
        alone = lattice(cells[k], pbc[k].tolist())
        for name in ("cell", "inverse", "pbc", "height"):
            torch.testing.assert_close(getattr(together, name)[k], getattr(alone, name)[0], **ROUND_OFF)
    for name in ("cell", "inverse"):
        assert torch.equal(getattr(together, name)[0], torch.eye(3).double())  # the molecule


@pytest.mark.parametrize(("cell", "pbc"), [(None, None), (None, False), (TRICLINIC[None], False)])
def test_no_periodic_axis_is_no_lattice(cell: Tensor | None, pbc: bool | None) -> None:
    assert lattice_of(cell, None if pbc is None else torch.zeros(1, 3, dtype=torch.bool), 1, CPU) is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_always_float64_and_without_gradient(dtype: torch.dtype) -> None:
    cell = TRICLINIC.to(dtype).requires_grad_()
    found = lattice(cell)
    assert {found.cell.dtype, found.inverse.dtype, found.height.dtype} == {torch.float64}
    assert torch.equal(found.cell[0], cell.detach().double())
    assert not found.cell.requires_grad


def test_thin_and_tiny_cells_are_cells() -> None:
    thin = torch.tensor([[1.0, 0, 0], [1.0, 1e-6, 0], [0, 0, 1e3]], dtype=torch.float64)
    assert lattice(thin).height[0, 1].item() == pytest.approx(1e-6, rel=1e-9)  # condition number 1e6
    assert lattice(1e-6 * TRICLINIC).height.min() > 0


PARALLEL = torch.tensor([[1.0, 2, 3], [2.0, 4, 6], [0.0, 0, 1]])
IN_A_PLANE = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [3.0, -2.0, 0]])


def spoiled(value: float) -> Tensor:
    cell = TRICLINIC.clone()
    cell[1, 2] = value
    return cell


@pytest.mark.parametrize(
    ("cell", "pbc"),
    [
        (torch.zeros(3, 3), (True, True, True)),
        (torch.zeros(3, 3), (False, True, False)),
        (torch.diag(torch.tensor([1.0, 0.0, 1.0])), (True, True, False)),
        (PARALLEL, (True, True, True)),
        (PARALLEL, (True, True, False)),
        (IN_A_PLANE, (True, True, True)),
        (torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.7, 0.8, 0.9]]).double(), (True, True, True)),  # by rounding
        (spoiled(math.nan), (True, True, True)),
        (spoiled(math.nan), (False, True, False)),
        (spoiled(math.inf), (True, True, True)),
        (spoiled(math.inf), (True, True, False)),
        (spoiled(-math.inf), (False, True, False)),
    ],
)
def test_vectors_that_span_no_volume_are_refused(cell: Tensor, pbc: tuple[bool, ...]) -> None:
    """The message names the structure and echoes its cell."""
    cells, axes = torch.stack([torch.eye(3).to(cell), cell]), torch.tensor([(True, True, True), pbc])
    with pytest.raises(
        ValueError, match=r"vectors of structure 1 span no volume: cell \[\[.*\]\], pbc \[.*expected fin"
    ):
        lattice_of(cells, axes, 2, CPU)


def test_flat_cells_with_the_flat_axis_open_are_fine() -> None:
    assert lattice(PARALLEL, (True, False, True)).pbc.tolist() == [[True, False, True]]
    assert lattice(IN_A_PLANE, (True, True, False)).height.tolist() == [[1.0, 1.0, 1.0]]


@pytest.mark.parametrize(
    ("cell", "pbc", "error", "message"),
    [
        (torch.eye(3)[None], None, ValueError, "`cell` is given but `pbc` is missing.*all False for molecules"),
        (None, torch.ones(1, 3).bool(), ValueError, "`pbc` names periodic axes but `cell` is missing"),
        (torch.eye(3), torch.ones(1, 3).bool(), ValueError, r"`cell` must have shape \[1, 3, 3\], got \[3, 3\]"),
        (torch.eye(3)[None], torch.ones(3).bool(), ValueError, r"`pbc` must have shape \[1, 3\], got \[3\]"),
        (torch.eye(3)[None], torch.ones(1, 3), TypeError, r"`pbc` must be a bool tensor \[1, 3\], got torch.float32"),
        (torch.eye(3)[None].int(), torch.ones(1, 3).bool(), TypeError, "`cell` must be a floating-point .*torch.int32"),
        ([[1.0]], torch.ones(1, 3).bool(), TypeError, r"`cell` must be a floating-point tensor \[1, 3, 3\], got list"),
    ],
)
def test_bad_arguments_are_refused(cell: Any, pbc: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        lattice_of(cell, pbc, 1, CPU)
