"""The archive of the revised MD17 (Christensen and von Lilienfeld, Mach. Learn.: Sci. Technol. 1, 045018, 2020).

One tar.bz2 of 1 GB with ``npz_data/rmd17_<molecule>.npz`` for ten molecules and five official splits,
``splits/index_{train,test}_0{1..5}.csv``. It is read in one pass and never unpacked: what the molecule needs is kept,
the rest is skipped.
"""

import io
import re
import tarfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pyg_schnet.datasets.sgdml_npz import check_frames, read_arrays
from pyg_schnet.files.source import RemoteFile

#: The molecules by their names in the archive.
MOLECULES = (
    "aspirin",
    "azobenzene",
    "benzene",
    "ethanol",
    "malonaldehyde",
    "naphthalene",
    "paracetamol",
    "salicylic",
    "toluene",
    "uracil",
)
_SPLIT = re.compile(r"(?:(?P<molecule>[a-z]+)_)?index_(?P<part>train|test)_0*(?P<number>\d+)\.csv")

#: Keys here by keys of the archive.
_KEYS = {"z": "nuclear_charges", "R": "coords", "E": "energies", "F": "forces"}


def archive(molecule: str) -> RemoteFile:
    """The archive; a molecule's npz file unpacked from it does as well.

    Args:
        molecule: Name of the molecule in the archive.

    Returns:
        Where to get it, size and checksums.
    """
    unpacked = f"rmd17_{molecule}.npz"
    return RemoteFile(
        "rmd17.tar.bz2",
        (
            "https://api.figshare.com/v2/file/download/23950376",
            "https://ndownloader.figshare.com/files/23950376",
            "https://archive.materialscloud.org/records/pfffs-fff86/files/rmd17.tar.bz2?download=1",
        ),
        sha256="cddeea2ec2c4b22a9de16a9a65a3eeedac5b29da9c99c20bbff0153912bf922b",
        size=1_066_301_513,
        md5="cb1a927628d96f2e966025da4fb63d18",
        alternatives=(
            "rmd17/rmd17.tar.bz2",
            unpacked,
            *(f"{folder}/{unpacked}" for folder in ("npz_data", "rmd17/npz_data", "rmd17")),
        ),
    )


def read_revised(path: Path, molecule: str, progress: bool = False) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
    """Frames and official splits of one molecule.

    Args:
        path: The archive, or the npz file of the molecule unpacked from it (the splits are then looked up beside it and
            in the folder ``splits`` beside its own).
        molecule: Name of the molecule in the archive.
        progress: True to show a progress bar.

    Returns:
        ``z`` [n], ``R`` [M, n, 3], ``E`` [M] and ``F`` [M, n, 3] in kcal/mol and Angstrom, and positions of frames by
        ``train_1``, ``test_1``, ``train_2``, ... as far as there are splits.

    Raises:
        ValueError: If a file is damaged or the molecule is not in it.
    """
    with path.open("rb") as stream:
        is_archive = stream.read(3) == b"BZh"
    npz: Path | IO[bytes]
    if is_archive:
        npz, tables = _members(path, molecule, progress)
    else:
        npz, tables = path, {}
        for table in tables_beside(path, molecule):
            tables[_split_key(table.name, molecule) or ""] = table.read_bytes()
    arrays = read_arrays(npz, path)
    frames = check_frames(path, arrays, _KEYS)
    splits = {name: _positions(path, name, text, len(frames["R"])) for name, text in sorted(tables.items())}
    for name, test in splits.items():
        train = splits.get(name.replace("test_", "train_"))
        if name.startswith("test_") and train is not None and np.intersect1d(train, test).size:
            raise ValueError(f"{path}: the official split {name[5:]} has frames in both parts; fetch the file again")
    return frames, splits


def _members(path: Path, molecule: str, progress: bool) -> tuple[IO[bytes], dict[str, bytes]]:
    npz: IO[bytes] | None = None
    tables: dict[str, bytes] = {}
    bar = tqdm(desc=path.name, total=path.stat().st_size, unit="B", unit_scale=True, disable=not progress, leave=False)
    try:
        with bar, path.open("rb") as raw, tarfile.open(fileobj=_Counted(raw, bar), mode="r|bz2") as tar:  # type: ignore[call-overload]
            for member in tar:
                name = member.name.rsplit("/", 1)[-1]
                key = _split_key(name, molecule)
                if not member.isfile() or (key is None and name != f"rmd17_{molecule}.npz"):
                    continue
                content = tar.extractfile(member).read()
                if key is None:
                    npz = io.BytesIO(content)
                else:
                    tables[key] = content
                if npz is not None and len(tables) == 10:  # five splits of two parts: the rest is of others
                    break
    except Exception as error:  # a damaged archive fails in many ways
        raise ValueError(f"{path} is not a readable tar.bz2 archive ({error}); fetch or copy it again") from None
    if npz is None:
        raise ValueError(f"{path} has no rmd17_{molecule}.npz; fetch or copy it again")
    return npz, tables


def tables_beside(path: Path, molecule: str) -> list[Path]:
    """Tables of the official splits of a molecule, beside an unpacked file or in the folder ``splits`` beside its own.

    Args:
        path: The npz file of the molecule.
        molecule: Its name in the archive.

    Returns:
        Their paths, those of the folder ``splits`` last.
    """
    folders = (path.parent, path.parent.parent / "splits")
    tables = [table for folder in folders for table in sorted(folder.glob("*index_*.csv"))]
    return [table for table in tables if _split_key(table.name, molecule) is not None]


def _split_key(filename: str, molecule: str) -> str | None:
    """Short name of a table of a split, ``None`` if the file is none or belongs to another molecule."""
    match = _SPLIT.fullmatch(filename)
    if match is None or match["molecule"] not in {None, molecule}:
        return None
    return f"{match['part']}_{match['number']}"


def _positions(path: Path, name: str, text: bytes, frames: int) -> NDArray:
    words = text.split()
    if not all(word.isdigit() and len(word) < 10 for word in words):
        raise ValueError(f"{path}: the table of the split {name} does not consist of numbers; fetch the file again")
    positions = np.array([int(word) for word in words], dtype=np.int64)
    if positions.size and (positions.max() >= frames or np.unique(positions).size < positions.size):
        raise ValueError(
            f"{path}: the split {name} names frames that do not exist, or one of them twice; fetch the file again"
        )
    return positions


class _Counted:
    """A stream that tells a progress bar what is read."""

    def __init__(self, stream: IO[bytes], bar: Any) -> None:
        self.stream, self.bar = stream, bar

    def read(self, size: int = -1) -> bytes:
        content = self.stream.read(size)
        self.bar.update(len(content))
        return content
