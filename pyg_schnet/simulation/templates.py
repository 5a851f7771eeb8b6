"""A structure from a file, of which an engine that knows neither elements nor boundaries has to be told."""

from pathlib import Path
from typing import NamedTuple

from numpy import ndarray

from pyg_schnet.datasets.ase_files import read_structures
from pyg_schnet.models.charges import said_of
from pyg_schnet.simulation.structures import said_by


class Template(NamedTuple):
    """What an engine does not know of a structure.

    Attributes:
        numbers: Atomic numbers [n].
        pbc: Periodic axes [3].
        said: ``charge`` and ``multiplicity``, those that the file says.
    """

    numbers: ndarray
    pbc: ndarray
    said: dict[str, float]


def read_template(path: Path, index: int = 0) -> Template:
    """Elements of a structure, which of its axes are periodic, and its charge if the file says it.

    Args:
        path: File that ASE reads.
        index: Which of its structures, from 0.

    Returns:
        What is found.

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
            return Template(read.atoms.numbers, read.atoms.pbc, said_of(read.of_structure) or said_by(read.atoms))
    raise ValueError(f"{path} holds {count} structures, there is none with the number {index}; count from 0")
