"""Trajectories from files and objects, and what is wrong with them."""

import tracemalloc
import warnings

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data

from pyg_schnet.analysis.structure.clock import Clock
from pyg_schnet.analysis.structure.cluster_distances import cluster_distances
from pyg_schnet.analysis.structure.displacement import mean_square_displacement
from pyg_schnet.analysis.structure.radial_distribution import partial_distributions, radial_distribution
from pyg_schnet.analysis.structure.snapshot import Snapshot, masses_of
from pyg_schnet.analysis.structure.trajectories import Beads, snapshots
from pyg_schnet.datasets import MD17

ase = pytest.importorskip("ase")
from ase import units  # noqa: E402
from ase.io import write  # noqa: E402


def frames(count=4, atoms=5):
    rng = np.random.default_rng(0)
    return [
        ase.Atoms(
            f"Cu{atoms}", 5 * rng.random((atoms, 3)), cell=[5, 6, 7], pbc=True, momenta=rng.normal(size=(atoms, 3))
        )
        for _ in range(count)
    ]


def data(atoms, **more):
    return Data(z=torch.tensor(atoms.numbers), pos=torch.tensor(atoms.positions), **more)


@pytest.mark.parametrize("name", ["a.xyz", "a.xyz.gz", "a.xyz.xz", "a.traj", "a.db"])
def test_files(name, tmp_path):
    path = tmp_path / name
    written = frames()
    write(path, written)
    for given in (path, str(path), [path]):
        read = list(snapshots(given))
        assert len(read) == 4
        for one, atoms in zip(read, written, strict=True):
            # extended xyz has eight decimals
            np.testing.assert_allclose(one.pos, atoms.positions, atol=1e-8)
            np.testing.assert_allclose(one.cell, atoms.cell.array, atol=1e-8)
            np.testing.assert_allclose(one.velocities, atoms.get_velocities() * units.fs, atol=1e-8)
            assert one.pbc.all()
    assert len(list(snapshots([path, path]))) == 8  # parts of a run


def test_objects(tmp_path):
    atoms = frames()
    for given, count in (
        (atoms, 4),
        (iter(atoms), 4),
        (atoms[0], 1),
        (data(atoms[0]), 1),
        ([data(a) for a in atoms], 4),
    ):
        read = list(snapshots(given))
        assert len(read) == count
        np.testing.assert_array_equal(read[0].pos, atoms[0].positions)
    batch = Batch.from_data_list([data(one) for one in atoms])
    np.testing.assert_array_equal(list(snapshots(batch))[2].pos, atoms[2].positions)
    dataset = MD17(tmp_path, "ethanol_xtb", log=False)[:3]
    assert [one.pos.dtype for one in snapshots(dataset)] == [np.float64] * 3


def test_data_carries_what_it_has():
    atoms = frames(1)[0]
    one = data(
        atoms,
        cell=torch.tensor(atoms.cell.array)[None].float().requires_grad_(),
        pbc=torch.ones(1, 3, dtype=torch.bool),
        velocities=torch.ones(5, 3, dtype=torch.float16),
        masses=torch.full((5,), 2.0),
        time=torch.tensor([7.0]),
    )
    (read,) = snapshots(one)
    assert read.velocities.tolist() == np.ones((5, 3)).tolist()
    assert read.masses.tolist() == [2.0] * 5
    assert (read.cell == atoms.cell.array).all()
    assert read.time == 7.0


def test_masses():
    one = Snapshot(np.array([8, 1]), np.eye(3)[:2], np.eye(3), np.zeros(3, dtype=bool))
    assert masses_of(one).tolist() == pytest.approx([15.999, 1.008])
    assert masses_of(one._replace(masses=np.array([16.0, 2.0]))).tolist() == [16.0, 2.0]
    (heavy,) = snapshots(Data(z=torch.tensor([1]), pos=torch.zeros(1, 3), mass=torch.tensor([2.0])))
    assert masses_of(heavy).tolist() == [2.0]
    with pytest.raises(ValueError, match="`masses` must be positive"):
        masses_of(one._replace(masses=np.zeros(2)))


def test_a_file_that_breaks_off_is_read_up_to_there(tmp_path):
    path = tmp_path / "a.xyz"
    write(path, frames())
    path.write_bytes(path.read_bytes()[:-130])
    with pytest.warns(UserWarning, match=r"a.xyz cannot be read after 3 structures .*; the 3 frames before are used"):
        assert len(list(snapshots(path))) == 3
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match="cannot be read after 0 structures"):
        list(snapshots(path))


@pytest.mark.parametrize(("name", "count"), [("a.xyz.gz", 100), ("a.xyz.bz2", 400), ("a.xyz.xz", 100)])
def test_a_compressed_file_that_breaks_off(name, count, tmp_path):
    """Of bz2 blocks of 900 kB are lost."""
    path, written = tmp_path / name, frames(count, 40)
    write(path, written)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    with pytest.warns(UserWarning, match=rf"{name} cannot be unpacked to its end .*; the \d+ frames before are used"):
        read = list(snapshots(path))
    assert 0.3 * count < len(read) < 0.77 * count
    np.testing.assert_allclose(read[-1].pos, written[len(read) - 1].positions, atol=1e-8)
    path.write_bytes(path.read_bytes()[:8])
    with pytest.raises(ValueError, match=f"{name} cannot be unpacked to its end"):
        list(snapshots(path))


@pytest.mark.parametrize(
    "study",
    [
        lambda run: radial_distribution(run, 4.0, 40, progress=False),
        lambda run: partial_distributions(run, 4.0, 40, progress=False),
        lambda run: mean_square_displacement(run, 1.0, window=20, unwrap=False, progress=False),
        lambda run: cluster_distances((one._replace(pbc=~one.pbc) for one in run), 0.1, progress=False),
    ],
    ids=["radial", "partial", "displacement", "cluster"],
)
def test_memory_does_not_grow_with_the_trajectory(study):
    def endless(count):
        rng = np.random.default_rng(0)
        z = np.repeat([8, 1], 10)
        for _ in range(count):
            yield Snapshot(z, 7 * rng.random((20, 3)), 7 * np.eye(3), np.ones(3, dtype=bool))

    study(endless(5))
    peaks = []
    for count in (70, 220):
        tracemalloc.start()
        study(endless(count))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 50_000  # bytes; the pairs of 150 frames would be 450,000


def test_beads():
    atoms = frames(6)
    read = list(snapshots(Beads([atoms[:3], atoms[3:]])))
    assert [one.pos[0, 0] for one in read] == [atoms[k].positions[0, 0] for k in (0, 3, 1, 4, 2, 5)]
    with pytest.warns(UserWarning, match="2 beads differ in length"):
        assert len(list(snapshots(Beads([atoms[:3], atoms[4:]])))) == 4
    with pytest.raises(ValueError, match="frame 1 of bead 1 has no atoms"):
        list(snapshots(Beads([atoms[:2], [atoms[0], ase.Atoms()]])))
    with pytest.raises(ValueError, match="at least one bead"):
        Beads([])
    with pytest.raises(TypeError, match="a trajectory for each bead, got str"):
        Beads("a.xyz")


def test_bad_trajectories(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no trajectory .*nothing.xyz"):
        list(snapshots(tmp_path / "nothing.xyz"))
    (tmp_path / "empty.xyz").touch()
    with pytest.raises(ValueError, match="empty.xyz cannot be read after 0 structures .*Empty file"):
        list(snapshots(tmp_path / "empty.xyz"))
    with pytest.raises(ValueError, match="the trajectory has no frames"):
        list(snapshots([]))
    for wrong in (np.zeros((4, 3)), torch.zeros(4, 3), 7, {"z": 1}):
        with pytest.raises(TypeError, match="expected a trajectory .* got "):
            list(snapshots(wrong))
    with pytest.raises(TypeError, match="frame 0: expected ase.Atoms or Data, got ndarray"):
        list(snapshots([np.zeros((4, 3))]))


def test_files_of_ipi(tmp_path):
    """Whose default are atomic units, which nobody would notice."""
    comment = "# CELL(abcABC): 35.0 35.0 35.0 90.0 90.0 90.0 Step: 0 Bead: 0 positions{%s} cell{atomic_unit}"
    path = tmp_path / "a.xyz"
    path.write_text(f"1\n{comment % 'angstrom'}\n C 1.0 2.0 3.0\n")
    assert next(snapshots(path)).pos.tolist() == [[1.0, 2.0, 3.0]]
    path.write_text(f"1\n{comment % 'atomic_unit'}\n C 1.0 2.0 3.0\n")
    with pytest.raises(ValueError, match="frame 0 has positions in atomic units"):
        list(snapshots(path))


def test_bad_frames():
    good, (bad,) = frames(1)[0], frames(1)
    bad.positions[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"frame 1: the position of atom 3 is not finite, \[.*nan"):
        list(snapshots([good, bad]))
    with pytest.raises(ValueError, match="frame 1 has no atoms"):
        list(snapshots([good, ase.Atoms()]))
    flat = good.copy()
    flat.cell[2] = 0
    with pytest.raises(ValueError, match="frame 1 is periodic along .* span no volume"):
        list(snapshots([good, flat]))
    hot = good.copy()
    hot.set_velocities(np.full((5, 3), np.inf))
    with pytest.raises(ValueError, match="frame 0 has velocities that are not finite"):
        list(snapshots(hot))
    cell = torch.eye(3)[None]
    for wrong, message in (
        (Data(pos=torch.zeros(2, 3)), "lacks `z` or `pos`"),
        (Data(z=torch.ones(2), pos=torch.zeros(2, 3)), "expected integers `z`"),
        (Data(z=torch.ones(2).long(), pos=torch.zeros(3, 3)), r"got torch.int64 \[2\] and \[3, 3\]"),
        (Data(z=torch.ones(2).long(), pos=torch.eye(3)[:2], cell=cell), "`cell` is given but `pbc` is missing"),
        (Data(z=torch.ones(2).long(), pos=torch.eye(3)[:2], pbc=torch.ones(1, 3).bool()), "`cell` is missing"),
        (Data(z=torch.ones(2).long(), pos=torch.eye(3)[:2], velocities=cell), r"expected `velocities` \[2, 3\]"),
    ):
        with pytest.raises(ValueError, match=message):
            list(snapshots(wrong))


def snapshot(time):
    return Snapshot(np.array([1]), np.zeros((1, 3)), np.zeros((3, 3)), np.zeros(3, dtype=bool), time=time)


def tell(times, timestep=None):
    clock = Clock(timestep)
    for time in times:
        clock.tick(snapshot(time))
    return clock.timestep()


def test_times():
    assert tell([0.0, 0.5, 1.0]) == 0.5
    assert tell([100.0, 100.333, 100.667, 101.0]) == pytest.approx(1 / 3)  # as printed with three decimals
    assert tell([None, None], 2) == 2.0
    assert tell([0.0, 2.0], 2) == 2.0
    with pytest.warns(UserWarning, match="10 fs apart by their own times, 0.5 fs by `timestep`"):
        assert tell([0.0, 10.0], 0.5) == 0.5
    with pytest.raises(ValueError, match="does not tell the times of its frames; pass `timestep`"):
        tell([None, None])
    with pytest.raises(ValueError, match="frame 2 comes 3 fs after the one before it, earlier ones 1 fs"):
        tell([0.0, 1.0, 4.0])
    for wrong in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="`timestep`, the time between frames in fs, must be positive"):
            Clock(wrong)
    with pytest.raises(TypeError, match="must be a number, got str"):
        Clock("1 fs")


def test_times_of_files(tmp_path):
    atoms = frames(3)
    for number, one in enumerate(atoms):
        one.info["time_fs"] = 0.5 * number
    write(tmp_path / "a.xyz", atoms)
    assert [one.time for one in snapshots(tmp_path / "a.xyz")] == [0.0, 0.5, 1.0]


def test_no_progress_bar_if_not_wanted(capsys):
    with warnings.catch_warnings():
        list(snapshots(frames(), progress=False))
    assert capsys.readouterr().err == ""
