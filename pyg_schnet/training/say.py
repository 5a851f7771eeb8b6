"""What a run says while it goes: lines beside the progress bar, from one process only."""

import sys

from lightning.fabric.utilities.rank_zero import rank_zero_only
from tqdm import tqdm


@rank_zero_only
def say(message: str) -> None:
    """Write a line where the progress bar is, without tearing it.

    Args:
        message: The line.
    """
    tqdm.write(message, file=sys.stderr)
