"""The generator of small organic molecules: which molecules, how they are turned and put beside each other."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rdkit")
from rdkit import Chem

FOLDER = Path(__file__).parents[2] / "datasets" / "organic_xtb"


@pytest.fixture(scope="module")
def scripts():
    """The folder of the scripts is where imports look."""
    others = {"smiles", "molecules", "labels", "classical", "pairs", "scans", "bends"} & sys.modules.keys()
    assert not others
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))
    for name in ("smiles", "molecules", "labels", "classical", "pairs", "scans", "bends"):
        sys.modules.pop(name, None)


def test_no_molecule_is_trained_with_and_tried_with(scripts):
    import smiles

    lists = smiles.chosen(40, tests=5)
    tests = [one for part in lists.test.values() for one in part]
    assert len(lists.train) == 40
    assert not set(tests) & set(lists.train)
    assert len({*tests, *lists.train}) == len(tests) + len(lists.train)
    for one in [*tests, *lists.train]:
        molecule = Chem.MolFromSmiles(one)
        assert {atom.GetSymbol() for atom in molecule.GetAtoms()} <= set("HCNOF")
        assert not any(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms())
        assert Chem.GetFormalCharge(molecule) == 0
        assert "." not in one
        assert smiles.canonical(one) == one
    assert smiles.chosen(40, tests=5) == lists


def test_blocks_are_joined_by_a_bond_to_carbon(scripts):
    import random

    import smiles

    rng = random.Random(3)
    found = {one for one in (smiles.joined(rng, heavy_atoms=9) for _ in range(200)) if one}
    assert len(found) > 50
    refused = [Chem.MolFromSmarts(pattern) for pattern in ("[OX2][OX2]", "[N,O]-F", "[N,O]~[N,O]~[N,O]-[!#6]")]
    for one in found:
        molecule = Chem.MolFromSmiles(one)
        assert molecule.GetNumHeavyAtoms() <= 9
        assert not any(molecule.HasSubstructMatch(pattern) for pattern in refused), one


def test_a_side_of_a_bond_turns_and_keeps_its_shape(scripts):
    pytest.importorskip("tblite")
    import classical

    from pyg_schnet.datasets import from_smiles

    described = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    pos = from_smiles("CCO").pos.double().numpy()
    side = classical.far_side(described, 1, 2)
    assert side == [2, 8]  # the hydroxyl group
    moved = classical.turned(pos, 1, 2, side, np.pi)
    assert np.allclose(classical.turned(moved, 1, 2, side, np.pi), pos)
    still = [k for k in range(9) if k not in side]
    assert np.array_equal(moved[still], pos[still])
    assert not np.allclose(moved[8], pos[8])
    assert np.isclose(np.linalg.norm(moved[8] - moved[2]), np.linalg.norm(pos[8] - pos[2]))
    ring = Chem.AddHs(Chem.MolFromSmiles("C1CC1"))
    assert classical.far_side(ring, 0, 1) is None


def test_frames_come_back_as_they_were(scripts, tmp_path):
    pytest.importorskip("tblite")
    import labels

    rng = np.random.default_rng(0)
    frames = [
        labels.Frame(name, "noise", np.array([8, 1, 1][:n]), rng.random((n, 3)), -1.5 * n, rng.random((n, 3)))
        for name, n in (("O", 3), ("[OH]", 2))
    ]
    labels.write_frames(tmp_path / "a.npz", frames)
    labels.write_frames(tmp_path / "none.npz", [])
    found = labels.read_frames([tmp_path / "a.npz", tmp_path / "none.npz"])
    assert [one.molecule for one in found] == ["O", "[OH]"]
    assert [one.energy for one in found] == [-4.5, -3.0]
    for one, other in zip(found, frames, strict=True):
        assert np.array_equal(one.numbers, other.numbers)
        assert np.allclose(one.positions, other.positions, atol=1e-7)
        assert np.allclose(one.forces, other.forces, atol=1e-7)


def test_molecules_beside_each_other_are_as_far_apart_as_asked(scripts):
    pytest.importorskip("tblite")
    import pairs

    rng = np.random.default_rng(1)
    one, other = rng.standard_normal((4, 3)), rng.standard_normal((6, 3))
    for distance in (1.5, 3.0, 4.5):
        place = pairs.beside(one, other, distance, rng)
        between = np.linalg.norm(place[:4, None] - place[4:], axis=-1)
        assert np.isclose(between.min(), distance, atol=1e-6)
        for part, before in ((place[:4], one), (place[4:], other)):
            kept = [np.linalg.norm(each[:, None] - each, axis=-1) for each in (part, before)]
            assert np.allclose(*kept)


def test_small_molecules_are_scanned_more_often(scripts):
    pytest.importorskip("tblite")
    import scans

    counts = {one: scans.times_scanned(one) for one in ("CNC=O", "CCCC(N)=O", "CCO", "CCCCC(N)=O", "CCCCCCO")}
    assert counts == {"CNC=O": 17, "CCCC(N)=O": 5, "CCO": 4, "CCCCC(N)=O": 1, "CCCCCCO": 0}
    turned = {one: scans.times_conjugated(one) for one in ("NC=N", "C=CO", "C=CCO", "CNC=O", "CC=CCO", "C=C(C)NC")}
    assert turned == {"NC=N": 8, "C=CO": 8, "C=CCO": 0, "CNC=O": 0, "CC=CCO": 0, "C=C(C)NC": 2}


def test_planar_groups_are_bent_out_of_their_planes(scripts):
    pytest.importorskip("tblite")
    import bends
    import labels

    from pyg_schnet.datasets import from_smiles

    data = from_smiles("C=O")
    numbers, flat = data.z.numpy(), data.pos.double().numpy()
    rest = labels.Frame("C=O", "relaxed", numbers, flat, 0.0, np.zeros_like(flat))
    described = Chem.AddHs(Chem.MolFromSmiles("C=O"))
    normals = bends.normals_of(described, flat)
    assert sorted(normals) == [0, 1, 2, 3]  # the carbon, and all that hangs on it
    plane = np.linalg.svd(flat - flat.mean(0))[2][2]
    assert all(np.isclose(abs(one @ plane), 1.0, atol=1e-3) for one in normals.values())
    assert not bends.normals_of(Chem.AddHs(Chem.MolFromSmiles("C")), from_smiles("C").pos.double().numpy())
    frames = bends.bent_frames(rest)
    assert len(frames) == bends.SMALL_BENDS
    moves = np.stack([one.positions - flat for one in frames])
    out = moves @ plane
    assert np.abs(out).max() > 0.1
    assert np.abs(moves - out[..., None] * plane).max() < 0.06  # noise of 0.01 beside
    other = rest._replace(molecule="C=O", energy=-1.0)
    pair = rest._replace(molecule="C=O.O", energy=-5.0)
    assert bends.lowest([rest, other, pair]) == [other]


def test_relatives_are_not_what_is_tried(scripts):
    pytest.importorskip("tblite")
    import scans
    import smiles

    tested = {one for part in smiles.chosen(3000).test.values() for one in part}
    trained = [*smiles.SIMPLEST, *scans.RELATIVES]
    assert all(smiles.canonical(one) == one for one in trained)
    assert len(set(trained)) == len(trained)
    assert not tested & set(trained)
    jobs = scans.relative_scans(1000)
    assert len(jobs) == len(trained) * scans.RELATIVE_SCANS
    assert len(scans.relative_scans(2)) == 2 * scans.RELATIVE_SCANS
    for molecule, _, conjugated in jobs[len(smiles.SIMPLEST) * scans.RELATIVE_SCANS :: scans.RELATIVE_SCANS]:
        described = Chem.MolFromSmiles(molecule)  # with a bond to turn, or else small enough to be seen closely
        patterns = (scans.CONJUGATED, scans.NITROGEN) if conjugated else (scans.STIFF,)
        turned = any(described.HasSubstructMatch(one) for one in patterns)
        assert turned or described.GetNumAtoms() <= scans.SMALL, molecule


def test_frames_with_turned_bonds_that_are_bent(scripts):
    pytest.importorskip("tblite")
    import bends
    import labels

    numbers = np.array([7, 6, 8, 1, 1, 1])
    some = [labels.Frame("NC=O", "scan", numbers, np.zeros((6, 3)), float(e), np.zeros((6, 3))) for e in range(30)]
    large = [some[0]._replace(molecule="CCCCN", numbers=np.array([6, 6, 6, 6, 7]), energy=99.0)]
    chosen = bends.turned_highest([*some, *large, some[0]._replace(kind="relaxed", energy=99.0)])
    assert len(chosen) == bends.TURNED
    assert chosen[0].energy == 29.0
    assert min(one.energy for one in chosen) >= 20.0
