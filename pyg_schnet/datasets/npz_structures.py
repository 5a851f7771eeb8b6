"""Structures from npz files with arrays by other people's names, sGDML's and revised MD17's among them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyg_schnet.datasets.sgdml_npz import read_arrays, text_of

#: Names that arrays go by, in the order of preference; capitals do not matter.
NAMES: dict[str, tuple[str, ...]] = {
    "z": ("z", "numbers", "atomic_numbers", "nuclear_charges", "species"),
    "pos": ("r", "pos", "positions", "coords", "coordinates"),
    "cell": ("cell", "cells", "lattice", "lattices"),
    "energy": ("e", "energy", "energies", "total_energy", "total_energies"),
    "forces": ("f", "forces", "force"),
    "pbc": ("pbc", "periodic"),
}
#: What files say of themselves.
_ABOUT = {"md5", "type", "name", "theory", "r_unit", "e_unit", "units"}
#: Units as files spell them, in small letters.
SPELLINGS = {
    "kcal/mol": "kcal/mol",
    "kj/mol": "kJ/mol",
    "ev": "eV",
    "mev": "meV",
    "ha": "Ha",
    "hartree": "Ha",
    "ang": "Ang",
    "angstrom": "Ang",
    "bohr": "Bohr",
    "nm": "nm",
}


def npz_frames(path: Path) -> Iterator[tuple[Any, dict[str, Any], dict[str, Any]]]:
    """Structures of an npz file.

    Atomic numbers are ``z`` [n], or [M, n] with zeros behind the last atom of the smaller structures; positions are
    [M, n, 3]; see :data:`NAMES` for further names of them. Lattice vectors are [3, 3] or [M, 3, 3], zero where there
    are none, and all their axes are periodic unless ``pbc``, [3] or [M, 3], says otherwise. Arrays of M rows are
    fields of the structures, those of M times n rows of their atoms.

    Args:
        path: The file.

    Yields:
        ASE's ``Atoms``, fields with a row for each atom, and fields of the structure.

    Raises:
        ValueError: If it is no npz file, lacks numbers or positions, or an array has another shape.
    """
    from ase import Atoms  # noqa: PLC0415  an extra

    arrays = read_arrays(path, path)
    found = names_of(arrays)
    missing = [name for name in ("z", "pos") if name not in found]
    if missing:
        expected = "; ".join(f"{name}: one of {', '.join(NAMES[name])}" for name in missing)
        raise ValueError(f"the arrays are {', '.join(arrays) or 'none'}, expected {expected}")
    z, pos = arrays[found["z"]], arrays[found["pos"]]
    if pos.ndim != 3 or pos.shape[2] != 3 or z.shape not in {pos.shape[1:2], pos.shape[:2]} or z.dtype.kind not in "iu":
        raise ValueError(
            f"expected whole numbers {found['z']} [n] or [M, n] and {found['pos']} [M, n, 3], got {z.dtype} "
            f"{list(z.shape)} and {list(pos.shape)}"
        )
    many = len(pos)
    cell = _rows(arrays, found.get("cell"), np.zeros((3, 3)), (many, 3, 3))
    pbc = _rows(arrays, found.get("pbc"), np.asarray(cell.any(axis=-1)), (many, 3))
    of_atoms, of_structure = _fields(arrays, found, pos.shape[:2])
    numbers = np.broadcast_to(z, pos.shape[:2])
    for place in range(len(pos)):
        here = numbers[place] > 0
        atoms = Atoms(numbers[place][here], pos[place][here], cell=cell[place], pbc=pbc[place].astype(bool))
        rows = {name: array[place][here] for name, array in of_atoms.items()}
        yield atoms, rows, {name: array[place] for name, array in of_structure.items()}


def names_of(arrays: dict[str, NDArray]) -> dict[str, str]:
    """Names in the file of what is known, by the names of this package.

    Args:
        arrays: Arrays by name.

    Returns:
        Names, as far as they are there.
    """
    by_small = {name.lower(): name for name in reversed(arrays)}
    return {
        ours: by_small[theirs]
        for ours, names in NAMES.items()
        for theirs in reversed(names)
        if theirs in by_small and not (theirs == "f" and arrays[by_small["f"]].ndim != 3)
    }


def npz_units(path: Path) -> dict[str, str]:
    """Units that a file says itself, as sGDML's do in ``e_unit`` and ``r_unit``.

    Args:
        path: The file.

    Returns:
        ``energy`` and ``length``, as far as the file tells.
    """
    with np.load(path, allow_pickle=False) as file:
        told = {name: text_of(file[name]) for name in ("e_unit", "r_unit") if name in file.files}
    named = {"energy": told.get("e_unit", ""), "length": told.get("r_unit", "")}
    return {name: SPELLINGS[unit.lower()] for name, unit in named.items() if unit.lower() in SPELLINGS}


def _rows(arrays: dict[str, NDArray], name: str | None, otherwise: NDArray, shape: tuple[int, ...]) -> NDArray:
    """What is one array for all structures, or has a row for each of them, in rows [M, ...]."""
    array = otherwise if name is None else arrays[name]
    if array.shape not in {shape[1:], shape}:
        raise ValueError(f"expected {name} {list(shape[1:])} or {list(shape)}, got {list(array.shape)}")
    return np.broadcast_to(array, shape)


def _fields(
    arrays: dict[str, NDArray], found: dict[str, str], shape: tuple[int, ...]
) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
    """Arrays with a row for each atom, and for each structure, under the names of this package where they are known."""
    ours = {theirs: name for name, theirs in found.items()}
    of_atoms, of_structure = {}, {}
    for name, array in arrays.items():
        known = ours.get(name, name)
        if known in {"z", "pos", "cell", "pbc"} or name in _ABOUT or array.shape[:1] != shape[:1]:
            continue
        if array.shape[:2] == shape and shape[1] > 1:
            of_atoms[known] = array
        else:
            of_structure[known] = array[:, 0] if array.shape == (shape[0], 1) else array
    return of_atoms, of_structure
