"""What names of files with structures end in."""

#: Of files that are read where a folder is named.
ENDINGS = (
    ".xyz",
    ".extxyz",
    ".traj",
    ".db",
    ".aselmdb",
    ".h5",
    ".hdf5",
    ".parquet",
    ".npz",
    ".cif",
    ".vasp",
    ".poscar",
)


def without_ending(name: str) -> str:
    """The name of a file without its folder and its ending, if that is one of structures.

    Args:
        name: The name; capitals of the ending do not matter.

    Returns:
        What is left of it.

    Example:
        >>> without_ending("cifs/mp-1.CIF"), without_ending("mp-1.5")
        ('mp-1', 'mp-1.5')
    """
    name = name.replace("\\", "/").rsplit("/", 1)[-1]
    # structures in json are many to a file, but tables name single ones by such names
    return next((name[: -len(end)] for end in (*ENDINGS, ".json") if name.lower().endswith(end)), name)
