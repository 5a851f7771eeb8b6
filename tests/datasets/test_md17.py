"""MD17: from upstream files to PyG data."""

import functools
import hashlib
import http.server
import pickle
import shutil
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import units
from torch_geometric.loader import DataLoader

from pyg_schnet.datasets import MD17, md17
from pyg_schnet.datasets.bundled import bundled_path
from pyg_schnet.datasets.sgdml_npz import write_npz
from pyg_schnet.transforms import RadiusGraph

KCAL = units.kcal / units.mol  # an independent source of the conversion


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """A folder with a small file that has the name and layout of MD17's benzene."""
    monkeypatch.setitem(md17.CATALOGUE, "benzene", md17.CATALOGUE["benzene"]._replace(formula="C2H"))
    rng = np.random.default_rng(0)
    arrays = {"R": rng.normal(size=(5, 3, 3)), "E": -97208.4 + rng.normal(size=(5, 1)), "F": rng.normal(size=(5, 3, 3))}
    folder = tmp_path / "mirror"
    folder.mkdir()
    write_npz(folder / "md17_benzene2017.npz", z=np.array([6, 6, 1]), **arrays, name="benzene", theory="none")
    return folder, arrays


def test_frames(tmp_path, raw):
    folder, arrays = raw
    dataset = MD17(tmp_path / "root", "benzene", source=folder, log=False)
    assert len(dataset) == 5
    for frame, R, E, F in zip(dataset, arrays["R"], arrays["E"], arrays["F"], strict=True):
        assert frame.z.tolist() == [6, 6, 1]
        torch.testing.assert_close(frame.pos, torch.tensor(R).float(), rtol=0, atol=0)
        torch.testing.assert_close(frame.forces, torch.tensor(F * KCAL).float(), rtol=2e-7, atol=0)  # one float32 step
        assert frame.energy.dtype == torch.float64
        # float64 survives: a float32 energy would be off by 1e-4 kcal/mol and more at -97,208 kcal/mol
        assert float(frame.energy) / KCAL == pytest.approx(float(E[0]), abs=1e-9)
    assert dataset.units == {"pos": "Ang", "energy": "eV", "forces": "eV/Ang"}


def test_batches_of_pyg(tmp_path, raw):
    dataset = MD17(tmp_path, "benzene", source=raw[0], log=False)
    batch = next(iter(DataLoader(dataset, batch_size=5)))
    assert batch.energy.shape == (5,)
    assert batch.forces.shape == (15, 3)
    assert batch.batch.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3
    torch.testing.assert_close(dataset[torch.tensor([3, 1])][1].pos, dataset[1].pos)


@pytest.mark.parametrize("where", ["file", "folder", "subfolder", "variable"])
def test_local_mirrors(tmp_path, raw, where, monkeypatch):
    folder, _ = raw
    source = folder
    if where == "file":
        source = folder / "md17_benzene2017.npz"
    if where in {"subfolder", "variable"}:
        (folder / "md17").mkdir()
        shutil.move(folder / "md17_benzene2017.npz", folder / "md17")
    if where == "variable":
        monkeypatch.setenv("PYG_SCHNET_DATA", str(folder))
        source = None
    assert len(MD17(tmp_path / "root", "benzene", source=source, log=False)) == 5


def test_processed_once(tmp_path, raw):
    folder, _ = raw
    first = MD17(tmp_path / "root", "benzene", source=folder, log=False)
    shutil.rmtree(folder)
    again = MD17(tmp_path / "root", "benzene", log=False)
    torch.testing.assert_close(again[4].pos, first[4].pos)


def test_transforms_and_filter(tmp_path, raw):
    threshold = sorted(float(E[0]) * KCAL for E in raw[1]["E"])[2]
    options = {"pre_filter": lambda data: float(data.energy) > threshold, "pre_transform": RadiusGraph(2.0)}
    dataset = MD17(tmp_path / "root", "benzene", source=raw[0], log=False, **options)
    assert len(dataset) == 2
    for frame in dataset:
        assert (frame.pos[frame.edge_index[0]] - frame.pos[frame.edge_index[1]]).norm(dim=1).max() < 2.0
        assert frame.edge_shift.shape == (frame.edge_index.size(1), 3)


def test_frames_are_not_kept_in_memory(tmp_path, raw):
    dataset = MD17(tmp_path, "benzene", source=raw[0], log=False)
    dataset[0].pos.zero_()  # a view of the data, like any tensor slice ...
    size = len(pickle.dumps(dataset))
    assert all(frame.z.numel() == 3 for frame in dataset)
    assert len(pickle.dumps(dataset)) <= size  # ... but no copies pile up


def test_single_frame(tmp_path, raw):
    arrays = {key: values[:1] for key, values in raw[1].items()}
    write_npz(raw[0] / "md17_benzene2017.npz", z=np.array([6, 6, 1]), **arrays, name="benzene", theory="none")
    plain = MD17(tmp_path / "a", "benzene", source=raw[0], log=False)
    transformed = MD17(tmp_path / "b", "benzene", source=raw[0], log=False, pre_transform=RadiusGraph(9.0))
    assert len(plain) == len(transformed) == 1
    torch.testing.assert_close(plain[0].pos, transformed[0].pos)


def test_unknown_molecule(tmp_path):
    with pytest.raises(ValueError, match="unknown molecule 'water'; expected one of aspirin"):
        MD17(tmp_path, "water")


def test_source_without_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no md17_aspirin.npz"):
        MD17(tmp_path, "aspirin", source=tmp_path)


def test_file_of_another_molecule(tmp_path, raw):
    source = raw[0] / "md17_benzene2017.npz"
    with pytest.raises(ValueError, match="the file given for toluene holds C2H, expected C7H8; check name and source"):
        MD17(tmp_path / "root", "toluene", source=source, log=False)
    assert source.exists()
    assert not any((tmp_path / "root").rglob("*.npz"))


@pytest.mark.parametrize(
    "name", sorted({"aspirin", "benzene", "malonaldehyde", "naphthalene", "salicylic_acid", "toluene"})
)
def test_published_files_have_their_formulas(tmp_path, real_data, name):
    assert len(MD17(tmp_path, name, source=real_data, log=False)) == 5902


def test_damaged_file_can_be_replaced(tmp_path, raw):
    folder, _ = raw
    bad = tmp_path / "bad.npz"
    bad.write_bytes((folder / "md17_benzene2017.npz").read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a readable npz file"):
        MD17(tmp_path / "root", "benzene", source=bad, log=False)
    assert bad.exists()
    assert len(MD17(tmp_path / "root", "benzene", source=folder, log=False)) == 5


@pytest.fixture
def server(raw):
    """A web server on this machine that offers the mirror folder."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(raw[0]))
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}/"
        httpd.shutdown()


def test_download(tmp_path, raw, server, monkeypatch):
    monkeypatch.delenv("PYG_SCHNET_DATA", raising=False)
    monkeypatch.setattr(md17, "BASE_URL", server)
    assert len(MD17(tmp_path / "root", "benzene", log=False)) == 5


def test_download_that_fails_names_the_manual_way(tmp_path, server, monkeypatch):
    monkeypatch.delenv("PYG_SCHNET_DATA", raising=False)
    monkeypatch.setattr(md17, "BASE_URL", server)
    with pytest.raises(OSError, match="could not download md17_toluene.npz .*source=<file>.*PYG_SCHNET_DATA"):
        MD17(tmp_path / "root", "toluene", log=False)
    assert not any((tmp_path / "root").rglob("*.npz"))


def test_bundled_trajectory(tmp_path):
    dataset = MD17(tmp_path, "ethanol_xtb", log=False)
    assert len(dataset) == 2000
    batch = next(iter(DataLoader(dataset, batch_size=2000)))
    assert batch.z.view(2000, 9).unique(dim=0).tolist() == [[6, 6, 8, 1, 1, 1, 1, 1, 1]]
    # nobody pushes the molecule from outside: xTB's forces add up to zero (its own convergence is 1e-6 eV/Angstrom)
    assert batch.forces.view(2000, 9, 3).sum(dim=1).abs().max() < 1e-4
    # equipartition at 500 K: 21 classical harmonic vibrations spread the potential energy by sqrt(21 / 2) kT; 2000
    # correlated frames know the spread to a few per cent, anharmonicity adds some more
    assert float(batch.energy.std()) == pytest.approx((21 / 2) ** 0.5 * units.kB * 500, rel=0.1)


def test_card_of_the_bundled_trajectory():
    folder = bundled_path("ethanol_xtb")
    content = (folder / "ethanol_xtb.npz").read_bytes()
    card = (folder / "README.md").read_text()
    assert hashlib.sha256(content).hexdigest() in card
    assert f"{len(content):,} bytes" in card
    assert len(content) < 2e6


def test_published_data(tmp_path, real_data):
    dataset = MD17(tmp_path, "ethanol", source=real_data, log=False)
    with np.load(real_data / "md17" / "md17_ethanol.npz") as file:
        assert len(dataset) == len(file["R"])
        assert float(dataset[7].energy) == pytest.approx(float(file["E"][7, 0]) * KCAL, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "frames", "formula"), [("c20_xtb", 500, "C20"), ("malonaldehyde_xtb", 1200, "C3H4O2")]
)
def test_further_bundled_trajectories(tmp_path, name, frames, formula):
    dataset = MD17(tmp_path, name, log=False)
    assert (len(dataset), dataset.report["formula"]) == (frames, formula)
    content = (bundled_path(name) / f"{name}.npz").read_bytes()
    card = (bundled_path(name) / "README.md").read_text()
    assert hashlib.sha256(content).hexdigest() in card
    assert f"{len(content):,} bytes" in card
    assert len(content) < 1e6
    batch = next(iter(DataLoader(dataset, batch_size=frames)))
    atoms = dataset[0].num_nodes
    assert batch.forces.view(frames, atoms, 3).sum(dim=1).abs().max() < 1e-4  # nobody pushes from outside
    # equipartition at 500 K as for ethanol; fewer frames and soft modes leave some more room
    spread = ((3 * atoms - 6) / 2) ** 0.5 * units.kB * 500
    assert float(batch.energy.std()) == pytest.approx(spread, rel=0.15)


def test_all_names_of_pyg():
    from torch_geometric import datasets

    for name, file in datasets.MD17.file_names.items():
        entry = md17.CATALOGUE[md17.key_of(name)]
        assert entry.title == name
        assert entry.file == (file.removeprefix("rmd17_").removesuffix(".npz") if "revised" in name else file)
    assert md17.key_of("ethanol CCSD(T)") == "ethanol_ccsd_t"


def test_train_is_for_coupled_cluster(tmp_path):
    with pytest.raises(ValueError, match="`train` must be True or False, .*'ethanol CCSD.T.', got None"):
        MD17(tmp_path, "ethanol CCSD(T)")
    with pytest.raises(ValueError, match="`train` must be None, for 'ethanol', got True"):
        MD17(tmp_path, "ethanol", train=True)
    with pytest.raises(ValueError, match=r"unknown molecule 'water' \(revised\)"):
        MD17(tmp_path, "water", revised=True)


def test_parts_of_coupled_cluster(tmp_path, raw, monkeypatch):
    entry = md17.CATALOGUE["ethanol_ccsd_t"]
    monkeypatch.setitem(md17.CATALOGUE, "ethanol_ccsd_t", entry._replace(formula="C2H"))
    folder, arrays = raw
    for part, count in (("train", 3), ("test", 2)):
        cut = {key: values[:count] for key, values in arrays.items()}
        write_npz(folder / f"ethanol_ccsd_t-{part}.npz", z=np.array([6, 6, 1]), **cut, name="x", theory="none")
    bare = MD17(tmp_path / "a", "ethanol_ccsd_t", train=True, source=folder, log=False)
    with zipfile.ZipFile(folder / "ethanol_ccsd_t.zip", "w") as archive:
        for part in ("test", "train"):
            archive.write(folder / f"ethanol_ccsd_t-{part}.npz", f"ethanol_ccsd_t-{part}.npz")
    train, test = (MD17(tmp_path / "b", "ethanol CCSD(T)", train=t, source=folder, log=False) for t in (True, False))
    assert (len(bare), len(train), len(test)) == (3, 3, 2)
    with pytest.raises(ValueError, match="`train` is False, but `source` is .*-train.npz"):
        MD17(tmp_path, "ethanol_ccsd_t", train=False, source=folder / "ethanol_ccsd_t-train.npz", log=False)


def test_published_coupled_cluster(tmp_path, real_data):
    assert len(MD17(tmp_path, "ethanol CCSD(T)", train=True, source=real_data, log=False)) == 1000


def test_files_with_another_fingerprint(tmp_path, raw):
    with np.load(raw[0] / "md17_benzene2017.npz") as file:
        arrays = {key: file[key] for key in file.files}
    np.savez(raw[0] / "md17_benzene2017.npz", **arrays | {"md5": np.bytes_("0" * 32)})
    with pytest.raises(ValueError, match="the file states 0000"):
        MD17(tmp_path / "root", "benzene", source=raw[0], log=False)
    assert len(MD17(tmp_path / "root", "benzene", source=raw[0], log=False, check_fingerprint=False)) == 5


def test_large_trajectory_opens_at_once_and_compactly(tmp_path):
    frames, atoms = 100_000, 9
    rng = np.random.default_rng(0)
    arrays = {"E": rng.normal(size=(frames, 1)), "R": rng.normal(size=(frames, atoms, 3)).astype(np.float32)}
    z = np.array([6, 6, 8, 1, 1, 1, 1, 1, 1])
    np.savez(tmp_path / "md17_ethanol.npz", z=z, F=arrays["R"], **arrays)  # not compressed, to be quick
    MD17(tmp_path, "ethanol", source=tmp_path, log=False)
    begin = time.perf_counter()
    dataset = MD17(tmp_path, "ethanol", source=tmp_path, log=False)
    assert time.perf_counter() - begin < 2
    assert len(dataset) == frames
    tensors = sum(value.nbytes for value in dataset._data.to_dict().values())
    assert Path(dataset.processed_paths[0]).stat().st_size < 1.3 * tensors


def test_frames_far_from_the_origin(tmp_path, raw):
    folder, arrays = raw
    far = arrays["R"] + np.array([0.0, 1e4, -3e3, 0.0, 7e2])[:, None, None]
    write_npz(folder / "md17_benzene2017.npz", z=np.array([6, 6, 1]), **(arrays | {"R": far}), name="x", theory="none")
    dataset = MD17(tmp_path / "root", "benzene", source=folder, log=False)
    for frame, R in zip(dataset, far, strict=True):
        np.testing.assert_allclose(frame.pos - frame.pos[0], R - R[0], rtol=0, atol=2e-6)
    assert torch.equal(dataset[0].pos, torch.tensor(arrays["R"][0]).float())


@pytest.mark.parametrize(
    ("key", "message"), [("R", "structure 2: positions must be within"), ("F", "forces that are larger")]
)
def test_numbers_that_float32_does_not_hold(tmp_path, raw, key, message):
    folder, arrays = raw
    arrays[key][2, 1] = 1e300
    write_npz(folder / "md17_benzene2017.npz", z=np.array([6, 6, 1]), **arrays, name="x", theory="none")
    with pytest.raises(ValueError, match=message):
        MD17(tmp_path / "root", "benzene", source=folder, log=False)
