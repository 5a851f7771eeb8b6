"""The npz layout of MD17 and sGDML: one molecule, many frames.

Keys: ``z`` [n], ``R`` [M, n, 3] in Angstrom, ``E`` [M] or [M, 1] in kcal/mol, ``F`` [M, n, 3] in kcal/mol/Angstrom,
``name``, ``theory``, ``type`` and ``md5``, a fingerprint of the arrays.
"""

import hashlib
import io
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pyg_schnet.datasets.rounding import LARGEST
from pyg_schnet.files import replacing

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
    with replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **contents)


def read_npz(path: Path, part: str | None = None, check_fingerprint: bool = True) -> dict[str, NDArray]:
    """Read and check a file in the layout of MD17.

    Args:
        path: The npz file, or a zip archive of several.
        part: End of the name of the npz file wanted from an archive of several, for example ``"-train.npz"``.
        check_fingerprint: True if the arrays must have the fingerprint stored with them.

    Returns:
        ``z`` int64 [n], ``R`` float64 [M, n, 3], ``E`` float64 [M], ``F`` float64 [M, n, 3], in the units of the file.

    Raises:
        ValueError: If the file is no npz archive, a key is missing, shapes disagree, values are not finite, or the data
            do not have the fingerprint stored with them.
    """
    arrays = read_arrays(path if part is None else _member(path, part), path)
    frames = check_frames(path, arrays)
    if check_fingerprint and "md5" in arrays:
        stored, actual = text_of(arrays["md5"]), fingerprint(arrays)
        if stored != actual:
            raise ValueError(
                f"{path} is damaged: its arrays have the fingerprint {actual}, the file states {stored}; fetch it again"
            )
    return frames


def read_arrays(npz: Path | IO[bytes], path: Path) -> dict[str, NDArray]:
    """All arrays of an npz file.

    Args:
        npz: The file, or its content as a stream.
        path: The file to name when it cannot be read.

    Returns:
        Arrays by key.

    Raises:
        ValueError: If it is no npz file, or damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # about headers in need of repair
            with (
                open(npz, "rb") if isinstance(npz, Path) else npz as stream,
                np.load(stream, allow_pickle=False) as file,
            ):
                return {key: file[key] for key in file.files}
    except (FileNotFoundError, PermissionError):
        raise
    except (Exception, MemoryError) as error:  # a damaged archive fails in many ways
        raise ValueError(f"{path} is not a readable npz file ({error}); fetch or copy it again") from None


def check_frames(
    path: Path, arrays: Mapping[str, NDArray], keys: Mapping[str, str] | None = None
) -> dict[str, NDArray]:
    """Check that arrays are frames of one molecule.

    Args:
        path: The file to name when they are not.
        arrays: Arrays by the keys of the file.
        keys: Keys of the file by ``z``, ``R``, ``E``, ``F``; ``None`` if they are the same.

    Returns:
        ``z`` int64 [n], ``R`` float64 [M, n, 3], ``E`` float64 [M], ``F`` float64 [M, n, 3].

    Raises:
        ValueError: If a key is missing, shapes or types disagree, or values are not finite.
    """
    named = {key: (keys or {}).get(key, key) for key in FINGERPRINTED}
    missing = [name for name in named.values() if name not in arrays]
    if missing:
        raise ValueError(
            f"{path} lacks the keys {', '.join(missing)} of the MD17 layout; "
            f"it has {', '.join(sorted(arrays)) or 'none'}"
        )
    z, R, E, F = (arrays[name] for name in named.values())
    frames, atoms = R.shape[:2] if R.ndim == 3 else (0, 0)
    if (
        z.shape != (atoms,)
        or R.shape != (frames, atoms, 3)
        or F.shape != R.shape
        or E.shape not in {(frames,), (frames, 1)}
    ):
        raise ValueError(
            f"{path}: expected z [n], R [M, n, 3], E [M, 1] and F [M, n, 3], "
            f"got z {list(z.shape)}, R {list(R.shape)}, E {list(E.shape)} and F {list(F.shape)}"
        )
    if frames == 0 or atoms == 0:
        raise ValueError(f"{path} holds no frames or no atoms; fetch or copy it again")
    if z.dtype.kind not in "iu" or any(values.dtype.kind not in "fiu" for values in (R, E, F)):
        raise ValueError(
            f"{path}: expected whole numbers z and real numbers R, E, F, "
            f"got the types {z.dtype}, {R.dtype}, {E.dtype}, {F.dtype}"
        )
    if z.min() < 1 or z.max() > 118:
        raise ValueError(f"{path}: expected atomic numbers from 1 to 118, got {z.min()} to {z.max()}")
    if not all(np.isfinite(values).all() for values in (R, E, F)):
        raise ValueError(f"{path} contains NaN or infinite positions, energies or forces")
    R, E, F = (values.astype(np.float64, copy=False) for values in (R, E, F))
    if not np.abs(F).max() <= LARGEST:
        raise ValueError(
            f"{path} contains forces that are larger than any number in float32, up to {np.abs(F).max():g}"
        )
    return {"z": z.astype(np.int64), "R": R, "E": E.reshape(frames), "F": F}


def _member(path: Path, part: str) -> Path | IO[bytes]:
    """The npz file wanted: a member of an archive of npz files, or the file itself if it is one."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith(".npz")]
            wanted = [name for name in members if name.endswith(part)]
            if wanted:
                return io.BytesIO(archive.read(wanted[0]))
    except OSError:
        raise
    except Exception as error:  # a damaged archive fails in many ways
        raise ValueError(f"{path} is not a readable zip file ({error}); fetch or copy it again") from None
    if members:
        raise ValueError(f"{path} has no member *{part}; it has {', '.join(members)}")
    return path


def text_of(value: NDArray) -> str:
    """The text that an array holds.

    Args:
        value: A text or bytes, alone in its array.

    Returns:
        The text.

    Example:
        >>> text_of(np.array(b"ethanol"))
        'ethanol'
    """
    item = value.item() if value.size == 1 else value.tolist()
    return item.decode(errors="replace") if isinstance(item, bytes) else str(item)
