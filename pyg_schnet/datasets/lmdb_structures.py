"""ASE's databases in LMDB (``aselmdb``), as OMat24 and OMol25 are handed around (extra ``large``).

One row a structure: the key is its number in decimal digits, the value is ASE's JSON of the row, packed by zlib.
``nextid`` is one more than the largest number, ``deleted_ids`` lists those that are gone. Nothing is unpickled.
"""

import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

#: Where LMDB writes its magic number, and what it is.
_MAGIC_AT, _MAGIC = 16, b"\xde\xc0\xef\xbe"
#: Bytes of rows after which a file is opened again: what was looked at stays in memory until it is closed.
_AT_ONCE = 1 << 27


def is_lmdb(path: Path) -> bool:
    """True if a file is an LMDB environment."""
    with path.open("rb") as stream:
        return stream.read(_MAGIC_AT + len(_MAGIC))[_MAGIC_AT:] == _MAGIC


def lmdb_rows(path: Path, start: int = 0) -> Iterator[Any]:
    """Rows of a database in the order of their numbers.

    Args:
        path: The file.
        start: Number of rows that are skipped.

    Yields:
        ASE's ``AtomsRow``.

    Raises:
        ImportError: If lmdb is not installed.
        ValueError: If it is no database of ASE, or a row is damaged.
    """
    from ase.db.row import AtomsRow  # noqa: PLC0415  an extra
    from ase.io.jsonio import decode  # noqa: PLC0415

    ids, at = _ids(path)[start:], 0
    while at < len(ids):
        read = 0
        with closing(_open(path)) as environment, environment.begin(buffers=True) as transaction:
            while at < len(ids) and read < _AT_ONCE:
                packed = transaction.get(str(ids[at]).encode())
                if packed is None:
                    raise ValueError(f"row {ids[at]} is missing")
                text = zlib.decompress(packed)
                read += len(packed)
                yield AtomsRow(decode(text.decode()) | {"id": ids[at]})
                at += 1


def count_rows(path: Path) -> int:
    """Number of rows of a database.

    Args:
        path: The file.

    Returns:
        The number.

    Raises:
        ImportError: If lmdb is not installed.
        ValueError: If it is no database of ASE.
    """
    return len(_ids(path))


def _ids(path: Path) -> list[int]:
    from ase.io.jsonio import decode  # noqa: PLC0415

    with closing(_open(path)) as environment, environment.begin() as transaction:
        found = {}
        for name in ("nextid", "deleted_ids"):
            packed = transaction.get(name.encode())
            try:
                found[name] = None if packed is None else decode(zlib.decompress(packed).decode())
            except (zlib.error, ValueError):
                raise ValueError(
                    f"its {name!r} is not ASE's JSON; expected a database that ASE wrote (aselmdb), not one of pickles"
                ) from None
    if not isinstance(found["nextid"], int):
        raise ValueError("it has no 'nextid'; expected a database that ASE wrote (aselmdb)")
    gone = set(found["deleted_ids"] or ())
    return [number for number in range(1, found["nextid"]) if number not in gone]


def _open(path: Path) -> Any:
    try:
        import lmdb  # noqa: PLC0415
    except ImportError as error:
        raise ImportError('aselmdb files need lmdb; install it with pip install "pyg_schnet[large]"') from error
    return lmdb.open(str(path), subdir=False, readonly=True, lock=False, meminit=False, max_dbs=0)
