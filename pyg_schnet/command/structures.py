"""Models and structures that a command names."""

from pathlib import Path
from typing import Any


def structures_in(source: str, index: int | None = None) -> list[Any]:
    """All structures of a file, or one of them.

    Args:
        source: Extended xyz, an ASE database, or anything else that ASE reads.
        index: Which structure, from 0, negative numbers from the end; ``None`` for all.

    Returns:
        ASE's ``Atoms``.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If ASE is not installed.
        ValueError: If it is damaged or holds no structures, or none of this number, or says that it is not in Angstrom,
            or if sites of a crystal are occupied in part.
    """
    from pyg_schnet.datasets.ase_files import read_structures  # noqa: PLC0415
    from pyg_schnet.datasets.crystal import is_shared  # noqa: PLC0415
    from pyg_schnet.datasets.own_files import check_lengths  # noqa: PLC0415

    if not Path(source).is_file():
        raise FileNotFoundError(f"there is no file {source} with structures")
    check_lengths([Path(source)])
    read = list(read_structures(Path(source)))
    if index is not None:
        if not -len(read) <= index < len(read):
            raise ValueError(f"--index must be one of the {len(read)} structures of {source}, got {index}")
        read = [read[index]]
    if any(is_shared(one.of_structure.get("occupancy")) for one in read):
        raise ValueError(
            f"{source} has sites occupied in part, which a model would take for full ones; write a crystal in which "
            "each site holds one atom"
        )
    return [with_charge(one) for one in read]


def with_charge(read: Any) -> Any:
    """The atoms of a structure, with the charge and the multiplicity that its file says, wherever that is.

    Args:
        read: A structure of a file, see :class:`~pyg_schnet.datasets.ase_files.Read`.

    Returns:
        ASE's ``Atoms``.
    """
    from pyg_schnet.models.charges import said_of  # noqa: PLC0415

    atoms = read.atoms
    atoms.info = said_of(read.of_structure) | atoms.info if not said_of(atoms.info) else atoms.info
    return atoms


def checked_output(output: str, endings: tuple[str, ...]) -> Path:
    """The path of a file to write.

    Args:
        output: The path.
        endings: What its name may end in.

    Returns:
        The path.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If its name ends in something else.
    """
    path = Path(output)
    if path.suffix.lower() not in endings:
        raise ValueError(f"--output must end in one of {', '.join(endings)}, got {output}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} for {path.name}; create it first")
    return path
