"""Structures from Parquet tables, a row each, as LeMat, ColabFit and others hand them around (extra ``large``).

Columns, the first one of these names that is there, capitals do not matter: atomic numbers or chemical symbols (lists
[n]), positions ([n, 3]), lattice vectors ([3, 3] or 9 numbers; absent or null for molecules), periodic axes ([3]; all
where there is a lattice, if absent), energy, forces ([n, 3]): see :data:`COLUMNS`. All others are fields. Parquet does
not say units: they are eV and Angstrom unless they are told.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pyg_schnet.datasets.npz_structures import NAMES

#: Names that columns go by, in the order of preference.
COLUMNS: dict[str, tuple[str, ...]] = {
    "z": (*NAMES["z"], "species_at_sites", "symbols", "elements"),
    "pos": (*NAMES["pos"], "cartesian_site_positions"),
    "cell": (*NAMES["cell"], "lattice_vectors"),
    "pbc": NAMES["pbc"],
    "energy": NAMES["energy"],
    "forces": (*NAMES["forces"], "atomic_forces"),
}
#: Rows that are unpacked at a time.
_ROWS = 1024


def parquet_frames(path: Path, start: int = 0) -> Iterator[tuple[Any, dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Structures of a table, some rows at a time.

    Args:
        path: The file.
        start: Number of rows that are skipped.

    Yields:
        ASE's ``Atoms``, fields with a row for each atom, fields of the structure, and those of which only shapes tell.

    Raises:
        ImportError: If pyarrow is not installed.
        ValueError: If it is no Parquet file, has no columns with atoms and positions, or a row is damaged.
    """
    with _open(path) as file:
        names = _names(file.schema_arrow.names)
        groups = []
        for number in range(file.num_row_groups):  # of which those before are not unpacked
            rows = file.metadata.row_group(number).num_rows
            if start < rows:
                groups.append(number)
            if not groups:
                start -= rows
        for batch in file.iter_batches(_ROWS, row_groups=groups):
            if start >= batch.num_rows:
                start -= batch.num_rows
                continue
            columns = {name: _rows(batch.column(name)) for name in batch.schema.names}
            for row in range(start, batch.num_rows):
                yield _structure(names, {name: column[row] for name, column in columns.items()})
            start = 0


def count_table_rows(path: Path) -> int:
    """Number of structures of a table.

    Args:
        path: The file.

    Returns:
        The number.

    Raises:
        ImportError: If pyarrow is not installed.
    """
    with _open(path) as file:
        return int(file.metadata.num_rows)


def _open(path: Path) -> Any:
    try:
        from pyarrow.parquet import ParquetFile  # noqa: PLC0415
    except ImportError as error:
        raise ImportError('Parquet files need pyarrow; install it with pip install "pyg_schnet[large]"') from error
    return ParquetFile(path)


def _names(columns: list[str]) -> dict[str, str]:
    """Names in the table of what is known, by the names of this package."""
    small = {name.lower(): name for name in reversed(columns)}
    found = {ours: next((small[one] for one in theirs if one in small), None) for ours, theirs in COLUMNS.items()}
    missing = [name for name in ("z", "pos") if found[name] is None]
    if missing:
        expected = "; ".join(f"{name}: one of {', '.join(COLUMNS[name])}" for name in missing)
        raise ValueError(f"the columns are {', '.join(columns) or 'none'}, expected {expected}")
    return {ours: theirs for ours, theirs in found.items() if theirs is not None}


def _structure(
    names: dict[str, str], row: dict[str, Any]
) -> tuple[Any, dict[str, Any], dict[str, Any], dict[str, Any]]:
    from ase import Atoms  # noqa: PLC0415  an extra

    z, pos = row[names["z"]], row[names["pos"]]
    cell = row.get(names.get("cell", ""))
    cell = None if cell is None or not np.size(cell) else np.asarray(cell, dtype=np.float64).reshape(3, 3)
    pbc = row.get(names.get("pbc", ""))
    if pbc is None:
        pbc = False if cell is None else cell.any(axis=1)
    atoms = Atoms(z, np.asarray(pos, dtype=np.float64).reshape(-1, 3), cell=cell, pbc=np.asarray(pbc, dtype=bool))
    ours = {theirs: name for name, theirs in names.items()}
    of_atoms, of_structure, of_either = dict[str, Any](), dict[str, Any](), dict[str, Any]()
    for name, value in row.items():
        known = ours.get(name, name)
        if value is None or known in {"z", "pos", "cell", "pbc"}:
            continue
        rows = np.shape(value)[:1] == (len(atoms),)
        (of_atoms if known == "forces" else of_either if rows else of_structure)[known] = value
    return atoms, of_atoms, of_structure, of_either


def _rows(column: Any) -> list[Any]:
    """Values of each row: arrays of lists of numbers, what Python has for the rest, ``None`` where there is none."""
    import pyarrow as pa  # noqa: PLC0415

    depth, inner = 0, column.type
    while pa.types.is_list(inner) or pa.types.is_large_list(inner) or pa.types.is_fixed_size_list(inner):
        depth, inner = depth + 1, inner.value_type
    plain = pa.types.is_integer(inner) or pa.types.is_floating(inner)
    if not depth or not plain:
        return list(column.to_pylist())
    shape, values, lengths = list[int](), column, np.zeros(0, dtype=np.int64)
    for level in range(depth):
        counts = values.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        if level == 0:
            lengths = counts
        elif not len(counts) or (counts != counts[0]).any() or not counts[0]:  # rows of different lengths inside
            return list(column.to_pylist())
        else:
            shape.append(int(counts[0]))
        values = values.flatten()
    if values.null_count:
        values = values.cast(pa.float64())
    array = values.to_numpy(zero_copy_only=False).reshape(-1, *shape)
    ends = np.cumsum(lengths)
    known = column.is_valid().to_pylist()
    return [array[end - n : end] if there else None for end, n, there in zip(ends, lengths, known, strict=True)]
