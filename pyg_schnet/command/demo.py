"""``pyg-schnet demo``: the main job in four minutes, with data that come with the package."""

import subprocess
import sys
from pathlib import Path

from pyg_schnet.files.shipped import shipped

#: The examples that are run, in their order.
SCRIPTS = ("demo.py", "03_train_md17.py", "04_evaluate.py", "05_molecular_dynamics.py")


def demo(*, minutes: float = 2.0, max_steps: int = -1, picoseconds: float = 2.0, out: str = "results/demo") -> None:
    """Learn a force field of ethanol from bundled data, measure its errors, and run molecular dynamics with it.

    Args:
        minutes: Time to train.
        max_steps: End training after so many steps; by default when the time is over.
        picoseconds: Length of the dynamics.
        out: Folder for results; an earlier demo in it is replaced.
    """
    options = [f"--minutes={minutes}", f"--max-steps={max_steps}", f"--picoseconds={picoseconds}", f"--out={out}"]
    status = subprocess.run([sys.executable, str(folder() / SCRIPTS[0]), *options], check=False).returncode
    if status:
        sys.exit(status)


def folder() -> Path:
    """Where the scripts of the demo are.

    Returns:
        Beside this file in an installed package, in a checkout ``examples``.

    Raises:
        FileNotFoundError: If the installation lacks them.
    """
    installed, checkout = Path(__file__).parent / "examples", Path(__file__).parents[2] / "examples"
    return shipped(installed, checkout, f"the scripts of the demo are missing in {installed}", SCRIPTS)
