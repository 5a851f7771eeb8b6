"""``pyg-schnet join``: predictions of all shards as one file."""

import re
from pathlib import Path

from pyg_schnet.command.joining import join_files
from pyg_schnet.files import replacing


def join(output: str, *, overwrite: bool = False) -> None:
    """Join the predictions that shards have written, for example: pyg-schnet join predictions.csv.

    Args:
        output: The file for all structures, as --output of predict named it.
        overwrite: True to replace a file that is there.
    """
    path = Path(output)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} is there already; replace it with --overwrite true")
    files = _shards(path)
    with replacing(path) as part:
        join_files(files, part)
    print(f"{path}: {len(files)} shards")


def _shards(path: Path) -> list[Path]:
    """Files of all shards, in order."""
    name = re.compile(rf"{re.escape(path.stem)}\.shard-(\d+)-of-(\d+){re.escape(path.suffix)}")
    folder = path.parent if path.parent.is_dir() else Path()
    found = {file: match for file in folder.iterdir() if (match := name.fullmatch(file.name))}
    counts = sorted({int(match[2]) for match in found.values()})
    if not counts:
        raise FileNotFoundError(f"there are no shards {path.stem}.shard-1-of-...{path.suffix} in {folder} to join")
    if len(counts) > 1:
        raise ValueError(
            f"{folder} has shards of {path.name} by {' and by '.join(map(str, counts))}; remove those of another run"
        )
    by_number = {int(match[1]): file for file, match in found.items()}
    missing = [number for number in range(1, counts[0] + 1) if number not in by_number]
    if missing:
        few = ", ".join(f"{number}/{counts[0]}" for number in missing[:5]) + ", ..." * (len(missing) > 5)
        raise FileNotFoundError(
            f"{path.name} lacks shards {few}: run predict with --shard {missing[0]}/{counts[0]} first"
        )
    return [by_number[number] for number in sorted(by_number)]
