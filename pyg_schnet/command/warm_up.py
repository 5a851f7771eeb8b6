"""``pyg-schnet warm-up``: loops are compiled now, instead of at the first step of a run."""

import os
import time

from tqdm import tqdm

from pyg_schnet.models.warm_up import KINDS
from pyg_schnet.models.warm_up import warm_up as compile_loops


def warm_up(*, kinds: list[str] | None = None, numbers: str = "float32") -> None:
    """Compile all loops once, for the images of containers and for clusters, and say where the machine code lies.

    What has been compiled before is not compiled again; an interrupted command goes on where it was. The machine code
    is for processors of this kind. With NUMBA_CACHE_DIR in the environment it lies there, and other processes need the
    same.

    Args:
        kinds: What to compile for, some of '[neighbours, inference, training, inference-large, training-large,
            dynamics, derivatives]'; all by default.
        numbers: float32 or float64.
    """
    total, folders, begun = 0, list[str](), time.monotonic()
    steps = compile_loops(kinds, numbers)
    with tqdm(total=len(KINDS) if kinds is None else len(kinds), unit="kind", leave=False, desc="compiling") as bar:
        for found in steps:
            tqdm.write(f"{found.kind:16}{found.new:3} loops compiled")
            total, folders = total + found.new, found.folders
            bar.update()
    where = os.path.commonpath(folders) if folders else None
    if where is None:
        raise OSError(
            "the machine code is not kept: no folder for it can be written to; set NUMBA_CACHE_DIR to one that can"
        )
    print(f"{total} loops compiled in {time.monotonic() - begun:.0f} s; the machine code lies in {where}")
