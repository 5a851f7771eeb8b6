"""Files that are there whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Write a file under another name, ``.part-<name>``, which takes its own when it is complete.

    If writing fails or is interrupted, what was there before stays.

    Args:
        path: The file.

    Yields:
        Where to write; the suffix is the same, by which some libraries go.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "numbers.txt"
        >>> with replacing(file) as part:
        ...     _ = part.write_text("1 2 3")
        >>> file.read_text(), part.exists()
        ('1 2 3', False)
    """
    path = Path(path)
    part = path.with_name(f".part-{path.name}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
