"""Averages over correlated frames, with errors from blocks of them."""

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

#: Blocks are joined in pairs when there are so many.
MOST_BLOCKS = 32


class BlockAverage:
    r"""Mean of arrays that come one after another, and its standard error.

    Frames of a simulation are correlated; means over blocks that are longer than the correlation are not. With B blocks
    of means :math:`m_b`

    .. math:: \sigma^2 = \frac{1}{B (B - 1)} \sum_b (m_b - \bar m)^2

    (H. Flyvbjerg and H. G. Petersen, J. Chem. Phys. 91, 461 (1989)). Blocks double in length when there are 32 of them,
    so memory does not grow: of 32 frames and more there are 16 to 32 blocks, of fewer each is a block. Errors are too
    small for a simulation of less than some twenty correlation times.

    Where values have a weight of zero, they do not count. Arrays may grow along their last axis; earlier ones are zero
    there.

    Args:
        length: Consecutive arrays that belong together, as those of the beads of a path integral at one time.

    Example:
        >>> average = BlockAverage()
        >>> for value in [1.0, 2.0, 3.0]:
        ...     average.add(np.array([value]))
        >>> average.mean(), average.error().round(3)
        (array([2.]), array([0.577]))
    """

    def __init__(self, length: int = 1) -> None:
        self._length = length  # arrays in a block
        self._sums: list[NDArray] = []
        self._weights: list[NDArray] = []
        self._filled = 0  # arrays in the last block

    def add(self, values: NDArray, weights: NDArray | float = 1.0) -> None:
        """Add the values of a frame.

        Args:
            values: Values [..., K].
            weights: Their weights [..., 1], or one number; zero where they are not defined.
        """
        weights = np.broadcast_to(np.asarray(weights, dtype=np.float64), (*values.shape[:-1], 1))
        values = np.where(weights > 0, values, 0.0) * weights
        if self._filled == 0:
            if len(self._sums) == MOST_BLOCKS:
                self._join()
            self._sums.append(values)
            self._weights.append(weights)
        else:
            self._sums[-1] = sum_grown(self._sums[-1], values)
            self._weights[-1] = self._weights[-1] + weights
        self._filled = (self._filled + 1) % self._length

    def mean(self) -> NDArray:
        """Mean over all frames; NaN where there is none.

        Returns:
            The mean [..., K].
        """
        return _quotient(functools.reduce(sum_grown, self._sums), functools.reduce(np.add, self._weights))

    def error(self) -> NDArray:
        """Standard error of the mean, from whole blocks; NaN where there are fewer than two.

        Returns:
            The error [..., K].
        """
        means, known = self._means()
        counts = known.sum(axis=0)
        centre = np.where(known, means, 0.0).sum(axis=0) / np.maximum(counts, 1)
        squares = np.where(known, (means - centre) ** 2, 0.0).sum(axis=0)
        return np.where(counts > 1, np.sqrt(squares / np.maximum(counts * (counts - 1), 1)), np.nan)

    def derived_error(self, derived: Callable[[NDArray], NDArray]) -> float:
        """Standard error of a number that is made of the means.

        Args:
            derived: Makes the number [B] of the means of blocks [B, ..., K].

        Returns:
            The error, NaN for fewer than two whole blocks.
        """
        values = derived(self._means()[0])
        return float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else float("nan")

    def jackknife_error(self, derived: Callable[[NDArray], NDArray]) -> NDArray:
        r"""Standard error of what is made of the means, and needs many frames to be made, as a covariance does.

        Each of the B whole blocks is left out once, :math:`\sigma^2 = \frac{B - 1}{B} \sum_b (d_b - \bar d)^2`.

        Args:
            derived: Makes values [B, ...] of means [B, ..., K].

        Returns:
            The error [...], NaN for fewer than two whole blocks.
        """
        sums, weights = self._whole()
        if len(sums) < 2:
            return np.full(np.shape(derived(self.mean())), np.nan)
        values = derived(_quotient(sums.sum(axis=0) - sums, weights.sum(axis=0) - weights))
        return np.sqrt((len(sums) - 1) * np.var(values, axis=0))

    def _means(self) -> tuple[NDArray, NDArray]:
        """Means of the whole blocks [B, ..., K], and where they are known."""
        sums, weights = self._whole()
        return _quotient(sums, weights), weights > 0

    def _whole(self) -> tuple[NDArray, NDArray]:
        """Sums over the whole blocks [B, ..., K], and their weights."""
        whole = len(self._sums) - (self._filled > 0)
        last = max(block.shape[-1] for block in self._sums)
        if whole == 0:
            nothing = np.zeros((0, *self._sums[0].shape[:-1], last))
            return nothing, nothing
        sums = np.stack([grown(block, last) for block in self._sums[:whole]])
        return sums, np.broadcast_to(np.stack(self._weights[:whole]), sums.shape)

    def _join(self) -> None:
        """Blocks of twice the length; called when all are whole."""
        self._sums = [sum_grown(*self._sums[k : k + 2]) for k in range(0, MOST_BLOCKS, 2)]
        self._weights = [self._weights[k] + self._weights[k + 1] for k in range(0, MOST_BLOCKS, 2)]
        self._length *= 2


def _quotient(values: NDArray, weights: NDArray) -> NDArray:
    weights = np.broadcast_to(weights, values.shape)
    return np.divide(values, weights, out=np.full(values.shape, np.nan), where=weights > 0)


def grown(array: NDArray, last: int) -> NDArray:
    """An array with zeros at the end of its last axis, so that this has a length."""
    if array.shape[-1] == last:
        return array
    longer = np.zeros((*array.shape[:-1], last), dtype=array.dtype)
    longer[..., : array.shape[-1]] = array
    return longer


def sum_grown(one: NDArray, other: NDArray) -> NDArray:
    """Sum of two arrays, of which one may end earlier along the last axis."""
    last = max(one.shape[-1], other.shape[-1])
    return grown(one, last) + grown(other, last)
