"""What stands beside errors: energies per atom, references alone, labels that are not known, kinds of structures."""

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Subset
from torch_geometric.data import Batch, Data

from pyg_schnet import Potential, SchNet
from pyg_schnet.analysis import TargetErrors, evaluate
from pyg_schnet.analysis.evaluate import GROUP

NAN = float("nan")


@pytest.fixture
def model():
    torch.manual_seed(0)
    atomref = torch.zeros(119, 1)
    atomref[[1, 8]] = torch.tensor([[-13.0], [-2000.0]])
    return (
        SchNet(8, 8, 1, num_gaussians=20, cutoff=5.0, mean=0.5, std=2.0, atomref=atomref, filters="exact")
        .double()
        .eval()
    )


@pytest.fixture
def structures():
    """Water, two hydrogen atoms of which one has unknown forces, an oxygen atom without energy."""
    random = torch.Generator().manual_seed(0)
    made = []
    for number, (z, kind) in enumerate([([8, 1, 1], "water"), ([1, 1], "dimer"), ([1, 1], "dimer"), ([8], "")]):
        pos = 2 * torch.rand(len(z), 3, generator=random, dtype=torch.float64)
        made.append(Data(z=torch.tensor(z), pos=pos, energy=torch.tensor([-30.0 * number], dtype=torch.float64)))
        made[-1].forces = torch.zeros(len(z), 3, dtype=torch.float64)
        made[-1][GROUP] = kind
    made[2].forces[1] = NAN
    made[3].energy[:] = NAN
    return made


def test_beside_energies(model, structures):
    energy, forces = evaluate(model, structures, progress=False)
    assert energy.atoms.tolist() == [3, 2, 2]
    assert (energy.left_out, forces.left_out) == (1, 1)
    assert forces.true.shape == (7, 3)
    alone = [-2000.0 - 26.0 + 1.5, -26.0 + 1.0, -26.0 + 1.0]
    np.testing.assert_allclose(energy.references, alone, rtol=1e-12)
    assert energy.metrics()["mae_of_references"] == pytest.approx(np.abs(np.subtract(alone, [0, -30, -60])).mean())
    per_atom = energy.per_atom()
    assert (per_atom.name, per_atom.unit) == ("energy_per_atom", "eV/atom")
    np.testing.assert_allclose(per_atom.errors, energy.errors / [3, 2, 2])
    converted = energy.converted("meV").per_atom()
    np.testing.assert_allclose(converted.references, per_atom.converted("meV/atom").references, rtol=1e-12)
    assert converted.left_out == 1


def test_kinds_of_structures(model, structures):
    """Rows of forces are atoms; all groups together are the whole."""
    energy, forces = evaluate(model, structures, progress=False)
    assert {name: len(one.true) for name, one in energy.by_group().items()} == {"water": 1, "dimer": 2}
    groups = forces.by_group()
    assert {name: len(one.true) for name, one in groups.items()} == {"": 1, "water": 3, "dimer": 3}
    out = Potential(model)(structures[0])["forces"].detach().numpy()
    np.testing.assert_allclose(groups["water"].predicted, out, rtol=1e-12, atol=1e-14)
    for one in structures:
        one[GROUP] = "same"
    assert evaluate(model, structures, progress=False)[0].by_group() == {}


@pytest.mark.parametrize(
    "wrap",
    [
        tuple,
        lambda all_: Subset(all_, [0, 1, 2, 3]),
        lambda all_: ConcatDataset([all_[:2], all_[2:]]),
        Batch.from_data_list,
    ],
    ids=["tuple", "subset", "several", "batch"],
)
def test_whatever_holds_structures(wrap, model, structures):
    expected = evaluate(model, structures, progress=False)
    for found, right in zip(evaluate(model, wrap(structures), progress=False), expected, strict=True):
        assert (found.name, found.unit, found.left_out) == (right.name, right.unit, right.left_out)
        np.testing.assert_array_equal(found.predicted, right.predicted)


def test_structures_with_energies_only(model, structures):
    for one in structures:
        del one.forces
    (energy,) = evaluate(model, structures, progress=False)
    assert energy.name == "energy"
    (named,) = evaluate(model, structures, ["energy"], progress=False)
    np.testing.assert_allclose(named.references, energy.references)
    np.testing.assert_allclose(named.predicted, energy.predicted, rtol=1e-12)


def test_rows_that_do_not_fit():
    with pytest.raises(ValueError, match="`atoms` of 'energy' must have 2 rows, got 1"):
        TargetErrors("energy", "eV", [1.0, 2.0], [1.0, 2.0], atoms=np.array([3]))
    with pytest.raises(ValueError, match="the numbers of atoms of 'energy' are not known"):
        TargetErrors("energy", "eV", [1.0], [1.0]).per_atom()
