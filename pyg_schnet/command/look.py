"""``pyg-schnet look``: what a trained model learned, on one page."""

from pathlib import Path
from typing import Any

from pyg_schnet.command.structures import structures_in
from pyg_schnet.models import load


def look(
    model: str,
    structure: str | None = None,
    *,
    output: str = "look.html",
    index: int = 0,
    probe: int = 6,
    relax: bool = True,
    data: str | None = None,
    device: str = "cpu",
    overwrite: bool = False,
) -> None:
    """Write all that can be seen of a trained model, and of one structure, into one HTML page.

    Args:
        model: Model file, folder of a run or of a committee, checkpoint, name (pyg-schnet models), or hf://owner/name.
        structure: File with a structure, which ASE reads: its contributions of atoms, local chemical potential and
            vibrations are shown, too.
        output: HTML file to write.
        index: Which structure of the file, from 0; negative numbers count from the end.
        probe: Atomic number of the probe for the local chemical potential.
        relax: True if vibrations are those of the nearest minimum instead of the structure as it is.
        data: File with structures whose distances are drawn beneath the filters; that of the structure by default.
        device: Where to evaluate.
        overwrite: True to replace a file that is there.
    """
    from pyg_schnet.analysis.look import look as write_page  # noqa: PLC0415

    path = Path(output)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already; name another file with --output, or pass --overwrite true")
    trained = load(model, device)
    atoms = None if structure is None else _structures(structure, trained, device, index)[0]
    distances = None if data is None else _structures(data, trained, "cpu")
    title = f"{Path(model).name}: what it learned"
    print(write_page(trained, atoms, path, distances=distances, probe=probe, relax=relax, title=title))


def _structures(source: str, model: Any, device: str, index: int | None = None) -> list[Any]:
    """All structures of a file, or the one of this number, in the model's numbers."""
    from pyg_schnet.simulation.structures import atoms_to_data  # noqa: PLC0415

    dtype = next(model.parameters()).dtype
    return [atoms_to_data(atoms, dtype).to(device) for atoms in structures_in(source, index)]
