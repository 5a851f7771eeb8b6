"""Crystals from CIF text (Crystallographic Information File), without any other package.

Reads what a structure needs: cell, symmetry operations, and the sites with element, position and occupancy.
"""

import re
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pyg_schnet.datasets.crystal import OCCUPANCY_TOLERANCE, Crystal, PartialOccupancyError, cell_of, checked
from pyg_schnet.datasets.elements import atomic_number

#: A text block between semicolons, a quoted value (a quote ends only before white space), a comment, or a word.
_TOKEN = re.compile(
    r"""^;.*?^;|'(?:[^'\n]|'(?=\S))*'(?=\s|$)|"(?:[^"\n]|"(?=\S))*"(?=\s|$)|\#[^\n]*|\S+""", re.MULTILINE | re.DOTALL
)
_LENGTHS = ("_cell_length_a", "_cell_length_b", "_cell_length_c")
_ANGLES = ("_cell_angle_alpha", "_cell_angle_beta", "_cell_angle_gamma")
_POSITION = ("_atom_site_fract_x", "_atom_site_fract_y", "_atom_site_fract_z")
_OPERATIONS = ("_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz", "_space_group_symop.operation_xyz")
_GROUPS = ("_symmetry_space_group_name_h-m", "_space_group_name_h-m_alt", "_space_group.name_h-m_alt")
_TERM = re.compile(r"([+-]?)(?:(\d+(?:/\d+|\.\d*)?|\.\d+)?\*?([xyz])|(\d+(?:/\d+|\.\d*)?|\.\d+))")
#: First letters of tags, loop_ and data_.
_MAY_BE_RESERVED = "_lLdD"
#: Symmetry copies of an atom closer than this, in Angstrom, are the same atom; files round 1/3 to four decimals.
_SAME_ATOM = 0.05


def read_cif(text: str) -> Crystal:
    """Read the first structure of a CIF.

    Args:
        text: The text of the file.

    Returns:
        All atoms of the cell; symmetry operations are applied.

    Raises:
        PartialOccupancyError: If a site is not always occupied.
        ValueError: If cell, sites or symmetry are missing or impossible.

    Example:
        >>> cell = "_cell_length_a 3.4 _cell_length_b 3.4 _cell_length_c 3.4 _cell_angle_alpha 90 "
        >>> cell += "_cell_angle_beta 90 _cell_angle_gamma 90 "
        >>> site = "loop_ _atom_site_type_symbol _atom_site_fract_x _atom_site_fract_y _atom_site_fract_z Po 0 0 0"
        >>> read_cif(cell + site).numbers
        array([84])
    """
    values, columns = _parse(text)
    missing = [tag for tag in (*_LENGTHS, *_ANGLES) if tag not in values]
    missing += [tag for tag in _POSITION if tag not in columns]
    if missing:
        raise ValueError(f"expected CIF text with cell and fractional positions, it lacks {', '.join(missing)}")
    a, b, c = (_number(values[tag]) for tag in _LENGTHS)
    alpha, beta, gamma = (_number(values[tag]) for tag in _ANGLES)
    labels = columns.get("_atom_site_type_symbol") or columns.get("_atom_site_label")
    if labels is None:
        raise ValueError("expected CIF text with elements, it lacks _atom_site_type_symbol and _atom_site_label")
    for occupancy in set(columns.get("_atom_site_occupancy", ())) - {"1", "1.0", ".", "?"}:
        if abs(_number(occupancy) - 1) > OCCUPANCY_TOLERANCE:
            raise PartialOccupancyError(f"a site has the occupancy {occupancy}")
    numbers = np.array([atomic_number(_unquoted(label)) for label in labels], dtype=np.int64)
    fractional = np.array([_numbers(columns[tag]) for tag in _POSITION], dtype=np.float64).T
    crystal = checked(Crystal(numbers, fractional, cell_of((a, b, c), (alpha, beta, gamma))))
    operations = [text for text in _operations(values, columns) if "".join(text.lower().split()) != "x,y,z"]
    return _expanded(crystal, operations) if operations else crystal


def _parse(text: str) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Single values and columns of loops, by tag in small letters."""
    tokens = _tokens(text)
    values: dict[str, str] = {}
    columns: dict[str, list[str]] = {}
    at, end = 0, len(tokens)
    while at < end:
        token = tokens[at]
        at += 1
        if token[0] == "_":
            if at < end:
                values[token.lower()] = tokens[at]
                at += 1
        elif token.lower() == "loop_":
            begin = at
            while at < end and tokens[at][0] == "_":
                at += 1
            tags, first = tokens[begin:at], at
            while at < end and not (tokens[at][0] in _MAY_BE_RESERVED and _is_reserved(tokens[at])):
                at += 1
            _add_columns(columns, tags, tokens[first:at])
        elif token[:5].lower() == "data_" and _POSITION[0] in columns:
            break  # the next structure
    return values, columns


def _tokens(text: str) -> list[str]:
    """Words and quoted texts; the last loop, with the atoms, is mere words as a rule, which saves most of the time."""
    last = text.rfind("\nloop_")
    if last < 0 or any(special in text[last:] for special in "'\";#"):
        last = len(text)
    return [token for token in _TOKEN.findall(text, 0, last) if token[0] != "#"] + text[last:].split()


def _is_reserved(token: str) -> bool:
    return token[0] == "_" or token[:5].lower() in {"loop_", "data_"}


def _add_columns(columns: dict[str, list[str]], tags: list[str], rows: list[str]) -> None:
    if not tags or len(rows) % len(tags):
        raise ValueError(f"expected CIF text with whole loops, got {len(rows)} values in a loop of {len(tags)} columns")
    for position, tag in enumerate(tags):
        columns[tag.lower()] = rows[position :: len(tags)]


def _unquoted(token: str) -> str:
    return token[1:-1].strip() if token[0] in "'\";" and len(token) > 1 else token


def _number(token: str) -> float:
    """A number; digits in parentheses behind it are its uncertainty."""
    try:
        return float(token)
    except ValueError:
        try:
            return float(_unquoted(token).split("(")[0])
        except ValueError:
            raise ValueError(f"expected a number in CIF text, got {token[:40]!r}") from None


def _numbers(tokens: list[str]) -> list[float]:
    try:
        return [float(token) for token in tokens]
    except ValueError:
        return [_number(token) for token in tokens]


def _operations(values: dict[str, str], columns: dict[str, list[str]]) -> list[str]:
    for tag in _OPERATIONS:
        if tag in columns:
            return [_unquoted(token) for token in columns[tag]]
        if tag in values:
            return [_unquoted(values[tag])]
    group = next((_unquoted(values[tag]) for tag in _GROUPS if tag in values), "P 1")
    if "".join(group.upper().split()) not in {"P1", "?", ".", ""}:
        raise ValueError(f"expected CIF text with symmetry operations, it names only the space group {group[:40]!r}")
    return []


def _expanded(crystal: Crystal, operations: list[str]) -> Crystal:
    """Apply symmetry operations to all sites, each resulting atom once."""
    numbers, kept = list(crystal.numbers), [position % 1.0 for position in crystal.fractional]
    for number, position in zip(crystal.numbers, crystal.fractional, strict=True):
        for rotation, translation in map(_affine, operations):
            image = (rotation @ position + translation) % 1.0
            difference = np.array(kept) - image
            distance = np.linalg.norm((difference - difference.round()) @ crystal.cell, axis=1)
            if not ((distance < _SAME_ATOM) & (np.array(numbers) == number)).any():
                numbers.append(number)
                kept.append(image)
    return checked(Crystal(np.array(numbers, dtype=np.int64), np.array(kept), crystal.cell))


def _affine(operation: str) -> tuple[NDArray, NDArray]:
    """Rotation [3, 3] and translation [3] of an operation such as ``-y, x - y, z + 1/3``."""
    rotation, translation = np.zeros((3, 3)), np.zeros(3)
    rows = "".join(operation.lower().split()).split(",")
    if len(rows) != 3:
        raise ValueError(f"expected a symmetry operation such as 'x, y, z', got {operation[:40]!r}")
    for row, text in enumerate(rows):
        terms = _TERM.findall(text)
        if not terms or "".join("".join(term) for term in terms) != text.replace("*", ""):
            raise ValueError(f"expected a symmetry operation such as 'x, y, z', got {operation[:40]!r}")
        for sign, factor, axis, constant in terms:
            try:
                size = float(Fraction(factor or constant or "1"))
            except ZeroDivisionError:
                raise ValueError(f"expected a symmetry operation, got a division by zero in {text[:40]!r}") from None
            size = -size if sign == "-" else size
            if axis:
                rotation[row, "xyz".index(axis)] += size
            else:
                translation[row] += size
    return rotation, translation
