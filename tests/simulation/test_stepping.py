"""A skin list in the calculator: the same results as without, whatever happens between two steps."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from pyg_schnet.models import Committee, CommitteePotential, Potential
from pyg_schnet.simulation.ase import SchNetCalculator
from pyg_schnet.simulation.stepping import LONGEST_REST, SteppedPotential
from pyg_schnet.sizes import SIZES


@pytest.fixture
def frozen(make_model):
    """A float64 SchNet whose filters are tables, so that two ways of the same model agree to round-off."""
    return make_model(std=20.0).freeze()


def evaluated(calculator, atoms):
    atoms = atoms.copy()
    atoms.calc = calculator
    names = ["energy", "forces"] + (["stress"] if atoms.cell.rank == 3 else [])
    return [np.asarray(calculator.get_property(name, atoms)) for name in names]


def check(calculator, potential, atoms):
    """Against the potential, which searches its pairs itself."""
    cell = torch.tensor(atoms.cell.array).unsqueeze(0)
    whole = {"cell": cell, "pbc": torch.tensor(atoms.pbc).unsqueeze(0), "stress": bool(atoms.cell.rank == 3)}
    expected = potential(torch.tensor(atoms.numbers), torch.tensor(atoms.positions), **whole)
    found = evaluated(calculator, atoms)
    np.testing.assert_allclose(found[0], expected["energy"].item(), rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(found[1], expected["forces"].numpy(), rtol=1e-9, atol=1e-10)
    if len(found) > 2:
        stress = expected["stress"][0].numpy()[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        np.testing.assert_allclose(found[2], stress, rtol=1e-9, atol=1e-12)


def crystal(repeat=(2, 2, 1)):
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True) * repeat
    atoms.rattle(0.05, seed=0)
    return atoms


CHANGES = {
    "small moves": lambda atoms, rng: atoms.translate(rng.normal(size=(len(atoms), 3)) * 0.01),
    "large moves": lambda atoms, rng: atoms.translate(rng.normal(size=(len(atoms), 3)) * 0.2),
    "one jump": lambda atoms, rng: atoms.positions.__setitem__(int(rng.integers(len(atoms))), rng.normal(size=3) * 9),
    "all shifted": lambda atoms, rng: atoms.translate(rng.normal(size=3) * 30),
    "wrapped": lambda atoms, rng: atoms.wrap(),
    "unwrapped": lambda atoms, rng: atoms.translate(rng.integers(-2, 3, size=(len(atoms), 3)) @ atoms.cell.array),
    "strained": lambda atoms, rng: atoms.set_cell(
        atoms.cell.array @ (np.eye(3) + 0.02 * rng.normal(size=(3, 3))), scale_atoms=True
    ),
    "cell alone": lambda atoms, rng: atoms.set_cell(atoms.cell.array * 1.03),
    "axis opened": lambda atoms, rng: atoms.set_pbc(rng.permutation([True, True, False])),
    "elements swapped": lambda atoms, rng: atoms.set_atomic_numbers(rng.permutation(atoms.numbers)),
    "atoms renumbered": lambda atoms, rng: atoms.arrays.update(
        {name: array[rng.permutation(len(atoms))] for name, array in atoms.arrays.items()}
    ),
    "atom removed": lambda atoms, rng: atoms.pop(int(rng.integers(len(atoms)))),
    "atom added": lambda atoms, rng: atoms.extend(Atoms("He", atoms.positions[:1] + 1.3)),
}


def test_no_pair_is_ever_missing(frozen, monkeypatch):
    """All that may happen, in random order, by one calculator whose list never rests."""
    monkeypatch.setattr(SIZES, "steps_of_rest", 0)
    rng, atoms = np.random.default_rng(0), crystal()
    calculator, potential = SchNetCalculator(frozen), Potential(frozen)
    names = list(CHANGES)
    for name in [*names, *rng.choice(names, size=40), *["small moves"] * 5]:
        before = atoms.copy()
        CHANGES[name](atoms, rng)
        try:
            check(calculator, potential, atoms)
        except ValueError:  # two atoms at the same place: the next step starts from where that was not so
            atoms = before
    assert calculator.rebuilds > 20


def test_pairs_are_kept_between_steps(frozen):
    """As in dynamics of a crystal: searched once for many steps; whole lattice vectors are no moves."""
    calculator, atoms, rng = SchNetCalculator(frozen), crystal(), np.random.default_rng(1)
    start = atoms.positions.copy()
    for step in range(12):
        atoms.positions = start + rng.normal(size=start.shape) * 0.03
        if step % 2:
            atoms.positions += 3 * atoms.cell.array[0]
        evaluated(calculator, atoms)
    assert calculator.rebuilds == 1


def test_structures_that_take_turns(frozen):
    """As images of a band that share a calculator: right, and the list stops searching for nothing."""
    calculator, potential = SchNetCalculator(frozen), Potential(frozen)
    images = [crystal() for _ in range(3)]
    for number, image in enumerate(images):
        image.rattle(0.3, seed=number + 1)
    for step in range(12):
        for number, image in enumerate(images):
            image.rattle(0.01, seed=10 * step + number)
            check(calculator, potential, image)
    assert calculator.rebuilds < 15
    for step in range(LONGEST_REST):  # one alone again: the list comes back
        images[0].rattle(1e-4, seed=step)
        evaluated(calculator, images[0])
    before = calculator.rebuilds
    for step in range(10):
        images[0].rattle(1e-3, seed=step)
        check(calculator, potential, images[0])
    assert calculator.rebuilds == before
    images[0].positions[0] += 0.5
    check(calculator, potential, images[0])
    assert calculator.rebuilds == before + 1  # it is in use


def test_lists_are_kept_where_they_pay(frozen, make_model):
    """Not for small molecules, exact filters and a network that wants more of its edges."""
    calculator = SchNetCalculator(frozen)
    evaluated(calculator, molecule("CH3CH2OH"))
    assert calculator.rebuilds == 0
    cluster = crystal((4, 3, 3))
    cluster.pbc = False
    assert len(cluster) > 256
    check(calculator, Potential(frozen), cluster)
    assert calculator.rebuilds == 1
    assert SteppedPotential(Potential(make_model())).neighbors is None
    exact = SchNetCalculator(make_model())
    evaluated(exact, crystal())
    assert exact.rebuilds == 0
    searching = make_model().freeze()
    searching.edges = searching.edges  # somebody's own way
    assert SteppedPotential(Potential(searching)).neighbors is None


@pytest.mark.parametrize("name", ["crystal", "slab", "molecule", "box"])
def test_committees_keep_pairs_too(name, make_model):
    """Members of two cutoffs from one list, with their spreads."""
    committee = Committee([make_model(std=20.0).freeze(), make_model(std=30.0, cutoff=3.5).freeze()])
    atoms = {
        "crystal": crystal(),
        "slab": fcc111("Cu", (2, 2, 2), vacuum=4.0),
        "molecule": molecule("CH3CH2OH"),
        "box": molecule("CH3CH2OH", cell=[7, 8, 9]),
    }[name]
    calculator = SchNetCalculator(committee)
    for step in range(3):
        atoms.rattle(0.03, seed=step)
        check(calculator, CommitteePotential(committee), atoms)
        singles = np.stack([evaluated(SchNetCalculator(member), atoms)[1] for member in committee])
        spread = calculator.get_property("forces_std", atoms)
        np.testing.assert_allclose(spread, singles.std(0, ddof=1), rtol=1e-8, atol=1e-10)
    assert calculator.rebuilds == (1 if name in {"crystal", "slab"} else 0)


def test_impossible_structures_are_named_beside_a_list(frozen):
    """Also if the list has pairs already, and the next step is right again."""
    calculator, potential, good = SchNetCalculator(frozen), Potential(frozen), crystal()
    check(calculator, potential, good)
    for change, message in (
        (lambda atoms: atoms.positions.__setitem__((0, 0), np.nan), "finite"),
        (lambda atoms: atoms.positions.__setitem__(0, atoms.positions[1]), "same place"),
        (lambda atoms: atoms.set_cell(np.zeros((3, 3))), "cell|lattice"),
    ):
        bad = good.copy()
        change(bad)
        with pytest.raises(ValueError, match=message):
            evaluated(calculator, bad)
        assert calculator.results == {}
        check(calculator, potential, good)
