"""Path-integral dynamics by i-PI, in segments.

A run is made of segments of a few picoseconds. Each begins where the one before ended and leaves one file with its
frames, whole or not at all; a study that is killed loses the segment that it was in.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

import pyg_schnet.simulation

#: Time step in fs, as in appendix B of the paper, and steps between two frames.
TIMESTEP, STRIDE = 0.5, 20
_DRIVER = Path(pyg_schnet.simulation.__file__).with_name("ipi.py")


class Segment(NamedTuple):
    """What a segment leaves.

    Attributes:
        positions: In Angstrom [M, P, n, 3].
        energies: Of each bead in eV [M, P].
        forces: In eV/Angstrom [M, P, n, 3].
        log: i-PI's own figures at the same times in eV and K [M, 5]: see ``beads.LOG``.
        seconds_per_step: Wall time of a step and processor's time, without what happens once at the beginning [2].
        steps: Steps of the segment.
    """

    positions: NDArray
    energies: NDArray
    forces: NDArray
    log: NDArray
    seconds_per_step: NDArray
    steps: int


class Run(NamedTuple):
    """A run of path-integral dynamics.

    Attributes:
        folder: Where its segments are.
        beads: Number of beads.
        temperature: In K.
    """

    folder: Path
    beads: int
    temperature: float

    def files(self) -> list[Path]:
        """The files of the segments in their order."""
        return sorted(self.folder.glob("segment_*.npz"))

    def segments(self) -> Iterator[Segment]:
        """The segments, without the first one, in which the beads come to their temperature."""
        for path in self.files()[1:]:
            with np.load(path) as stored:
                yield Segment(*(stored[name] for name in Segment._fields[:5]), int(stored["steps"]))

    @property
    def picoseconds(self) -> float:
        """Length of what :meth:`segments` gives."""
        return sum(segment.steps for segment in self.segments()) * TIMESTEP / 1000


def check_engine(engine: str) -> str:
    """The Python that has i-PI, if it has.

    Args:
        engine: Its name or path.

    Returns:
        Its path.

    Raises:
        FileNotFoundError: If there is no such Python, or it has no i-PI.
    """
    command = shutil.which(engine)
    asked = [command, "-c", "import ipi.scripting"]
    if command is None or subprocess.run(asked, capture_output=True, check=False).returncode:
        what = f"there is no Python {engine}" if command is None else f"{engine} has no i-PI 3.3 or newer"
        raise FileNotFoundError(
            f'{what}, which path integrals need: pip install "pyg_schnet[ipi]", name a Python that has both with '
            "--engine, or leave path integrals out with --beads and no number"
        )
    return command


def extend(run: Run, count: int, steps: int, model: Path, atoms: Atoms, engine: str, dtype: str = "float32") -> Run:
    """Go on with a run until it has so many segments of so many steps; nothing is done if it has them.

    Args:
        run: The run.
        count: Number of segments in all.
        steps: Steps of each, rounded up to whole frames.
        model: File of the network.
        atoms: Where the beads begin, all in the same place.
        engine: The Python that has i-PI.
        dtype: What the network is evaluated in.

    Returns:
        The run.

    Raises:
        ChildProcessError: If i-PI ends too early; it has said why.
    """
    work = run.folder / "work"
    for number in range(len(run.files()), count):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        _write_start(work / "start.xyz", atoms)
        previous = run.folder / f"segment_{number - 1:03d}.npz"
        settings = {
            "seed": 1 + number,
            "driver": str(_DRIVER),
            "template": "start.xyz",
            "model": str(model.resolve()),
            "dtype": dtype,
            "beads": run.beads,
            "temperature": run.temperature,
            "timestep": TIMESTEP,
            "stride": STRIDE,
            "steps": -(-steps // STRIDE) * STRIDE,
            "start": str(previous.resolve()) if number else "",
            "target": str((run.folder / f"segment_{number:03d}.npz").resolve()),
            "text": f"{run.beads} beads, segment {number + 1} of {count}",
        }
        (work / "settings.json").write_text(json.dumps(settings, indent=2))
        script = Path(__file__).with_name("beads.py")
        done = subprocess.run(
            [engine, str(script.resolve()), "settings.json"], cwd=work, stdout=sys.stderr, check=False
        )
        if done.returncode:
            raise ChildProcessError(f"the path integral with {run.beads} beads ended early, see above")
        shutil.rmtree(work)
    return run


def _write_start(path: Path, atoms: Atoms) -> None:
    rows = zip(atoms.symbols, atoms.positions - atoms.positions.mean(0), strict=True)
    lines = [f"{symbol} {x:.10f} {y:.10f} {z:.10f}" for symbol, (x, y, z) in rows]
    head = "# CELL(abcABC): 50 50 50 90 90 90 cell{angstrom} positions{angstrom}"
    path.write_text("\n".join([str(len(atoms)), head, *lines]) + "\n")
