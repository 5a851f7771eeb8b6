"""``pyg-schnet relax``: the nearest minima of one structure or of a file of many."""

import io
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tqdm import tqdm

from pyg_schnet.command.lengths import check_scale
from pyg_schnet.command.structures import checked_output, structures_in
from pyg_schnet.fast.tabulated import TabulatedFilters
from pyg_schnet.models import Potential

#: Degrees of freedom up to which the Hessian of BFGS, a matrix, costs next to nothing.
_DENSE = 300


def relax(
    model: str,
    structure: str,
    *,
    fmax: float = 0.01,
    steps: int = 500,
    output: str = "relaxed.extxyz",
    cell: bool = False,
    resume: bool = False,
    device: str = "cpu",
    dtype: Literal["float32", "float64"] = "float64",
    strict: bool = False,
) -> None:
    """Move the atoms of structures, and their cells if asked for, until there are no forces left.

    Args:
        model: Model file, folder of a run or of a committee, checkpoint, name (pyg-schnet models), or hf://owner/name.
        structure: File with one or many structures, which ASE reads.
        fmax: The largest force on an atom that is left, in eV/Angstrom.
        steps: Steps for each structure, at most.
        output: Extended xyz to write, one structure after the other.
        cell: True if cells relax, too.
        resume: True to go on after the structures that the output has already.
        device: Where to evaluate.
        dtype: Floating-point type.
        strict: True to refuse elements and charges that the model was never trained on, and structures that seem not to
            be in Angstrom, instead of a warning.
    """
    from pyg_schnet.simulation.ase import SchNetCalculator  # noqa: PLC0415
    from pyg_schnet.simulation.prepared import potential_of  # noqa: PLC0415

    if not (np.isfinite(fmax) and fmax > 0):
        raise ValueError(f"--fmax must be a positive number in eV/Angstrom, got {fmax}")
    if steps < 1:
        raise ValueError(f"--steps must be at least 1, got {steps}")
    path, structures = checked_output(output, (".extxyz", ".xyz")), structures_in(structure)
    if path.exists() and not resume:
        raise FileExistsError(f"{path} is there already; name another file with --output, or go on with --resume true")
    if path.exists() and path.samefile(structure):
        raise ValueError(f"the output would be added to the structures themselves; name another file than {structure}")
    if cell:
        _check_cells(structures, structure)
    potential = potential_of(model)
    check_scale(potential.model.training_sets, structures, structure, strict)
    members = [potential.model] if isinstance(potential, Potential) else list(potential.model)
    frozen = all(isinstance(member, TabulatedFilters) for member in members) or None
    calculator = SchNetCalculator(potential, device, getattr(torch, dtype), frozen=frozen, strict=strict)
    done = _cut_to_whole_frames(path, structures) if path.exists() else 0
    unfinished = []
    with tqdm(None, "relaxing", len(structures), unit="structure", leave=False, initial=done, disable=None) as bar:
        for number in range(done, len(structures)):
            atoms = structures[number]
            atoms.calc = calculator
            try:
                converged = _relaxed(atoms, fmax, steps, cell)
            except ValueError as error:
                raise ValueError(f"{structure}, structure {number}: {error}") from None
            if not converged:
                unfinished.append(number)
            _append(path, atoms, converged)
            bar.update(1)
    print(_summary(path, len(structures) - done, unfinished, fmax, steps))


def _relaxed(atoms: Any, fmax: float, steps: int, cell: bool) -> bool:
    """Relax a structure; true if it got there."""
    from ase.filters import FrechetCellFilter  # noqa: PLC0415
    from ase.optimize import BFGS, LBFGS  # noqa: PLC0415

    what: Any = FrechetCellFilter(atoms) if cell else atoms
    kind: Any = BFGS if 3 * len(atoms) <= _DENSE else LBFGS
    return bool(kind(what, logfile=None).run(fmax=fmax, steps=steps))


def _check_cells(structures: list[Any], source: str) -> None:
    for number, atoms in enumerate(structures):
        if atoms.cell.rank < 3:
            raise ValueError(f"{source}, structure {number} has no complete cell to relax; leave out --cell")


def _append(path: Path, atoms: Any, converged: bool) -> None:
    """Add a structure in one piece."""
    import ase.io  # noqa: PLC0415

    text = io.StringIO()
    atoms.info["converged"] = converged
    ase.io.write(text, atoms, format="extxyz")
    with path.open("ab", buffering=0) as file:
        content = memoryview(text.getvalue().encode())
        while content:
            content = content[file.write(content) :]


def _cut_to_whole_frames(path: Path, structures: list[Any]) -> int:
    """How many structures a file has, the last of which may be torn off: that is removed."""
    lines, place, number = path.read_bytes().splitlines(keepends=True), 0, 0
    while place < len(lines):
        expected = len(structures[number]) if number < len(structures) else -1
        if lines[place].strip() != str(expected).encode():
            raise ValueError(f"{path} is not of these structures: structure {number} differs; name another file")
        end = place + expected + 2
        if end > len(lines) or not lines[end - 1].endswith(b"\n"):
            break
        place, number = end, number + 1
    with path.open("r+b") as file:
        file.truncate(sum(map(len, lines[:place])))
    return number


def _summary(path: Path, count: int, unfinished: list[int], fmax: float, steps: int) -> str:
    what = f"{count} structure{'s' if count != 1 else ''}"
    if not unfinished:
        return f"{path}: {what} relaxed, no force above {fmax:g} eV/Angstrom"
    first = ", ".join(map(str, unfinished[:10])) + (", ..." if len(unfinished) > 10 else "")
    return (
        f"{path}: {what}, of which {len(unfinished)} still had forces above {fmax:g} eV/Angstrom after {steps} steps "
        f"(number {first}; converged=F in the file)"
    )
