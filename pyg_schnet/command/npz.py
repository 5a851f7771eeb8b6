"""Compressed archives of numpy, array by array and piece by piece: any names, and not more in memory than a piece."""

import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: An array's name, and what gives its pieces, which is asked twice.
Column = tuple[str, Callable[[], Iterator[NDArray]]]


def write_npz(path: Path, columns: Iterable[Column]) -> None:
    """Write arrays that ``numpy.load`` reads.

    Args:
        path: The file.
        columns: The arrays.

    Raises:
        OSError: If it cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "two.npz")
        >>> write_npz(path, [("file", lambda: iter([np.array(["a"]), np.array(["long"])]))])
        >>> np.load(path)["file"].tolist()
        ['a', 'long']
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
        for name, pieces in columns:
            kinds = [(piece.dtype, piece.shape) for piece in pieces()]
            dtype, shape = np.result_type(*(dtype for dtype, _ in kinds)), kinds[-1][1]
            shape = (sum(one[0] for _, one in kinds), *shape[1:]) if shape else ()
            head = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_1_0(file, head)
                for piece in pieces():
                    file.write(np.ascontiguousarray(piece, dtype=dtype).tobytes())
