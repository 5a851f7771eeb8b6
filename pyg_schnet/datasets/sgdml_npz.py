"""The npz layout of MD17 and sGDML: one molecule, many frames.

Keys: ``z`` [n], ``R`` [M, n, 3] in Angstrom, ``E`` [M] or [M, 1] in kcal/mol, ``F`` [M, n, 3] in kcal/mol/Angstrom,
``name``, ``theory``, ``type`` and ``md5``, a fingerprint of the arrays.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The arrays that the fingerprint covers, in its order.
FINGERPRINTED = ("z", "R", "E", "F")


def fingerprint(arrays: Mapping[str, NDArray]) -> str:
    """The ``md5`` key of an sGDML data file: md5 over the md5 digests of z, R, E and F.

    Each array enters as its raw bytes in the stored dtype, so the fingerprint changes with a single bit of the data.

    Args:
        arrays: Arrays by key; keys other than z, R, E, F are not looked at.

    Returns:
        32 hexadecimal digits.

    Example:
        >>> fingerprint({"z": np.array([1], dtype=np.uint8)})
        '4dad320fdbc2fd86cb955a663c00b31a'
    """
    digest = hashlib.md5(usedforsecurity=False)
    for key in FINGERPRINTED:
        if key in arrays:
            raw = np.ascontiguousarray(arrays[key]).tobytes()
            digest.update(hashlib.md5(raw, usedforsecurity=False).digest())
    return digest.hexdigest()


def write_npz(path: Path, *, z: NDArray, R: NDArray, E: NDArray, F: NDArray, name: str, theory: str) -> None:
    """Write frames in the layout of MD17, fingerprint included.

    Args:
        path: File to write; replaced in one step when everything is on disk.
        z: Atomic numbers [n].
        R: Positions [M, n, 3] in Angstrom.
        E: Energies [M, 1] in kcal/mol.
        F: Forces [M, n, 3] in kcal/mol/Angstrom.
        name: Name of the molecule.
        theory: Level of theory of the labels.
    """
    arrays = {"z": z.astype(np.uint8), "R": R, "E": E, "F": F}
    text = {"name": name, "theory": theory, "type": "d", "md5": fingerprint(arrays)}
    contents: dict[str, Any] = arrays | {key: np.bytes_(value) for key, value in text.items()}
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez_compressed(file, **contents)
    part.replace(path)


def read_npz(path: Path) -> dict[str, NDArray]:
    """Read and check a file in the layout of MD17.

    Args:
        path: The npz file.

    Returns:
        ``z`` int64 [n], ``R`` float64 [M, n, 3], ``E`` float64 [M], ``F`` float64 [M, n, 3], in the units of the file.

    Raises:
        ValueError: If the file is no npz archive, a key is missing, shapes disagree, values are not finite, or the data
            do not have the fingerprint stored with them.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is not a readable npz file ({error}); fetch or copy it again") from None
    missing = [key for key in FINGERPRINTED if key not in arrays]
    if missing:
        raise ValueError(
            f"{path} lacks the keys {', '.join(missing)} of the MD17 layout; "
            f"it has {', '.join(sorted(arrays)) or 'none'}"
        )
    z, R, E, F = (arrays[key] for key in FINGERPRINTED)
    frames, atoms = len(R), z.size
    if z.ndim != 1 or R.shape != (frames, atoms, 3) or F.shape != R.shape or E.shape not in {(frames,), (frames, 1)}:
        raise ValueError(
            f"{path}: expected z [n], R [M, n, 3], E [M, 1] and F [M, n, 3], "
            f"got z {list(z.shape)}, R {list(R.shape)}, E {list(E.shape)} and F {list(F.shape)}"
        )
    if "md5" in arrays:
        stored, actual = bytes(arrays["md5"]).rstrip(b"\0").decode(), fingerprint(arrays)
        if stored != actual:
            raise ValueError(
                f"{path} is damaged: its arrays have the fingerprint {actual}, the file states {stored}; fetch it again"
            )
    if not all(np.isfinite(values).all() for values in (R, E, F)):
        raise ValueError(f"{path} contains NaN or infinite positions, energies or forces")
    to_float = {key: arrays[key].astype(np.float64) for key in ("R", "F")}
    return {"z": z.astype(np.int64), "E": E.astype(np.float64).reshape(frames), **to_float}
