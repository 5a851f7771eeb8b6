"""Chemical symbols and atomic numbers."""

import re

from pyg_schnet.units import SYMBOLS

_NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS) if number} | {"D": 1, "T": 1}
_SYMBOL = re.compile(r"[A-Za-z]{1,2}")


def atomic_number(label: str) -> int:
    """Atomic number of an element, an ion or a labelled site.

    Args:
        label: A symbol, with or without a charge or a number behind it; deuterium and tritium are hydrogen.

    Returns:
        The atomic number.

    Raises:
        ValueError: If the label does not begin with the symbol of an element.

    Example:
        >>> [atomic_number(label) for label in ("Ba", "Na+", "O12", "D")]
        [56, 11, 8, 1]
    """
    known = _NUMBERS.get(label)
    if known is not None:
        return known
    found = _SYMBOL.match(label)
    letters = found.group() if found else ""
    for symbol in (letters.capitalize(), letters[:1].upper()):
        if symbol in _NUMBERS:
            return _NUMBERS[symbol]
    raise ValueError(f"expected the symbol of an element, got {label[:20]!r}")
