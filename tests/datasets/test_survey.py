"""A first look at own structures: units by physics, labels by any name, order, repeated and odd ones."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.units import Bohr, Hartree, kcal, kJ, mol

from pyg_schnet.datasets import MD17, Trajectory, gathered
from pyg_schnet.datasets.guessed_stress import guess_stress_unit
from pyg_schnet.datasets.guessed_units import Evidence, all_electron_energy, guess_units
from pyg_schnet.datasets.labels import find_labels, is_bookkeeping
from pyg_schnet.datasets.nearest import clearance, nearest
from pyg_schnet.datasets.resemblance import memory
from pyg_schnet.datasets.stiffness import stiffness
from pyg_schnet.datasets.survey import survey
from pyg_schnet.datasets.survey_table import in_words
from pyg_schnet.units import ENERGY, FORCE, STRESS

#: Energy of an ethanol molecule with all its electrons, by any decent method, in eV.
ETHANOL = -4210.0


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Frames of ethanol in eV and Angstrom, energies as if of all electrons."""
    dataset = MD17(tmp_path_factory.mktemp("data"), "ethanol_xtb", log=False)
    mean = float(np.mean([float(data.energy) for data in dataset[:200]]))
    return [
        Atoms(
            data.z.numpy(),
            data.pos.double().numpy(),
            info={"E": float(data.energy) - mean + ETHANOL},
        )
        for data in dataset[:200]
    ], [data.forces.double().numpy() for data in dataset[:200]]


def written(path, frames, energy=1.0, length=1.0, force=1.0, name="my_forces"):
    """A file with energies, positions and forces in other units."""
    atoms, forces = frames
    made = []
    for one, rows in zip(atoms, forces, strict=True):
        copy = Atoms(one.numbers, one.positions / length, info={"E": one.info["E"] / energy})
        copy.arrays[name] = rows / force
        made.append(copy)
    write(path, made, format="extxyz")
    return path


UNITS = {
    "eV": (1.0, 1.0, 1.0, ("eV", "Ang", "eV/Ang")),
    "kcal": (kcal / mol, 1.0, kcal / mol, ("kcal/mol", "Ang", "kcal/mol/Ang")),
    "atomic": (Hartree, Bohr, Hartree / Bohr, ("Ha", "Bohr", "Ha/Bohr")),
    "mixed": (Hartree, 1.0, Hartree / Bohr, ("Ha", "Ang", "Ha/Bohr")),
    "eV and Bohr": (1.0, 1.0, Hartree / Bohr, ("eV", "Ang", "Ha/Bohr")),
    "nanometres": (kJ / mol, 10.0, kJ / mol / 10, ("kJ/mol", "nm", "kJ/mol/nm")),
}


#: Pairs of units that programs write for positions in Angstrom.
PAIRS = [
    ("eV", "eV/Ang"),
    ("meV", "meV/Ang"),
    ("Ha", "Ha/Bohr"),
    ("Ha", "Ha/Ang"),
    ("kcal/mol", "kcal/mol/Ang"),
    ("kJ/mol", "kJ/mol/Ang"),
    ("eV", "Ha/Bohr"),
    ("kcal/mol", "Ha/Bohr"),
    ("eV", "eV/Bohr"),
]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("energy", "forces"), PAIRS)
def test_units_and_sign_in_any_order_of_the_frames(energy, forces, sign, frames, tmp_path):
    """Relative energies of shuffled frames: bonds tell the unit of forces, their work that of energies."""
    order = np.random.default_rng(1).permutation(100)
    atoms, rows = [frames[0][place].copy() for place in order], [frames[1][place] for place in order]
    for one in atoms:
        one.info["E"] -= ETHANOL
    atoms[7].info["E"] = np.nan
    rows[3] = np.full((9, 3), np.nan)
    found = survey(
        written(tmp_path / "frames.xyz", (atoms, rows), ENERGY[energy], 1.0, sign * FORCE[forces], "force"), show=False
    )
    assert (found.units["energy"].unit, found.units["forces"].unit) == (energy, forces)
    assert found.units["forces"].sure
    assert found.units["energy"].sure
    assert "C-H bonds are as stiff as usual" in found.units["forces"].why
    assert found.signs == {"forces": sign}
    assert found.slope[0] == pytest.approx(sign, abs=0.1)


def test_forces_that_are_not_checked_are_not_sure(frames, tmp_path):
    """Two frames are too few: with energies in Hartree, forces are taken for Hartree per Bohr, as programs have it."""
    path = written(tmp_path / "frames.xyz", [part[:2] for part in frames], Hartree, 1.0, Hartree / Bohr)
    found = survey(path, forces_key="my_forces", show=False)
    assert (found.units["energy"].unit, found.units["forces"].unit) == ("Ha", "Ha/Bohr")
    assert found.units["energy"].sure
    assert not found.units["forces"].sure
    assert "(? as programs write them with Ha; not checked)" in in_words(found)


def test_forces_of_another_unit_than_is_said(frames, tmp_path):
    path = written(tmp_path / "frames.xyz", frames, 1.0, 1.0, Hartree / Bohr)
    found = survey(path, forces_key="my_forces", forces_unit="eV/Ang", energy_unit="eV", show=False)
    assert any("C-H bonds are 0.5" in sentence and "about 30 are usual" in sentence for sentence in found.odd)


@pytest.mark.parametrize("name", ["c20_xtb", "malonaldehyde_xtb"])
def test_stiffness_of_other_molecules(name, tmp_path):
    """In kcal/mol/Angstrom, told from kJ/mol, eV and Hartree."""
    dataset = MD17(tmp_path, name, log=False)[:60]
    rows = [(one.z.numpy(), one.pos.double().numpy(), one.forces.double().numpy() / (kcal / mol)) for one in dataset]
    found = stiffness(rows)
    assert found.value > 0
    units = ("eV/Ang", "meV/Ang", "kcal/mol/Ang", "kJ/mol/Ang", "Ha/Bohr")
    assert min(units, key=lambda unit: abs(found.off(FORCE[unit]))) == "kcal/mol/Ang"
    assert stiffness((z, pos, -forces) for z, pos, forces in rows).value == pytest.approx(-found.value)


def test_metals_tell_the_sign_of_forces(tmp_path):
    """EMT's copper in cells of different sizes, where no work is known."""
    frames = []
    for seed in range(12):
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(atoms.cell.array * (1 + 0.002 * seed), scale_atoms=True)
        atoms.rattle(0.1, seed=seed)
        atoms.calc = EMT()
        gradients = Atoms(
            atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True, info={"E": atoms.get_potential_energy()}
        )
        gradients.arrays["forces"] = -atoms.get_forces()
        frames.append(gradients)
    write(tmp_path / "cu.xyz", frames, format="extxyz")
    found = survey(tmp_path / "cu.xyz", show=False)
    assert found.stiffness.bond == "Cu-Cu"
    assert found.signs == {"forces": -1}
    assert found.units["forces"].unit == "eV/Ang"


def test_fields_of_gradients_are_forces_of_the_other_sign(frames, tmp_path):
    path = written(tmp_path / "frames.xyz", [part[:2] for part in frames], name="gradient")
    assert survey(path, show=False).signs == {"forces": -1}  # by the name
    path = written(tmp_path / "frames.xyz", frames, name="gradient")
    found = survey(path, show=False)
    assert found.labels.keys["forces"] == "gradient"
    assert found.signs == {"forces": 1}  # by what they are


@pytest.mark.parametrize("name", UNITS)
def test_units_are_told_from_the_numbers(name, frames, tmp_path):
    """ASE's own constants made the files."""
    energy, length, force, expected = UNITS[name]
    found = survey(written(tmp_path / "frames.xyz", frames, energy, length, force), forces_key="my_forces", show=False)
    assert tuple(found.units[kind].unit for kind in ("energy", "length", "forces")) == expected
    assert all(found.units[kind].sure for kind in ("energy", "length"))
    np.testing.assert_allclose(found.energies, [one.info["E"] for one in frames[0]], rtol=1e-6)
    square = np.mean([(rows**2).sum(axis=1).mean() for rows in frames[1]])
    assert found.force_square == pytest.approx(square, rel=1e-4)
    assert 0.85 < found.slope[0] < 1.15
    assert found.neighbour == pytest.approx(1.1, abs=0.03)
    assert not found.odd


def test_what_is_said_goes_before_what_is_found(frames, tmp_path):
    path = written(tmp_path / "frames.xyz", frames)
    found = survey(path, energy_unit="kcal/mol", forces_key="my_forces", forces_unit="eV/Ang", show=False)
    assert found.units["energy"].unit == "kcal/mol"
    assert found.energies[0] == pytest.approx(frames[0][0].info["E"] * kcal / mol)
    assert any("do not belong together" in sentence for sentence in found.odd)
    with pytest.raises(ValueError, match="`energy_unit` must be one of eV, meV, Ha, kcal/mol, kJ/mol, got 'Ry'"):
        survey(path, energy_unit="Ry", show=False)
    with pytest.raises(
        ValueError, match="no structure has a field 'energi' \\(energy_key\\); their fields are E, my_fo"
    ):
        survey(path, energy_key="energi", show=False)


@pytest.mark.parametrize("sign", [1, -1])
def test_gradients_are_noticed(frames, tmp_path, sign):
    path = written(tmp_path / "frames.xyz", frames, force=sign, name="force")
    odd = survey(path, show=False).odd
    assert any("gradients, not forces" in sentence for sentence in odd) == (sign < 0)


def test_repeated_and_outlying_structures(frames, tmp_path):
    atoms, forces = frames
    far = atoms[7].copy()
    far.info["E"] += 80.0
    path = written(tmp_path / "frames.xyz", ([*atoms, atoms[3], far], [*forces, forces[3], forces[7]]))
    found = survey(path, show=False)
    assert found.duplicates == 2
    assert [sentence for sentence in found.odd if "far from all others" in sentence] == [
        "energies far from all others: structures 201 (from 0)"
    ]
    text = in_words(found)
    assert "2 structures are in the files twice" in text
    assert "202 of 9 atoms, open: C2H6O" in text


@pytest.mark.parametrize(
    ("shapes", "keys"),
    [
        ({"Energy": "number", "FORCES": "vectors"}, {"energy": "Energy", "forces": "FORCES"}),
        ({"REF_energy": "number", "REF_forces": "vectors"}, {"energy": "REF_energy", "forces": "REF_forces"}),
        ({"free_energy": "number", "energy": "number"}, {"energy": "energy"}),
        ({"free_energy": "number"}, {"energy": "free_energy"}),
        ({"label": "number", "ref": "number", "pbe": "vectors"}, {}),
        ({"dftTotalEnergy": "number", "virials": "matrix"}, {"energy": "dftTotalEnergy", "virial": "virials"}),
        ({"formation_energy_per_atom": "number", "force_constant": "number"}, {}),
        ({"energy": "vectors", "forces": "number", "kinetic_energy": "number"}, {}),
        ({"predicted_energy": "number", "energy_std": "number", "stress": "matrix"}, {"stress": "stress"}),
    ],
)
def test_labels_by_any_name(shapes, keys):
    assert find_labels(shapes).keys == keys


@pytest.mark.parametrize(
    "name", ["energy_corrected", "electronic_energy", "wB97X_energy", "ccsd_t_energy", "etotal", "E0"]
)
def test_energies_whatever_else_is_in_their_names(name):
    assert find_labels({"step": "number", name: "number", "gap": "number"}).keys == {"energy": name}


@pytest.mark.parametrize(
    "name", ["energyPerAtom", "binding_energy", "kineticenergy", "energy_std", "E_gap", "gap_energy"]
)
def test_numbers_with_energy_in_their_names_that_are_none(name):
    assert find_labels({name: "number"}).keys == {}


def fields(text):
    return {name: "vectors" if name.lower().endswith("forces") else "number" for name in text.split()}


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        ("MACE_energy REF_energy MACE_forces REF_forces", "REF_energy REF_forces"),
        ("xtb_energy xtb_forces wb97x_energy wb97x_forces", "wb97x_energy wb97x_forces"),
        ("pbe_energy r2scan_energy r2scan_forces", "r2scan_energy r2scan_forces"),
        ("energy forces REF_energy", "energy forces"),
        ("energy REF_energy REF_forces", "REF_energy REF_forces"),
        ("dft_energy xtb_forces", "dft_energy"),
        ("pbe_energy r2scan_forces", "pbe_energy"),
        ("vasp_energy REF_forces", "vasp_energy REF_forces"),
        ("wB97X_energy mace_energy forces", "wB97X_energy forces"),
        ("xtb_energy xtb_forces", "xtb_energy xtb_forces"),
        ("Epot Etot forces", "Epot forces"),
    ],
)
def test_labels_of_one_method_are_taken_together(there, chosen):
    """Whichever stands first in the file."""
    for names in (there, " ".join(reversed(there.split()))):
        found = find_labels(fields(names))
        assert set(found.keys.values()) == set(chosen.split())
        assert {*found.keys.values(), *(one for rest in found.others.values() for one in rest)} == set(there.split())
        assert not found.unclear


def test_the_other_labels_are_of_the_method_that_is_named():
    there = fields("pbe_energy pbe_forces mp2_energy mp2_forces")
    assert find_labels(there, {"energy": "mp2_energy"}).keys["forces"] == "mp2_forces"
    assert find_labels(there, {"forces": "mp2_forces"}).keys["energy"] == "mp2_energy"
    assert find_labels(there).unclear == (
        "mp2_energy and pbe_energy differ, and nothing tells which energies to learn; name them with --energy_key"
    )
    assert not find_labels(there, same=lambda one, other: True).unclear


def test_steps_and_the_like_are_no_properties():
    passed = ("step", "frame_index", "nsites", "n_atoms", "spacegroup_number", "temperature_K", "time_fs", "gap_std")
    assert all(map(is_bookkeeping, passed))
    assert not any(map(is_bookkeeping, ("band_gap", "melting_temperature", "n_eff", "volume", "time_constant_tau")))


@pytest.mark.parametrize(
    ("energy", "forces", "said", "expected"),
    [
        ("energy_kcal_mol", "forces_kcal_mol_A", {}, ("kcal/mol", "kcal/mol/Ang")),
        ("E_Ha", "dft_forces_Ha_Bohr", {}, ("Ha", "Ha/Bohr")),
        ("energy_eV", "force", {}, ("eV", "eV/Ang")),
        ("energy", "forces", {"energy_unit": "kJ/mol", "force_units": "Hartree/Bohr"}, ("kJ/mol", "Ha/Bohr")),
    ],
)
def test_units_that_are_said_in_words(frames, tmp_path, energy, forces, said, expected):
    """They go before what numbers look like."""
    made = []
    for one, rows in zip(frames[0][:12], frames[1], strict=False):
        copy = Atoms(one.numbers, one.positions, info={energy: one.info["E"]} | said)
        copy.arrays[forces] = rows
        made.append(copy)
    write(tmp_path / "frames.xyz", made, format="extxyz")
    found = survey(tmp_path / "frames.xyz", show=False)
    assert (found.labels.keys["energy"], found.labels.keys["forces"]) == (energy, forces)
    assert (found.units["energy"].unit, found.units["forces"].unit) == expected
    assert found.energies[0] == pytest.approx(ENERGY[expected[0]] * frames[0][0].info["E"])
    if said:
        made[3].info["energy_unit"] = "eV"
        write(tmp_path / "other.xyz", made, format="extxyz")
        with pytest.raises(ValueError, match="their energy are in different units, eV and kJ/mol; convert them to one"):
            survey(tmp_path / "other.xyz", show=False)


def test_labels_that_are_not_known_and_lattices_that_are_not_there(frames, tmp_path):
    made = [Atoms(one.numbers, one.positions, info={"energy": one.info["E"]}) for one in frames[0][:12]]
    for number, (one, rows) in enumerate(zip(made, frames[1], strict=False)):
        one.arrays["forces"] = np.where(np.arange(9)[:, None] < (2 if number < 3 else 0), np.nan, rows)
        one.info["energy"] = np.nan if number in {4, 7} else one.info["energy"]
        one.pbc = True
    write(tmp_path / "frames.xyz", made, format="extxyz")
    found = survey(tmp_path / "frames.xyz", show=False)
    assert "2 structures have no energy" in found.odd
    assert "some forces of 3 structures are not known" in found.odd
    assert "12 structures have periodic axes but no lattice vectors and are open" in found.odd
    assert not found.periodic
    made[5].cell = [9.0, 9.0, 9.0]
    write(tmp_path / "some.xyz", made, format="extxyz")
    with pytest.raises(
        ValueError, match="11 structures have periodic axes but no lattice vectors, and others have both"
    ):
        survey(tmp_path / "some.xyz", show=False)


def test_files_named_in_another_column_and_lines_that_lack(tmp_path):
    for number in range(6):
        write(tmp_path / f"m{number}.cif", bulk("NaCl", "rocksalt", a=5.5 + 0.02 * number))
    rows = "".join(f"NaCl,m{number}.cif,{0.1 * number:.1f}\n" for number in range(4))
    (tmp_path / "table.csv").write_text("formula,compound,gap\n" + rows)
    found = survey([tmp_path], table=tmp_path / "table.csv", show=False)
    assert found.properties == ["gap"]
    np.testing.assert_allclose(found.gathered.values("gap")[:4], [0.0, 0.1, 0.2, 0.3])
    assert "2 structures have no gap" in found.odd


def test_charges_are_no_properties_and_must_not_mix(frames, tmp_path):
    made = [Atoms(one.numbers, one.positions, info={"charge": n % 2}) for n, one in enumerate(frames[0][:12])]
    write(tmp_path / "frames.xyz", made, format="extxyz")
    found = survey(tmp_path / "frames.xyz", show=False)
    assert not found.properties
    assert any("have the net charges +0, +1, which a network" in sentence for sentence in found.odd)


def test_labels_that_never_change_are_none(frames, tmp_path):
    """Energies of one number and forces of zero are said and not taken; another field takes their place."""
    made = [one.copy() for one in frames[0][:20]]
    for one, rows in zip(made, frames[1], strict=False):
        one.info |= {"energy": 0.0, "stress": np.zeros((3, 3))}
        one.arrays |= {"forces": np.zeros((9, 3)), "REF_forces": rows}
    write(tmp_path / "frames.xyz", made, format="extxyz")
    found = survey(tmp_path / "frames.xyz", show=False)
    assert found.labels.keys == {"energy": "E", "forces": "REF_forces"}
    assert found.placeholders.keys() == {"energy", "forces", "stress"}
    assert "'energy' is 0 in all 20 structures and is not taken for energy" in found.odd
    same = [made[0]] * 5  # which may well have one energy
    write(tmp_path / "same.xyz", same, format="extxyz")
    assert survey(tmp_path / "same.xyz", show=False).labels.keys["energy"] == "energy"


def test_energies_that_were_not_calculated(frames, tmp_path):
    made = [one.copy() for one in frames[0][:20]]
    lowest = min(one.info["E"] for one in made)
    for number, one in enumerate(made):
        one.info |= {"E": 0.0 if number in {3, 11} else one.info["E"], "converged": number != 3}
    write(tmp_path / "frames.xyz", made, format="extxyz")
    found = survey(tmp_path / "frames.xyz", show=False)
    assert found.not_calculated.tolist() == [3, 11]
    assert "not converged, as the files say; better leave out: structures 3 (from 0)" in found.odd
    for one, other in zip(made, frames[0], strict=False):
        one.info["E"] = other.info["E"] - lowest  # one of which is zero, as it should be
    write(tmp_path / "relative.xyz", made, format="extxyz")
    assert not len(survey(tmp_path / "relative.xyz", show=False).not_calculated)


def test_files_in_different_units_are_refused(frames, tmp_path):
    written(tmp_path / "a.xyz", [part[:50] for part in frames], Hartree)
    written(tmp_path / "b.xyz", [part[50:100] for part in frames])
    with pytest.raises(ValueError, match=r"in a.xyz and -42\d\d.* in b.xyz, as unlike as Ha and eV; convert the files"):
        survey([tmp_path / "a.xyz", tmp_path / "b.xyz"], show=False)
    written(tmp_path / "a.xyz", [part[:50] for part in frames])
    survey([tmp_path / "a.xyz", tmp_path / "b.xyz"], show=False)


def test_several_energies_are_told(frames, tmp_path):
    atoms = [one.copy() for one in frames[0][:20]]
    for one in atoms:
        one.info |= {"energy_dft": one.info["E"] - 1, "energy": one.info["E"]}
    write(tmp_path / "frames.xyz", atoms, format="extxyz")
    found = survey(tmp_path / "frames.xyz", show=False)
    assert found.labels.keys["energy"] == "energy"
    assert set(found.labels.others["energy"]) == {"E", "energy_dft"}
    assert "others: " in in_words(found)


@pytest.mark.parametrize(("factor", "shift", "clear"), [(1.0, 0.0, True), (0.0367, -3.0, True), (1.0, 1e-2, False)])
def test_two_methods_that_say_the_same_or_not(frames, tmp_path, factor, shift, clear):
    """The same in another unit and without the atoms, or noise beside it; zeros in all structures are no energies."""
    rng, made = np.random.default_rng(0), []
    for one in frames[0][:30]:
        energy = one.info["E"]
        other = factor * energy + (shift if clear else shift * rng.normal())
        made.append(Atoms(one.numbers, one.positions, info={"pbe_energy": energy, "mp2_energy": other, "energy": 0.0}))
    write(tmp_path / "frames.xyz", made, format="extxyz")
    found = survey(tmp_path / "frames.xyz", show=False).labels
    assert found.keys["energy"] in {"pbe_energy", "mp2_energy"}
    assert bool(found.unclear) != clear


@pytest.mark.parametrize(
    ("numbers", "true"),
    [([1], -13.6), ([6], -1029.7), ([8], -2042.0), ([29], -44626.0), ([6, 6, 8, *[1] * 6], -4205.0)],
)
def test_energies_of_all_electrons(numbers, true):
    """Published energies of atoms (Hartree-Fock limits or better), and of ethanol, in eV."""
    assert all_electron_energy(np.array(numbers)) == pytest.approx(true, rel=0.1 if numbers == [1] else 0.02)


def test_energies_that_do_not_tell():
    """Those of pseudopotentials: the size of forces decides, and without them it is said that it is assumed."""
    for periodic in (True, False):
        seen = [Evidence(ratio=0.011, force=force, periodic=periodic) for force in (1.0, 25.0, np.nan)]
        known = [guess_units(one)[0] for one in seen]
        assert [guess.unit for guess in known] == ["eV", "kcal/mol", "eV"]
        assert [guess.sure for guess in known] == [periodic, False, False]  # crystals are in eV
    assert guess_units(Evidence(ratio=0.011, force=900.0))[0].unit == "meV"
    assert guess_units(Evidence(length="Bohr"))[0].unit == "Ha"


@pytest.mark.parametrize(("size", "unit"), [(0.02, "eV/Ang^3"), (5.0, "GPa"), (300.0, "kbar")])
def test_stress_units(size, unit):
    assert guess_stress_unit(size).unit == unit


@pytest.mark.parametrize(
    ("slope", "unit"),
    [((1.05, 0.99), "eV/Ang"), ((7.0, 0.3), "eV/Ang"), ((1.5, 0.99), "eV/Ang"), ((51.4, 0.9), "Ha/Bohr")],
)
def test_no_other_unit_of_forces_without_need(slope, unit):
    energy, forces = guess_units(Evidence(ratio=1.0, force=0.5, slope=slope))
    assert (energy.unit, forces.unit) == ("eV", unit)


@pytest.mark.parametrize(("name", "pbc"), [("Cu", True), ("NaCl", True), ("CH4", False)])
def test_nearest_neighbours(name, pbc):
    """Against ASE's neighbour list."""
    from ase.neighborlist import neighbor_list

    atoms = (
        molecule(name)
        if name == "CH4"
        else bulk(name, "rocksalt" if name == "NaCl" else "fcc", a=5.64 if name == "NaCl" else 3.61)
    )
    atoms.rattle(0.05, seed=1)
    i, d = neighbor_list("id", atoms, 6.0)
    expected = [d[i == atom].min() for atom in range(len(atoms))]
    np.testing.assert_allclose(nearest(atoms.positions, atoms.cell.array, atoms.pbc)[2], expected, atol=1e-12)


def test_room_around_a_molecule():
    box = np.diag([10.0, 12.0, 14.0])
    pos = np.array([[1.0, 1, 1], [4, 2, 1]])
    assert clearance(pos, box, np.array([True, True, True])) == pytest.approx(7.0)
    assert clearance(pos, box, np.array([False, False, True])) == pytest.approx(14.0)
    assert clearance(pos, box, np.zeros(3, dtype=bool)) == np.inf


def test_memory_of_a_trajectory():
    """Of a first-order process with correlation 0.9 at one step it is below 0.15 after 18 steps."""
    rng = np.random.default_rng(0)
    walk = [0.0]
    for kick in rng.normal(size=20_000):
        walk.append(0.9 * walk[-1] + kick)
    correlation, gap = memory(np.array(walk), ["a"] * len(walk))
    assert correlation == pytest.approx(0.9, abs=0.02)
    assert 14 < gap < 24
    assert memory(rng.permutation(walk), ["a"] * len(walk))[1] == 0


def test_stresses_of_crystals(tmp_path):
    """EMT's stresses, with energies and forces, as ASE writes them."""
    frames = []
    for seed in range(12):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, seed=seed)
        atoms.set_cell(atoms.cell.array * (0.97 + 0.005 * seed), scale_atoms=True)
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    write(tmp_path / "cu.xyz", frames, format="extxyz")
    found = survey(tmp_path / "cu.xyz", show=False)
    assert found.periodic == 12
    assert found.labels.keys == {"energy": "energy", "forces": "forces", "stress": "stress"}
    expected = np.mean([(one.get_stress(voigt=False) ** 2).sum() for one in frames])
    assert found.stress_square == pytest.approx(expected, rel=1e-6)
    assert found.units["stress"].unit == "eV/Ang^3"


def strained(count=24):
    """EMT's crystals of two metals, strained at random, with their labels in eV and Angstrom."""
    rng, made = np.random.default_rng(0), []
    for seed in range(count):
        atoms = bulk("Cu" if seed % 2 else "Al", cubic=True)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, 0.02, (3, 3))), scale_atoms=True)
        atoms.rattle(0.05, seed=seed)
        atoms.calc = EMT()
        made.append(atoms)
    return made


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("unit", ["eV/Ang^3", "GPa", "kbar"])
def test_unit_and_sign_of_stresses(unit, sign, tmp_path):
    """By what energies say, in nine numbers and in six; volumes alone tell the sign."""
    frames, bare = [], []
    for atoms in strained():
        stress = sign / STRESS[unit] * atoms.get_stress(voigt=False)
        made = Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True)
        made.info = {"energy": atoms.get_potential_energy(), "dft_stress": stress}
        made.arrays["forces"] = atoms.get_forces()
        frames.append(made)
        bare.append(Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True))
        bare[-1].info = {
            "energy": atoms.get_potential_energy(),
            "dft_stress": stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]],
        }
    write(tmp_path / "frames.xyz", frames, format="extxyz")
    found = survey(tmp_path / "frames.xyz", show=False)
    assert (found.units["stress"].unit, found.signs["stress"]) == (unit, sign)
    assert found.units["stress"].sure
    assert any("has not ASE's sign" in sentence for sentence in found.odd) == (sign < 0)
    other = survey(tmp_path / "frames.xyz", stress_unit="GPa", show=False)
    assert (other.units["stress"].unit, other.signs["stress"]) == ("GPa", sign)
    assert any(f"stresses are in {unit} rather than GPa" in sentence for sentence in other.odd) == (unit != "GPa")
    write(tmp_path / "bare.xyz", bare, format="extxyz")
    assert survey(tmp_path / "bare.xyz", show=False).signs["stress"] == sign


@pytest.mark.parametrize("sign", [1, -1])
def test_sign_of_virials_and_stresses_beside_them(sign, tmp_path):
    frames, both = [], []
    for atoms in strained(12):
        virial = -sign * atoms.get_stress(voigt=False) * atoms.get_volume()
        made = Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True)
        made.info = {"energy": atoms.get_potential_energy(), "virial": virial}
        frames.append(made.copy())
        made.info["stress_"] = sign * virial / atoms.get_volume() / STRESS["kbar"]
        made.info["virial"] = sign * virial
        both.append(made)
    write(tmp_path / "frames.xyz", frames, format="extxyz")
    found = survey(tmp_path / "frames.xyz", show=False)
    assert found.signs["stress"] == sign
    assert f"stress is {'-' if sign > 0 else ''}virial / volume" in in_words(found)
    dataset = Trajectory(tmp_path, tmp_path / "frames.xyz", virial_key="virial", stress_sign=sign, log=False)
    np.testing.assert_allclose(dataset[0].stress[0], strained(1)[0].get_stress(voigt=False), rtol=1e-5, atol=1e-8)
    write(tmp_path / "both.xyz", both[:3], format="extxyz")  # too few for energies or volumes
    found = survey(tmp_path / "both.xyz", show=False)
    assert (found.units["stress"].unit, found.signs["stress"]) == ("kbar", -1)


def test_of_many_structures_some_runs_are_looked_at(frames, tmp_path, monkeypatch):
    """All are counted; those looked at are of the beginning, the end and between."""
    path = written(tmp_path / "many.xyz", frames)
    whole = survey(path, show=False)
    monkeypatch.setattr(gathered, "MOST", 150)
    monkeypatch.setattr(gathered, "RUN", 10)
    found = survey(path, show=False)
    assert (len(found), found.gathered.total, found.parts) == (80, 200, {"train": 200})
    assert found.units["energy"].unit == whole.units["energy"].unit
    np.testing.assert_array_equal(found.gathered.all[0].pos, whole.gathered.all[0].pos)
    np.testing.assert_array_equal(found.gathered.all[-1].pos, whole.gathered.all[-1].pos)
    assert "200, of which 80 were looked at, of 9 atoms" in in_words(found)
