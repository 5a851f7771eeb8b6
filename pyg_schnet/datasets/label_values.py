"""What the values of a user's fields say of them as labels, beside their names."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyg_schnet.datasets.gathered import Gathered
from pyg_schnet.datasets.resemblance import of_composition

#: Part of the variance in which two fields may differ and say the same: digits that were not written.
_ROUNDED = 1e-6


class LabelFields:
    """Values of the fields that may be labels.

    Args:
        gathered: The structures.
    """

    def __init__(self, gathered: Gathered) -> None:
        self._gathered = gathered

    def constant(self, name: str) -> bool:
        """True if a field says nothing of any structure.

        Args:
            name: Name of a field.

        Returns:
            ``True`` for a number that is the same in all structures that have it, several of them, and for vectors and
            matrices of zeros.
        """
        if self._gathered.shapes[name] == "number":
            values = self._gathered.values(name)
            known = values[np.isfinite(values)]
            return len(known) > 1 and bool((known == known[0]).all())
        return not any(one is not None and np.nan_to_num(one).any() for one in self._gathered.arrays(name))

    def same(self, one: str, other: str) -> bool:
        """True if two fields differ in their unit alone or, as energies, in what each element brings.

        Args:
            one: Name of a field.
            other: Name of another one of the same shape.

        Returns:
            ``True`` or ``False``; ``False`` if no structure has both.
        """
        if self._gathered.shapes[one] == "number":
            first, second = self._gathered.values(one), self._gathered.values(other)
            both = np.isfinite(first) & np.isfinite(second)
            numbers = [each.numbers for each in self._gathered.all]
            rests = [of_composition(np.where(both, values, np.nan), numbers)[both] for values in (first, second)]
            return _proportional(*rests)
        pairs = zip(self._gathered.arrays(one), self._gathered.arrays(other), strict=True)
        known = [(a.ravel(), b.ravel()) for a, b in pairs if a is not None and b is not None and a.shape == b.shape]
        if not known:
            return False
        first, second = np.concatenate([a for a, _ in known]), np.concatenate([b for _, b in known])
        both = np.isfinite(first) & np.isfinite(second)
        return _proportional(first[both], second[both])


def known_part(value: Any) -> float:
    """Which part of the numbers of a label is known.

    Args:
        value: A number, an array, or ``None``.

    Returns:
        Between 0 and 1.

    Example:
        >>> known_part(np.array([1.0, np.nan])), known_part(None)
        (0.5, 0.0)
    """
    if value is None or isinstance(value, str):
        return 0.0
    numbers = np.asarray(value, dtype=np.float64)
    return float(np.isfinite(numbers).mean()) if numbers.size else 0.0


def _proportional(one: NDArray, other: NDArray) -> bool:
    """True if two fields are the same but for a positive factor."""
    squares = float((one**2).sum() * (other**2).sum())
    if not squares > 0:
        return bool(len(one)) and not one.any() and not other.any()
    return bool((one * other).sum() > 0 and (one * other).sum() ** 2 >= (1 - _ROUNDED) * squares)
