"""Gradients of weights as loops write them: padded, one behind the other, a sum for each part of the structures."""

import math
from typing import NamedTuple

import numpy as np
from numpy import ndarray
from torch import Tensor

#: Sums over structures that may be done at the same time, and how many numbers loops take at a time.
PARTS, ALIGNED = 16, 16


def up(size: int) -> int:
    """The next number of features that loops take."""
    return -(-size // ALIGNED) * ALIGNED


class GradientSums(NamedTuple):
    """Sums of parts, whose number does not depend on the threads, so neither do results.

    Attributes:
        sums: The sums [C, G].
        places: Where those of each block's weights, and of the output network, begin.
        shapes: Padded shapes of the weights.
        weights: The weights.
    """

    sums: Tensor
    places: tuple[ndarray, ndarray]
    shapes: list[tuple[int, ...]]
    weights: tuple[Tensor, ...]

    @classmethod
    def of(cls, weights: tuple[Tensor, ...], blocks: int, parts: int) -> "GradientSums":
        """Zeros for so many blocks and parts; six weights belong to a block, four to the output network."""
        shapes = [tuple(map(up, weight.shape)) for weight in weights]
        begins = np.cumsum([0, *map(math.prod, shapes)])
        of_blocks, of_output = begins[:-5].reshape(-1, 6), begins[-5:-1]
        places = of_blocks[np.arange(blocks) % len(of_blocks)], of_output
        return cls(weights[0].new_zeros(parts, int(begins[-1])), places, shapes, weights)

    def gradients(self) -> list[Tensor]:
        """The gradients with respect to the weights."""
        found = self.sums.sum(0).split([math.prod(shape) for shape in self.shapes])
        wide = (slopes.view(shape) for slopes, shape in zip(found, self.shapes, strict=True))
        return [one[tuple(map(slice, weight.shape))] for one, weight in zip(wide, self.weights, strict=True)]
