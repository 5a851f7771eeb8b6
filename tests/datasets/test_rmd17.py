"""The archive of the revised MD17: one molecule read out of it, official splits, damage."""

import io
import random
import tarfile

import numpy as np
import pytest

from pyg_schnet.datasets import MD17
from pyg_schnet.datasets.rmd17 import read_revised


def npz(frames=6, z=(6, 6, 8, 1, 1, 1, 1, 1, 1)):
    rng = np.random.default_rng(0)
    R = rng.normal(size=(frames, 9, 3))
    stream = io.BytesIO()
    np.savez(
        stream,
        nuclear_charges=np.array(z),
        coords=R,
        energies=rng.normal(size=frames),
        forces=-R,
        old_indices=np.arange(6),
    )
    return stream.getvalue()


def write(path, splits, prefix="", decoy=True):
    """An archive in upstream's layout; another molecule's name contains the one that is wanted."""
    members = {f"rmd17/splits/{prefix}index_{name}.csv": text.encode() for name, text in splits.items()}
    if decoy:
        members = {"rmd17/npz_data/rmd17_methanol.npz": b"not this"} | members
    members["rmd17/npz_data/rmd17_ethanol.npz"] = npz()
    members["rmd17/npz_data/rmd17_malonaldehyde.npz"] = npz(7, (6, 6, 6, 8, 8, 1, 1, 1, 1))
    with tarfile.open(path, "w:bz2") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


SPLITS = {"train_01": "0\n4\n", "test_01": "5\n1\n", "train_02": "3\n", "test_02": "2\n"}


@pytest.mark.parametrize("prefix", ["", "ethanol_"])
def test_splits_and_frames(tmp_path, prefix):
    write(tmp_path / "rmd17.tar.bz2", SPLITS, prefix)
    dataset = MD17(tmp_path / "root", "revised ethanol", source=tmp_path, log=False)
    assert len(dataset) == 6
    assert dataset.official_split(1)["train"].tolist() == [0, 4]
    assert dataset.official_split(1)["test"].tolist() == [5, 1]
    again = MD17(tmp_path / "root", "ethanol", revised=True, log=False)
    assert again.official_split(2)["test"].tolist() == [2]
    with pytest.raises(ValueError, match=r"no official split 3; there are \[1, 2\]"):
        again.official_split(3)
    with pytest.raises(ValueError, match="official splits count all frames"):
        again[:3].official_split(1)


def test_molecules_of_one_archive_are_stored_apart(tmp_path):
    write(tmp_path / "rmd17.tar.bz2", SPLITS)
    for _ in range(2):
        for name, carbons, frames in (("ethanol", 2, 6), ("malonaldehyde", 3, 7)):
            dataset = MD17(tmp_path / "root", name, revised=True, source=tmp_path, log=False)
            assert (int((dataset[0].z == 6).sum()), len(dataset)) == (carbons, frames)


def test_unpacked_file_with_splits_beside_it(tmp_path):
    with tarfile.open(write(tmp_path / "rmd17.tar.bz2", SPLITS)) as tar:
        tar.extractall(tmp_path / "mirror", filter="data")
    dataset = MD17(tmp_path / "root", "revised_ethanol", source=tmp_path / "mirror", log=False)
    assert dataset.official_split(2)["train"].tolist() == [3]
    with pytest.raises(ValueError, match="only the revised MD17 has some"):
        MD17(tmp_path, "c20_xtb", log=False).official_split(1)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train_01": "0", "test_01": "0"}, "the official split 1 has frames in both parts"),
        ({"train_01": "6"}, "frames that do not exist"),
        ({"train_01": "1 1"}, "or one of them twice"),
        ({"train_01": "1.5"}, "does not consist of numbers"),
    ],
)
def test_impossible_splits(tmp_path, splits, message):
    with pytest.raises(ValueError, match=message):
        read_revised(write(tmp_path / "rmd17.tar.bz2", splits), "ethanol")


def test_molecule_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="has no rmd17_toluene.npz; fetch or copy it again"):
        read_revised(write(tmp_path / "rmd17.tar.bz2", SPLITS), "toluene")


@pytest.mark.parametrize("kind", ["archive", "npz"])
def test_damaged_files_give_data_or_a_sentence(tmp_path, kind):
    whole = write(tmp_path / "whole", SPLITS).read_bytes() if kind == "archive" else npz()
    rng = random.Random(2)
    for trial in range(60):
        content = bytearray(whole[: rng.randrange(len(whole))] if trial % 2 else whole)
        for _ in range(trial // 4):
            if content:
                content[rng.randrange(len(content))] = rng.randrange(256)
        (tmp_path / "damaged").write_bytes(content)
        try:
            frames, _ = read_revised(tmp_path / "damaged", "ethanol")
        except ValueError as error:
            assert "damaged" in str(error)  # noqa: PT017  it may also be read
        else:
            assert frames["R"].shape == (6, 9, 3)


def test_published_archive(tmp_path, real_data):
    """The first molecule of the archive only: reading the others takes seconds each."""
    dataset = MD17(tmp_path, "revised aspirin", source=real_data, log=False)
    assert (len(dataset), dataset.report["formula"]) == (5902, "C9H8O4")
    for number in (1, 2, 3):
        split = dataset.official_split(number)
        assert {len(part) for part in split.values()} == {1000}
