"""``pyg-schnet doctor``: checks that a model is what dynamics, relaxations and batches take it for."""

import sys
from pathlib import Path
from typing import Any

from pyg_schnet.models import load
from pyg_schnet.models.published import C20


def doctor(
    model: str,
    *structure: str,
    json: str | None = None,
    training: str | None = None,
    only: list[str] | None = None,
    device: str = "cpu",
) -> None:
    """Check a model: derivatives, symmetries, smoothness, drift, batches, rounding, tables, coverage, repulsion.

    Prints a table with a line for each check, and ends with status 1 if one failed.

    Args:
        model: Model file, folder of a run or of a committee, checkpoint, name (pyg-schnet models), or hf://owner/name.
        structure: Files with structures, which ASE reads, four of which are taken; by default some of the elements
            that the model knows.
        json: JSON file to write, too: {"checks": [{"name", "verdict", "value", "bound", ...}, ...]}.
        training: File with structures of the training, whose distances are compared.
        only: Names of the checks to make, for example '[forces, batch]'; all by default.
        device: Where to evaluate.
    """
    from pyg_schnet.analysis.doctor import doctor as examine  # noqa: PLC0415

    report = None if json is None else Path(json)
    if report is not None and not report.resolve().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {report.parent} to write {report.name} in; create it first")
    structures = [data for source in structure for data in _structures(source)]
    seen = None if training is None else _structures(training)
    trained = load(model, device)
    if not structures and model in C20:
        from pyg_schnet.analysis.doctor.samples import c20_sample  # noqa: PLC0415

        structures = [c20_sample().data]
    found = examine(trained, structures or None, training=seen, only=only)
    if report is not None:
        found.write_json(report)
    print(found)
    if found.failed:
        sys.exit(1)


def _structures(source: str) -> list[Any]:
    """All structures of a file, in double precision."""
    import torch  # noqa: PLC0415

    from pyg_schnet.datasets.ase_files import read_structures  # noqa: PLC0415
    from pyg_schnet.simulation.structures import atoms_to_data  # noqa: PLC0415

    if not Path(source).is_file():
        raise FileNotFoundError(f"there is no file {source} with structures")
    return [atoms_to_data(one.atoms, torch.float64) for one in read_structures(Path(source))]
