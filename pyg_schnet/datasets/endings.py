"""What names of files with structures end in."""

#: Of text, which may be compressed, and of compressed files.
_TEXTS, _COMPRESSED = (".xyz", ".extxyz", ".cif", ".vasp", ".poscar"), (".gz", ".bz2", ".xz")
#: Of files that are read where a folder is named.
ENDINGS = (
    *_TEXTS,
    *(text + compressed for text in _TEXTS for compressed in _COMPRESSED),
    ".traj",
    ".db",
    ".aselmdb",
    ".h5",
    ".hdf5",
    ".parquet",
    ".npz",
)


def without_ending(name: str) -> str:
    """The name of a file without its folder and its ending, if that is one of structures.

    Args:
        name: The name; capitals of the ending do not matter.

    Returns:
        What is left of it.

    Example:
        >>> without_ending("cifs/mp-1.CIF"), without_ending("mp-1.cif.gz"), without_ending("mp-1.5")
        ('mp-1', 'mp-1', 'mp-1.5')
    """
    name = name.replace("\\", "/").rsplit("/", 1)[-1]
    # structures in json are many to a file, but tables name single ones by such names
    return next((name[: -len(end)] for end in (*ENDINGS, ".json") if name.lower().endswith(end)), name)
