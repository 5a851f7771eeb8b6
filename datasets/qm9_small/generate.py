"""Generate the bundled small molecules, in the raw layout of QM9.

    pip install "pyg_schnet[chem,md]" tblite pyscf
    OMP_NUM_THREADS=1 python datasets/qm9_small/generate.py

Geometries and frequencies with GFN2-xTB, electronic properties with RHF/6-31G, thermochemistry of the ideal gas in the
rigid-rotor, harmonic-oscillator approximation. Records are kept in the folder ``--work`` while this runs: started
again after an interruption, it goes on where it was.
"""

import argparse
import bz2
import io
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.optimize import BFGS
from molecules import chosen
from numpy.typing import NDArray
from pyscf import gto, scf
from pyscf.scf import cphf
from rdkit import Chem
from rdkit.Chem import AllChem, rdDetermineBonds
from tblite.ase import TBLite
from tqdm import tqdm

HERE = Path(__file__).parent
TEMPERATURE = 298.15
#: k_B T in Hartree.
KT = units.kB * TEMPERATURE / units.Ha
#: Gas constant in cal/(mol K).
GAS = units.kB * units.mol / units.kcal * 1000
SPINS = {"H": 1, "C": 2, "N": 3, "O": 2, "F": 1}
PLANCK, BOLTZMANN, DALTON = 6.62607015e-34, 1.380649e-23, 1.66053906660e-27
CENTIMETRE = 2.99792458e10  # c in cm/s: a wave number in 1/cm times this is a frequency in Hz


def embedded(smiles: str) -> tuple[Chem.Mol, Atoms]:
    """A molecule with hydrogens and its force-field geometry."""
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    if AllChem.EmbedMolecule(molecule, randomSeed=7) != 0:
        AllChem.EmbedMolecule(molecule, randomSeed=7, useRandomCoords=True)
    if AllChem.UFFHasAllMoleculeParams(molecule):
        AllChem.UFFOptimizeMolecule(molecule)
    numbers = [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
    return molecule, Atoms(numbers, molecule.GetConformer().GetPositions())


def relaxed(atoms: Atoms) -> tuple[NDArray, bool]:
    """Move ``atoms`` to a minimum of GFN2-xTB; wave numbers in 1/cm, and whether it is a minimum."""
    atoms.calc = TBLite(method="GFN2-xTB", accuracy=0.1, verbosity=0)
    for _ in range(3):
        converged = BFGS(atoms, logfile=None).run(fmax=0.003, steps=500)
        waves, modes = vibrations(atoms)
        if waves.size == 0 or waves[0] > 0:
            return waves, bool(converged)
        atoms.positions += 0.1 * modes[0] / np.abs(modes[0]).max()  # off the saddle, along its unstable mode
    return waves, False


def vibrations(atoms: Atoms, step: float = 0.005) -> tuple[NDArray, NDArray]:
    """Harmonic wave numbers [3n - 6] or [3n - 5] in 1/cm (negative: imaginary) and modes [., n, 3]."""
    n, start = len(atoms), atoms.positions.copy()
    hessian = np.empty((3 * n, 3 * n))
    for k in range(3 * n):
        forces = []
        for sign in (1, -1):
            moved = start.copy()
            moved.flat[k] += sign * step
            atoms.positions = moved
            forces.append(atoms.get_forces().ravel())
        hessian[k] = (forces[1] - forces[0]) / (2 * step)
    atoms.positions = start
    roots = np.sqrt(np.repeat(atoms.get_masses(), 3))
    weighted = (hessian + hessian.T) / 2 / np.outer(roots, roots)
    inside = _rigid_complement(atoms)
    values, vectors = np.linalg.eigh(inside.T @ weighted @ inside)
    waves = np.sign(values) * np.sqrt(np.abs(values)) * units._hbar * 1e10
    waves = waves * np.sqrt(units._e / units._amu) / units._e / units.invcm  # sqrt(eV/A^2/u) to eV to 1/cm
    return waves, ((inside @ vectors).T / roots).reshape(-1, n, 3)


def _rigid_complement(atoms: Atoms) -> NDArray:
    """Orthonormal mass-weighted displacements [3n, .] without translations and rotations."""
    centred = atoms.positions - atoms.get_center_of_mass()
    axes = np.eye(3)
    rigid = [np.tile(axis, (len(atoms), 1)) for axis in axes] + [np.cross(axis, centred) for axis in axes]
    columns = np.stack([(one * np.sqrt(atoms.get_masses())[:, None]).ravel() for one in rigid], axis=1)
    left, sizes, _ = np.linalg.svd(columns)
    return left[:, int((sizes > 1e-2 * sizes[0]).sum()) :]


def rotational_constants(atoms: Atoms) -> NDArray:
    """A, B and C in GHz; A is 0 for linear molecules, as in QM9."""
    moments = np.sort(atoms.get_moments_of_inertia())
    if moments[0] < 1e-3 * moments[1]:
        moments[0] = np.inf
    moments = np.maximum(moments, 1e-9)  # a single atom has none
    return PLANCK / (8 * np.pi**2 * moments * DALTON * 1e-20) / 1e9


def symmetry_number(molecule: Chem.Mol, positions: NDArray, linear: bool) -> int:
    """Permutations of equal atoms that a rotation brings about; a linear molecule rotates any of them."""
    matches = molecule.GetSubstructMatches(molecule, uniquify=False, useChirality=False, maxMatches=200_000)
    centred = positions - positions.mean(0)
    images = centred[np.array(matches)]  # [m, n, 3]
    left, sizes, right = np.linalg.svd(np.einsum("mni,nj->mij", images, centred))
    proper = np.linalg.det(left) * np.linalg.det(right)
    planar = sizes[:, 2] < 1e-3 * sizes[:, 0]
    sizes[:, 2] *= np.where(planar, 1, np.sign(proper))
    squares = 2 * (centred**2).sum() - 2 * sizes.sum(1)
    count = int((squares / len(centred) < 0.05**2).sum())
    return min(count, 2) if linear else max(count, 1)


def thermochemistry(atoms: Atoms, waves: NDArray, sigma: int) -> dict[str, float]:
    """Zero-point energy, U - U0, H - U0 and G - U0 in Hartree and Cv in cal/(mol K), at 298.15 K and 1 atm."""
    linear, single = rotational_constants(atoms)[0] == 0, len(atoms) == 1
    energies = waves / (units.Ha / units.invcm)
    x = energies / KT
    occupied = 1 / np.expm1(x)
    rotation = 0.0 if single else 1.0 if linear else 1.5
    mass = atoms.get_masses().sum() * DALTON
    thermal = PLANCK / np.sqrt(2 * np.pi * mass * BOLTZMANN * TEMPERATURE)
    entropy = np.log(BOLTZMANN * TEMPERATURE / 101325 / thermal**3) + 2.5
    if not single:
        theta = PLANCK * rotational_constants(atoms) * 1e9 / BOLTZMANN
        theta = theta[theta > 0]
        states = TEMPERATURE / theta[0] if linear else np.sqrt(np.pi * TEMPERATURE**3 / theta.prod())
        entropy += np.log(states / sigma) + rotation
    entropy += float((x * occupied - np.log1p(-np.exp(-x))).sum())
    inner = (1.5 + rotation + float((x * occupied).sum())) * KT
    heat = (1.5 + rotation + float((x**2 * occupied * (1 + occupied)).sum())) * GAS
    zero = float(energies.sum()) / 2
    return {"zpve": zero, "U": inner, "H": inner + KT, "G": inner + KT - KT * float(entropy), "Cv": heat}


def electrons(atoms: Atoms, basis: str = "6-31g") -> dict[str, float]:
    """RHF: energy and orbital energies (Hartree), dipole (D), isotropic polarisability (a0^3), <r^2> (a0^2)."""
    molecule = gto.M(atom=list(zip(atoms.symbols, atoms.positions, strict=True)), basis=basis, verbose=0)
    mean_field = scf.RHF(molecule).run(conv_tol=1e-10)
    if not mean_field.converged:
        raise RuntimeError("RHF does not converge")
    charges, coordinates = molecule.atom_charges(), molecule.atom_coords()
    occupied, density = mean_field.mo_occ > 0, mean_field.make_rdm1()
    with molecule.with_common_orig(charges @ coordinates / charges.sum()):
        position, square = molecule.intor("int1e_r"), molecule.intor("int1e_r2")
    orbital = mean_field.mo_energy
    return {
        "energy": float(mean_field.e_tot),
        "mu": float(np.linalg.norm(mean_field.dip_moment(verbose=0))),
        "alpha": _polarisability(mean_field, position, occupied),
        "homo": float(orbital[occupied].max()),
        "lumo": float(orbital[~occupied].min()),
        "r2": float(np.einsum("pq,qp->", square, density)),
    }


def _polarisability(mean_field: scf.hf.RHF, position: NDArray, occupied: NDArray) -> float:
    """A third of the trace of the coupled-perturbed Hartree-Fock polarisability, in a0^3."""
    inner, outer = mean_field.mo_coeff[:, occupied], mean_field.mo_coeff[:, ~occupied]
    response = mean_field.gen_response(hermi=1)

    def induced(change: NDArray) -> NDArray:
        change = change.reshape(-1, outer.shape[1], inner.shape[1])
        density = 2 * np.einsum("pa,xai,qi->xpq", outer, change, inner)
        potential = response(density + density.transpose(0, 2, 1))
        return np.einsum("pa,xpq,qi->xai", outer, potential, inner).reshape(len(change), -1)

    field = np.einsum("xpq,pa,qi->xai", position, outer, inner)
    change = cphf.solve(induced, mean_field.mo_energy, mean_field.mo_occ, field, tol=1e-7)[0].reshape(field.shape)
    return float(-4 * np.einsum("xai,xai->", field, change) / 3)


def relaxed_smiles(atoms: Atoms) -> str:
    """SMILES of what the geometry is, from distances."""
    lines = [f"{s} {x:.6f} {y:.6f} {z:.6f}" for s, (x, y, z) in zip(atoms.symbols, atoms.positions, strict=True)]
    molecule = Chem.MolFromXYZBlock("\n".join([str(len(lines)), "", *lines]) + "\n")
    try:
        rdDetermineBonds.DetermineBonds(
            molecule, charge=0, useVdw=True, covFactor=1.2
        )  # else it joins the corners of small rings
    except ValueError:
        rdDetermineBonds.DetermineConnectivity(molecule, useVdw=True, covFactor=1.2)
    return Chem.MolToSmiles(Chem.RemoveAllHs(molecule, sanitize=False), isomericSmiles=False)


def record(number: int, smiles: str) -> str:
    """One raw record; marked in its first line if the molecule is no minimum or not the one meant."""
    molecule, atoms = embedded(smiles)
    waves, minimum = relaxed(atoms)
    atoms.positions -= atoms.get_center_of_mass()
    atoms.positions = atoms.positions.round(10)
    A, B, C = rotational_constants(atoms)
    heat = thermochemistry(atoms, np.maximum(waves, 1.0), symmetry_number(molecule, atoms.positions, A == 0))
    e = electrons(atoms)
    u0 = e["energy"] + heat["zpve"]
    values = [f"{v:.7f}" for v in (A, B, C)] + [f"{e['mu']:.4f}", f"{e['alpha']:.2f}"]
    homo, lumo = round(e["homo"], 4), round(e["lumo"], 4)
    values += [f"{homo:.4f}", f"{lumo:.4f}", f"{lumo - homo:.4f}", f"{e['r2']:.4f}", f"{heat['zpve']:.6f}", f"{u0:.6f}"]
    values += [f"{u0 + heat[key]:.6f}" for key in ("U", "H", "G")] + [f"{heat['Cv']:.3f}"]
    got = relaxed_smiles(atoms)
    wanted = Chem.MolToSmiles(Chem.MolFromSmiles(smiles), isomericSmiles=False)
    charges = atoms.calc.get_charges()
    rows = [
        f"{s}\t{x:.10f}\t{y:.10f}\t{z:.10f}\t{q:.6f}"
        for s, (x, y, z), q in zip(atoms.symbols, atoms.positions, charges, strict=True)
    ]
    inchi = Chem.MolToInchi(Chem.MolFromSmiles(smiles))
    lines = [str(len(atoms)), f"gdb {number}\t" + "\t".join(values) + "\t", *rows]
    lines += ["\t".join(f"{wave:.4f}" for wave in waves), f"{smiles}\t{got}", f"{inchi}\t{inchi}"]
    sound = minimum and got == wanted
    return ("sound\n" if sound else "other\n") + "\n".join(lines) + "\n"


def atom_references() -> str:
    """``atomref.txt``: UHF/6-31G atoms and the thermal energy of their translation."""
    bar = "=" * 105
    head = ["  Ele-    ZPVE         U (0 K)      U (298.15 K)    H (298.15 K)    G (298.15 K)     CV"]
    head += ["  ment   Hartree       Hartree        Hartree         Hartree         Hartree        Cal/(Mol Kelvin)"]
    rows = []
    for element, spin in SPINS.items():
        atom = gto.M(atom=f"{element} 0 0 0", basis="6-31g", spin=spin if element != "O" else 2, verbose=0)
        energy = scf.UHF(atom).run(conv_tol=1e-10).e_tot
        heat = thermochemistry(Atoms(element), np.zeros(0), 1)
        values = [energy, *(energy + heat[key] for key in ("U", "H", "G"))]
        rows.append(f"   {element} {0:12.6f}" + "".join(f" {value:14.6f}" for value in values) + f"{heat['Cv']:12.3f}")
    return "\n".join(["", bar, *head, bar, *rows, bar, ""])


def pack(smiles: list[str], work: Path) -> None:
    """The three files, from the records."""
    rows, packed = [], io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for number, meant in enumerate(smiles, 1):
            state, text = (work / f"{number:06d}.txt").read_text().split("\n", 1)
            if state == "failed":
                continue
            member = tarfile.TarInfo(f"dsgdb9nsd_{number:06d}.xyz")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
            if state == "other":
                got = text.splitlines()[-2].split("\t")[1]
                rows.append(f"{number:8d} {meant:>40s} {got:>40s} {meant:>40s} {0:15.6f}")
    (HERE / "dsgdb9nsd.xyz.tar.bz2").write_bytes(bz2.compress(packed.getvalue()))
    bar = "=" * 148
    text = [f"List of molecules among the {len(smiles)} whose relaxed geometry is no minimum or has other bonds than"]
    text += ["the SMILES it was built from. Given are number, SMILES, SMILES of the relaxed geometry, SMILES of the"]
    text += ["starting geometry, and a column without meaning here (QM9: difference of Coulomb matrices).", ""]
    head = f"#{'Index':>7s} {'SMILES':>40s} {'SMILES, relaxed':>40s} {'SMILES, start':>40s} {'D_IJ':>15s}"
    (HERE / "uncharacterized.txt").write_text("\n".join(["", *text, "", bar, head, bar, *rows, bar, ""]))
    (HERE / "atomref.txt").write_text(atom_references())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", type=int, default=520)
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "qm9_small_records",
        help="folder of finished records",
    )
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    smiles = chosen(args.molecules)
    for number, one in enumerate(tqdm(smiles, unit="molecule"), 1):
        path = args.work / f"{number:06d}.txt"
        if not path.is_file():
            try:
                text = record(number, one)
            except (RuntimeError, ValueError) as error:  # no geometry, or no convergence: its number stays free
                text = f"failed\n{one}: {error}\n"
            part = path.with_suffix(".part")
            part.write_text(text)
            part.replace(path)
    pack(smiles, args.work)


if __name__ == "__main__":
    main()
