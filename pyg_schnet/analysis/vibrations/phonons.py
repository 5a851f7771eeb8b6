"""Phonons of a crystal by phonopy, all displaced supercells in one batch (extra ``phonons``)."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor
from torch_geometric.data import Batch, Data
from tqdm import tqdm

from pyg_schnet.analysis.checks import count
from pyg_schnet.analysis.vibrations.masses import atomic_masses
from pyg_schnet.analysis.vibrations.single import periodic_axes, single_structure
from pyg_schnet.graph import radius_graph
from pyg_schnet.models.exact import ExactPotential
from pyg_schnet.units import SYMBOLS

#: Edges of the displaced cells that are evaluated at a time: some hundred megabytes for a large network.
_EDGES_AT_ONCE = 100_000
#: Forces above which a structure is no minimum, in eV/Angstrom.
_AT_REST = 0.05
#: Imaginary frequencies that displacements and round-off may leave of acoustic modes, in THz.
_NOISE = 0.1


def phonons(
    potential: Any,
    data: Data,
    supercell: Sequence[int] | Sequence[Sequence[int]] | int,
    *,
    distance: float = 0.01,
    primitive: Any = "auto",
    masses: Tensor | Sequence[float] | None = None,
    chunk: int | None = None,
    energy_unit: str | None = None,
    progress: bool = True,
) -> Any:
    r"""Force constants of a crystal by finite displacements, as a ``Phonopy`` that all of phonopy's methods take.

    .. math::
        \Phi_{ia,jb} = -\frac{\partial F_{jb}}{\partial r_{ia}}, \quad
        D_{ia,jb}(q) = \frac{1}{\sqrt{m_i m_j}} \sum_R \Phi_{ia,(j,R)b}\, e^{i q \cdot R}

    phonopy (A. Togo and I. Tanaka, Scr. Mater. 108, 1 (2015)) chooses as few displacements as the symmetry of the
    crystal allows. Their supercells are evaluated as one batch, by the exact model in float64
    (:class:`~pyg_schnet.models.exact.ExactPotential`): differences of forces have few digits. Force constants are
    symmetrized, so acoustic modes are zero at the zone centre.

    The cell is taken as it is: relax it before, with ASE's ``FrechetCellFilter``. Force constants reach as far as
    interaction blocks times cutoff; a smaller supercell folds them back, which is exact only at the wave vectors that
    fit into it: compare two sizes.

    Args:
        potential: A potential, a model of energies in any unit, or a committee.
        data: One unit cell with ``z``, ``pos``, ``cell`` and ``pbc``.
        supercell: Numbers of unit cells along each lattice vector [3], or the matrix [3, 3] of phonopy; a single number
            for all.
        distance: How far atoms are displaced in Angstrom.
        primitive: Primitive cell in phonopy's notation: ``"auto"`` by symmetry, ``"P"`` for the cell itself.
        masses: Masses in atomic mass units [n]; ``None`` for those of the structure, else standard atomic weights.
        chunk: Number of supercells that are evaluated at a time; ``None`` for as many as memory surely bears.
        energy_unit: Unit of the model's energies; ``None`` for what the model says, eV if it says nothing.
        progress: True to show a progress bar if there are several chunks.

    Returns:
        ``phonopy.Phonopy`` with force constants in eV/Angstrom^2: frequencies in THz, imaginary ones negative.

    Raises:
        ImportError: If phonopy is missing.
        TypeError: If ``potential`` is no model of energies or ``data`` no ``Data``.
        ValueError: If the structure is not periodic, or an argument is out of its range.

    Example:
        >>> from pyg_schnet import SchNet
        >>> _ = torch.manual_seed(0)
        >>> cell = torch.tensor([[[0, 1.8, 1.8], [1.8, 0, 1.8], [1.8, 1.8, 0]]])
        >>> copper = Data(z=torch.tensor([29]), pos=torch.zeros(1, 3), cell=cell, pbc=torch.ones(1, 3).bool())
        >>> model = SchNet(16, 16, 1, num_gaussians=20, cutoff=3.0, cutoff_function="cosine")
        >>> phonon = phonons(model, copper, (2, 2, 2))
        >>> phonon.run_qpoints([[0.5, 0.5, 0.0]]).frequencies.shape
        (1, 3)
    """
    exact, unit_cell = ExactPotential(potential, energy_unit), single_structure(data)
    phonon = _displaced(unit_cell, atomic_masses(data, masses), supercell, distance, primitive)
    cells = [phonon.supercell, *phonon.supercells_with_displacements]
    forces = _forces(exact, cells, unit_cell.pbc, chunk, progress)
    phonon.forces = forces[1:]  # those of the cell at rest cancel: there is a displacement against each
    phonon.produce_force_constants(show_drift=False)
    phonon.symmetrize_force_constants(show_drift=False)
    _warn_of_slope(phonon, forces[0])
    return phonon


def _displaced(unit_cell: Data, masses: Tensor, supercell: Any, distance: float, primitive: Any) -> Any:
    """A ``Phonopy`` with the displacements that symmetry leaves."""
    try:
        from phonopy import Phonopy  # noqa: PLC0415
        from phonopy.structure.atoms import PhonopyAtoms  # noqa: PLC0415
    except ImportError as error:
        raise ImportError('phonons need phonopy; install it with pip install "pyg_schnet[phonons]"') from error
    if unit_cell.get("cell") is None or not periodic_axes(unit_cell):
        raise ValueError(
            "phonons need a crystal, expected `cell` and periodic axes `pbc`; use normal_modes for molecules"
        )
    if not 0 < distance < 1:
        raise ValueError(f"`distance` must be a small length in Angstrom, for example 0.01, got {distance}")
    wrong = (unit_cell.z < 1) | (unit_cell.z >= len(SYMBOLS))
    if wrong.any():
        atom = int(wrong.nonzero()[0])
        raise ValueError(f"atom {atom} has the atomic number {int(unit_cell.z[atom])}, expected an element")
    cell = PhonopyAtoms(
        symbols=[SYMBOLS[z] for z in unit_cell.z.tolist()],
        cell=unit_cell.cell[0].numpy(),
        positions=unit_cell.pos.numpy(),
        masses=masses.numpy(),
    )
    with warnings.catch_warnings():  # that the primitive cell is another one is what "auto" means
        warnings.filterwarnings("ignore", message=".*primitive.*")
        matrix = _matrix(supercell)
        try:
            phonon = Phonopy(cell, supercell_matrix=matrix, primitive_matrix=primitive)
        except RuntimeError as error:
            raise ValueError(
                f"phonopy cannot make its cells of this crystal by `primitive` {primitive!r}: {error}"
            ) from None
    phonon.generate_displacements(distance=distance)
    return phonon


def _matrix(supercell: Any) -> ndarray:
    matrix = np.asarray(supercell)
    if matrix.shape == ():
        matrix = np.repeat(matrix, 3)
    whole = np.issubdtype(matrix.dtype, np.integer)
    if whole and matrix.shape == (3,) and (matrix > 0).all():
        return np.diag(matrix)
    if whole and matrix.shape == (3, 3) and round(np.linalg.det(matrix)) > 0:
        return matrix
    raise ValueError(
        f"`supercell` must be three positive integers or a matrix [3, 3] of integers of positive determinant, got "
        f"{supercell}"
    )


def _forces(exact: ExactPotential, cells: list[Any], pbc: Tensor, chunk: int | None, progress: bool) -> ndarray:
    """Forces on the atoms of all cells [cells, n, 3], some of them at a time."""
    structures = [
        Data(
            z=torch.tensor(cell.numbers, dtype=torch.long),
            pos=torch.tensor(cell.positions, dtype=torch.float64),
            cell=torch.tensor(cell.cell, dtype=torch.float64).unsqueeze(0),
            pbc=pbc,
        )
        for cell in cells
    ]
    if chunk is None:
        first = structures[0]
        edges = radius_graph(first.pos, exact.cutoff, cell=first.cell, pbc=first.pbc).edge_index.size(1)
        chunk = max(1, _EDGES_AT_ONCE // max(edges, 1))
    chunk = count("chunk", chunk)
    found: list[Tensor] = []
    starts = range(0, len(structures), chunk)
    for start in tqdm(starts, "displaced cells", disable=not progress or len(starts) < 2, leave=False):
        batch = Batch.from_data_list(structures[start : start + chunk])
        found.append(exact(batch)[1].detach().cpu())
    return torch.cat(found).view(len(cells), -1, 3).numpy()


def _warn_of_slope(phonon: Any, rest: ndarray) -> None:
    """Say once what is against calling these phonons of a stable crystal."""
    from phonopy.harmonic.dynmat_to_fc import get_commensurate_points  # noqa: PLC0415

    length = np.linalg.norm(rest, axis=1)
    cells = np.rint(np.linalg.inv(phonon.primitive.primitive_matrix)).astype(np.int64)  # primitive ones in a supercell
    exact_at = get_commensurate_points(cells)
    lowest = float(phonon.run_qpoints(exact_at).frequencies.min())
    if lowest >= -_NOISE and length.max() <= _AT_REST:
        return
    atom = int(length.argmax())
    found = f"; imaginary frequencies down to {lowest:.2f} THz, negative numbers here" if lowest < -_NOISE else ""
    warnings.warn(
        f"the crystal is no minimum: the largest force is {length[atom]:.3g} eV/Angstrom, on atom {atom} of the "
        f"supercell ({phonon.supercell.symbols[atom]}){found}; relax atoms and cell first",
        stacklevel=3,
    )
