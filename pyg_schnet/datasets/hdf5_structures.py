"""Structures from HDF5 files in the layouts of SPICE and of Transition1x (extra ``large``).

SPICE (Eastman et al., Sci. Data 10, 11 (2023)) has a group for each molecule: ``atomic_numbers`` [n], ``conformations``
[M, n, 3] in bohr, ``dft_total_energy`` [M] in hartree, ``dft_total_gradient`` [M, n, 3] in hartree/bohr, and further
properties in atomic units. Attributes ``units`` say so, and other units are refused.

Transition1x (Schreiner et al., Sci. Data 9, 779 (2022)) has a group ``data/<formula>/<reaction>`` for each reaction:
``atomic_numbers`` [n], ``positions`` [M, n, 3] in Angstrom, ``wB97x_6-31G(d).energy`` [M] in eV and
``wB97x_6-31G(d).forces`` [M, n, 3] in eV/Angstrom. ``train``, ``val`` and ``test`` beside ``data`` are other names of
the same groups.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class _Layout(NamedTuple):
    name: str
    pos: str
    energy: str
    #: The forces or their negative, and the sign.
    forces: str
    sign: float
    units: dict[str, str]
    #: What its files call the units.
    spelled: dict[str, set[str]]


SPICE = _Layout(
    "SPICE",
    "conformations",
    "dft_total_energy",
    "dft_total_gradient",
    -1.0,
    {"energy": "Ha", "length": "Bohr"},
    {
        "conformations": {"bohr"},
        "dft_total_energy": {"hartree"},
        "dft_total_gradient": {"hartree/bohr", "bohr^-1 hartree", "hartree / bohr"},
    },
)
TRANSITION1X = _Layout(
    "Transition1x",
    "positions",
    "wB97x_6-31G(d).energy",
    "wB97x_6-31G(d).forces",
    1.0,
    {"energy": "eV", "length": "Ang"},
    {},
)
#: What HDF5 files begin with.
_MAGIC = b"\x89HDF\r\n\x1a\n"


def is_hdf5(path: Path) -> bool:
    """True if a file is HDF5."""
    with path.open("rb") as stream:
        return stream.read(len(_MAGIC)) == _MAGIC


def hdf5_frames(path: Path, start: int = 0) -> Iterator[tuple[Any, dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Structures of a file, a group at a time.

    Energies and forces are called ``energy`` and ``forces``, in the file's units; the name of the group is the field
    ``molecule``, or ``formula`` and ``reaction``, by which a group split keeps what belongs together in one part. All
    other arrays of M rows, and single words, are fields under their own names.

    Args:
        path: The file.
        start: Number of structures that are skipped.

    Yields:
        ASE's ``Atoms``, fields with a row for each atom, fields of the structure, and those of which only the shapes in
        other structures tell.

    Raises:
        ImportError: If h5py is not installed.
        ValueError: If it has neither layout, other units, or an array has another shape.
    """
    from ase import Atoms  # noqa: PLC0415  an extra

    with _open(path) as file:
        layout = _layout(file)
        for named, group in _groups(file, layout):
            many = len(group[layout.pos])
            if start >= many:
                start -= many
                continue
            pos, z = group[layout.pos][:], group["atomic_numbers"][:]
            where = group.name
            _check_units(layout.pos, group[layout.pos], layout)
            if pos.ndim != 3 or pos.shape[1:] != (len(z), 3) or z.dtype.kind not in "iu":
                raise ValueError(
                    f"{where}: expected whole numbers atomic_numbers [n] and {layout.pos} [M, n, 3], got {z.dtype} "
                    f"{list(z.shape)} and {list(pos.shape)}"
                )
            parts = _fields(group, layout, pos.shape[:2])
            for place in range(start, many):
                of_atoms, of_structure, either = ({name: one[place] for name, one in part.items()} for part in parts)
                yield Atoms(z, pos[place]), of_atoms, named | of_structure, either
            start = 0


def count_conformations(path: Path) -> int:
    """Number of structures of a file, of which only shapes are read.

    Args:
        path: The file.

    Returns:
        The number.

    Raises:
        ImportError: If h5py is not installed.
        ValueError: If it has neither layout.
    """
    with _open(path) as file:
        layout = _layout(file)
        return sum(len(group[layout.pos]) for _, group in _groups(file, layout))


def hdf5_units(path: Path) -> dict[str, str]:
    """Units of a file.

    Args:
        path: The file.

    Returns:
        ``energy`` and ``length``.

    Raises:
        ImportError: If h5py is not installed.
        ValueError: If it has neither layout.
    """
    with _open(path) as file:
        return dict(_layout(file).units)


def _open(path: Path) -> Any:
    try:
        import h5py  # noqa: PLC0415
    except ImportError as error:
        raise ImportError('HDF5 files need h5py; install it with pip install "pyg_schnet[large]"') from error
    return h5py.File(path, "r")


def _layout(file: Any) -> _Layout:
    """The layout, by the first group that has a structure."""
    if "data" in file:
        for formula in file["data"].values():
            for reaction in formula.values() if hasattr(formula, "values") else ():
                if hasattr(reaction, "keys") and {"atomic_numbers", TRANSITION1X.pos} <= set(reaction):
                    return TRANSITION1X
    for group in file.values():
        if hasattr(group, "keys") and {"atomic_numbers", SPICE.pos} <= set(group):
            return SPICE
    raise ValueError(
        f"it begins with {', '.join(list(file)[:3]) or 'nothing'}; expected groups of SPICE (atomic_numbers, "
        f"conformations) or of Transition1x (data/<formula>/<reaction> with atomic_numbers, positions)"
    )


def _groups(file: Any, layout: _Layout) -> Iterator[tuple[dict[str, str], Any]]:
    """Groups with structures, and what their names say."""
    if layout is SPICE:
        for molecule, group in file.items():
            if hasattr(group, "keys") and SPICE.pos in group:
                yield {"molecule": molecule}, group
        return
    for formula, reactions in file["data"].items():
        for reaction, group in reactions.items():
            if hasattr(group, "keys") and TRANSITION1X.pos in group:
                yield {"formula": formula, "reaction": reaction}, group


def _fields(group: Any, layout: _Layout, shape: tuple[int, int]) -> tuple[dict[str, Any], ...]:
    """Arrays with a row for each atom of each structure, for each structure, and for either."""
    of_atoms, of_structure, either = dict[str, Any](), dict[str, Any](), dict[str, Any]()
    for name, stored in group.items():
        if name in {"atomic_numbers", layout.pos} or not hasattr(stored, "shape"):
            continue
        _check_units(name, stored, layout)
        if stored.dtype.kind in "OS" and stored.size == 1:  # a word for all structures
            word = np.asarray(stored[()]).reshape(-1)[0]
            of_structure[name] = [word.decode(errors="replace") if isinstance(word, bytes) else str(word)] * shape[0]
        elif name == layout.energy:
            of_structure["energy"] = _checked(group, name, stored, shape[:1])
        elif name == layout.forces:
            of_atoms["forces"] = layout.sign * _checked(group, name, stored, (*shape, 3))
        elif stored.dtype.kind in "iufb" and stored.shape[:1] == shape[:1]:
            # of three atoms, a vector of the structure looks like numbers of the atoms
            (either if stored.shape[:2] == shape else of_structure)[name] = stored[:]
    return of_atoms, of_structure, either


def _checked(group: Any, name: str, stored: Any, shape: tuple[int, ...]) -> NDArray:
    if stored.shape != shape:
        raise ValueError(f"{group.name}: expected {name} {list(shape)}, got {list(stored.shape)}")
    return np.asarray(stored[:], dtype=np.float64)


def _check_units(name: str, stored: Any, layout: _Layout) -> None:
    unit = stored.attrs.get("units")
    unit = unit.decode() if isinstance(unit, bytes) else unit
    if unit is not None and name in layout.spelled and str(unit).lower() not in layout.spelled[name]:
        raise ValueError(f"{stored.name} is in {unit!r}, expected {' or '.join(sorted(layout.spelled[name]))}")
