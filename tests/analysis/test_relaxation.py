"""Structures moved to a minimum."""

import math
import sys
import warnings

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.optimize import BFGS
from torch_geometric.data import Data

from pyg_schnet import Potential, load
from pyg_schnet.analysis.vibrations.normal_modes import normal_modes
from pyg_schnet.analysis.vibrations.relaxation import relaxed
from pyg_schnet.datasets import from_smiles
from pyg_schnet.models.exact import ExactPotential
from pyg_schnet.simulation.ase import SchNetCalculator, atoms_to_data

from .springs import Springs


def test_springs_end_at_their_length():
    start = Data(z=torch.tensor([6, 6]), pos=torch.tensor([[0.0, 0, 0], [0.0, 0.1, 1.9]]), y=torch.ones(1))
    found = relaxed(Springs(20.0, 1.3), start)
    assert found.pos.dtype == torch.float64
    assert float((found.pos[1] - found.pos[0]).norm()) == pytest.approx(1.3, abs=1e-8)  # 1e-6 over twice 20 eV/A^2
    assert "y" not in found
    assert start.pos.dtype == torch.float32  # as it was


def test_saddles_are_left():
    """A square of springs that are all as long as its sides folds to a tetrahedron; flat, its forces are in plane."""
    square = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [1.0, 1.0, 0], [0.0, 1.0, 0]], dtype=torch.float64)
    found = relaxed(Springs(20.0, 1.0), Data(z=torch.tensor([6] * 4), pos=square))
    distances = torch.pdist(found.pos)
    torch.testing.assert_close(distances, torch.ones(6, dtype=torch.float64), rtol=0, atol=1e-6)


def test_same_minimum_as_ase(make_model):
    model, atoms = make_model(), molecule("H2O")
    found = relaxed(Potential(model), atoms_to_data(atoms))
    atoms.calc = SchNetCalculator(model)
    BFGS(atoms, logfile=None).run(fmax=1e-6, steps=500)
    np.testing.assert_allclose(torch.pdist(found.pos), torch.pdist(torch.tensor(atoms.positions)), atol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert normal_modes(model, found).largest_force <= 1e-6


def test_crystals_stay_in_their_cell():
    atoms = bulk("Cu", cubic=True)
    model = Springs(5.0, 3.61 / math.sqrt(2), cutoff=3.0)
    rattled = atoms.copy()
    rattled.rattle(0.1, seed=1)
    data = atoms_to_data(rattled, torch.float64)
    data.mass = torch.full((4,), 63.0)
    found = relaxed(model, data)
    assert torch.equal(found.cell, data.cell)
    assert torch.equal(found.mass, data.mass)
    moved = found.pos.numpy() - atoms.positions
    np.testing.assert_allclose(moved - moved.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(moved.mean(0), (rattled.positions - atoms.positions).mean(0), atol=1e-9)  # no drift


def test_what_is_at_rest_stays():
    atom = Data(z=torch.tensor([6]), pos=torch.tensor([[1.0, 2, 3]]))
    assert torch.equal(relaxed(Springs(5.0, 1.0), atom).pos, atom.pos.double())
    pair = Data(z=torch.tensor([6, 6]), pos=torch.tensor([[0.0, 0, 0], [0.0, 0, 1.5]], dtype=torch.float64))
    assert torch.equal(relaxed(Springs(5.0, 1.5), pair).pos, pair.pos)


def test_bad_input():
    far = Data(z=torch.tensor([6, 6]), pos=torch.tensor([[0.0, 0, 0], [0.0, 0, 4.0]]))
    with pytest.raises(RuntimeError, match=r"largest force is .* after 1 steps, expected 1e-06; raise `max_steps`"):
        relaxed(Springs(5.0, 1.0), far, max_steps=1)
    with pytest.raises(ValueError, match="`max_force`, eV/Angstrom, must be positive"):
        relaxed(Springs(5.0, 1.0), far, max_force=0.0)


@pytest.mark.parametrize("smiles", ["CC(=O)NC", "CC(=O)NCC(N)=O", "COCCO"])
def test_soft_torsions(smiles):
    """Methyl groups that turn freely and chains, from RDKit's starts: few steps, to minima."""
    pytest.importorskip("rdkit")
    model, start = load("organic-xtb"), from_smiles(smiles)
    found = relaxed(model, start, max_steps=150)
    modes = normal_modes(model, found)
    assert modes.largest_force <= 1e-6
    assert bool((modes.vibrations > 20).all())
    exact = ExactPotential(model)
    assert exact(found)[0] < exact(start)[0]


def test_without_ase(monkeypatch):
    monkeypatch.setitem(sys.modules, "ase.optimize", None)
    pair = Data(z=torch.tensor([6, 6]), pos=torch.tensor([[0.0, 0, 0], [0.0, 0, 1.7]]))
    with pytest.raises(ImportError, match=r'relaxation needs ASE; install it with pip install "pyg_schnet\[md\]"'):
        relaxed(Springs(5.0, 1.5), pair)
