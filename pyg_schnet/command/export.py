"""``pyg-schnet export``: a model as a package for programs that have no Python."""

from typing import Literal

import torch


def export(
    model: str,
    path: str = "model.pt2",
    *,
    dtype: Literal["float32", "float64"] | None = None,
    energy_unit: str | None = None,
    overwrite: bool = False,
) -> None:
    """Compile a trained model into a package of libtorch, for example: pyg-schnet export runs/ethanol ethanol.pt2.

    Args:
        model: Model file, folder of a run or of a committee, checkpoint, name (pyg-schnet models), or hf://owner/name.
        path: File to write, .pt2; a program in C++ loads it, see examples/export.
        dtype: Floating-point type of the network; that of the model by default.
        energy_unit: Unit of the model's energies; what its file says by default, else eV.
        overwrite: True to replace a file that is there.
    """
    from pyg_schnet.simulation.exporting import export as compile_model  # noqa: PLC0415

    kind = None if dtype is None else getattr(torch, dtype)
    written = compile_model(model, path, dtype=kind, energy_unit=energy_unit, overwrite=overwrite)
    print(f"{written}: {written.stat().st_size / 2**20:.1f} MiB")
