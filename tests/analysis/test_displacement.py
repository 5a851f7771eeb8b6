"""Displacements against closed forms, direct sums and across periodic boundaries."""

import itertools

import numpy as np
import pytest
import torch

from pyg_schnet.analysis.structure.displacement import Displacement, diffusion_coefficient, mean_square_displacement
from pyg_schnet.analysis.structure.snapshot import Snapshot
from pyg_schnet.analysis.structure.trajectories import Beads
from pyg_schnet.analysis.structure.unwrapping import Unwrapper, nearest_image

ase = pytest.importorskip("ase")
from ase.io import write  # noqa: E402

OPEN = np.zeros(3, dtype=bool)


def trajectory(path, z=None, cell=None, pbc=OPEN):
    z = np.full(path.shape[1], 18) if z is None else z
    return [Snapshot(z, pos, np.eye(3) if cell is None else cell, pbc) for pos in path]


def walk(frames=200, atoms=30, spread=0.1, seed=0):
    rng = np.random.default_rng(seed)
    return np.cumsum(spread * rng.normal(size=(frames, atoms, 3)), axis=0)


def direct(path):
    """All origins of time, by the definition."""
    frames = len(path)
    return np.array([np.square(path[k:] - path[: frames - k]).sum(axis=2).mean(axis=0) for k in range(frames)])


@pytest.mark.parametrize("frames", [2, 3, 64, 65])
def test_as_the_definition(frames):
    path = 1e3 + walk(frames, 70)
    found = mean_square_displacement(trajectory(path), 2.0)
    # Fourier transforms of numbers of about one: rounding relative to their squares
    np.testing.assert_allclose(found.of_atoms, direct(path), atol=1e-11)
    np.testing.assert_allclose(found.msd, direct(path).mean(axis=1), atol=1e-11)
    assert found.time.tolist() == pytest.approx([0.002 * k for k in range(frames)])
    np.testing.assert_allclose(found.error, direct(path).std(axis=1, ddof=1) / 70**0.5, atol=1e-10)


@pytest.mark.parametrize("window", [2, 10, 200, 300])
def test_window(window):
    path = walk(200, 5)
    whole = mean_square_displacement(trajectory(path), 1.0)
    found = mean_square_displacement(trajectory(path), 1.0, window=window)
    assert len(found.time) == min(window, 200)
    np.testing.assert_allclose(found.of_atoms, whole.of_atoms[:window], rtol=1e-9, atol=1e-12)


def test_free_flight():
    velocity = np.array([[0.03, 0, 0], [0, 0.04, 0.01]])
    path = np.arange(100)[:, None, None] * velocity
    found = mean_square_displacement(trajectory(path), 1.0)
    times = 1000 * found.time
    np.testing.assert_allclose(
        found.of_atoms, times[:, None] ** 2 * torch.tensor([9e-4, 17e-4], dtype=torch.float64), rtol=1e-9, atol=1e-9
    )
    assert diffusion_coefficient(found).exponent == pytest.approx(2.0, abs=1e-6)
    plane = mean_square_displacement(trajectory(path), 1.0, axes="xz")
    np.testing.assert_allclose(
        plane.of_atoms, times[:, None] ** 2 * torch.tensor([9e-4, 1e-4], dtype=torch.float64), rtol=1e-9, atol=1e-9
    )
    assert plane.dimensions == 2


@pytest.mark.parametrize("axes", ["xyz", "y"])
def test_random_walk(axes):
    """Steps of spread s every dt: D = s^2 / (2 dt)."""
    found = mean_square_displacement(trajectory(walk(1000, 100, 0.1)), 2.0, window=100, axes=axes)
    diffusion = diffusion_coefficient(found)
    expected = 0.1**2 / (2 * 0.002)
    assert abs(diffusion.coefficient - expected) < 4 * diffusion.error
    assert diffusion.error < 0.05 * expected
    assert diffusion.exponent == pytest.approx(1.0, abs=0.05)
    assert diffusion.fit == pytest.approx((0.02, 0.098), abs=0.0011)
    assert abs(diffusion.intercept) < 0.05


def test_error_of_the_diffusion_coefficient():
    """The spread of 30 coefficients is their error."""
    results = [
        diffusion_coefficient(mean_square_displacement(trajectory(walk(200, 20, seed=seed)), 1.0, window=40))
        for seed in range(30)
    ]
    spread = np.std([one.coefficient for one in results], ddof=1)
    assert np.mean([one.error for one in results]) == pytest.approx(spread, rel=0.4)  # 13 per cent, three times


CELLS = {
    "cubic": 6.0 * np.eye(3),
    "skewed": np.array([[6.0, 0, 0], [2.9, 6.0, 0], [-2.5, 2.8, 6.0]]),
    "very skewed": np.array([[6.0, 0, 0], [45.0, 6.0, 0], [-20.0, 31.0, 6.0]]),
}


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_across_boundaries(cell):
    path = 3.0 + walk(150, 20, 0.4)
    wrapped = path - np.floor(path @ np.linalg.inv(cell)) @ cell
    assert np.abs(wrapped - path).max() > 6
    every = np.ones(3, dtype=bool)
    with_images = mean_square_displacement(trajectory(wrapped, cell=cell, pbc=every), 1.0)
    np.testing.assert_allclose(with_images.of_atoms, direct(path), atol=1e-9)
    as_is = mean_square_displacement(trajectory(path, cell=cell, pbc=every), 1.0, unwrap=False)
    np.testing.assert_allclose(as_is.of_atoms, direct(path), atol=1e-9)


def test_slab_is_wrapped_along_its_axes_only():
    path = walk(100, 5, 0.4)
    wrapped = path.copy()
    wrapped[..., :2] %= 5.0
    frames = trajectory(wrapped, cell=np.diag([5.0, 5.0, 0.0]), pbc=np.array([True, True, False]))
    np.testing.assert_allclose(mean_square_displacement(frames, 1.0).of_atoms, direct(path), atol=1e-9)


@pytest.mark.parametrize("name", CELLS)
def test_nearest_image_by_brute_force(name):
    """All images in some cells on either side; in the bulk ASE's, which along some axes only misses shorter ones."""
    from ase.geometry import find_mic

    vectors = np.random.default_rng(0).normal(scale=5, size=(100, 3))
    for pbc in ([True, True, True], [True, True, False], [False, False, True]):
        found, _ = nearest_image(vectors, CELLS[name], np.array(pbc))
        if all(pbc):
            least = find_mic(vectors, CELLS[name], pbc)[1]
        else:
            near = [np.arange(-reach, reach + 1) if axis else [0] for axis, reach in zip(pbc, (40, 9, 9), strict=True)]
            images = np.array(list(itertools.product(*near))) @ CELLS[name]
            least = np.linalg.norm(vectors[:, None] + images, axis=2).min(axis=1)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), least, atol=1e-9)
        images = (vectors - found) @ np.linalg.inv(CELLS[name])
        np.testing.assert_allclose(images, np.rint(images) * np.array(pbc), atol=1e-9)


def test_in_a_breathing_cell():
    """Atoms that rest in a corner of a cell that breathes stay there, whatever images the file has of them."""
    frames = []
    for number, length in enumerate([10.0, 10.2, 9.9, 10.1]):
        image = np.array([0.0, number % 2, 0.0]) * length
        frames.append(Snapshot(np.array([18]), np.array([[0.1, 0.2, 0.3]]) + image, length * np.eye(3), ~OPEN))
    assert mean_square_displacement(frames, 1.0).msd.abs().max() < 1e-12


def test_too_far_for_one_step():
    cell, pbc = 6.0 * np.eye(3), ~OPEN
    with pytest.warns(
        UserWarning, match="an atom moves by 2.7 Angstrom between two frames, nearly half of the shortest"
    ):
        mean_square_displacement(trajectory(np.array([[[0.0, 0, 0]], [[2.7, 0, 0]]]), cell=cell, pbc=pbc), 1.0)
    assert Unwrapper()(trajectory(walk(1), cell=cell, pbc=pbc)[0]).shape == (30, 3)


def test_drift_is_taken_off():
    rng = np.random.default_rng(0)
    still = walk(50, 4)
    masses = np.array([1.0, 2.0, 3.0, 4.0])
    still -= (masses @ still / masses.sum())[:, None]
    moving = still + np.cumsum(rng.normal(size=(50, 1, 3)), axis=0)
    frames = [Snapshot(np.arange(1, 5), pos, np.eye(3), OPEN, masses=masses) for pos in moving]
    found = mean_square_displacement(frames, 1.0, drift=False)
    np.testing.assert_allclose(found.of_atoms, direct(still), atol=1e-9)
    assert mean_square_displacement(frames, 1.0).msd[-1] > 2 * found.msd[-1]


def test_of_elements():
    path = np.concatenate([walk(50, 3, 0.1), walk(50, 2, 1.0)], axis=1)
    found = mean_square_displacement(trajectory(path, np.array([8, 8, 8, 1, 1])), 1.0)
    for element, atoms in (("O", [0, 1, 2]), (1, [3, 4])):
        part = found.of(element)
        np.testing.assert_allclose(part.msd, direct(path[:, atoms]).mean(axis=1), atol=1e-9)
        assert part.z.tolist() == [8, 8, 8][: len(atoms)] if element == "O" else [1, 1]
    np.testing.assert_allclose(0.6 * found.of(8).msd + 0.4 * found.of("H").msd, found.msd)
    with pytest.raises(ValueError, match="there are no atoms of 'C'; expected one of H, O"):
        found.of("C")


def test_from_a_file(tmp_path):
    """Wrapped, with times; the error of one atom is not known."""
    path = walk(20, 1, 0.2)
    frames = [ase.Atoms("Ar", pos, cell=[4, 4, 4], pbc=True, info={"time": 5.0 * k}) for k, pos in enumerate(path)]
    for one in frames:
        one.wrap()
    write(tmp_path / "a.xyz", frames)
    found = mean_square_displacement(tmp_path / "a.xyz")
    np.testing.assert_allclose(found.of_atoms, direct(path), atol=1e-6)  # eight decimals
    assert found.time[-1] == pytest.approx(0.095)
    assert found.error.isnan().all()
    assert np.isnan(diffusion_coefficient(found).error)


def test_bad_input():
    frames = trajectory(walk(4, 3))
    with pytest.raises(ValueError, match="the trajectory has one frame; a displacement needs at least two"):
        mean_square_displacement(frames[:1], 1.0)
    with pytest.raises(ValueError, match="pass `timestep`"):
        mean_square_displacement(frames)
    with pytest.raises(ValueError, match="frame 2 has 2 atoms, but motion is that of the same atoms"):
        mean_square_displacement([*frames[:2], *trajectory(walk(1, 2))], 1.0)
    other = frames[2]._replace(z=np.array([18, 10, 18]))
    with pytest.raises(ValueError, match="frame 2 has other elements or another order"):
        mean_square_displacement([*frames[:2], other], 1.0)
    periodic = frames[1]._replace(pbc=~OPEN)
    with pytest.raises(ValueError, match=r"frame 1 has the periodic axes \[ True  True  True\], the first one"):
        mean_square_displacement([frames[0], periodic], 1.0)
    for axes in ("", "xx", "xq", 3):
        with pytest.raises(ValueError, match="`axes` must be some of 'xyz'"):
            mean_square_displacement(frames, 1.0, axes=axes)
    with pytest.raises(ValueError, match="`window` must be at least 2"):
        mean_square_displacement(frames, 1.0, window=1)
    with pytest.raises(TypeError, match="got 2 beads; pass that of one bead, or of their centroid"):
        mean_square_displacement(Beads([frames, frames]), 1.0)
    found = mean_square_displacement(frames, 1000.0)
    for wrong in (5.0, (1, 2, 3), "ab"):
        with pytest.raises(ValueError, match="`fit` must be a first and a last time in ps, got "):
            diffusion_coefficient(found, wrong)
    assert isinstance(found, Displacement)
    with pytest.raises(ValueError, match="1 times are within the fit from 1 to 1.5 ps, of 4 up to 3 ps"):
        diffusion_coefficient(found, (1, 1.5))
    assert found.time.tolist() == [0.0, 1.0, 2.0, 3.0]
