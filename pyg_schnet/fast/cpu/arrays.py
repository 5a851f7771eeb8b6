"""Tensors as compiled loops take them: flat arrays, features in multiples of sixteen (extra ``fast``)."""

import functools

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from pyg_schnet.fast.bspline import SUPPORT, pieces_of
from pyg_schnet.fast.cpu.convolution_loops import EdgeArrays, KnotPlace, first_stray
from pyg_schnet.fast.cpu.vectors import LANES
from pyg_schnet.fast.operands import Pairs


def padded(x: Tensor) -> Tensor:
    """With zeros for features up to a multiple of what loops take at a time."""
    missing = -x.size(1) % LANES
    return torch.nn.functional.pad(x.detach(), (0, missing)) if missing else x


def flat(tensor: Tensor) -> ndarray:
    """A tensor as a flat array."""
    flat: ndarray = tensor.detach().numpy().reshape(-1)  # a copy only if it must be
    return flat


def filled_up(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A tensor in one piece, with zeros up to a shape."""
    if x.shape == shape:
        return x.detach().contiguous()
    wide = x.new_zeros(shape)
    wide[tuple(map(slice, x.shape))] = x.detach()
    return wide


def each_flat(x: Tensor) -> ndarray:
    """A tensor as an array with a row for each network."""
    array: ndarray = x.detach().numpy()
    return array.reshape(len(array), -1) if len(array) else array


def edges_of(pairs: Pairs, targets: int, sources: int) -> EdgeArrays:
    """Distances, weights (empty without), targets and sources; loops would read and write anywhere for stray ends."""
    d, s, target, source = pairs
    i, j = flat(target), flat(source)
    stray = first_stray(i, j, targets, sources)
    if stray >= 0:
        raise IndexError(
            f"edge {stray} goes from {j[stray]} to {i[stray]}, but there are {sources} sources and {targets} targets"
        )
    return flat(d), flat(d[:0] if s is None else s), i, j


def place_of(start: float, spacing: float, size: int) -> KnotPlace:
    """First knot, inverse of the spacing and last row where six begin, of a table with so many rows."""
    if size < SUPPORT:
        raise ValueError(f"a table of quintic splines has at least {SUPPORT} rows, got {size}")
    return float(start), 1.0 / spacing, size - SUPPORT


@functools.lru_cache(maxsize=64)
def pieces_at(order: int, spacing: float) -> ndarray:
    """Polynomials of the splines."""
    return np.array(pieces_of(order, spacing))
