"""A minimum of a model's energy, from the structure nearby."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data
from tqdm import tqdm

from pyg_schnet.analysis.checks import count, positive
from pyg_schnet.analysis.vibrations.rigid_motions import motions_of
from pyg_schnet.analysis.vibrations.single import single_structure
from pyg_schnet.models.exact import ExactPotential

#: Largest step in Angstrom of an atom on the way down, and of all coordinates together at its end: models know little
#: beyond the distances that they have seen.
_FAR_STEP, _LARGEST_STEP = 0.1, 0.3
#: Largest force in eV/Angstrom below which exact curvatures are worth their time; how many steps they serve at least;
#: and the smallest that is believed, in eV/Angstrom^2, with that of bonds for motions of the whole.
_NEAR, _SERVE, _SOFTEST, _STIFF = 0.05, 10, 0.02, 70.0
#: Curvatures that count as none, beside the largest: those of fragments that do not feel each other.
_FLAT = 1e-9
#: How far to go from a saddle point in Angstrom, and how often.
_NUDGE, _MOST_SADDLES = 0.05, 10
#: Seconds after which a progress bar shows.
_PATIENCE = 2.0
#: Forces that the energies' own rounding leaves, in eV/Angstrom.
_ROUGH = 1e-4


def relaxed(
    potential: Any,
    data: Data,
    *,
    max_force: float = 1e-6,
    max_steps: int = 500,
    energy_unit: str | None = None,
    progress: bool = True,
) -> Data:
    r"""The structure moved to a minimum of the energy, as vibrations need it, at fixed cell.

    Steps of the BFGS method (ASE's; J. Nocedal and S. J. Wright, Numerical Optimization, section 6.1), whose first
    curvatures are exact once the forces are small, and again after ten steps or as many as there are atoms; then
    Newton's method until they vanish. Where that is a saddle point, as planar ammonia is by its symmetry, the structure
    is moved a little along its steepest descent and goes on. All is done with the exact model in float64, see
    :func:`~pyg_schnet.analysis.normal_modes`. Cells are relaxed by ASE, with a ``FrechetCellFilter`` and
    :class:`~pyg_schnet.simulation.ase.SchNetCalculator`.

    Args:
        potential: A potential, model of energies or committee.
        data: One structure with ``z``, ``pos`` and, for crystals, ``cell`` and ``pbc``.
        max_force: Length of the largest force on an atom at the end, in eV/Angstrom.
        max_steps: Most steps towards each stationary point.
        energy_unit: Unit of the model's energies; ``None`` for what the model says, eV if it says nothing.
        progress: True to show a progress bar if it takes more than two seconds.

    Returns:
        The structure in float64, with ``mass`` if it had one; edges and labels, which belong to other positions, are
        left out.

    Raises:
        ImportError: If ASE is missing (extra ``md``).
        RuntimeError: If the forces are larger after all steps.
        TypeError, ValueError: As of :func:`~pyg_schnet.analysis.normal_modes`.

    Example:
        >>> from pyg_schnet import Potential, SchNet
        >>> _ = torch.manual_seed(0)
        >>> potential = Potential(SchNet.preset("jcp2018", num_interactions=1))
        >>> water = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
        >>> out = potential.double()(relaxed(potential, water))
        >>> bool(out["forces"].norm(dim=1).max() <= 1e-6)
        True
    """
    max_force, max_steps = positive("max_force", max_force, "eV/Angstrom"), count("max_steps", max_steps)
    exact, structure = ExactPotential(potential, energy_unit), single_structure(data)
    surface = _Surface(exact, structure, progress)
    start = structure.pos.numpy().ravel()
    found = start
    for _ in range(_MOST_SADDLES):
        if surface.largest_force(found) > max_force:
            found, steps = _descended(surface, found, max(max_force, _ROUGH), max_steps)
            found = _settled(surface, found, max_force, max_steps - steps)
        down = _way_down(surface, found)
        if down is None or surface.largest_force(found) > max_force:
            break
        found = found + _NUDGE * down
    left = surface.largest_force(found)
    if not left <= max_force:
        raise RuntimeError(
            f"the structure is not at rest: the largest force is {left:.2g} eV/Angstrom after {max_steps} steps, "
            f"expected {max_force:g}; raise `max_steps` or `max_force`, or begin nearer to a minimum"
        )
    structure.pos = torch.from_numpy(found).view(-1, 3)
    for name in ("mass", "masses"):
        if data.get(name) is not None:
            structure[name] = data[name]
    return structure


class _Surface:
    """The energy of one structure as a function of its coordinates [3n], to ASE a calculator."""

    def __init__(self, exact: ExactPotential, structure: Data, progress: bool) -> None:
        self.exact, self.structure, self.progress = exact, structure, progress
        self._last: tuple[np.ndarray, float, np.ndarray] | None = None

    def get_potential_energy(self, atoms: Any, force_consistent: bool = False) -> float:
        """As of ASE's calculators."""
        return self.energy_and_forces(atoms.positions.ravel())[0]

    def get_forces(self, atoms: Any) -> np.ndarray:
        """As of ASE's calculators."""
        return self.energy_and_forces(atoms.positions.ravel())[1].copy()

    def at(self, x: np.ndarray) -> Data:
        moved = self.structure.clone()
        moved.pos = torch.tensor(x, dtype=torch.float64).view(-1, 3)
        return moved

    def energy_and_forces(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Energy and forces [n, 3]; the last ones are kept, as each is asked for several times."""
        if self._last is None or not np.array_equal(x, self._last[0]):
            energy, forces = self.exact(self.at(x))
            self._last = x.copy(), float(energy), forces.cpu().numpy()
        return self._last[1:]

    def curvatures(self, x: np.ndarray) -> tuple[Tensor, Tensor]:
        """Eigenvalues in eV/Angstrom^2 and eigenvectors of the Hessian without rigid motions, [K] and [3n, K]."""
        hessian = self.exact.hessian(self.at(x)).cpu().view(len(x), len(x))
        motions = motions_of(self.at(x), torch.ones(len(x) // 3, dtype=torch.float64))
        rest = torch.linalg.qr(motions.T, mode="complete")[0][:, len(motions) :]
        values, vectors = torch.linalg.eigh(rest.T @ hessian @ rest)
        return values, rest @ vectors

    def stiffness(self, x: np.ndarray) -> np.ndarray:
        """The Hessian [3n, 3n] with all curvatures positive, so that steps go down; rigid motions are held."""
        values, vectors = (one.numpy() for one in self.curvatures(x))
        rigid = np.eye(len(x)) - vectors @ vectors.T
        return (vectors * np.maximum(np.abs(values), _SOFTEST)) @ vectors.T + _STIFF * rigid

    def largest_force(self, x: np.ndarray) -> float:
        return float(np.linalg.norm(self.energy_and_forces(x)[1], axis=1).max())


def _descended(surface: _Surface, start: np.ndarray, max_force: float, max_steps: int) -> tuple[np.ndarray, int]:
    """Down to forces that are small, and in how many steps."""
    try:
        from ase import Atoms  # noqa: PLC0415
        from ase.optimize import BFGS  # noqa: PLC0415
    except ImportError as error:
        raise ImportError('relaxation needs ASE; install it with pip install "pyg_schnet[md]"') from error
    atoms = Atoms(surface.structure.z.tolist(), start.reshape(-1, 3), calculator=surface)
    steps, exact, serve = 0, False, max(_SERVE, len(atoms))
    with tqdm(desc="relaxation", unit="step", delay=_PATIENCE, disable=not surface.progress, leave=False) as bar:
        while steps < max_steps and surface.largest_force(atoms.positions.ravel()) > max_force:
            search = BFGS(atoms, logfile=None, maxstep=_FAR_STEP)
            if exact:
                search.H0 = surface.stiffness(atoms.positions.ravel())
            search.attach(bar.update)
            most = max_steps - steps
            search.run(fmax=max_force if exact else max(max_force, _NEAR), steps=min(serve, most) if exact else most)
            steps, exact = steps + search.nsteps, True
    return atoms.positions.ravel(), steps


def _settled(surface: _Surface, x: np.ndarray, max_force: float, max_steps: int) -> np.ndarray:
    """Newton's method as long as it makes the largest force smaller, away from where curvature is negative."""
    best = surface.largest_force(x)
    for _ in range(max_steps):
        if best <= max_force:
            break
        values, vectors = surface.curvatures(x)
        if len(values) == 0:
            break
        steep = values.abs() > _FLAT * values.abs().max()
        forces = torch.from_numpy(surface.energy_and_forces(x)[1]).flatten()
        along = vectors[:, steep].T @ forces / values[steep].abs()
        step = (vectors[:, steep] @ along).numpy()
        step *= min(1.0, _LARGEST_STEP / max(float(np.linalg.norm(step)), _FLAT))
        left = surface.largest_force(x + step)
        if not left < 0.9 * best:
            break
        x, best = x + step, left
    return x


def _way_down(surface: _Surface, x: np.ndarray) -> np.ndarray | None:
    """The direction of the most negative curvature; ``None`` where there is none."""
    values, vectors = surface.curvatures(x)
    if len(values) == 0 or values[0] >= -_FLAT * values.abs().max():
        return None
    return vectors[:, 0].numpy()
