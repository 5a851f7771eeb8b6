"""What a pass through a network leaves behind, for another one that differentiates it (extra ``fast``)."""

from typing import NamedTuple

import numpy as np
from numpy import ndarray

from pyg_schnet.ops.kernels.jit import part
from pyg_schnet.ops.kernels.lanes import LANES


class Kept(NamedTuple):
    """What a pass leaves behind for another one that differentiates it, block by block and group by group.

    Flat for all groups, [T, ...] for one of them, of which N is a multiple of sixteen.

    Attributes:
        sent: Features that are sent [N, F].
        received: What is received of them [N, F].
        inner: What is activated, after it [A, N].
        slope: Derivative of the activation there [A, N].
        of_inner: Derivatives of the energy with respect to what is activated [A, N].
        of_received: The same of what is received [N, F].
        of_sent: The same of what is sent [F, N].
        features: Features before each block and after the last [T + 1, N, A].
        of_features: Derivatives of the energy with respect to those after each block [A, N].
    """

    sent: ndarray
    received: ndarray
    inner: ndarray
    slope: ndarray
    of_inner: ndarray
    of_received: ndarray
    of_sent: ndarray
    features: ndarray
    of_features: ndarray


@part()
def up(number: int, multiple: int) -> int:
    """The next multiple."""
    return (number + multiple - 1) // multiple * multiple


@part()
def scratch(blocks: int, sizes: tuple[int, int, int, int], count: int, like: ndarray) -> Kept:
    """What is kept of a group when nobody asks for more than the first derivatives."""
    atoms = up(count, LANES)
    a, f, kind = atoms * up(sizes[0], LANES), atoms * up(sizes[1], LANES), like.dtype
    return Kept(
        np.empty((blocks, f), kind),
        np.empty((blocks, f), kind),
        np.empty((1, a), kind),
        np.empty((blocks, a), kind),
        np.empty((1, a), kind),
        np.empty((1, f), kind),
        np.empty((1, f), kind),
        np.empty((0, a), kind),
        np.empty((0, a), kind),
    )


@part()
def on_tape(tape: Kept, blocks: int, sizes: tuple[int, int, int, int], first_atom: ndarray, group: int) -> Kept:
    """What is kept of a group, in its place among the others."""
    begin = first_atom[group] + LANES * group  # what is added to groups before is less than that
    atoms = up(first_atom[group + 1] - first_atom[group], LANES)
    size, width = up(sizes[0], LANES), up(sizes[1], LANES)
    return Kept(
        _place(tape.sent, blocks, begin, atoms, width),
        _place(tape.received, blocks, begin, atoms, width),
        _place(tape.inner, blocks, begin, atoms, size),
        _place(tape.slope, blocks, begin, atoms, size),
        _place(tape.of_inner, blocks, begin, atoms, size),
        _place(tape.of_received, blocks, begin, atoms, width),
        _place(tape.of_sent, blocks, begin, atoms, width),
        _place(tape.features, blocks + 1, begin, atoms, size),
        _place(tape.of_features, blocks, begin, atoms, size),
    )


@part()
def _place(tape: ndarray, blocks: int, begin: int, atoms: int, size: int) -> ndarray:
    return tape[blocks * begin * size : blocks * (begin + atoms) * size].reshape(blocks, atoms * size)


@part()
def copy(y: ndarray, x: ndarray) -> None:
    """Write the numbers of an array to another."""
    for n in range(len(x)):
        y[n] = x[n]
