"""Files from which interrupted dynamics go on as if nothing had happened."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from numpy import ndarray

from pyg_schnet.files import replacing
from pyg_schnet.simulation.engines import Motion, State
from pyg_schnet.simulation.systems import System
from pyg_schnet.simulation.trajectory_files import Written

FORMAT, VERSION = "pyg_schnet dynamics", 2


class Restart(NamedTuple):
    """All that dynamics depend on, and how far their files have been written.

    Attributes:
        system: The structures.
        state: Where they are.
        motion: How they move.
        step: Steps done.
        model: Checksum of the model, see :func:`fingerprint`.
        written: The trajectories, by their names without folders.
        reference: Where structures were when their pairs were searched, if that matters.
        reference_cells: Their cells then.
        lists: How much their skin lists have been of use, if there are any.
    """

    system: System
    state: State
    motion: Motion
    step: int
    model: str
    written: dict[str, Written]
    reference: ndarray | None
    reference_cells: ndarray
    lists: list[tuple[int, int, int]]


def fingerprint(model: Any, unit: float) -> str:
    """Checksum of weights, tables, their numbers and options: the same for the same energies.

    Args:
        model: A model or committee.
        unit: Unit of its energies in eV.

    Returns:
        A hexadecimal number.
    """
    digest = hashlib.sha256(repr(float(unit)).encode())
    members = [model] if hasattr(model, "config") else list(model)
    for member in members:
        digest.update(repr(sorted((name, str(value)) for name, value in member.config.items())).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def write_restart(path: Path, restart: Restart) -> None:
    """Write a file, whole or not at all.

    Args:
        path: The file.
        restart: What goes into it.

    Raises:
        OSError: If it cannot be written.
    """
    names = [field.name for field in dataclasses.fields(restart.system) if field.name not in {"isotopes", "said"}]
    arrays = {f"system.{name}": getattr(restart.system, name) for name in names}
    arrays |= {f"state.{name}": value for name, value in restart.state._asdict().items()}
    for name in ("reference", "reference_cells"):
        if (value := getattr(restart, name)) is not None:
            arrays[name] = value
    facts = {
        "format": FORMAT,
        "version": VERSION,
        "motion": restart.motion._asdict(),
        "step": restart.step,
        "isotopes": restart.system.isotopes,
        "model": restart.model,
        "written": restart.written,
        "lists": restart.lists,
    }
    arrays = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    content = safetensors.numpy.save(arrays, metadata={"dynamics": json.dumps(facts)})
    with replacing(path) as part:
        part.write_bytes(content)


def read_restart(path: Path) -> Restart:
    """Read what :func:`write_restart` wrote. Nothing in the file is executed.

    Args:
        path: The file.

    Returns:
        What is in it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} to go on from; dynamics write it with `checkpoint`")
    try:
        with safetensors.safe_open(str(path), "numpy") as file:
            facts = json.loads((file.metadata() or {})["dynamics"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no mapping
        if facts["format"] != FORMAT or facts["version"] > VERSION:
            raise ValueError(f"it is of version {facts['version']}, this package reads up to {VERSION}")
        parts: dict[str, dict[str, Any]] = {"system": {"isotopes": facts["isotopes"]}, "state": {}}
        for name, value in arrays.items():
            room, _, key = name.partition(".")
            if key:
                parts[room][key] = value
        system = System(**parts["system"])
        first = {"cells": system.cell, "virials": np.zeros_like(system.cell)}  # what files of version 1 lack
        return Restart(
            system,
            State(**(first | parts["state"])),
            Motion(**facts["motion"]),
            facts["step"],
            facts["model"],
            {name: Written(*values) for name, values in facts["written"].items()},
            arrays.get("reference"),
            arrays.get("reference_cells", system.cell),
            [(rest, served, length) for rest, served, length in facts["lists"]],
        )
    except (KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path} is no file of dynamics to go on from ({error}); start them anew") from None
