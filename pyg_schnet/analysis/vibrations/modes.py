"""What :func:`~pyg_schnet.analysis.normal_modes` returns."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyg_schnet.analysis.vibrations import oscillators
from pyg_schnet.units import SYMBOLS, WAVENUMBER


@dataclass(frozen=True, eq=False, repr=False)
class NormalModes:
    r"""Normal modes of a structure of n atoms, all tensors float64 on the CPU.

    Modes are sorted by wavenumber: imaginary ones first, as negative numbers, then the rigid motions, exactly zero,
    then the vibrations. Thermodynamic functions are those of the vibrations as quantum harmonic oscillators
    (:mod:`~pyg_schnet.analysis.vibrations.oscillators`): rigid motions and imaginary modes have no part in them.

    Attributes:
        z: Atomic numbers [n].
        pos: Positions in Angstrom [n, 3].
        masses: Masses in atomic mass units [n].
        cell: Lattice vectors in Angstrom [1, 3, 3], or ``None``.
        pbc: Periodic axes [1, 3], or ``None``.
        wavenumbers: Wavenumbers in cm^-1 [3n].
        displacements: Cartesian displacements [3n, n, 3] of each mode in u^-1/2, normalised as in ASE's
            ``Vibrations``: :math:`\sum_i m_i |u_i|^2 = 1`, so that :math:`\sqrt{m_i} u_i` are orthonormal. Signs are
            arbitrary, and so is the choice among modes of one wavenumber.
        rigid: True for each mode that moves the structure as a whole [3n].
        hessian: Second derivatives of the energy in eV/Angstrom^2 [n, 3, n, 3].
        energy: Potential energy in eV.
        largest_force: Length of the largest force on an atom in eV/Angstrom, zero at a minimum.
    """

    z: Tensor
    pos: Tensor
    masses: Tensor
    cell: Tensor | None
    pbc: Tensor | None
    wavenumbers: Tensor
    displacements: Tensor
    rigid: Tensor
    hessian: Tensor
    energy: float
    largest_force: float

    def __len__(self) -> int:
        return len(self.wavenumbers)

    @property
    def vibrations(self) -> Tensor:
        """Wavenumbers without those of the rigid motions in cm^-1 [3n - R]."""
        return self.wavenumbers[~self.rigid]

    @property
    def quanta(self) -> Tensor:
        """Energy quanta of all real vibrations in eV [M]."""
        return WAVENUMBER * self.vibrations[self.vibrations > 0]

    @property
    def reduced_masses(self) -> Tensor:
        r"""Reduced masses :math:`\mu = 1 / \sum_i |u_i|^2` in atomic mass units [3n]."""
        return 1 / self.displacements.square().sum((1, 2))

    @property
    def force_constants(self) -> Tensor:
        r"""Force constants :math:`\sum_{ij} u_i H_{ij} u_j \mu` in eV/Angstrom^2 [3n], negative for imaginary modes."""
        flat = self.displacements.flatten(1)
        curvature = ((flat @ self.hessian.reshape(flat.size(1), -1)) * flat).sum(1)
        return torch.where(self.rigid, 0.0, curvature * self.reduced_masses)

    @property
    def zero_point_energy(self) -> float:
        r"""Zero-point energy :math:`\frac12 \sum h \nu` in eV."""
        return float(self.quanta.sum()) / 2

    def internal_energy(self, temperature: Any) -> Any:
        """Energy of the vibrations in eV, see :func:`~pyg_schnet.analysis.vibrations.oscillators.internal_energy`."""
        return oscillators.internal_energy(self.quanta, temperature)

    def heat_capacity(self, temperature: Any) -> Any:
        """Heat capacity in eV/K, see :func:`~pyg_schnet.analysis.vibrations.oscillators.heat_capacity`."""
        return oscillators.heat_capacity(self.quanta, temperature)

    def entropy(self, temperature: Any) -> Any:
        """Entropy in eV/K, see :func:`~pyg_schnet.analysis.vibrations.oscillators.entropy`."""
        return oscillators.entropy(self.quanta, temperature)

    def free_energy(self, temperature: Any) -> Any:
        """Free energy in eV, see :func:`~pyg_schnet.analysis.vibrations.oscillators.free_energy`."""
        return oscillators.free_energy(self.quanta, temperature)

    def levels(self, tolerance: float = 1.0) -> list[tuple[float, int]]:
        """Wavenumbers of the vibrations and how many modes have each.

        Args:
            tolerance: Modes whose wavenumber is closer than this to that of the one before belong to the same level, in
                cm^-1.

        Returns:
            Mean wavenumber in cm^-1 and degeneracy of each level, from the lowest.

        Raises:
            ValueError: If ``tolerance`` is negative.
        """
        if not tolerance >= 0:
            raise ValueError(f"`tolerance` must not be negative, in cm^-1, got {tolerance}")
        groups: list[list[float]] = []
        for value in self.vibrations.tolist():
            if groups and value - groups[-1][-1] <= tolerance:
                groups[-1].append(value)
            else:
                groups.append([value])
        return [(sum(group) / len(group), len(group)) for group in groups]

    def atoms(self) -> Any:
        """The structure as ``Atoms`` of ASE, with these masses (extra ``md``).

        Raises:
            ImportError: If ASE is missing.
        """
        try:
            from ase import Atoms  # noqa: PLC0415
        except ImportError as error:
            raise ImportError('structures of ASE need ASE; install it with pip install "pyg_schnet[md]"') from error
        cell = None if self.cell is None else self.cell[0].numpy()
        pbc = None if self.pbc is None else self.pbc[0].numpy()
        return Atoms(self.z.numpy(), self.pos.numpy(), masses=self.masses.numpy(), cell=cell, pbc=pbc)

    def ideal_gas(self, symmetry_number: int, spin: float = 0.0, energy: float | None = None) -> Any:
        """These vibrations with free translations and rotations, as ASE's ``IdealGasThermo`` (extra ``md``).

        Args:
            symmetry_number: Number of rotations that leave the molecule as it is: 2 for water, 3 for ammonia.
            spin: Total electronic spin: 0 for closed shells, 0.5 for a radical.
            energy: Potential energy in eV; ``None`` for that of the model.

        Returns:
            The ``IdealGasThermo``: ``get_gibbs_energy(temperature, pressure)`` and so on.

        Raises:
            ImportError: If ASE is missing.
            ValueError: If the structure is periodic or has imaginary modes.
        """
        if self.pbc is not None and bool(self.pbc.any()):
            raise ValueError("an ideal gas is made of molecules; this structure is periodic")
        if bool((self.vibrations <= 0).any()):
            raise ValueError(
                f"an ideal gas needs a minimum; the lowest wavenumber is {float(self.vibrations.min()):.1f} cm^-1: "
                "relax the structure first"
            )
        atoms = self.atoms()  # says what is missing
        from ase.thermochemistry import IdealGasThermo  # noqa: PLC0415

        geometry: Any = {3: "monatomic", 5: "linear"}.get(int(self.rigid.sum()), "nonlinear")
        potential = self.energy if energy is None else energy
        about: dict[str, Any] = {"symmetrynumber": symmetry_number, "spin": spin}
        return IdealGasThermo(self.quanta.tolist(), geometry, potentialenergy=potential, atoms=atoms, **about)

    def __repr__(self) -> str:
        """Formula, number of modes and range of the wavenumbers."""
        found = self.vibrations
        range_ = f"{float(found.min()):.1f} to {float(found.max()):.1f} cm^-1" if len(found) else "none"
        count = torch.bincount(self.z).tolist()
        formula = "".join(f"{SYMBOLS[z]}{n if n > 1 else ''}" for z, n in enumerate(count) if n)
        return f"NormalModes({formula}, {len(found)} vibrations: {range_})"

    def __str__(self) -> str:
        """A table of all modes."""
        lines = [f"{'mode':>4} {'cm^-1':>10} {'meV':>8} {'u':>8} {'eV/Ang^2':>10}"]
        rows = zip(self.wavenumbers.tolist(), self.reduced_masses.tolist(), self.force_constants.tolist(), strict=True)
        for number, (value, mass, constant) in enumerate(rows):
            kind = "  rigid" if bool(self.rigid[number]) else "  imaginary" if value < 0 else ""
            lines.append(
                f"{number:4} {value:10.2f} {1000 * WAVENUMBER * value:8.2f} {mass:8.3f} {constant:10.4f}{kind}"
            )
        return "\n".join([*lines, f"zero-point energy {self.zero_point_energy:.4f} eV"])
