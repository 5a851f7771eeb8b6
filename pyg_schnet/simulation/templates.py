"""A structure from a file, of which an engine that knows neither elements nor boundaries has to be told."""

from pathlib import Path

from numpy import ndarray

from pyg_schnet.datasets.ase_files import read_structures


def read_template(path: Path, index: int = 0) -> tuple[ndarray, ndarray]:
    """Elements of a structure, and which of its axes are periodic.

    Args:
        path: File that ASE reads.
        index: Which of its structures, from 0.

    Returns:
        Atomic numbers [n] and periodic axes [3].

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If ASE is missing.
        ValueError: If there is no such structure in it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} with a structure; expected one that ASE reads")
    count = 0
    for count, read in enumerate(read_structures(path), 1):
        if count == index + 1:
            return read.atoms.numbers, read.atoms.pbc
    raise ValueError(f"{path} holds {count} structures, there is none with the number {index}; count from 0")
