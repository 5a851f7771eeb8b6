"""Boxes around structures and the bins that they are divided into: numbers of few structures, worked out on a CPU.

A box has the lattice vectors of a structure along its periodic axes and is as long as the structure along open ones.
Bins are no narrower than the cutoff, so that the neighbours of an atom are in its own or a neighbouring bin. A periodic
axis shorter than the cutoff has a single bin, whose neighbours are its own images, as many as the cutoff reaches. An
open axis ends with an empty bin, lest the first one sees the last.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from pyg_schnet.graph.lattice import Lattice
from pyg_schnet.graph.transfer import sent

#: Bins along an axis, at most.
MOST_BINS = 2**20
#: How much farther than it must a box reaches along open axes, relative to the cutoff and to the coordinates.
SLACK, ROUNDING = 1e-6, 1e-12


class Boxes(NamedTuple):
    """The boxes of a batch of structures and their bins.

    Attributes:
        cell: Vectors of the boxes as rows in Angstrom [B, 3, 3].
        inverse: Their inverses [B, 3, 3].
        corner: Where the boxes begin, in their own vectors; zero along periodic axes [B, 3].
        number: Bins along the axes [B, 3].
        first: First bin of each structure [B].
        bins: Number of bins of all structures together.
        offsets: Steps to neighbouring bins, of two opposite ones only one, and first to none [T, 3].
        begin: Where those of each structure begin [B].
        rows: How many those of each structure are [B].
        images: How many cells away neighbours can be, at most, along each axis.
        atoms: Number of atoms of each structure [B].
    """

    cell: ndarray
    inverse: ndarray
    corner: ndarray
    number: ndarray
    first: ndarray
    bins: int
    offsets: ndarray
    begin: ndarray
    rows: ndarray
    images: tuple[int, int, int]
    atoms: ndarray


class Tables(NamedTuple):
    """What a device has to know of :class:`Boxes`, in two tables for each structure or, gathered, for each atom.

    Attributes:
        floats: ``cell``, ``inverse`` and ``corner`` [B, 21] float64.
        ints: ``number``, ``first``, ``begin`` and ``rows`` [B, 6] int32.
    """

    floats: Tensor
    ints: Tensor

    @property
    def cell(self) -> Tensor:
        """Vectors of the boxes as rows in Angstrom [B, 3, 3]."""
        return self.floats[:, :9].unflatten(1, (3, 3))

    @property
    def inverse(self) -> Tensor:
        """Their inverses [B, 3, 3]."""
        return self.floats[:, 9:18].unflatten(1, (3, 3))

    @property
    def corner(self) -> Tensor:
        """Where the boxes begin [B, 3]."""
        return self.floats[:, 18:]


def boxes_around(atoms: ndarray, low: ndarray, high: ndarray, lattice: Lattice | None, reach: float) -> Boxes:
    """Boxes around structures.

    Args:
        atoms: Number of atoms of each structure [B].
        low: Smallest coordinates of the atoms of each, in Angstrom; zero without atoms [B, 3].
        high: Largest coordinates likewise [B, 3].
        lattice: Their lattices on the CPU, or ``None`` if all are open.
        reach: How far neighbours are at most, in Angstrom; may be infinite in open structures.

    Returns:
        The boxes.

    Example:
        >>> boxes_around(np.array([9]), np.zeros((1, 3)), np.array([[7.0, 3.0, 0.0]]), None, 2.0).number.tolist()
        [[4, 1, 1]]
    """
    count, open_axes = len(atoms), np.ones((len(atoms), 3), dtype=bool)
    cell, inverse, height = np.tile(np.eye(3), (count, 1, 1)), np.tile(np.eye(3), (count, 1, 1)), np.ones((count, 3))
    if lattice is not None:
        cell, inverse, height = lattice.cell.numpy(), lattice.inverse.numpy(), lattice.height.numpy()
        open_axes = ~lattice.pbc.numpy()
    half = (high - low) / 2
    reaches = np.minimum(reach, np.where(open_axes.all(1), 1.0 + 2 * np.linalg.norm(half, axis=1), reach))[:, None]
    middle = np.einsum("bk,bkl->bl", low + half, inverse)
    half = np.einsum("bk,bkl->bl", half, np.abs(inverse)) + SLACK * reaches + ROUNDING * np.abs(middle)
    length = np.where(open_axes, 2 * half, 1.0)  # in lattice vectors, those of open axes have length one
    number = _limited(np.clip(np.floor(length * height / reaches), 1, MOST_BINS), atoms)
    steps = np.where(open_axes, number > 1, np.ceil(reaches * number / height)).astype(np.int64)
    images = np.where(open_axes, 0, np.ceil(steps / number)).max(0, initial=0)
    ended = open_axes & (number > 1)
    length, number = np.where(ended, length * (1 + 1 / number), length), number + ended
    corner = np.where(open_axes, (middle - half) / length, 0.0)
    kinds, kind = np.unique(steps, axis=0, return_inverse=True)
    parts = [_offsets(*one) for one in kinds.tolist()]
    sizes = np.array([len(part) for part in parts], dtype=np.int64)
    size = number.prod(1).astype(np.int64)
    return Boxes(
        cell * length[:, :, None],
        inverse / length[:, None, :],
        corner,
        number.astype(np.int64),
        size.cumsum() - size,
        int(size.sum()),
        np.concatenate([*parts, np.zeros((0, 3), dtype=np.int64)]),
        (sizes.cumsum() - sizes)[kind.reshape(-1)],
        sizes[kind.reshape(-1)],
        tuple(map(int, images)),  # type: ignore[arg-type]
        atoms,
    )


def tables_on(boxes: Boxes, device: torch.device) -> tuple[Tables, Tensor]:
    """What a device has to know, sent there at once.

    Args:
        boxes: The boxes.
        device: Where to.

    Returns:
        The tables, and ``offsets`` [T, 3] int32.
    """
    count = len(boxes.atoms)
    floats = np.concatenate([part.reshape(count, -1) for part in (boxes.cell, boxes.inverse, boxes.corner)], axis=1)
    ints = np.column_stack([boxes.number, boxes.first, boxes.begin, boxes.rows])  # each below 2**31
    parts = [floats.reshape(-1).view(np.int32), *(part.astype(np.int32).reshape(-1) for part in (ints, boxes.offsets))]
    flat = sent(torch.from_numpy(np.concatenate(parts)), device)
    first, second, third = flat.split([2 * floats.size, ints.size, boxes.offsets.size])
    return Tables(first.view(torch.float64).view(count, 21), second.view(count, 6)), third.view(-1, 3)


def bin_of(place: Tensor, ints: Tensor) -> Tensor:
    """The numbers of bins.

    Args:
        place: Places of bins along the axes [P, 3].
        ints: What is known of the box of each [P, 6], or of that of all [1, 6], see :class:`Tables`.

    Returns:
        Their numbers [P].
    """
    x, y, z = place.unbind(1)
    within = torch.addcmul(z, torch.addcmul(y, x, ints[:, 1]), ints[:, 2])
    return within + ints[:, 3]


def _limited(number: ndarray, atoms: ndarray) -> ndarray:
    """As many bins along each axis, but not many more in all than there are atoms [B, 3]."""
    for _ in range(3):
        excess = number.prod(1) / np.maximum(atoms, 1)
        axes = np.maximum((number > 1).sum(1), 1)
        number = np.maximum(np.floor(number * (np.maximum(excess, 1.0) ** (-1.0 / axes))[:, None]), 1)
    return number


def _offsets(x: int, y: int, z: int) -> ndarray:
    """Steps to bins that are up to so many away [H, 3]: first none, and of two opposite ones only one."""
    spans = 2 * x + 1, 2 * y + 1, 2 * z + 1
    local = np.arange(math.prod(spans) // 2, math.prod(spans))
    outer = local // spans[2]
    return np.stack([outer // spans[1] - x, outer % spans[1] - y, local % spans[2] - z], 1)
