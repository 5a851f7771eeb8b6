"""Distances in clusters against closed forms and numpy."""

import numpy as np
import pytest

from pyg_schnet.analysis.structure.cluster_distances import cluster_distances
from pyg_schnet.analysis.structure.radial_distribution import radial_distribution
from pyg_schnet.analysis.structure.trajectories import Beads
from pyg_schnet.datasets import MD17

ase = pytest.importorskip("ase")

GOLDEN = (1 + 5**0.5) / 2


def dodecahedron(edge=1.45):
    """The cage of C20: three neighbours at one edge, opposite atoms at sqrt 3 golden times that."""
    cube = [[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
    others = [np.roll([0, a / GOLDEN, b * GOLDEN], k) for a in (-1, 1) for b in (-1, 1) for k in range(3)]
    return np.array([*cube, *others]) * edge * GOLDEN / 2


def test_dodecahedron():
    cage = ase.Atoms("C20", dodecahedron())
    found = cluster_distances(cage, neighbors=3)
    assert found.nearest.mean == pytest.approx(1.45, abs=1e-12)
    assert found.nearest.deviation == pytest.approx(0.0, abs=1e-7)  # the root of rounding
    assert found.diameter.mean == pytest.approx(1.45 * 3**0.5 * GOLDEN, abs=1e-12)
    assert found.antipodal.mean == pytest.approx(found.diameter.mean, abs=1e-12)
    # shells of 3, 6, 6, 3, 1 atoms around each
    edges = 1.45 * np.array([1, GOLDEN, 2**0.5 * GOLDEN, GOLDEN**2, 3**0.5 * GOLDEN])
    shells = found.pair.density.nonzero().squeeze(1)
    assert found.pair.r[shells].tolist() == pytest.approx(edges, abs=0.0101)  # half of a bin
    assert (found.pair.density[shells] * 0.02 * 19).tolist() == pytest.approx([3, 6, 6, 3, 1])
    assert cluster_distances(cage, neighbors=4).nearest.mean > 1.5  # the fourth is no bond


def shaken(frames=50, spread=0.05, seed=0):
    rng = np.random.default_rng(seed)
    return [ase.Atoms("C20", dodecahedron() + spread * rng.normal(size=(20, 3))) for _ in range(frames)]


def test_as_numpy():
    frames = shaken()
    distances = np.array([one.get_all_distances() for one in frames])
    found = cluster_distances(iter(frames), neighbors=2)
    near = np.sort(distances, axis=2)[:, :, 1:3].ravel()
    largest, opposite = distances.max(axis=(1, 2)), distances.max(axis=2).ravel()
    pairs = distances[:, *np.triu_indices(20, 1)].ravel()
    for one, values in zip(found, (near, largest, opposite, pairs), strict=False):
        assert one.mean == pytest.approx(values.mean(), abs=1e-12)
        assert one.deviation == pytest.approx(values.std(), abs=1e-9)
        assert float(one.density.sum() * 0.02) == pytest.approx(1.0)
        expected = np.bincount((values / 0.02).astype(int), minlength=len(one.r)) / len(values) / 0.02
        np.testing.assert_allclose(one.density, expected, atol=1e-9)
        assert one.peak == pytest.approx(float(one.r[expected.argmax()]))
    assert found.frames == 50
    assert found.diameter.mean > found.antipodal.mean  # the largest of twenty
    # one value for each frame: errors are those of independent numbers
    blocks = largest[:50].reshape(25, 2).mean(axis=1)
    assert found.diameter.mean_error == pytest.approx(blocks.std(ddof=1) / 5)


def test_pair_distribution_is_that_of_radial_distribution():
    frames = shaken(5)
    found = cluster_distances(frames, width=0.05).pair
    other = radial_distribution(frames, r_max=0.05 * len(found.r), bins=len(found.r))
    np.testing.assert_allclose(found.density, other.g, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.error, other.error, rtol=1e-6, atol=1e-12)


def test_a_known_width():
    """Two atoms at a distance that is spread normally."""
    rng = np.random.default_rng(0)
    frames = [ase.Atoms("C2", [[0, 0, 0], [1.4 + 0.05 * step, 0, 0]]) for step in rng.normal(size=2000)]
    found = cluster_distances(frames).diameter
    assert abs(found.mean - 1.4) < 4 * found.mean_error
    assert abs(found.deviation - 0.05) < 4 * found.deviation_error
    # standard errors of independent numbers; those from some 20 blocks are known to 16 per cent
    assert found.mean_error == pytest.approx(0.05 / 2000**0.5, rel=0.5)
    assert found.deviation_error == pytest.approx(0.05 / 4000**0.5, rel=0.5)
    normal = np.exp(-((found.r.numpy() - 1.4) ** 2) / (2 * 0.05**2)) / (2 * np.pi) ** 0.5 / 0.05
    # of 8: three errors of the 320 counts in the highest bin
    assert found.density.numpy() == pytest.approx(normal, abs=1.3)


def test_beads_are_averaged():
    frames = shaken(24)
    beads, plain = cluster_distances(Beads([frames[:12], frames[12:]])), cluster_distances(frames)
    assert beads.nearest.mean == pytest.approx(plain.nearest.mean)
    copies = cluster_distances(Beads([frames] * 3))
    np.testing.assert_allclose(copies.pair.error, plain.pair.error, rtol=1e-6, atol=1e-12)
    assert copies.nearest.mean_error == pytest.approx(plain.nearest.mean_error)


def test_bundled_cage(tmp_path):
    """The card of the bundled frames names the bonds: 1.30 to 1.69 Angstrom, mean 1.454."""
    found = cluster_distances(MD17(tmp_path, "c20_xtb", log=False), neighbors=3, progress=False)
    assert found.nearest.mean == pytest.approx(1.454, abs=0.001)
    full = found.nearest.r[found.nearest.density > 0]
    assert 1.29 < float(full[0]) < 1.32
    assert 1.67 < float(full[-1]) < 1.71


def test_bad_input():
    cage = shaken(1)[0]
    periodic = cage.copy()
    periodic.set_cell([20, 20, 20])
    periodic.pbc = True
    with pytest.raises(ValueError, match=r"frame 1 is periodic along \[True, True, True\]; clusters are open"):
        cluster_distances([cage, periodic])
    with pytest.raises(ValueError, match="frame 0 has 3 atoms, of which none has 3 neighbours"):
        cluster_distances(cage[:3], neighbors=3)
    with pytest.raises(ValueError, match="frame 0 has 1 atoms"):
        cluster_distances(cage[:1])
    with pytest.raises(ValueError, match="`width` must be positive"):
        cluster_distances(cage, width=0)
    with pytest.raises(TypeError, match="`neighbors` must be an integer"):
        cluster_distances(cage, neighbors=1.5)
    cage.positions[0] = 1e8
    with pytest.raises(ValueError, match="frame 0 has atoms .* too many bins of 0.02; leave it out or make `width`"):
        cluster_distances(cage)
