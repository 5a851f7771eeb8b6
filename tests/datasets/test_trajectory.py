"""A user's own files: fields, units, stress, cells, and what cannot be read."""

import random

import ase.db
import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset
from torch_geometric.loader import DataLoader

from pyg_schnet import radius_graph
from pyg_schnet.datasets import StructureLoader, Trajectory, as_dataset
from pyg_schnet.datasets.targets import Target, find_target


def structures():
    """A molecule and two crystals with energies, forces and, of one, a stress in ASE's calculators."""
    rng = np.random.default_rng(0)
    made = [molecule("H2O"), bulk("Cu", cubic=True), bulk("NaCl", "rocksalt", a=5.6)]
    for number, atoms in enumerate(made):
        results = {"energy": -10.0 - number, "forces": rng.normal(size=(len(atoms), 3))}
        if number == 2:
            results["stress"] = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) / 100
        atoms.calc = SinglePointCalculator(atoms, **results)
    return made


def write(path, made):
    if path.suffix == ".db":
        with ase.db.connect(str(path)) as database:
            for atoms in made:
                database.write(atoms)
    else:
        ase.io.write(str(path), made)
    return path


@pytest.mark.parametrize("name", ["own.xyz", "own.db", "own.traj"])
def test_formats_and_shapes(tmp_path, name):
    made = structures()
    dataset = Trajectory(tmp_path, write(tmp_path / name, made), log=False)
    assert len(dataset) == 3
    for data, atoms in zip(dataset, made, strict=True):
        assert data.z.tolist() == atoms.numbers.tolist()
        assert float(data.energy) == pytest.approx(atoms.get_potential_energy(), abs=1e-12)
        # extended xyz prints 8 decimals, float32 keeps 7 digits
        np.testing.assert_allclose(data.pos.numpy(), atoms.positions, atol=1e-6)
        np.testing.assert_allclose(data.forces.numpy(), atoms.get_forces(), atol=1e-6)
        np.testing.assert_allclose(data.cell[0].numpy(), atoms.cell.array, atol=1e-6)
        assert data.pbc.tolist() == [atoms.pbc.tolist()]
    assert dataset[0].stress.isnan().all()
    np.testing.assert_allclose(dataset[2].stress[0].numpy(), made[2].get_stress(voigt=False), rtol=1e-6)
    batch = next(iter(DataLoader(dataset, batch_size=3)))
    assert batch.cell.shape == batch.stress.shape == (3, 3, 3)
    assert batch.pbc.shape == (3, 3)
    assert batch.energy.dtype == torch.float64
    assert dataset.report["without stress"] == 2


def test_units_virial_and_names(tmp_path):
    atoms = Atoms("Ar", cell=[4.0, 5.0, 6.0], pbc=True)
    atoms.info = {"U": 2.0, "W": np.diag([3.0, 6.0, 9.0]), "P": np.eye(3) * 7, "box": np.diag([8.0, 8.0, 8.0])}
    atoms.arrays["f"] = np.array([[1.0, 2.0, 3.0]])
    path = write(tmp_path / "own.xyz", [atoms])
    names = {"energy_key": "U", "forces_key": "f", "energy_unit": "kcal/mol", "length_unit": "nm", "log": False}
    (data,) = Trajectory(tmp_path, path, virial_key="W", **names)
    kcal = units.kcal / units.mol  # an independent source of the conversion
    assert float(data.energy) == pytest.approx(2 * kcal, rel=1e-14)
    np.testing.assert_allclose(data.forces[0].numpy(), np.array([1, 2, 3]) * kcal / 10, rtol=1e-6)
    np.testing.assert_allclose(data.cell[0].diagonal().numpy(), [40, 50, 60])
    np.testing.assert_allclose(data.stress[0].diagonal().numpy(), -np.array([3, 6, 9]) * kcal / 120_000, rtol=1e-6)
    (data,) = Trajectory(tmp_path, path, stress_key="P", stress_unit="GPa", cell_key="box", **names)
    np.testing.assert_allclose(data.stress[0].diagonal().numpy(), 7 * units.GPa, rtol=1e-6)
    assert data.cell[0, 0, 0] == 80
    (data,) = Trajectory(tmp_path, path, pbc=False, stress_key=None, **names)
    assert {"cell", "pbc", "stress"}.isdisjoint(data.keys())


def test_stresses_of_structures_without_a_volume_are_not_known(tmp_path, capsys):
    """Zeros of a cluster and of a slab; a slab with a number has a stress, as ASE has it."""
    crystal = bulk("Cu", cubic=True)
    slab, cluster = crystal.copy(), Atoms("Cu2", [[0, 0, 0], [0, 0, 2.5]])
    slab.pbc = [True, True, False]
    there = [(crystal, 0.1), (slab, 0.2), (slab, 0.0), (cluster, 0.0), (cluster, 0.3), (crystal, 0.0)]
    made = []
    for name in ("S", "W"):
        for atoms, size in there:
            copy = atoms.copy()
            copy.info = {"energy": 1.0, name: size * np.eye(3)}
            made.append(copy)
        path = write(tmp_path / f"{name}.xyz", made)
        key = {"stress_key": "S"} if name == "S" else {"virial_key": "W"}
        dataset = Trajectory(tmp_path, path, **key)
        factor = 1.0 if name == "S" else -1 / crystal.get_volume()
        found = [float(data.stress[0, 1, 1]) * (1 / factor) for data in dataset]
        np.testing.assert_allclose(found, [0.1, 0.2, np.nan, np.nan, np.nan, 0.0], rtol=1e-6)
        assert dataset.report["stress without a cell"] == 3
        assert (
            "the stress of 3 structures without a complete periodic cell is taken as not known"
            in capsys.readouterr().out
        )
        made = []
    path = write(tmp_path / "clusters.xyz", [Atoms("He", info={"W": np.eye(3)})] * 2)
    with pytest.raises(
        ValueError, match="no structure with a virial 'W' has a periodic cell .* leave `virial_key` out"
    ):
        Trajectory(tmp_path, path, virial_key="W", log=False)


def test_stress_in_the_units_of_energy_and_length(tmp_path):
    """Of the file, unless one of its own is named; units by which neither is one."""
    path = write(tmp_path / "own.xyz", structures()[2:])
    plain = Trajectory(tmp_path, path, log=False)[0].stress
    for names, factor in (
        ({"energy_unit": "Ha", "length_unit": "Bohr"}, units.Hartree / units.Bohr**3),
        ({"energy_unit": "kcal/mol"}, units.kcal / units.mol),
        ({"length_unit": "nm"}, 1e-3),
        ({"energy_unit": "Ha", "stress_unit": "kbar"}, units.GPa / 10),
    ):
        stress = Trajectory(tmp_path, path, log=False, **names)[0].stress
        torch.testing.assert_close(stress, plain * factor, rtol=1e-6, atol=0)


def test_left_out_and_duplicates_are_counted(tmp_path):
    made = structures()
    made[1].positions[0, 0] = np.nan
    dataset = Trajectory(tmp_path, write(tmp_path / "own.traj", [*made, made[0]]), log=False)
    expected = {"structures": 3, "left out, not finite": 1, "duplicates": 1, "without stress": 2}
    assert dataset.report == expected


def test_changed_files_are_read_again_and_several_are_joined(tmp_path):
    one, two = write(tmp_path / "a.xyz", structures()[:1]), write(tmp_path / "b.xyz", structures()[:2])
    assert len(Trajectory(tmp_path, [one, two], log=False)) == 3
    write(one, structures())
    assert len(Trajectory(tmp_path, [one, two], log=False)) == 5


def test_every_option_makes_a_dataset_of_its_own(tmp_path):
    """None is answered with what another one has stored, in whichever order they come."""
    (atoms,) = made = structures()[2:]
    for key in ("energy", "forces", "stress"):
        atoms.info[f"other_{key}"] = 2 * atoms.calc.results[key]
    atoms.arrays["other_forces"] = atoms.info.pop("other_forces")
    atoms.info["box"] = np.diag([9.0, 9.0, 9.0])
    path = write(tmp_path / "own.xyz", made)
    options = [
        {},
        {"energy_key": "other_energy"},
        {"forces_key": "other_forces"},
        {"stress_key": "other_stress"},
        {"stress_key": None},
        {"virial_key": "other_stress"},
        {"cell_key": "box"},
        {"pbc": False},
        {"pbc": (True, True, False)},
        {"energy_unit": "Ha"},
        {"length_unit": "Bohr"},
        {"stress_unit": "GPa"},
    ]
    seen = set()
    for option in options * 2:
        data = Trajectory(tmp_path / "root", path, log=False, **option)[0]
        fields = (data.energy, data.forces, data.get("cell"), data.get("pbc"), data.get("stress"))
        seen.add(tuple(None if field is None else tuple(field.flatten().tolist()) for field in fields))
    assert len(seen) == len(options)


def test_format_that_the_name_does_not_tell(tmp_path):
    path = write(tmp_path / "own.xyz", structures()).rename(tmp_path / "own.results")
    assert len(Trajectory(tmp_path, path, format="extxyz", log=False)) == 3
    with pytest.raises(ValueError, match=r"own.results cannot be read"):
        Trajectory(tmp_path, path, format="vasp", log=False)


def test_several_files_are_a_dataset_of_their_own(tmp_path):
    one, two, three = (write(tmp_path / f"{number}.xyz", structures()[:number]) for number in (1, 2, 3))
    lists = [[one], [one, two], [one, three], [two, one], [one, two, three]]
    found = [[len(data.z) for data in Trajectory(tmp_path, paths, log=False)] for paths in lists * 2]
    assert found == [[3], [3, 3, 4], [3, 3, 4, 2], [3, 4, 3], [3, 3, 4, 3, 4, 2]] * 2


def test_messages(tmp_path):
    path = write(tmp_path / "own.xyz", structures())
    with pytest.raises(ValueError, match="structure 0 has no field 'E'; its fields are energy, forces: .*`energy_key`"):
        Trajectory(tmp_path, path, energy_key="E", log=False)
    with pytest.raises(ValueError, match="no field 'force'; .*name one of them as `forces_key`"):
        Trajectory(tmp_path, path, forces_key="force", log=False)
    with pytest.raises(ValueError, match="expected 1 numbers in the field 'forces', got 9"):
        Trajectory(tmp_path, path, energy_key="forces", log=False)
    with pytest.raises(ValueError, match="unknown unit 'cal'"):
        Trajectory(tmp_path, path, energy_unit="cal", log=False)
    with pytest.raises(ValueError, match="`stress_unit` must be one of"):
        Trajectory(tmp_path, path, stress_unit="bar", log=False)
    with pytest.raises(FileNotFoundError, match="found no .*absent.xyz"):
        Trajectory(tmp_path, tmp_path / "absent.xyz")
    with pytest.raises(ValueError, match="periodic but its cell has no volume"):
        Trajectory(tmp_path, path, pbc=True, log=False)
    for atoms in (bad := structures()):
        atoms.positions[0] = np.inf
    with pytest.raises(ValueError, match="none of 3 structures has finite"):
        Trajectory(tmp_path, write(tmp_path / "bad.traj", bad), log=False)


@pytest.mark.parametrize("name", ["own.xyz", "own.db"])
def test_damaged_files_give_data_or_a_sentence(tmp_path, name):
    whole = write(tmp_path / name, structures()).read_bytes()
    rng = random.Random(1)
    damaged = tmp_path / f"damaged{name[3:]}"
    for trial in range(40):
        content = bytearray(whole[: rng.randrange(len(whole))] if trial % 2 else whole)
        for _ in range(trial // 2):
            if content:
                content[rng.randrange(len(content))] = rng.randrange(256)
        damaged.write_bytes(content)
        try:
            assert len(Trajectory(tmp_path / "root", damaged, log=False)) > 0
        except ValueError as error:
            assert str(damaged) in str(error)  # noqa: PT017  it may also be read


def test_published_files(tmp_path, real_data):
    ethanol = Trajectory(tmp_path, real_data / "extxyz/md17_ethanol_2000.xyz", energy_unit="kcal/mol", log=False)
    assert len(ethanol) == 2000
    assert float(ethanol[0].energy) == pytest.approx(-97195.01189948035 * units.kcal / units.mol, abs=1e-9)
    cages = Trajectory(tmp_path, real_data / "extxyz/c60_test.xyz", forces_key="force", log=False)
    assert cages[0].z.tolist() == [6] * 60
    assert cages[0].cell[0].diagonal().tolist() == [25.0] * 3
    names = {"energy_key": "total_energy", "forces_key": "atomic_forces"}
    isomers = Trajectory(tmp_path, real_data / "iso17/equilibrium_40_isomers.db", **names, log=False)
    assert len(isomers) == 40
    assert float(isomers[0].energy) == pytest.approx(-11505.647279852, abs=1e-9)


def labelled(symbols, **results):
    """Atoms on a line with results of a calculator."""
    atoms = Atoms(symbols)
    atoms.positions[:, 0] = 0.9 * np.arange(len(atoms))
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    axes=st.sampled_from([(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]),
    order=st.permutations(range(3)),
    rows=st.sampled_from(["missing", "complete", "nonsense"]),
)
def test_slabs_and_wires_in_any_orientation(tmp_path, seed, axes, order, rows):
    """Whatever a graph can be searched of is read, with the same neighbours."""
    rng = np.random.default_rng(seed)
    cell = (3.0 * np.linalg.qr(rng.normal(size=(3, 3)))[0] + rng.uniform(-0.3, 0.3, size=(3, 3)))[list(order)]
    pbc = np.isin(np.arange(3), axes)
    if rows != "complete":
        cell[~pbc] = 0.0 if rows == "missing" else cell[pbc][:1] if pbc.any() else 1.0
    atoms = Atoms("CO", [[0, 0, 0], [0.7, 0.7, 0.7]], cell=cell, pbc=pbc)
    ase.io.write(tmp_path / "own.traj", atoms)
    (data,) = Trajectory(tmp_path, tmp_path / "own.traj", log=False, force_reload=True)
    graphs = [
        radius_graph(
            torch.from_numpy(atoms.positions), 4.0, None, torch.from_numpy(cell)[None], torch.from_numpy(pbc)[None]
        ),
        radius_graph(data.pos, 4.0, None, data.get("cell"), data.get("pbc")),
    ]
    assert graphs[0].edge_index.size(1) == graphs[1].edge_index.size(1)
    assert ("pbc" in data) == bool(axes)


def test_dependent_periodic_vectors_are_refused(tmp_path):
    atoms = Atoms("C", cell=[[0, 3, 0], [0, 6, 0], [20, 0, 0]], pbc=(1, 1, 0))
    with pytest.raises(ValueError, match="periodic but its cell has no volume"):
        Trajectory(tmp_path, write(tmp_path / "own.xyz", [atoms]), log=False)


@pytest.mark.parametrize("name", ["own.xyz", "own.db", "own.traj"])
def test_labels_that_some_lack_are_nan_and_counted(tmp_path, name):
    frozen = np.ones((2, 3))
    frozen[0, 1] = np.nan
    made = [
        labelled("CO", energy=-1.0, forces=np.ones((2, 3))),
        labelled("H", energy=-13.6),
        labelled("NO", forces=np.ones((2, 3))),
        labelled("CN", energy=-2.0, forces=frozen),
        labelled("OO", energy=np.nan, forces=np.full((2, 3), np.nan)),
        labelled("CC", energy=-3.0, forces=np.full((2, 3), 1e100)),  # more than float32 holds
    ]
    dataset = Trajectory(tmp_path, write(tmp_path / name, made), log=False)
    energy = torch.cat([data.energy for data in dataset])
    np.testing.assert_array_equal(energy.numpy(), [-1.0, -13.6, np.nan, -2.0, np.nan, -3.0])
    known = [data.forces.isfinite().all(dim=1).tolist() for data in dataset]
    assert known == [[True, True], [False], [True, True], [False, True], [False, False], [False, False]]
    assert not torch.cat([data.forces for data in dataset]).isinf().any()
    assert dataset[0].energy.dtype == torch.float64
    assert dataset.report == {
        "structures": 6,
        "left out, not finite": 0,
        "duplicates": 0,
        "without stress": 0,
        "without energy": 2,
        "without forces": 3,
        "atoms without forces": 1,
    }


def test_a_label_that_no_structure_has_is_no_key(tmp_path):
    path = write(tmp_path / "own.xyz", [Atoms("H", info={"gap": 1.5}), Atoms("HH", info={"gap": 2})])
    dataset = Trajectory(tmp_path, path, log=False)
    assert sorted(dataset[0].keys()) == ["gap", "pos", "z"]
    assert (dataset.report["without energy"], dataset.report["without forces"]) == (2, 2)
    for option in ("energy", "forces", "stress", "virial", "cell"):
        with pytest.raises(ValueError, match=f"no field 'E'; its fields are gap: name one of them as `{option}_key`"):
            Trajectory(tmp_path, path, log=False, **{f"{option}_key": "E"})


@pytest.mark.parametrize("name", ["own.xyz", "own.db", "own.traj"])
def test_further_fields_are_kept(tmp_path, name):
    made = [
        labelled("H2O", energy=-1.0),
        labelled("O2", energy=-2.0, dipole=np.array([0.0, 0.0, 1.0])),
        labelled("H", energy=0.0),
    ]
    if name != "own.db":
        made[1].calc.results["charges"] = np.array([0.5, -0.5])
        made[0].info["tensor"], made[2].info["tensor"] = np.eye(3), 2 * np.eye(3)
    values = [
        {"homo": -7.0, "config_type": "rare", "config_weight": 5, "charge": 1},
        {"homo": -6},
        {"config_type": "often"},
    ]
    for atoms, more in zip(made, values, strict=True):
        atoms.info |= more
    path = tmp_path / name
    if name == "own.db":
        with ase.db.connect(str(path)) as database:
            for atoms in made:
                more = {key: value for key, value in atoms.info.items() if key != "charge"}  # ASE's own column
                database.write(atoms, **more, data={"spins": np.arange(2.0 * len(atoms)).reshape(-1, 2)})
    else:
        made[0].arrays["spins"], made[1].arrays["spins"] = np.arange(6.0).reshape(3, 2), np.arange(4.0).reshape(2, 2)
        write(path, made)
    dataset = Trajectory(tmp_path, path, log=False)
    assert (dataset[0].homo.dtype, dataset[0].homo.tolist(), dataset[1].homo.tolist()) == (
        torch.float64,
        [-7.0],
        [-6.0],
    )
    assert dataset[2].homo.isnan().tolist() == [True]
    assert [data.config_weight.tolist() for data in dataset] == [[5.0], [1.0], [1.0]]
    assert [data.get("config_type") for data in dataset] == ["rare", None, "often"]
    assert (dataset[1].dipole.dtype, dataset[1].dipole.tolist()) == (torch.float32, [[0.0, 0.0, 1.0]])
    assert dataset[0].dipole.isnan().all()
    if name != "own.traj":  # which does not hold arrays of one's own
        assert [tuple(data.spins.shape) for data in dataset] == [(3, 2), (2, 2), (1, 2)]
        assert dataset[1].spins.tolist() == [[0.0, 1.0], [2.0, 3.0]]
        assert "spins" in dataset.report["further fields"]
    if name != "own.db":
        assert dataset[1].charges.tolist() == [0.5, -0.5]
        assert dataset[0].charges.isnan().tolist() == [True] * 3
        assert (dataset[2].tensor.shape, dataset[1].tensor.isnan().all()) == ((1, 3, 3), True)
    assert {"homo", "dipole", "config_weight", "config_type"} <= set(dataset.report["further fields"])
    assert find_target(dataset, "homo") == Target("homo", "homo", None, "")
    for batch in (next(iter(StructureLoader(dataset, 3))), next(iter(DataLoader(dataset, batch_size=3)))):
        assert batch.homo.shape == (3,)
        assert batch.dipole.shape == (3, 3)
        assert batch.config_type == ["rare", None, "often"]


NAMES = {
    "size": "size_",
    "keys": "keys_",
    "z": "z_",
    "pos": "pos_",
    "index": "idx",
    "my_Index": "my_idx",
    "batch": "bat",
    "num_nodes": "num_nodes_",
    "is_directed": "is_directed_",
    "_private": "private",
    "y": "y",
    "x": "x_",
    "time": "time",
    "gap in eV": "gap in eV",
}


@pytest.mark.parametrize("kind", [1.5, np.array([1.0, 2.0]), "text"], ids=["number", "vector", "string"])
@pytest.mark.parametrize("name", NAMES)
def test_names_that_data_cannot_take(tmp_path, name, kind):
    made = [Atoms("H", info={name: kind}), Atoms("HO", info={name: kind}), Atoms("HOO", info={name: kind})]
    dataset = Trajectory(tmp_path, write(tmp_path / "own.traj", made), log=False)
    new = NAMES[name]
    assert dataset.report["further fields"] == [new]
    assert dataset.renamed == ({name: new} if name != new else {})
    batch = next(iter(DataLoader(dataset, batch_size=3)))
    assert batch.num_nodes == 6
    assert batch.ptr.tolist() == [0, 1, 3, 6]
    expected = [kind] * 3 if isinstance(kind, str) else np.stack([kind] * 3).tolist()
    got = batch[new] if isinstance(kind, str) else batch[new].tolist()
    assert got == expected
    if isinstance(kind, float):
        target = find_target(dataset, name)
        assert target.values(batch).tolist() == [1.5] * 3


def test_what_cannot_be_kept_is_said(tmp_path):
    made = [labelled("H", energy=0.0) for _ in range(2)]
    made[0].info |= {
        "nested": {"a": 1},
        "vector": [1.0, 2.0],
        "mixed": 1.0,
        "E": 5.0,
        "complex": 1j,
        "number": 2**60 + 1,
    }
    made[1].info |= {"vector": [1.0, 2.0, 3.0], "mixed": "one", "E": 6.0}
    made[0].info["mixed"] = [1.0, 2.0]
    dataset = Trajectory(tmp_path, write(tmp_path / "own.traj", made), energy_key="E", log=False)
    assert dataset.report["dropped"] == {
        "nested": "neither numbers nor strings",
        "vector": "of different shapes",
        "mixed": "neither numbers nor strings",
        "number": "whole numbers too large for float64",
        "complex": "neither numbers nor strings",
        "energy": "'E' is asked for instead",
    }
    assert dataset[1].energy.tolist() == [6.0]


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_impossible_weights(tmp_path, weight):
    path = write(tmp_path / "own.traj", [Atoms("H", info={"config_weight": weight})])
    with pytest.raises(ValueError, match="'config_weight' is a weight of the loss and must be finite and not negative"):
        Trajectory(tmp_path, path, log=False)


@pytest.mark.parametrize("name", ["own.xyz", "own.traj"])
@pytest.mark.parametrize("offset", [100.0, 5000.0, -2e4])
def test_far_from_the_origin(tmp_path, offset, name):
    near, far = molecule("C6H6"), molecule("C6H6")
    far.positions += offset
    near, far = Trajectory(tmp_path, write(tmp_path / name, [near, far]), log=False)
    assert torch.allclose(far.pos - far.pos[0], near.pos - near.pos[0], rtol=0, atol=2e-6)


def test_unwrapped_dynamics(tmp_path):
    crystal = bulk("Cu", cubic=True)
    drifted = crystal.copy()
    drifted.positions += np.array([[0, 0, 0], [900, 0, 0], [0, -8000, 5], [7, 7, 7]]) @ crystal.cell.array
    both = Trajectory(tmp_path, write(tmp_path / "own.traj", [crystal, drifted]), log=False)
    weights = [radius_graph(data.pos, 3.0, None, data.cell, data.pbc).edge_index.size(1) for data in both]
    assert weights[0] == weights[1] == 48
    assert both[1].pos.abs().max() < 10


def test_positions_near_the_origin_stay_as_they_are(tmp_path):
    atoms = molecule("H2O")
    atoms.positions += [20.0, -7.0, 31.0]
    (data,) = Trajectory(tmp_path, write(tmp_path / "own.traj", [atoms]), log=False)
    assert torch.equal(data.pos, torch.from_numpy(atoms.positions).float())


def test_positions_beyond_all_bounds_are_left_out(tmp_path):
    made = structures()
    made[0].positions[1] = 1e300
    made[1].positions[1] = 1e10
    made.append(Atoms("H", cell=[1e300] * 3, pbc=True))
    dataset = Trajectory(tmp_path, write(tmp_path / "own.traj", made), log=False)
    assert (len(dataset), dataset.report["left out, too far from the origin"]) == (1, 3)
    assert dataset._data.pos.isfinite().all()


def test_heavy_hydrogen(tmp_path):
    (tmp_path / "own.xyz").write_text(
        '3\nProperties=species:S:1:pos:R:3 energy=-1.0 pbc="F F F"\nO 0 0 0\nD 0.96 0 0\nT -0.24 0.93 0\n'
    )
    (data,) = Trajectory(tmp_path, tmp_path / "own.xyz", log=False)
    assert data.z.tolist() == [8, 1, 1]
    with pytest.raises(KeyError):
        Atoms(["D"])  # ASE is as it was


def test_files_with_different_fields_are_joined(tmp_path):
    one = Trajectory(tmp_path, write(tmp_path / "a.xyz", [Atoms("H", info={"gap": 1.0})]), log=False)
    other = Trajectory(tmp_path, write(tmp_path / "b.xyz", structures()), log=False)
    whole = as_dataset(ConcatDataset([one, other]))
    assert [float(data.gap) for data in whole][:1] == [1.0]
    assert whole[1].gap.isnan().all()
    assert whole[0].forces.isnan().all()
    assert whole[0].pbc.tolist() == [[False] * 3]


def test_a_summary_does_not_call_it_ours(tmp_path):
    text = str(Trajectory(tmp_path, write(tmp_path / "own.xyz", structures()), log=False))
    assert "licence: as the user's files" in text
    assert "generated by this project" not in text


@pytest.mark.parametrize(
    ("name", "value", "of_atoms"),
    [("config_weight", [1.0, 2.0], False), ("config_weight", [1.0, 2.0], True), ("atom_weight", 1.0, False)],
)
def test_weights_of_the_wrong_shape(tmp_path, name, value, of_atoms):
    atoms = Atoms("HH")
    (atoms.arrays if of_atoms else atoms.info)[name] = np.array(value)
    with pytest.raises(ValueError, match=f"{name!r} is a weight of the loss and must be one number for each"):
        Trajectory(tmp_path, write(tmp_path / "own.xyz", [atoms]), log=False)


@pytest.mark.parametrize("of_atoms", [True, False])
def test_weights_of_atoms(tmp_path, of_atoms):
    """Among the arrays of a file, or as a list in its comment."""
    made = [Atoms("HH"), Atoms("HHH"), Atoms("H")]
    for atoms in made[:2]:
        (atoms.arrays if of_atoms else atoms.info)["atom_weight"] = np.arange(float(len(atoms)))
    dataset = Trajectory(tmp_path, write(tmp_path / "own.xyz", made), log=False)
    assert [data.atom_weight.tolist() for data in dataset] == [[0.0, 1.0], [0.0, 1.0, 2.0], [1.0]]


def test_a_name_goes_to_the_field_that_has_it(tmp_path):
    (data,) = Trajectory(
        tmp_path, write(tmp_path / "own.traj", [Atoms("H", info={"_gap": 1.0, "gap": 2.0})]), log=False
    )
    assert (float(data.gap), float(data.gap_)) == (2.0, 1.0)


def test_structures_instead_of_files(tmp_path):
    with pytest.raises(TypeError, match="`path` must be a file or several, got Atoms"):
        Trajectory(tmp_path, structures(), log=False)
    with pytest.raises(TypeError, match="got Atoms in a list; convert them by pyg_schnet.simulation.ase.atoms_to_data"):
        as_dataset(structures())


def test_names_that_look_like_numbers(tmp_path):
    """Extended xyz turns what looks like a number into one."""
    made = [Atoms("H", info={"config_type": name}) for name in ("bulk", "1", "2.5")]
    dataset = Trajectory(tmp_path, write(tmp_path / "own.xyz", made), log=False)
    assert [data.config_type for data in dataset] == ["bulk", "1", "2.5"]


def test_whole_numbers_keep_their_digits(tmp_path):
    made = [Atoms("HH"), Atoms("H")]
    for atoms in made:
        atoms.arrays["ids"] = 2**24 + 1 + np.arange(len(atoms))
        atoms.arrays["kinds"] = np.arange(len(atoms))
    dataset = Trajectory(tmp_path, write(tmp_path / "own.xyz", made), log=False)
    assert [data.ids.long().tolist() for data in dataset] == [[2**24 + 1, 2**24 + 2], [2**24 + 1]]
    assert dataset[0].kinds.dtype == torch.float32


@pytest.mark.parametrize(("occupancy", "left"), [("1.0", 2), ("0.5", 1)])
def test_sites_occupied_in_part_are_left_out(tmp_path, occupancy, left):
    ase.io.write(tmp_path / "one.cif", bulk("NaCl", "rocksalt", a=5.6))
    text = (tmp_path / "one.cif").read_text()
    assert text.count("1.0000") >= 2
    head, _, last = text.rpartition("1.0000")
    (tmp_path / "two.cif").write_text(head + occupancy + last)
    dataset = Trajectory(tmp_path, [tmp_path / "one.cif", tmp_path / "two.cif"], log=False)
    assert (len(dataset), dataset.report.get("left out, sites partly occupied", 0)) == (left, 2 - left)


def test_periodic_axes_are_one_or_three(tmp_path):
    path = write(tmp_path / "own.xyz", structures())
    with pytest.raises(ValueError, match="`pbc` must be True, False or three of them, got"):
        Trajectory(tmp_path, path, pbc=[True, False], log=False)


def test_none_in_extended_xyz(tmp_path):
    """ASE writes a field without a value as a word, which would make strings of the numbers of the others."""
    made = [Atoms("H", info={"E": energy, "gap": gap}) for energy, gap in ((-1.0, None), (None, 2.5))]
    dataset = Trajectory(tmp_path, write(tmp_path / "own.xyz", made), energy_key="E", log=False)
    torch.testing.assert_close(dataset.energy, torch.tensor([-1.0, torch.nan]).double(), equal_nan=True)
    torch.testing.assert_close(dataset.gap, torch.tensor([torch.nan, 2.5]).double(), equal_nan=True)
    assert dataset.report["without energy"] == 1
