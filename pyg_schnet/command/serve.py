"""``pyg-schnet serve``: a model as what i-PI, ASE or LAMMPS ask for forces over a socket."""

from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm


def serve(
    model: str,
    structure: str,
    *,
    unix: str | None = None,
    port: int | None = None,
    host: str = "localhost",
    prefix: str = "/tmp/ipi_",
    wait: float = 30.0,
    index: int = 0,
    device: str = "cpu",
    dtype: str | None = None,
    energy_unit: str | None = None,
    strict: bool = False,
) -> None:
    """Evaluate energies, forces and virials for a simulation that listens at a socket, as i-PI's do.

    The simulation may be started later or again, within the time to wait; several of these commands may serve the same
    one. All beads of a step are evaluated together if the simulation sends them in batches.

    Args:
        model: Model file, folder of a run or of a committee, checkpoint, name (pyg-schnet models), or hf://owner/name.
        structure: File with the structure, which ASE reads: elements in the order of the simulation, and whether it is
            periodic.
        unix: Name of a Unix socket on this computer, as in the input of the simulation (address).
        port: Number of a port, instead of a Unix socket.
        host: Computer of that port.
        prefix: What stands before the name of a Unix socket to make it a path.
        wait: Seconds to wait for the simulation, at the beginning and when it is gone.
        index: Which structure of the file, from 0.
        device: Where to evaluate.
        dtype: float32 or float64 to evaluate in; the model's own by default.
        energy_unit: Unit of the model's energies; what its file says by default, else eV.
        strict: True to refuse elements and charges that the model was never trained on, instead of a warning.
    """
    from pyg_schnet.simulation.atomic_units import AtomicUnits  # noqa: PLC0415
    from pyg_schnet.simulation.replicas import ReplicaPotential  # noqa: PLC0415
    from pyg_schnet.simulation.sockets import SocketClient  # noqa: PLC0415
    from pyg_schnet.simulation.templates import read_template  # noqa: PLC0415

    if (unix is None) == (port is None):
        raise ValueError("name the socket where the simulation listens: either --unix NAME or --port NUMBER")
    if dtype not in {None, "float32", "float64"}:
        raise ValueError(f"--dtype must be float32 or float64, got {dtype}")
    kind = None if dtype is None else getattr(torch, dtype)
    numbers, pbc, said = read_template(Path(structure), index)
    how: dict[str, Any] = {"device": device, "dtype": kind, "energy_unit": energy_unit, "strict": strict, "said": said}
    potential = ReplicaPotential(model, numbers, pbc, **how)
    address = prefix + unix if unix is not None else (host, int(port or 0))
    client = SocketClient(AtomicUnits(potential), address, wait)
    with tqdm(None, "serving", unit="structure", leave=False) as bar:
        for count in client:
            bar.update(count)
        done = bar.n
    ending = "has ended" if client.farewell else f"at {client.where} hung up"
    print(f"the simulation {ending}; {done} structures evaluated")
