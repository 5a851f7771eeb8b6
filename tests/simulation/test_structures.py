"""Structures of ASE as Data, and back."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from torch_geometric.data import Batch, Data

from pyg_schnet import simulation
from pyg_schnet.datasets import QM9
from pyg_schnet.simulation import atoms_to_data, data_to_atoms


def labelled(atoms, seed=0, stress=True):
    rng = np.random.default_rng(seed)
    labels = {"energy": -1.5, "forces": rng.normal(size=(len(atoms), 3))}
    if stress:
        labels["stress"] = rng.normal(size=6)
    atoms.calc = SinglePointCalculator(atoms, **labels)
    return atoms


def test_round_trip_with_labels():
    atoms = labelled(bulk("NaCl", "rocksalt", a=5.6))
    back = data_to_atoms(atoms_to_data(atoms, torch.float64, labels=True))
    assert back == atoms
    for name in ("energy", "forces", "stress"):
        np.testing.assert_array_equal(back.calc.results[name], atoms.calc.results[name])
    assert "energy" not in atoms_to_data(atoms)
    atoms.positions[0] += 0.1  # the labels are those of another structure now
    assert "energy" not in atoms_to_data(atoms, labels=True)


def test_data_are_copies():
    atoms = molecule("H2O")
    data = atoms_to_data(atoms, torch.float64)
    data.pos += 1.0
    data.z[0] = 1
    assert atoms == molecule("H2O")
    back = data_to_atoms(data)
    back.positions += 1.0
    assert not torch.equal(data.pos, torch.tensor(back.positions))


def test_far_structures_keep_their_digits():
    atoms = molecule("CH3CH2OH")
    near = atoms_to_data(atoms).pos
    atoms.positions += 5000.0
    far = atoms_to_data(atoms).pos
    np.testing.assert_allclose(far - far[0], near - near[0], rtol=0, atol=2e-6)  # a few roundings of 4 Angstrom


def test_further_fields_and_batches():
    """Rows for each atom go to arrays, all else to info; a vector of a structure is stored [1, 3]."""
    water = Data(z=torch.tensor([8, 1, 1]), pos=torch.eye(3), dipole=torch.tensor([[0.0, 0.0, 0.5]]))
    water.update({"charges": torch.tensor([-0.8, 0.4, 0.4]), "name": "water", "gap": torch.tensor([7.0]), "n": 3})
    water.update({"forces": torch.full((3, 3), torch.nan), "edge_index": torch.tensor([[0], [1]]), "none": None})
    water.y = torch.tensor([[1.0, 2.0]])
    atoms = data_to_atoms(water)
    assert atoms.calc is None  # nothing is known of the forces
    np.testing.assert_allclose(atoms.arrays["charges"], [-0.8, 0.4, 0.4], rtol=1e-6)
    assert atoms.info["name"] == "water"
    assert (atoms.info["gap"], atoms.info["n"], atoms.info["y"].tolist()) == (7.0, 3, [1.0, 2.0])
    assert atoms.info["dipole"].tolist() == [0.0, 0.0, 0.5]
    assert not {"edge_index", "none", "forces"} & {*atoms.info, *atoms.arrays}
    assert not atoms.pbc.any()
    both = data_to_atoms(Batch.from_data_list([Data(z=torch.tensor([n]), pos=torch.zeros(1, 3)) for n in (2, 10)]))
    assert [str(one.symbols) for one in both] == ["He", "Ne"]


def test_datasets_of_the_package(tmp_path):
    dataset = QM9(tmp_path, "bundled", log=False)
    atoms = data_to_atoms(dataset[3])
    assert atoms.numbers.tolist() == dataset[3].z.tolist()
    assert atoms.info["y"].shape == (len(dataset.targets),)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: data_to_atoms(molecule("H2O")), TypeError, "`data` must be a Data or Batch of PyG, got Atoms"),
        (lambda: data_to_atoms(Data(z=torch.tensor([1]))), ValueError, "`pos` is missing"),
        (
            lambda: data_to_atoms(Data(z=torch.tensor([1]), pos=torch.zeros(2, 3))),
            ValueError,
            r"got \[1\] and \[2, 3\]",
        ),
        (lambda: atoms_to_data([molecule("H2O")]), TypeError, "`atoms` must be an Atoms of ASE, got list"),
        (lambda: atoms_to_data(Atoms("H", [[2e9, 0, 0]])), ValueError, "within 1e.09 Angstrom"),
    ],
    ids=["atoms", "no positions", "shapes", "list", "lost digits"],
)
def test_what_is_no_structure(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_names_of_the_room():
    assert simulation.SchNetCalculator.__name__ == "SchNetCalculator"
    assert "SchNetCalculator" in dir(simulation)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        simulation.nothing  # noqa: B018


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"z": torch.tensor([8, -3, 1])}, "atomic numbers from 0 to 118, got -3 for atom 1"),
        ({"z": torch.tensor([8, 1, 300])}, "got 300 for atom 2"),
        ({"z": torch.tensor([8.0, 1.5, 1.0])}, "got 1.5 for atom 1"),
        ({"forces": torch.zeros(2, 3)}, r"`forces` of a structure must have the shape \[3, 3\]"),
        ({"energy": torch.zeros(2)}, r"`energy` of a structure must have the shape \[\] or \[1\], got \[2\]"),
        ({"stress": torch.zeros(1, 6)}, r"`stress` .* got \[1, 6\]"),
        ({"cell": torch.ones(3)}, r"`cell` .* got \[3\]"),
        ({"pbc": torch.ones(2, dtype=torch.bool)}, r"`pbc` .* got \[2\]"),
    ],
)
def test_what_fits_no_structure_is_named(changed, message):
    whole = {"z": torch.tensor([8, 1, 1]), "pos": torch.eye(3)}
    with pytest.raises(ValueError, match=message):
        data_to_atoms(Data(**(whole | changed)))


def test_positions_are_not_rounded_to_integers():
    with pytest.raises(TypeError, match="floating-point type"):
        atoms_to_data(molecule("H2O"), torch.int64)
