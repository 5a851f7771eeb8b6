"""Options that must be numbers."""

import math
import numbers
from typing import Any


def positive(name: str, value: Any, unit: str = "") -> float:
    """A positive, finite number.

    Args:
        name: Name of the option.
        value: Its value.
        unit: What it is and its unit, for the message.

    Returns:
        The number.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is not positive or not finite.

    Example:
        >>> positive("width", 1)
        1.0
    """
    what = f", {unit}," if unit else ""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"`{name}`{what} must be a number, got {type(value).__name__}")
    number = float(value)
    if not 0 < number < math.inf:
        raise ValueError(f"`{name}`{what} must be positive and finite, got {value}")
    return number


def count(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """An integer in a range.

    Args:
        name: Name of the option.
        value: Its value.
        least: Smallest one.
        most: Largest one.

    Returns:
        The integer.

    Raises:
        TypeError: If it is no integer.
        ValueError: If it is out of range.

    Example:
        >>> count("bins", 20)
        20
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"`{name}` must be an integer, got {type(value).__name__}")
    number = int(value)
    if number < least or (most is not None and number > most):
        upper = "" if most is None else f" and at most {most:,}"
        range_ = f"{least}, there is no other" if most == least else f"at least {least}{upper}"
        raise ValueError(f"`{name}` must be {range_}, got {value}")
    return number
