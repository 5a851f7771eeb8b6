"""Filter networks at the knots of tables and the splines through what they compute, in compiled loops (extra ``fast``).

Gaussians are local: of an expanded distance, the numbers from the first to the last that are not zero take part in
products, for a few knots at a time. Rows are knots, columns features, so that splines are solved for where the networks
leave their values. All sizes but the number of knots are multiples of sixteen, filled up with zeros.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from pyg_schnet.compiling import CONTRACT, compiled, part
from pyg_schnet.fast.cpu.arrays import each_flat, filled_up, flat
from pyg_schnet.fast.cpu.banded_solver import BEYOND, factors, sweep
from pyg_schnet.fast.cpu.dense import ROWS, add_products
from pyg_schnet.fast.cpu.memory import clear, copy, doubles, zeros
from pyg_schnet.fast.cpu.products import (
    add_dense,
    add_rows,
    add_transposed,
    fill_rows,
    multiply_each,
)
from pyg_schnet.fast.cpu.softplus import shifted_softplus
from pyg_schnet.fast.cpu.vectors import LANES
from pyg_schnet.fast.weight_gradients import up
from pyg_schnet.threads import share_out

#: Knots K, rounded up to a multiple of :data:`ROWS`, Gaussians, inner and outer features of a network.
Sizes = tuple[int, int, int, int]
#: Where the numbers of some rows or columns that are not zero begin, and where they end.
Bands = tuple[ndarray, ndarray]


#: Weights and biases of the first and of the second layer of all networks [T, H, G], [T, H], [T, F, H], [T, F].
Weights = tuple[Tensor, Tensor, Tensor, Tensor]


class Evaluated(NamedTuple):
    """Networks at the knots, and what their gradients need; all sizes filled up.

    Attributes:
        tables: Coefficients of the splines [T, K + 4, F].
        x: Expanded distances of the knots [K, G].
        hidden: The activation of the first layer [T, K * H].
        slope: Its derivative.
        last: That of the second layer [T, K * F], of no networks if it is not activated.
        columns: Where columns of ``x`` are not zero.
    """

    tables: Tensor
    x: Tensor
    hidden: Tensor
    slope: Tensor
    last: Tensor
    columns: Bands


def evaluate(
    x: Tensor,
    weights: Weights,
    activation: tuple[float, float],
    activate_last: bool,
    dtype: torch.dtype,
    kind: torch.dtype,
) -> Evaluated:
    """Tables of networks that are alike, with the shifted softplus as their activation.

    Args:
        x: Expanded distances of the knots [K, G] float64, in which the networks are evaluated.
        weights: Their weights and biases, float64.
        activation: What is subtracted from the softplus, and from where on it is linear.
        activate_last: True if the second layer is activated, too.
        dtype: Kind of the tables, float32 or float64.
        kind: Kind of numbers in which gradients are to be computed, float32 or float64.

    Returns:
        The tables and what :func:`gradients` needs.
    """
    (w1, b1, w2, b2), knots = weights, len(x)
    blocks, inner, outer = len(w1), up(w1.size(1)), up(w2.size(1))
    x = filled_up(x, (-(-knots // ROWS) * ROWS, up(x.size(1))))
    rows, columns = bands_of(x.numpy())
    sizes = *x.shape, inner, outer
    tables = x.new_empty(blocks, knots + BEYOND, outer, dtype=dtype)
    hidden = x.new_empty(blocks, sizes[0] * inner, dtype=kind)
    slope, last = torch.empty_like(hidden), hidden.new_empty(blocks * activate_last, sizes[0] * outer)
    given = (
        filled_up(w1.mT, (blocks, sizes[1], inner)),
        filled_up(b1, (blocks, inner)),
        filled_up(w2.mT, (blocks, inner, outer)),
        filled_up(b2, (blocks, outer)),
    )
    kept, weights_flat = tuple(map(each_flat, (hidden, slope, last))), tuple(map(each_flat, given))
    arrays = each_flat(tables), kept, flat(x), rows, weights_flat
    how = activation, sizes, factors(knots)[0], knots
    share_out(lambda *some: write_tables(*arrays, *how, some), blocks, 1, _products(sizes))
    return Evaluated(tables[..., : w2.size(1)].contiguous(), x.to(kind), hidden, slope, last, columns)


def gradients(g: Tensor, evaluated: Evaluated, w2: Tensor, gaussians: int) -> tuple[Tensor, ...]:
    """Gradients of weights.

    Args:
        g: Gradients of the tables [T, K + 4, F].
        evaluated: What :func:`evaluate` returned.
        w2: Weights of the second layer [T, F, H].
        gaussians: Number G of expanded distances.

    Returns:
        Gradients of what is activated in the first layer [T, K, H], and those of all weights and biases.
    """
    x, (blocks, width, features) = evaluated.x, w2.shape
    knots, inner, outer = g.size(1) - BEYOND, up(features), up(width)
    sizes = *x.shape, inner, outer
    g = filled_up(g, (blocks, g.size(1), outer))
    of_w1, of_w2 = x.new_zeros(blocks, sizes[1], inner), x.new_zeros(blocks, outer, inner)
    of_b1, of_b2, of_hidden = x.new_zeros(blocks, inner), x.new_zeros(blocks, outer), torch.empty_like(evaluated.hidden)
    found = of_w1, of_b1, of_w2, of_b2, of_hidden
    arrays = tuple(map(each_flat, found)), tuple(map(each_flat, evaluated[2:5])), each_flat(g), flat(x)
    how = evaluated.columns, each_flat(filled_up(w2.to(x.dtype), of_w2.shape)), sizes, factors(knots)[1], knots
    share_out(lambda *some: write_gradients(*arrays, *how, some), blocks, 1, 2 * _products(sizes))
    of_hidden = of_hidden.view(blocks, -1, inner)[:, :knots, :features]
    of_w1 = of_w1[:, :gaussians, :features].mT
    return of_hidden, of_w1, of_b1[:, :features], of_w2[:, :width, :features], of_b2[:, :width]


def _products(sizes: Sizes) -> int:
    """Products of one network."""
    knots, gaussians, inner, outer = sizes
    return knots * inner * (gaussians + outer)


@compiled(CONTRACT)
def bands_of(x: ndarray) -> tuple[Bands, Bands]:
    """Where the numbers of a matrix are that are not zero.

    Args:
        x: The matrix [rows, columns], multiples of :data:`ROWS`.

    Returns:
        First column and the one behind the last, for each few rows; first row and the one behind the last, for each
        few columns.
    """
    rows, columns = x.shape
    left, right = np.full(rows // ROWS, columns), np.zeros(rows // ROWS, np.int64)
    top, bottom = np.full(columns // ROWS, rows), np.zeros(columns // ROWS, np.int64)
    for k in range(rows):
        for i in range(columns):
            if x[k, i] != 0.0:
                left[k // ROWS], right[k // ROWS] = min(left[k // ROWS], i), max(right[k // ROWS], i + 1)
                top[i // ROWS], bottom[i // ROWS] = min(top[i // ROWS], k), max(bottom[i // ROWS], k + 1)
    return (left, right), (top, bottom)


@part(CONTRACT)
def _add_banded(y: ndarray, x: ndarray, w: ndarray, bands: Bands, places: tuple[int, int, int]) -> None:
    """Y += x w, where x is not zero: for w [inner, columns], from one number of x to the next row's and inner one."""
    (columns, row, inner), (first, end) = places, bands
    for some in range(len(first)):
        begin = min(first[some], end[some])
        where = some * ROWS * columns, begin * columns, some * ROWS * row + begin * inner
        add_products(y, w, x, columns, where, (ROWS, row, inner, end[some] - begin))


@compiled(CONTRACT)
def write_tables(
    tables: ndarray,
    kept: tuple[ndarray, ndarray, ndarray],
    x: ndarray,
    bands: Bands,
    weights: tuple[ndarray, ndarray, ndarray, ndarray],
    activation: tuple[float, float],
    sizes: Sizes,
    both: tuple[ndarray, ndarray],
    number: int,
    limits: tuple[int, int],
) -> None:
    """Tables of some networks.

    Args:
        tables: To be written, coefficients of the splines [T, (number + 4) * F].
        kept: To be written, the activation of the first layer [T, K * H], its derivative, and that of the second layer,
            empty if it is not activated.
        x: Expanded distances of the knots [K * G].
        bands: Where they are not zero, see :func:`bands_of`.
        weights: Weights [T, G * H] and biases [T, H] of the first layer, those of the second [T, H * F], [T, F].
        activation: What is subtracted from the softplus, and from where on it is linear.
        sizes: K, G, H and F.
        both: Factors of the system, see :func:`pyg_schnet.fast.cpu.banded_solver.factors`.
        number: Number of knots that there are.
        limits: First network and the one behind the last.
    """
    (knots, gaussians, inner, outer), (w1, b1, w2, b2), (hidden, slope, last) = sizes, weights, kept
    h, values, slopes = doubles(knots * inner), doubles(knots * outer), doubles(knots * max(inner, outer))
    for t in range(limits[0], limits[1]):
        fill_rows(h, b1[t])
        _add_banded(h, x, w1[t], bands, (inner, gaussians, 1))
        shifted_softplus(h, slopes, h, *activation, (0, len(h)))
        copy(hidden[t], h)
        copy(slope[t], slopes)
        fill_rows(values, b2[t])
        add_dense(values, h, w2[t], (knots, inner, outer))
        if len(last) > 0:
            shifted_softplus(values, slopes, values, *activation, (0, len(values)))
            copy(last[t], slopes)
        sweep(tables[t], values, both, (number, number + BEYOND, outer), (0, outer // LANES))


@compiled(CONTRACT)
def write_gradients(
    gradients: tuple[ndarray, ndarray, ndarray, ndarray, ndarray],
    kept: tuple[ndarray, ndarray, ndarray],
    g: ndarray,
    x: ndarray,
    bands: Bands,
    w2: ndarray,
    sizes: Sizes,
    both: tuple[ndarray, ndarray],
    number: int,
    limits: tuple[int, int],
) -> None:
    """Gradients with respect to the weights of some networks.

    Args:
        gradients: To be added to, those of weights and biases of the first layer and of the second, as
            :func:`write_tables` has them, but the weights of the second as torch has them [T, F * H]; to be written,
            those of what is activated [T, K * H].
        kept: What :func:`write_tables` has written.
        g: Gradients of the tables [T, (number + 4) * F].
        x: Expanded distances of the knots [K * G].
        bands: Where their columns are not zero, see :func:`bands_of`.
        w2: Weights of the second layer as torch has them [T, F * H].
        sizes: K, G, H and F.
        both: Factors of the transposed system.
        number: Number of knots that there are.
        limits: First network and the one behind the last.
    """
    (of_w1, of_b1, of_w2, of_b2, of_hidden), (hidden, slope, last) = gradients, kept
    knots, gaussians, inner, outer = sizes
    values = zeros(knots * outer, x)
    for t in range(limits[0], limits[1]):
        sweep(values, g[t], both, (number + BEYOND, number, outer), (0, outer // LANES))
        if len(last) > 0:
            multiply_each(values, last[t])
        add_rows(of_b2[t], values)
        add_transposed(of_w2[t], values, hidden[t], (number, inner, outer))
        v = of_hidden[t]
        clear(v)
        add_dense(v, values, w2[t], (knots, outer, inner))
        multiply_each(v, slope[t])
        add_rows(of_b1[t], v)
        _add_banded(of_w1[t], x, v, bands, (inner, 1, gaussians))
