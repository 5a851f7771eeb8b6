"""Chemical symbols and atomic numbers."""

import re

_TABLE = """
X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y
Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os
Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn
Nh Fl Mc Lv Ts Og
"""
SYMBOLS: tuple[str, ...] = tuple(_TABLE.split())
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
