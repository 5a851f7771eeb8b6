"""What the second line of a structure in an xyz file says: fields of extended xyz, or words of another program."""

import re
from typing import Any

#: A number with a decimal point, and one with the exponent that Fortran writes.
_NUMBER = r"[+-]?\d*\.\d+(?:[eE][+-]?\d+)?"
_FORTRAN = re.compile(r"(?<![\w.])([+-]?(?:\d+\.\d*|\.\d+))[dD]([+-]?\d+)(?![\w.])")
#: Programs that write total energies in Hartree, by what their lines look like.
_PROGRAMS = {
    "xtb": re.compile(rf"\s*energy:\s*({_NUMBER})(?:\s.*)?"),
    "ORCA": re.compile(rf"\s*Coordinates from ORCA-job .*\bE\s+({_NUMBER})\s*"),
    "CREST": re.compile(r"\s*(-\d*\.\d+)\s*"),
}
_CP2K = re.compile(rf"\s*i\s*=\s*\d+\s*,.*\bE\s*=\s*({_NUMBER})\s*(?:,.*)?")


def program_of(line: str) -> str | None:
    """The program that writes such lines, all of which give total energies in Hartree.

    Args:
        line: The second line of a structure.

    Returns:
        Its name; ``None`` if it is none of those that are known.

    Example:
        >>> program_of(" energy: -11.38136 gnorm: 0.0003 xtb: 6.4.1"), program_of("        -11.38136")
        ('xtb', 'CREST')
        >>> program_of(" i = 10, time = 5.0, E = -17.1"), program_of("energy=-11.38136")
        ('CP2K', None)
    """
    if _CP2K.fullmatch(line):
        return "CP2K"
    return next((name for name, pattern in _PROGRAMS.items() if pattern.fullmatch(line)), None)


def fields_of(line: str) -> dict[str, Any]:
    """The fields that a line gives.

    Args:
        line: The second line of a structure.

    Returns:
        Fields as ASE reads them; ``energy`` alone, where a program writes it in words of its own.

    Example:
        >>> fields_of("Coordinates from ORCA-job ethanol E -11.38136")
        {'energy': -11.38136}
    """
    from ase.io.extxyz import key_val_str_to_dict  # noqa: PLC0415  an extra

    for pattern in _PROGRAMS.values():
        if match := pattern.fullmatch(line):
            return {"energy": float(match[1])}
    return dict(key_val_str_to_dict(line))


def with_exponents(text: str) -> str:
    """A text with exponents that Python reads, ``1.5e+02`` for ``1.5D+02``.

    Args:
        text: Any text.

    Returns:
        The same but for such numbers.

    Example:
        >>> with_exponents("energy=-3.09D+02 name=1D")
        'energy=-3.09e+02 name=1D'
    """
    return _FORTRAN.sub(r"\1e\2", text)
