"""What the force field can do, on molecules that no training frame is of, against GFN2-xTB; and whether it may go out.

    OMP_NUM_THREADS=1 python datasets/organic_xtb/gates.py MODEL --out results/organic_xtb
    OMP_NUM_THREADS=1 python datasets/organic_xtb/gates.py MODEL --smiles afresh.smi --out results/organic_xtb/afresh

The first is by what a model is chosen; the second, once it is, says what it does on molecules that took no part in any
choice. Each part is written to ``gates.json`` when it is done; what is there is not done again. ``gates.md`` is the
table.
"""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from ase import Atoms, units
from ase.data import covalent_radii
from ase.optimize import BFGS
from ase.vibrations import VibrationsData
from classical import STIFF, classical_frames, far_side, start, turned
from labels import CLOSEST, calculator, closest, rng_of
from numpy.typing import NDArray
from pairs import beside
from rdkit import Chem
from rdkit.Chem.rdMolDescriptors import CalcNumRotatableBonds
from scipy.stats import spearmanr
from smiles import listed
from torch_geometric.data import Batch, Data
from tqdm import tqdm

from pyg_schnet import Potential, SchNet, load
from pyg_schnet.analysis import normal_modes, relaxed
from pyg_schnet.datasets import from_smiles
from pyg_schnet.files.whole import replacing
from pyg_schnet.simulation.ase import SchNetCalculator, data_to_atoms
from pyg_schnet.simulation.dynamics import Dynamics, DynamicsError

KCAL = units.kcal / units.mol
#: Barriers of amides and acids; small molecules for vibrations; conformers.
BARRIERS = ("CNC(C)=O", "CC(N)=O", "NC=O", "CC(=O)O", "OC=O", "COC(C)=O")
#: Molecules whose dynamics are computed together.
TOGETHER = 20
#: Energies in kcal/mol above which other parts of a molecule meet as a stiff bond is turned: no barrier of the bond.
CLASHING = 35.0
#: Heavy atoms of molecules whose vibrations and barriers are computed, if no list says which.
SMALL = 8
VIBRATING = listed("vibrating.smi")
FLEXIBLE = listed("flexible.smi")


class Gate(NamedTuple):
    """A condition for release.

    Attributes:
        part: Part of the tests.
        figure: Name of its figure.
        bound: The largest value allowed; the smallest for those in ``AT_LEAST``.
        text: What it is.
    """

    part: str
    figure: str
    bound: float
    text: str


AT_LEAST = {"stable", "attraction", "refused"}
GATES = (
    Gate("own_paths", "energy_mev_per_atom", 10.0, "energies on its own paths at 300 K (meV/atom)"),
    Gate("constant_energy", "stable", 95.0, "molecules of a hundred whole after dynamics at constant energy, 300 K"),
    Gate("vibrations", "mae", 25.0, "wavenumbers of vibrations (1/cm)"),
    Gate("barriers", "largest_kcal", 2.0, "barriers of amides, acids and esters, largest error (kcal/mol)"),
    Gate("water_dimer", "attraction", 1.0, "hydrogen bond of the water dimer has the right sign"),
    Gate("refusals", "refused", 1.0, "other elements and charges are refused"),
)


class Case(NamedTuple):
    """What is judged, and with what.

    Attributes:
        model: The model.
        tests: Molecules by where they come from.
        args: Sizes.
        vibrating: Molecules for vibrations.
        turned: Molecules for barriers.
        flexible: Molecules for conformers.
    """

    model: SchNet
    tests: dict[str, list[str]]
    args: argparse.Namespace
    vibrating: list[str]
    turned: list[str]
    flexible: list[str]

    def molecules(self, count: int) -> list[str]:
        """So many of them, in turns from each list, none of a single atom or two."""
        lists = [[one for one in part if Chem.MolFromSmiles(one).GetNumAtoms() > 1] for part in self.tests.values()]
        most = max(map(len, lists))
        return [part[k] for k in range(most) for part in lists if k < len(part)][:count]

    def frozen(self) -> SchNetCalculator:
        """The model for relaxations."""
        return SchNetCalculator(self.model, dtype=torch.float32)


def energies_of(case: Case, places: list[tuple[NDArray, NDArray]]) -> tuple[NDArray, list[NDArray]]:
    """Energies in eV and forces in eV/Angstrom of the model.

    Args:
        case: The case.
        places: Atomic numbers and positions.

    Returns:
        Energies [M] and forces, one array for each.
    """
    potential, energies, forces = Potential(case.model), [], list[NDArray]()
    for first in range(0, len(places), 64):
        part = places[first : first + 64]
        data = [Data(z=torch.as_tensor(z), pos=torch.as_tensor(pos, dtype=torch.float32)) for z, pos in part]
        out = potential(Batch.from_data_list(data))
        energies.append(out["energy"].double().numpy())
        forces += np.split(out["forces"].double().numpy(), np.cumsum([len(z) for z, _ in part])[:-1])
    return np.concatenate(energies), forces


def rested(molecule: str, seed: int = 0, fmax: float = 0.01) -> Atoms:
    """A molecule at its minimum of GFN2-xTB."""
    atoms = start(molecule, seed)
    BFGS(atoms, logfile=None, maxstep=0.1).run(fmax=fmax, steps=300)
    return atoms


def frames(case: Case) -> dict[str, float]:
    """Errors on frames made as those to train with."""
    found = []
    for molecule in tqdm(case.molecules(case.args.frames), "frames"):
        found += classical_frames(molecule)
    energies, forces = energies_of(case, [(one.numbers, one.positions) for one in found])
    sizes = np.array([len(one.numbers) for one in found])
    errors = energies - [one.energy for one in found]
    differences = np.concatenate([a - b.forces for a, b in zip(forces, found, strict=True)])
    lowest = {one.molecule: k for k, one in enumerate(found) if one.kind == "relaxed"}
    kinds = ("path", "turned", "start")
    relative = [
        errors[k] - errors[lowest[one.molecule]]
        for k, one in enumerate(found)
        if one.molecule in lowest and (one.kind in kinds or one.kind.startswith("dynamics"))
    ]
    return {
        "frames": len(found),
        "forces_mev": 1000 * float(np.abs(differences).mean()),
        "mean_force_mev": 1000 * float(np.abs(np.concatenate([one.forces for one in found])).mean()),
        "energy_mev_per_atom": 1000 * float(np.abs(errors / sizes).mean()),
        "relative_kcal": float(np.abs(relative).mean()) / KCAL,
    }


def own_paths(case: Case) -> dict[str, float]:
    """Errors where the model's own dynamics at 300 K lead, from its own minimum."""
    places, names = [], list[str]()
    for molecule in tqdm(case.molecules(50), "own paths"):
        atoms = start(molecule)
        atoms.calc = case.frozen()
        BFGS(atoms, logfile=None, maxstep=0.1).run(fmax=0.02, steps=200)
        data = Data(z=torch.from_numpy(atoms.numbers), pos=torch.from_numpy(atoms.positions))
        dynamics = Dynamics(case.model, data, temperature=300.0, timestep=0.5, dtype=torch.float32)
        for _ in range(4):
            dynamics.run(round(case.args.own * 1000 / 0.5 / 4), interval=1000, progress=False)
            places.append((atoms.numbers, dynamics.positions))
            names.append(molecule)
    energies, forces = energies_of(case, places)
    errors, differences = [], list[NDArray]()
    for (numbers, place), energy, force in zip(places, energies, forces, strict=True):
        atoms = Atoms(numbers, place)
        atoms.calc = calculator()
        errors.append((energy - atoms.get_potential_energy()) / len(atoms))
        differences.append(force - atoms.get_forces())
    return {
        "molecules": len(set(names)),
        "energy_mev_per_atom": 1000 * float(np.abs(errors).mean()),
        "forces_mev": 1000 * float(np.abs(np.concatenate(differences)).mean()),
    }


def bonded(numbers: NDArray, positions: NDArray, factor: float) -> set[tuple[int, int]]:
    """Pairs of atoms closer than so many times the sum of their covalent radii."""
    radii = covalent_radii[numbers]
    distances = np.linalg.norm(positions[:, None] - positions, axis=-1)
    return set(map(tuple, np.argwhere(np.triu(distances < factor * (radii[:, None] + radii), 1)).tolist()))


def constant_energy(case: Case) -> dict[str, float]:
    """Which molecules keep their bonds, and how much the energy drifts, at constant energy and 300 K.

    What was found of some molecules is written beside ``gates.json`` at once, so that an interrupted run goes on.
    """
    tried, folder = case.molecules(case.args.molecules), case.args.out / "constant_energy"
    folder.mkdir(exist_ok=True)
    stable, drifts = 0, list[float]()
    for first in tqdm(range(0, len(tried), TOGETHER), "constant energy", unit=f" x {TOGETHER}"):
        path = folder / f"{first:04d}.json"
        if not path.exists():
            found = _kept(case, tried[first : first + TOGETHER])
            with replacing(path) as part:
                part.write_text(json.dumps(found))
        found = json.loads(path.read_text())
        stable += found["stable"]
        drifts += found["drifts"]
    return {
        "molecules": len(tried),
        "picoseconds": case.args.picoseconds,
        "stable": 100 * stable / len(tried),
        "drift_mev_per_atom_ps": float(np.abs(drifts).mean()),
    }


def _kept(case: Case, molecules: list[str]) -> dict[str, Any]:
    """How many of some molecules keep their bonds, and drifts in meV per atom and ps of those whose dynamics end."""
    left = []
    for molecule in molecules:
        atoms = start(molecule)
        atoms.calc = case.frozen()
        BFGS(atoms, logfile=None, maxstep=0.1).run(fmax=0.02, steps=200)
        left.append(atoms)
    # half of the kinetic energy goes into the potential
    options: dict[str, Any] = {"temperature": 600.0, "friction": 0.0, "timestep": 0.5, "dtype": torch.float32}
    while left:
        data = [Data(z=torch.from_numpy(one.numbers), pos=torch.from_numpy(one.positions)) for one in left]
        dynamics = Dynamics(case.model, data, **options)
        try:
            record = dynamics.run(round(case.args.picoseconds * 2000), interval=200, progress=False)
        except DynamicsError as error:
            del left[error.structure]
            continue
        ends = np.split(dynamics.positions, np.cumsum([len(one) for one in left])[:-1])
        energies = [record.total[:, k] / len(one) * 1000 for k, one in enumerate(left)]
        drifts = [float(np.polyfit(record.time / 1000, one, 1)[0]) for one in energies]
        same = [
            bonded(one.numbers, one.positions, 1.25) <= bonded(one.numbers, end, 1.7)
            for one, end in zip(left, ends, strict=True)
        ]
        return {"stable": sum(same), "drifts": drifts}
    return {"stable": 0, "drifts": []}


def wavenumbers(atoms: Atoms, step: float = 0.005) -> NDArray:
    """Wavenumbers of vibrations by GFN2-xTB in 1/cm, from differences of forces; negative if imaginary."""
    rest, n = atoms.positions.copy(), len(atoms)
    atoms.calc.set(accuracy=0.05)
    hessian = np.empty((3 * n, 3 * n))
    for k in range(3 * n):
        ends = []
        for sign in (1, -1):
            atoms.positions = rest
            atoms.positions[k // 3, k % 3] += sign * step
            ends.append(atoms.get_forces().ravel())
        hessian[k] = (ends[1] - ends[0]) / (2 * step)
    atoms.positions = rest
    found = VibrationsData.from_2d(atoms, (hessian + hessian.T) / 2).get_frequencies()
    return np.sort(found.real - found.imag)


def vibrations(case: Case) -> dict[str, Any]:
    """Wavenumbers at the minimum of each."""
    differences = {}
    for molecule in tqdm(case.vibrating, "vibrations"):
        atoms = start(molecule)
        atoms.calc.set(accuracy=0.05)
        BFGS(atoms, logfile=None, maxstep=0.1).run(fmax=0.002, steps=500)
        data = Data(z=torch.from_numpy(atoms.numbers), pos=torch.from_numpy(atoms.positions))
        own = normal_modes(case.model, relaxed(case.model, data, max_force=1e-4, progress=False)).vibrations.numpy()
        every = wavenumbers(atoms)
        true = np.sort(every[np.argsort(np.abs(every))[len(every) - len(own) :]])
        differences[molecule] = np.sort(own) - true
    every = np.concatenate(list(differences.values()))
    return {
        "mae": float(np.abs(every).mean()),
        "median": float(np.median(np.abs(every))),
        "mean": float(every.mean()),
        "molecules": {molecule: float(np.abs(one).mean()) for molecule, one in differences.items()},
    }


def barriers(case: Case) -> dict[str, Any]:
    """Highest energy as the stiff bond is turned, all else held."""
    found = {}
    for molecule in tqdm(case.turned, "barriers"):
        atoms = rested(molecule)
        described = Chem.AddHs(Chem.MolFromSmiles(molecule))
        i, _, j = described.GetSubstructMatch(STIFF)
        side = far_side(described, i, j)
        rest, angles = atoms.positions.copy(), np.radians(np.arange(0, 360, 10))
        places = [turned(rest, i, j, side or [], angle) for angle in angles]
        true = []
        for place in places:
            atoms.positions = place
            true.append(atoms.get_potential_energy())
        own, _ = energies_of(case, [(atoms.numbers, place) for place in places])
        near = (np.array(true) - min(true)) / KCAL < CLASHING
        sensible = near & [closest(place) > CLOSEST + 0.4 for place in places]
        heights = [float(np.ptp(np.array(part)[sensible]) / KCAL) for part in (true, own)]
        found[molecule] = {"reference_kcal": heights[0], "model_kcal": heights[1]}
    errors = [one["model_kcal"] - one["reference_kcal"] for one in found.values()]
    return {"largest_kcal": float(np.abs(errors).max()), "molecules": found}


def water_dimer(case: Case) -> dict[str, float]:
    """Interaction of two waters at the minimum of GFN2-xTB, and farther apart, in kcal/mol."""
    water = rested("O")
    together = Atoms(np.tile(water.numbers, 2))
    together.calc = calculator()
    best: tuple[float, NDArray] | None = None
    for number in range(12):
        rng = rng_of("water dimer", number)
        together.positions = beside(water.positions, water.positions, 2.0, rng)
        BFGS(together, logfile=None, maxstep=0.1).run(fmax=0.01, steps=200)
        energy = together.get_potential_energy()
        if best is None or energy < best[0]:
            best = energy, together.positions.copy()
    assert best is not None
    direction = best[1][3] - best[1][0]
    direction /= np.linalg.norm(direction)
    out = {}
    (alone,), _ = energies_of(case, [(water.numbers, water.positions)])
    for farther in (0.0, 0.5, 1.0, 2.0):
        together.positions = best[1] + np.repeat([np.zeros(3), farther * direction], 3, axis=0)
        true = together.get_potential_energy() - 2 * water.get_potential_energy()
        (own,), _ = energies_of(case, [(together.numbers, together.positions)])
        out |= {f"reference_{farther:g}": true / KCAL, f"model_{farther:g}": float(own - 2 * alone) / KCAL}
    return {"attraction": float(out["model_0"] < 0 and out["reference_0"] < 0), **out}


def relaxations(case: Case) -> dict[str, float]:
    """How far above the minimum of GFN2-xTB that of the model lies, by GFN2-xTB, and where RDKit begins."""
    above, begun, changed = [], [], 0
    for molecule in tqdm(case.molecules(60), "relaxations"):
        atoms = start(molecule)
        first = atoms.get_potential_energy()
        own = Atoms(atoms.numbers, atoms.positions)
        own.calc = case.frozen()
        BFGS(own, logfile=None, maxstep=0.1).run(fmax=0.01, steps=300)
        BFGS(atoms, logfile=None, maxstep=0.1).run(fmax=0.01, steps=300)
        best, rest = atoms.get_potential_energy(), atoms.positions.copy()
        atoms.positions = own.positions
        above.append(atoms.get_potential_energy() - best)
        begun.append(first - best)
        changed += bonded(own.numbers, own.positions, 1.25) != bonded(own.numbers, rest, 1.25)
    return {
        "median_kcal": float(np.median(above)) / KCAL,
        "mean_kcal": float(np.mean(above)) / KCAL,
        "rdkit_median_kcal": float(np.median(begun)) / KCAL,
        "other_bonds": changed,
    }


def conformers(case: Case) -> dict[str, float]:
    """Energies of conformers, each at its minimum of GFN2-xTB."""
    errors, ranks = [], []
    for molecule in tqdm(case.flexible, "conformers"):
        places, true = [], []
        for seed in range(10):
            atoms = rested(molecule, seed, 0.02)
            energy = atoms.get_potential_energy()
            if all(abs(energy - one) > 1e-3 for one in true):
                places.append((atoms.numbers, atoms.positions.copy()))
                true.append(energy)
        if len(true) < 3:
            continue
        own, _ = energies_of(case, places)
        relative = np.array(true) - min(true)
        errors += list(np.abs(own - own[int(np.argmin(true))] - relative))
        ranks.append(spearmanr(own, true).statistic)
    return {"mae_kcal": float(np.mean(errors)) / KCAL, "spearman": float(np.mean(ranks)), "molecules": len(ranks)}


def walls(case: Case) -> dict[str, float]:
    """Pairs of atoms pushed together: a hole is a place more than 1 eV below the minimum."""
    holes, pushed = 0, 0
    for molecule in tqdm(case.molecules(60), "walls"):
        atoms = start(molecule)
        rng, rest, radii = rng_of(molecule, 7), atoms.positions.copy(), covalent_radii[atoms.numbers]
        places = []
        for _ in range(3):
            i, j = rng.choice(len(atoms), 2, replace=False)
            apart = rest[j] - rest[i]
            length = np.linalg.norm(apart)
            near = np.exp(-np.square(np.linalg.norm(rest - rest[i], axis=1) / 1.1))[:, None]
            for part in (1.0, 0.85, 0.7, 0.55, 0.4):
                shift = max(length - part * (radii[i] + radii[j]), 0.0)
                places.append((atoms.numbers, rest + near * apart / length * shift))
        energies, _ = energies_of(case, [(atoms.numbers, rest), *places])
        holes += int((energies[1:] < energies[0] - 1.0).sum())
        pushed += len(places)
    return {"places": pushed, "holes": holes}


def refusals(case: Case) -> dict[str, float]:
    """Elements, charges and unpaired electrons that the model has not seen."""
    others = ("Cl", "S", "CCl", "C[Si](C)(C)C", "[NH4+]", "CC(=O)[O-]", "[CH3]")
    refused = [is_refused(case.model, from_smiles(other)) for other in others]
    return {"refused": float(all(refused) and not is_refused(case.model, from_smiles("CC(=O)O")))}


def is_refused(model: SchNet, molecule: Data) -> bool:
    """True if the calculator refuses a molecule that it has not been trained on."""
    try:
        SchNetCalculator(model, strict=True).get_potential_energy(data_to_atoms(molecule))
    except ValueError:
        return True
    return False


PARTS: dict[str, Callable[[Case], dict[str, Any]]] = {
    one.__name__: one
    for one in (
        refusals, water_dimer, barriers, vibrations, own_paths, frames, relaxations, conformers, walls, constant_energy,
    )
}  # fmt: skip


def case_of(args: argparse.Namespace) -> Case:
    """What the command line asks for."""
    model = load(args.model).eval().requires_grad_(False)
    if args.smiles is None:
        tests = json.loads((args.out / "molecules.json").read_text())["test"]
        return Case(model, tests, args, VIBRATING, list(BARRIERS), FLEXIBLE)
    args.out.mkdir(parents=True, exist_ok=True)
    molecules = listed(args.smiles)
    described = {one: Chem.MolFromSmiles(one) for one in molecules}
    small = [one for one in molecules if described[one].GetNumHeavyAtoms() <= SMALL]
    stiff = [one for one in small if described[one].HasSubstructMatch(STIFF)]
    loose = [one for one in molecules if CalcNumRotatableBonds(described[one]) > 1]
    return Case(model, {args.smiles: molecules}, args, small, stiff, loose)


def verdicts(found: dict[str, dict[str, Any]]) -> list[tuple[Gate, float, bool]]:
    """Each gate whose part is there, its figure, and whether it is passed.

    Args:
        found: Figures by part.

    Returns:
        The verdicts.
    """
    rows = []
    for gate in GATES:
        if gate.part in found:
            value = float(found[gate.part][gate.figure])
            rows.append((gate, value, value >= gate.bound if gate.figure in AT_LEAST else value <= gate.bound))
    return rows


def table(found: dict[str, dict[str, Any]]) -> str:
    """The figures as a table in Markdown."""
    lines = ["| gate | bound | found | |", "|---|---:|---:|---|"]
    for gate, value, passed in verdicts(found):
        sign = "at least" if gate.figure in AT_LEAST else "at most"
        lines.append(f"| {gate.text} | {sign} {gate.bound:g} | {value:.3g} | {'passed' if passed else '**failed**'} |")
    lines += ["", "| part | figures |", "|---|---|"]
    for part, figures in found.items():
        plain = {name: value for name, value in figures.items() if not isinstance(value, dict)}
        lines.append(f"| {part} | {', '.join(f'{name} {value:.4g}' for name, value in plain.items())} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", type=Path, help="the model file")
    add("--out", type=Path, required=True, help="folder with molecules.json, for the results")
    add("--smiles", help="file of SMILES beside this one, instead of molecules.json and of all other lists")
    add("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="which parts")
    add("--frames", type=int, default=200, help="molecules for frames")
    add("--own", type=float, default=4.0, help="length of its own paths in ps")
    add("--molecules", type=int, default=100, help="molecules at constant energy")
    add("--picoseconds", type=float, default=100.0, help="dynamics at constant energy in ps")
    args = parser.parse_args()
    torch.set_num_threads(1)
    case = case_of(args)
    path = args.out / "gates.json"
    found: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    for name in args.parts:
        if name not in found:
            found[name] = PARTS[name](case)
            with replacing(path) as part:
                part.write_text(json.dumps(found, indent=1))
            print(name, json.dumps(found[name]), flush=True)
    (args.out / "gates.md").write_text(table(found))
    print(table(found))


if __name__ == "__main__":
    main()
