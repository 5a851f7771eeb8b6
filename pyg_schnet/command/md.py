"""``pyg-schnet md``: molecular dynamics of one structure or of a file of many."""

import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from pyg_schnet.command.lengths import check_scale
from pyg_schnet.command.structures import checked_output, structures_in

_ENDINGS = (".extxyz", ".xyz", ".traj", ".h5", ".hdf5")


def md(
    model: str,
    structure: str,
    *,
    steps: int = 1000,
    timestep: float = 0.5,
    temperature: float | None = None,
    friction: float = 0.01,
    pressure: float | None = None,
    barostat: Literal["isotropic", "full"] = "isotropic",
    pressure_time: float = 1000.0,
    bulk_modulus: float = 20.0,
    interval: int = 100,
    output: str = "md.extxyz",
    index: int | None = None,
    replicas: int = 1,
    seed: int = 0,
    resume: bool = False,
    device: str = "cpu",
    dtype: Literal["float32", "float64"] | None = None,
    frozen: bool | None = None,
    strict: bool = False,
) -> None:
    """Move structures by the forces of a trained model, at constant energy, temperature or pressure.

    Args:
        model: Model file, folder of a run or of a committee, checkpoint, name (pyg-schnet models), or hf://owner/name.
        structure: File with one or many structures, which ASE reads; all of them move at once, each by itself.
        steps: Number of steps, those before an interruption included.
        timestep: Time of a step in fs.
        temperature: Of the thermostat and of velocities at the beginning, in K; constant energy without it.
        friction: Of the thermostat in 1/fs; with 0 the energy is constant, and velocities are drawn at the temperature.
        pressure: Of the barostat in GPa (1 bar is 0.0001), beside a temperature; cells stay as they are without it.
        barostat: What changes under pressure: volumes (isotropic), or all lengths and angles of cells (full).
        pressure_time: Time in which pressures relax, in fs.
        bulk_modulus: Of the structures in GPa, roughly.
        interval: Steps between two frames.
        output: Trajectory to write, .extxyz, .traj or .h5; beside it OUTPUT.restart, from which --resume goes on.
        index: Which structure of the file, from 0, negative numbers from the end; all of them by default.
        replicas: Copies of each structure, each with random numbers of its own.
        seed: Seed of the random numbers.
        resume: True to go on with a run that was interrupted, of the same options, or to make it longer.
        device: Where to evaluate.
        dtype: Floating-point type; that of the model by default.
        frozen: True if filters are read from tables; by default in float32 on a CPU.
        strict: True to refuse elements and charges that the model was never trained on, and structures that seem not to
            be in Angstrom, instead of a warning.
    """
    from pyg_schnet.simulation.dynamics import Dynamics  # noqa: PLC0415

    path = checked_output(output, _ENDINGS)
    restart = path.with_name(path.name + ".restart")
    kind = dtype and getattr(torch, dtype)
    how: dict[str, Any] = {"device": device, "dtype": kind, "frozen": frozen, "strict": strict}
    if resume:
        dynamics = Dynamics.resume(model, restart, **how)
        thermostat = {"timestep": timestep, "temperature": temperature if friction > 0 else None, "friction": friction}
        under = {"barostat": barostat, "pressure_time": pressure_time, "bulk_modulus": bulk_modulus}
        given = thermostat | {"seed": seed, "pressure": pressure} | ({} if pressure is None else under)
        _check_same(dynamics.motion._asdict(), given)
        _check_atoms(dynamics, structures_in(structure, index), replicas, restart)
        if dynamics.step >= steps:
            print(f"{path}: {dynamics.step} steps are done already, --steps {steps} asks for no more")
            return
    else:
        for one in (path, restart):
            if one.exists():
                raise FileExistsError(
                    f"{one} is there already; name another file with --output, or go on with --resume true"
                )
        motion: dict[str, Any] = {"timestep": timestep, "temperature": temperature, "friction": friction, "seed": seed}
        motion |= {"pressure": pressure, "barostat": barostat}
        motion |= {"pressure_time": pressure_time, "bulk_modulus": bulk_modulus}
        structures = structures_in(structure, index)
        dynamics = Dynamics(model, structures, replicas=replicas, **motion, **how)
        check_scale(dynamics.potential.model.training_sets, structures, structure, strict)
    number, start = steps - dynamics.step, time.perf_counter()
    record = dynamics.run(number, interval=interval, trajectory=path, checkpoint=restart)
    print(_summary(path, dynamics, record, number / (time.perf_counter() - start)))


def _check_same(known: dict[str, Any], given: dict[str, Any]) -> None:
    """Raise a ValueError if a run is to go on in another way than it began."""
    for name, now in given.items():
        if known[name] != now:
            raise ValueError(
                f"the run was begun with --{name} {known[name]}, got {now}; repeat the options it was begun with"
            )


def _check_atoms(dynamics: Any, structures: list[Any], replicas: int, restart: Path) -> None:
    """Raise a ValueError if a run is of other atoms."""
    numbers = [one.numbers for one in structures for _ in range(replicas)]
    if not np.array_equal(np.concatenate(numbers), dynamics.system.numbers):
        raise ValueError(
            f"{restart} is of other structures or another number of replicas; repeat the options it was begun with"
        )


def _summary(path: Path, dynamics: Any, record: Any, speed: float) -> str:
    """What came out, in a line or two."""
    system, count = dynamics.system, dynamics.system.count
    what = f"{count} structures, {len(system.numbers)} atoms" if count > 1 else f"{len(system.numbers)} atoms"
    kelvin = np.mean(dynamics.temperature)
    lines = [
        f"{path}: {what}, {dynamics.step} steps, {dynamics.time / 1000:g} ps, {speed:,.0f} steps/s; "
        f"at the end {kelvin:.0f} K"
    ]
    if dynamics.motion.pressure is not None:
        part = record.volume[len(record.time) // 2 :] / np.diff(system.first)
        lines.append(
            f"volume of an atom {part.mean():.3f} Angstrom^3, in the second half, at {dynamics.motion.pressure:g} GPa"
        )
    if dynamics.motion.temperature is None and len(record.time) > 2:
        times = (record.time - record.time.mean()) / 1000
        slopes = times @ (record.total - record.total.mean(0)) / (times @ times) / np.diff(system.first)
        worst = 1000 * slopes[np.abs(slopes).argmax()]
        lines.append(f"drift of the energy {worst:+.2g} meV/atom/ps{' at worst' if count > 1 else ''}")
    return "\n".join(lines)
