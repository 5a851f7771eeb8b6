"""How structures of one's own are split, as settings say it."""

from collections import Counter
from pathlib import Path

import numpy as np

from pyg_schnet.command.yaml_words import quoted
from pyg_schnet.datasets.surveyed import Survey

#: Runs of frames of each composition, the better number first, the fewest frames of a run, and the smallest share of
#: the frames of a composition that has runs of its own.
_RUNS, _SHORTEST_RUN, _OFTEN = (10, 5), 5, 0.05


def split_of(found: Survey, parts: dict[str, list[Path]]) -> tuple[list[str], int]:
    """Settings of the split.

    Args:
        found: What the files hold.
        parts: Files of each part.

    Returns:
        Lines of the settings, and how many structures there are to train.
    """
    size = found.gathered.total
    gap = found.near[1]
    if parts["test"] or parts["val"]:
        lines, train = ["split: files  # each part has files of its own"], found.parts["train"]
        if not parts["val"]:
            held = max(1, train // 10)
            lines += [f"num_val: {held}  # runs of frames of the files to train", f"gap: {gap}"]
            train -= held
        return lines, train
    key = found.group_key
    counts = np.array([*Counter(found.group_of).values()])
    if len(counts) >= 10 and counts.max() <= len(found) / 10:
        lines = [f"split: group  # {len(counts)} groups by {key or 'composition'}; none is in two parts"]
        lines += [f"group_key: {quoted(key)}"] * (key is not None)
        return [*lines, "num_train: 0.75", "num_val: 0.1"], int(0.75 * size)
    if (runs := _runs(found)) is not None:
        of_each, blocks, left_out = runs
        why = "runs of frames"
        if left_out:
            why += f", {left_out} frames between parts left out: neighbours resemble each other"
        if left_out < gap:
            why += f"; they forget after {gap} frames, so many more frames would be better"
        val = 1 / of_each
        lines = [f"split: block  # {why}", f"num_train: {1 - 2 * val:g}", f"num_val: {val:g}", f"gap: {left_out}"]
        lines += [f"blocks: {blocks}"] * (blocks != 10)
        return lines, int((1 - 2 * val) * size) - (of_each - 2) * (blocks // of_each) * left_out
    held = max(1, size // 10)
    return ["split: random", f"num_train: {size - 2 * held}", f"num_val: {held}"], size - 2 * held


def _runs(found: Survey) -> tuple[int, int, int] | None:
    """How a trajectory, or one of a few compositions, is cut into runs of frames.

    Returns:
        Runs of each composition that is there often, runs in all, and frames to leave out between parts: as many as it
        takes to forget, but at most half of a run; ``None`` where there are too few frames or too many compositions.
    """
    size, gap = found.gathered.total, found.near[1]
    often = sum(count >= _OFTEN * len(found) for count in Counter(found.gathered.formulas).values())
    if not 1 <= often < 10:
        return None
    for of_each in _RUNS if gap else _RUNS[:1]:
        length = size // (of_each * often)
        if length >= _SHORTEST_RUN and (gap <= length // 2 or of_each == _RUNS[-1]):
            return of_each, of_each * often, min(gap, length // 2)
    return None
