"""Radial distributions against closed forms, brute force and ASE's."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from pyg_schnet.analysis.structure.radial_distribution import partial_distributions, radial_distribution
from pyg_schnet.analysis.structure.trajectories import Beads
from pyg_schnet.sizes import SIZES

ase = pytest.importorskip("ase")
from ase.build import bulk  # noqa: E402
from ase.geometry.rdf import get_rdf  # noqa: E402

SKEWED = np.array([[9.0, 0, 0], [3.0, 8.5, 0], [-1.0, 2.0, 9.5]])


def gas(atoms, cell, frames=1, symbols="Ar", seed=0):
    rng = np.random.default_rng(seed)
    count = {symbols: atoms} if isinstance(symbols, str) else dict(zip(symbols, atoms, strict=True))
    names = [name for name, number in count.items() for _ in range(number)]
    cell = np.diag([cell] * 3) if np.isscalar(cell) else cell
    return [ase.Atoms(names, rng.random((len(names), 3)) @ cell, cell=cell, pbc=True) for _ in range(frames)]


def test_ideal_gas():
    """g = 1 - 1/N: the gas has N - 1 others, and is compared with N. Beyond half of the cell, too."""
    found = radial_distribution(gas(200, 9.0, 40), r_max=7.0, bins=14)
    # counts are those of Poisson; own images, 6 per atom of which the first is at 9 Angstrom, are not reached
    deviation = (found.g - (1 - 1 / 200)) / (found.g / found.counts.clamp(min=1).sqrt())
    assert deviation[2:].abs().max() < 4.5
    assert found.g[8:].sub(1 - 1 / 200).abs().max() < 0.02
    # from the blocks, too
    assert (found.error[8:] * found.counts[8:].sqrt() / found.g[8:]).mean() == pytest.approx(1.0, rel=0.3)
    assert found.frames == 40
    assert found.density == pytest.approx(200 / 729)
    assert found.coordination[-1] == pytest.approx(199 / 729 * 4 / 3 * math.pi * 7.0**3, rel=0.01)


@pytest.mark.parametrize("elements", [None, ("Cu", "Cu"), ("Cu", "Au"), ("Au", "Cu")])
def test_as_ase(elements):
    frames = gas((30, 20), SKEWED, 3, ("Cu", "Au"))
    found = radial_distribution(frames, r_max=3.9, bins=39, elements=elements)
    expected, r = get_rdf(frames, 3.9, 39, elements=elements)
    np.testing.assert_allclose(found.g, expected, rtol=1e-12)
    np.testing.assert_allclose(found.r, r, rtol=1e-12)


def test_as_ase_in_changing_cells():
    """Each frame is taken with its own volume."""
    frames = [one for scale in (1.0, 1.1, 0.95) for one in gas(40, scale * SKEWED, seed=round(100 * scale))]
    expected = get_rdf(frames, 3.5, 30)[0]
    np.testing.assert_allclose(radial_distribution(frames, 3.5, 30).g, expected, rtol=1e-12)


@pytest.mark.parametrize("pbc", [[True, True, True], [True, True, False], [False, True, False]])
def test_by_brute_force_far_beyond_the_cell(pbc):
    """All images of three atoms within eleven Angstrom in a small, skewed cell; slabs and wires."""
    cell = np.array([[3.0, 0, 0], [1.0, 3.5, 0], [0.5, -0.5, 4.0]])
    pos = np.random.default_rng(1).random((3, 3)) @ cell
    distances = []
    for shift in itertools.product(*(range(-5, 6) if axis else [0] for axis in pbc)):
        vectors = pos[None] + np.array(shift) @ cell - pos[:, None]
        distances += np.linalg.norm(vectors, axis=2).ravel().tolist()
    distances = np.sort([d for d in distances if 1e-9 < d < 11.0])
    found = radial_distribution(ase.Atoms("Si3", pos, cell=cell, pbc=pbc), r_max=11.0, bins=220)
    counts = np.bincount((distances / 0.05 + 1e-9).astype(int), minlength=220)  # on an edge: above
    assert (2 * found.counts).tolist() == counts.tolist()
    shells = 4 / 3 * math.pi * np.diff(np.linspace(0, 11, 221) ** 3)
    np.testing.assert_allclose(found.g, counts * np.linalg.det(cell) / 9 / shells, rtol=1e-12)
    np.testing.assert_allclose(found.coordination, counts.cumsum() / 3, rtol=1e-12)


def test_shells_of_a_crystal():
    """Face-centred cubic: 12, 6, 24, 12 neighbours at a/sqrt 2 times 1, sqrt 2, sqrt 3, 2; from one atom."""
    copper = bulk("Cu", a=3.6)
    found = radial_distribution(copper, r_max=5.5, bins=550)
    full = found.counts.nonzero().squeeze(1)
    expected = 3.6 / 2**0.5 * torch.tensor([1, 2, 3, 4]).sqrt()
    assert (found.r[full] - expected).abs().max() < 0.01  # half of a bin, and rounding
    assert found.coordination[full].tolist() == pytest.approx([12, 18, 42, 54])
    same = radial_distribution(copper.repeat((3, 2, 1)), r_max=5.5, bins=550)
    np.testing.assert_allclose(same.coordination, found.coordination, rtol=1e-12)
    # the second shell is at 3.6, an edge of the bins, and not within a largest distance of 3.6
    assert radial_distribution(copper.repeat((3, 2, 1)), r_max=3.6, bins=360).counts.sum() == 6 * 6


def test_integral_of_g_is_the_coordination():
    found = radial_distribution(gas(100, 10.0, 5), r_max=6.0, bins=60)
    shells = 4 / 3 * math.pi * found.edges.pow(3).diff()
    np.testing.assert_allclose((found.g * shells * found.density).cumsum(0), found.coordination, rtol=1e-12)


def test_partial():
    """Salt: 6 of the others, 12 of its own; the partial ones make the total by their fractions."""
    salt = bulk("NaCl", "rocksalt", a=5.6)
    found = partial_distributions(salt, r_max=4.5, bins=45)
    assert list(found) == [("Na", "Na"), ("Na", "Cl"), ("Cl", "Na"), ("Cl", "Cl")]
    assert [round(float(one.coordination[-1])) for one in found.values()] == [12, 6, 6, 12]
    frames = gas((10, 25, 5), SKEWED, 4, ("O", "H", "Na"))
    parts, total = partial_distributions(frames, 6.0, 30), radial_distribution(frames, 6.0, 30)
    fraction = {"O": 0.25, "H": 0.625, "Na": 0.125}
    summed = sum(fraction[a] * fraction[b] * one.g for (a, b), one in parts.items())
    np.testing.assert_allclose(summed, total.g, rtol=1e-12, atol=1e-12)
    for pair, one in parts.items():
        alone = radial_distribution(frames, 6.0, 30, elements=pair)
        for name in ("g", "error", "counts", "coordination", "density"):
            np.testing.assert_allclose(getattr(alone, name), getattr(one, name), rtol=1e-12)
    counts = sum(one.counts for (a, b), one in parts.items() if a <= b)
    assert counts.tolist() == total.counts.tolist()
    assert radial_distribution(frames, 6.0, 30, elements=8).counts.tolist() == parts["O", "O"].counts.tolist()


def molecules(frames=6, atoms=7):
    rng = np.random.default_rng(3)
    return [ase.Atoms(f"C{atoms}", 3 * rng.random((atoms, 3))) for _ in range(frames)]


def test_pair_distribution_of_clusters():
    """The density of all distances, which has the integral one; with a largest distance the part within it."""
    frames = molecules()
    distances = np.concatenate([one.get_all_distances()[np.triu_indices(7, 1)] for one in frames])
    found = radial_distribution(frames, bins=50)
    width = float(found.edges[1])
    assert float(found.edges[-1]) > distances.max()
    expected = np.histogram(distances, found.edges)[0]
    assert found.counts.tolist() == expected.tolist()
    np.testing.assert_allclose(found.g, expected / len(distances) / width, rtol=1e-12)
    assert float(found.g.sum() * width) == pytest.approx(1.0)
    assert found.density is None
    assert found.coordination[-1] == pytest.approx(6.0)
    within = radial_distribution(frames, r_max=2.0, bins=50)
    assert float(within.g.sum() * 0.04) == pytest.approx((distances < 2.0).mean())
    gas_like = radial_distribution(frames, r_max=2.0, bins=50, volume=27.0)
    boxes = [one.copy() for one in frames]
    for one in boxes:
        one.cell = [3, 3, 3]
    np.testing.assert_allclose(gas_like.g, get_rdf(boxes, 2.0, 50)[0], rtol=1e-12)


def test_a_cluster_that_flies_apart_gets_more_bins():
    near, far = ase.Atoms("C2", [[0, 0, 0], [1.0, 0, 0]]), ase.Atoms("C2", [[0, 0, 0], [30.0, 0, 0]])
    found = radial_distribution([near, far], bins=10)
    assert found.counts.nonzero().squeeze(1).tolist() == [8, 240]  # of 0.125 Angstrom
    assert float(found.g.sum() * 0.125) == pytest.approx(1.0)
    far.positions[1] = 1e9
    with pytest.raises(
        ValueError, match="frame 1 has atoms .* apart, many times as far as the first one; pass `r_max`"
    ):
        radial_distribution([near, far], bins=10)


def test_many_rows(monkeypatch):
    """Large clusters are looked at row by row."""
    frames = molecules(2, 9)
    whole = radial_distribution(frames)
    monkeypatch.setattr(SIZES, "distances_at_once", 20)
    pieces = radial_distribution(frames)
    assert whole.counts.tolist() == pieces.counts.tolist()


def test_atoms_may_differ_in_number():
    """A frame without the pair does not count for it."""
    one, other = gas((4, 4), 6.0, 1, ("O", "H"))[0], gas(8, 6.0)[0]
    mixed = radial_distribution([one, other], 5.0, 20, ("O", "H"))
    np.testing.assert_allclose(mixed.g, radial_distribution(one, 5.0, 20, ("O", "H")).g, rtol=1e-12)
    both = radial_distribution([one, gas(6, 6.0, seed=1)[0]], 5.0, 20)
    assert both.frames == 2


def test_beads_are_averaged():
    frames = gas(30, 8.0, 6)
    beads = radial_distribution(Beads([frames[:3], frames[3:]]), 6.0, 12)
    plain = radial_distribution(frames, 6.0, 12)
    np.testing.assert_allclose(beads.g, plain.g, rtol=1e-12)
    copies = radial_distribution(Beads([frames] * 4), 6.0, 12)
    np.testing.assert_allclose(copies.error, plain.error, rtol=1e-9)  # copies tell nothing new
    assert copies.frames == 24


@pytest.mark.parametrize("elements", [("O", "H"), [8, 1], np.array([8, 1]), torch.tensor([8, 1])])
def test_one_oxygen_has_hydrogens_around_it(elements):
    """Though there is no pair of oxygens."""
    water = ase.Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    found = radial_distribution(water, elements=elements)
    assert found.coordination[-1] == 2
    assert found.counts.sum() == 2
    with pytest.raises(ValueError, match="no frame has a pair of O and O"):
        radial_distribution(water, elements="O")


def test_data_and_float32():
    (atoms,) = gas(20, SKEWED)
    one = Data(
        z=torch.tensor(atoms.numbers),
        pos=torch.tensor(atoms.positions).float(),
        cell=torch.tensor(SKEWED).float()[None],
        pbc=torch.ones(1, 3, dtype=torch.bool),
    )
    np.testing.assert_array_equal(
        radial_distribution(one, 6.0).counts.sum(), radial_distribution(atoms, 6.0).counts.sum()
    )


def test_bad_input():
    frames = gas(5, 6.0, 2)
    open_frame = molecules(1)[0]
    for options, message in (
        ({"r_max": 0.0}, "`r_max` must be positive and finite, got 0.0"),
        ({"r_max": math.inf}, "`r_max` must be positive and finite, got inf"),
        ({"bins": 0}, "`bins` must be at least 1"),
        ({"volume": -1.0}, "`volume` must be positive"),
        ({"elements": ("Ar", "Xx")}, "`elements` must be a pair of symbols"),
        ({"elements": ("Ar",)}, "`elements` must be a pair of symbols"),
        ({"elements": 18.0}, "`elements` must be a pair of symbols .* got 18.0"),
        ({"elements": ("Ar", 18, "Ar")}, "`elements` must be a pair of symbols"),
        ({"elements": ("Ar", "He")}, "no frame has a pair of Ar and He"),
    ):
        with pytest.raises(ValueError, match=message):
            radial_distribution(frames, **options)
    for options, message in (
        ({"r_max": "5"}, "`r_max` must be a number, got str"),
        ({"bins": 5.0}, "`bins` must be an"),
    ):
        with pytest.raises(TypeError, match=message):
            radial_distribution(frames, **options)
    with pytest.raises(ValueError, match="frame 1 is open, earlier ones are not"):
        radial_distribution([frames[0], open_frame])
    with pytest.raises(ValueError, match="no frame has a pair of atoms"):
        radial_distribution(ase.Atoms("Ar"))
    with pytest.raises(ValueError, match="frame 1 has O, the first one has not"):
        partial_distributions([open_frame, ase.Atoms("CO", [[0, 0, 0], [0, 0, 1.1]])])
    slab = ase.Atoms("C", cell=[2.5, 2.5, 0], pbc=[True, True, False])
    with pytest.raises(ValueError, match=r"periodic along \[True, True, False\] and has no volume, which g needs"):
        radial_distribution(slab)
    assert radial_distribution(slab, r_max=2.6, volume=20.0).coordination[-1] == 4
    with pytest.raises(ValueError, match="atoms 0 and 1 are at the same place"):
        radial_distribution(ase.Atoms("C2", cell=[5, 5, 5], pbc=True))
    with pytest.raises(ValueError, match="atoms 0 and 1 are at the same place"):
        radial_distribution(ase.Atoms("C2"))
