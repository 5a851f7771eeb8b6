"""A segment of path-integral dynamics by i-PI, in a process of its own: the Python that has i-PI runs this file.

    python examples/c20/beads.py SETTINGS.json

i-PI moves the beads, and asks the driver of pyg_schnet for the forces of all of them in one batch. Every twenty steps
positions, energies and forces of all beads are kept, and i-PI's own estimators. The file that is named in the settings
is written when the segment is over, whole or not at all.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from ipi.scripting import InteractiveSimulation
from ipi.utils.units import unit_to_user
from tqdm import tqdm

from pyg_schnet.files.whole import replacing

#: Properties of i-PI that are kept: energies, and the temperature.
LOG = ("conserved", "potential", "kinetic_cv", "kinetic_td", "temperature")
_INPUT = """<simulation verbosity='quiet'><output prefix='out'></output><total_steps>2</total_steps>
<prng><seed>{seed}</seed></prng>
<ffdirect name='schnet' pbc='false' threaded='False'><pes>custom</pes><pes_path>{driver}</pes_path>
  <parameters>{{template: {template}, model: {model}, dtype: {dtype}}}</parameters>
  <batch_size>{beads}</batch_size><latency>0</latency></ffdirect>
<system><initialize nbeads='{beads}'><file mode='xyz'>start.xyz</file>
  <velocities mode='thermal' units='kelvin'>{temperature}</velocities></initialize>
<forces><force forcefield='schnet'></force></forces>
<motion mode='dynamics'><dynamics mode='nvt'><timestep units='femtosecond'>{timestep}</timestep>
  <thermostat mode='pile_l'><tau units='femtosecond'>100</tau></thermostat></dynamics></motion>
<ensemble><temperature units='kelvin'>{temperature}</temperature></ensemble></system></simulation>
"""


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    simulation = InteractiveSimulation(_INPUT.format(**settings))
    system, stride = simulation.syslist[0], settings["stride"]
    if settings["start"]:
        with np.load(settings["start"]) as before:
            system.beads.q[:], system.beads.p[:] = before["end_q"], before["end_p"]
    simulation.run(stride)  # compiles, and is part of the segment
    kept = [_frame(system)]
    start, frames = np.array(_clocks()), settings["steps"] // stride
    for _ in tqdm(range(1, frames), settings["text"], unit=f" x {stride} steps", leave=False, mininterval=1.0):
        simulation.run(stride)
        kept.append(_frame(system))
    seconds = (np.array(_clocks()) - start) / max(frames - 1, 1) / stride
    positions, energies, forces, log = (np.stack(part) for part in zip(*kept, strict=True))
    # by i-PI's own constants, so that energies are what the network said
    bohr, hartree = unit_to_user("length", "angstrom", 1.0), unit_to_user("energy", "electronvolt", 1.0)
    log *= [hartree] * (len(LOG) - 1) + [unit_to_user("temperature", "kelvin", 1.0)]
    shape = (frames, settings["beads"], -1, 3)
    with replacing(settings["target"]) as part:
        np.savez(
            part,
            positions=(bohr * positions).reshape(shape).astype(np.float32),
            energies=hartree * energies,
            forces=(hartree / bohr * forces).reshape(shape).astype(np.float32),
            log=log,
            seconds_per_step=seconds,
            steps=settings["steps"],
            end_q=_copy(system.beads.q),
            end_p=_copy(system.beads.p),
        )


def _clocks() -> tuple[float, float]:
    """Wall time and the processor's time of this process, which does not depend on what else the computer does."""
    return time.perf_counter(), time.process_time()


def _frame(system: Any) -> tuple[Any, ...]:
    """Positions, energies and forces of the beads and what i-PI makes of them, in atomic units."""
    beads, forces = system.beads, system.forces
    log = np.array([float(system.properties[name][0]) for name in LOG])
    return _copy(beads.q), _copy(forces.pots), _copy(forces.f), log


def _copy(array: Any) -> np.ndarray:
    """The numbers of an array of i-PI, which a plain copy would share with it."""
    return np.array(np.asarray(array, dtype=np.float64).tolist())


if __name__ == "__main__":
    main()
