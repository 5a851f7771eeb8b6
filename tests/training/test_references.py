"""References of a model from its training set against closed forms."""

import math

import pytest
import torch
from torch_geometric.data import Data, InMemoryDataset

from pyg_schnet import SchNet
from pyg_schnet.datasets import QM9, as_dataset
from pyg_schnet.datasets.targets import Target, find_target
from pyg_schnet.training import PropertyTask, SplitDataModule
from pyg_schnet.training.references import set_references

NAN = float("nan")
ATOMS = [[1], [1, 1], [8, 1, 1], [8], [8, 8], [6, 1, 1, 1, 1], [6, 8]]
#: Values of free atoms that the dataset knows, for both of its targets.
FREE = {"a": {1: -0.5, 6: -3.0, 8: -7.0}, "b": {1: 2.0, 6: 1.0, 8: 0.25}}
TARGETS = [Target("a", "y", 0, "eV"), Target("b", "y", 1, "eV")]
READOUTS = {"add": "add", "mean": "mean", "max": "once"}


class Molecules(InMemoryDataset):
    """Structures with two targets."""

    targets = {"a": 0, "b": 1}  # noqa: RUF012

    def __init__(self, values):
        super().__init__(None)
        structures = [
            Data(z=torch.tensor(z), pos=torch.arange(3.0 * len(z)).view(-1, 3), y=row.view(1, 2))
            for z, row in zip(ATOMS, values, strict=True)
        ]
        self.data, self.slices = self.collate(structures)

    def atomref(self, target):
        if target not in FREE:
            return None
        table = torch.zeros(20, 1, dtype=torch.float64)
        table[list(FREE[target])] = torch.tensor(list(FREE[target].values()), dtype=torch.float64).unsqueeze(1)
        return table


@pytest.fixture
def values():
    """Two targets of each structure [B, 2]; some are not known."""
    values = 5 + 10 * torch.randn(len(ATOMS), 2, dtype=torch.float64)
    values[1, 0] = values[5, 1] = values[6, 1] = NAN
    return values


def model_of(readout, channels=2, **options):
    return SchNet(4, 4, 1, num_gaussians=5, readout=readout, out_channels=channels, **options)


def mean_and_std(rests):
    """Of the known ones of a list of numbers."""
    known = [rest for rest in rests if math.isfinite(rest)]
    mean = sum(known) / len(known)
    return mean, (sum((rest - mean) ** 2 for rest in known) / (len(known) - 1)) ** 0.5


def assert_mean_and_std(model, per_target):
    means, stds = zip(*map(mean_and_std, per_target), strict=True)
    assert model.reference.mean.tolist() == pytest.approx(means, rel=1e-12)
    assert model.reference.std.tolist() == pytest.approx(stds, rel=1e-12)


@pytest.mark.parametrize("rule", ["mean", "auto"])
@pytest.mark.parametrize("readout", READOUTS)
def test_mean(values, readout, rule):
    model = model_of(readout)
    set_references(model, Molecules(values), TARGETS, rule)
    sizes = [len(z) if readout == "add" else 1 for z in ATOMS]
    assert_mean_and_std(model, [[y / n for y, n in zip(column, sizes, strict=True)] for column in values.T.tolist()])
    assert not model.reference.atomref.any()


def rests_of_free_atoms(values, readout):
    per_target = []
    for column, free in zip(values.T.tolist(), FREE.values(), strict=True):
        rests = []
        for y, z in zip(column, ATOMS, strict=True):
            total = sum(free[number] for number in z)
            rests.append({"add": (y - total) / len(z), "mean": y - total / len(z), "max": y - total}[readout])
        per_target.append(rests)
    return per_target


@pytest.mark.parametrize("readout", READOUTS)
def test_atomref(values, readout):
    model, dataset = model_of(readout), Molecules(values)
    set_references(model, dataset, TARGETS, "atomref")
    assert_mean_and_std(model, rests_of_free_atoms(values, readout))
    for column, name in enumerate(FREE):
        assert torch.equal(model.reference.atomref[:20, column], dataset.atomref(name).flatten())
    assert not model.reference.atomref[20:].any()


@pytest.mark.parametrize("readout", READOUTS)
def test_mean_of_what_single_atom_values_leave(values, readout):
    """A model that comes with single-atom values keeps them, and they do not count twice."""
    model, dataset = model_of(readout), Molecules(values)
    model.reference.set(atomref=torch.cat([dataset.atomref(name) for name in FREE], dim=1))
    set_references(model, dataset, TARGETS, "mean")
    assert_mean_and_std(model, rests_of_free_atoms(values, readout))


@pytest.mark.parametrize("readout", READOUTS)
def test_fit(values, readout):
    """Normal equations of each target over its known values."""
    model = model_of(readout)
    set_references(model, Molecules(values), TARGETS, "fit")
    counts = torch.tensor([[z.count(element) for element in (1, 6, 8)] for z in ATOMS], dtype=torch.float64)
    atoms = counts.sum(1)
    design = counts / atoms.unsqueeze(1) if readout == "mean" else counts
    for column in range(2):
        known = values[:, column].isfinite()
        x, y = design[known], values[known, column]
        solution = torch.linalg.pinv(x) @ y  # carbon may be unknown: the solution of the smallest norm
        torch.testing.assert_close(model.reference.atomref[[1, 6, 8], column], solution, rtol=1e-9, atol=1e-9)
        rest = (y - x @ solution) / (atoms[known] if readout == "add" else 1)
        assert float(model.reference.std[column]) == pytest.approx(float(rest.std(correction=0)), rel=1e-9)
        mean = float(rest.mean()) if readout == "max" else 0.0
        assert float(model.reference.mean[column]) == pytest.approx(mean, abs=1e-9)


@pytest.mark.parametrize("rule", ["none", "mean", "atomref", "fit", "auto"])
def test_dipole_moments_have_none(values, rule):
    model = model_of("dipole", channels=1)
    set_references(model, Molecules(values), TARGETS[:1], rule)
    assert model.reference.trivial
    assert model.reference.std.tolist() == [1.0]


@pytest.mark.parametrize("given", [{"mean": 3.0}, {"std": 2.0}, {"atomref": torch.ones(9)}])
def test_auto_leaves_what_there_is(values, given):
    model = model_of("add", **given)
    before = {name: tensor.clone() for name, tensor in model.reference.named_buffers()}
    set_references(model, Molecules(values), TARGETS, "auto")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.reference.named_buffers())


def test_none_leaves_everything(values):
    model = model_of("add")
    set_references(model, Molecules(values), TARGETS, "none")
    assert model.reference.trivial
    assert model.reference.std.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("rule", ["mean", "atomref", "fit"])
def test_only_the_training_set_counts(values, rule):
    """Labels of all other examples may change as they like."""

    def references(values):
        dataset, model = Molecules(values), model_of("add")
        split = {"train": torch.tensor([5, 0, 2, 3]), "val": torch.tensor([4]), "test": torch.tensor([1])}
        task = PropertyTask(model, ["a", "b"], references=rule)
        task.prepare(SplitDataModule(dataset, split))
        return model.reference.state_dict()

    changed = values.clone()
    changed[[1, 4, 6]] = 1e6
    first, second = references(values), references(changed)
    assert all(torch.equal(first[name], second[name]) for name in first)
    changed[2] += 1
    assert not torch.equal(first["std"], references(changed)["std"])


@pytest.mark.parametrize("rule", ["mean", "fit"])
def test_target_that_is_never_known(values, rule):
    values[:, 1] = NAN
    with pytest.raises(ValueError, match="no training example has a known 'b'; .* or references 'none'"):
        set_references(model_of("add"), Molecules(values), TARGETS, rule)


@pytest.mark.parametrize("readout", ["add", "mean"])
def test_equal_values_have_no_scale(readout):
    """The round-off of a division must not become the unit of the loss."""
    sizes = torch.tensor([len(z) for z in ATOMS], dtype=torch.float64)
    column = 0.1 * (sizes if readout == "add" else torch.ones_like(sizes))
    model = model_of(readout)
    set_references(model, Molecules(torch.stack([column, -column], dim=1)), TARGETS, "mean")
    assert model.reference.mean.tolist() == pytest.approx([0.1, -0.1], rel=1e-12)
    assert model.reference.std.tolist() == [1.0, 1.0]


def test_one_training_example(values):
    model = model_of("mean")
    set_references(model, Molecules(values)[:1], TARGETS, "mean")
    assert torch.equal(model.reference.mean, values[0])
    assert model.reference.std.tolist() == [1.0, 1.0]


def test_free_atoms_that_are_not_known(tmp_path):
    dataset = QM9(tmp_path, "bundled", log=False)
    with pytest.raises(ValueError, match="QM9 has no values of free atoms for 'mu'; choose references 'fit' or 'mean'"):
        set_references(model_of("add", channels=1), dataset, [find_target(dataset, "mu")], "atomref")


def test_unknown_rule():
    with pytest.raises(ValueError, match="unknown references 'median'; expected one of 'auto', 'mean', 'atomref'"):
        PropertyTask(model_of("add"), ["a", "b"], references="median")


def test_fit_without_an_element_is_refused(tmp_path):
    """Its single-atom value would be zero, and every molecule with it off by thousands of eV."""
    dataset = QM9(tmp_path, "bundled", log=False)
    has = torch.tensor([bool((molecule.z == 9).any()) for molecule in dataset])
    with_it, without = has.nonzero().flatten(), (~has).nonzero().flatten()
    assert len(with_it) > 0
    data = SplitDataModule(dataset, {"train": without[:50], "val": with_it[:3]})
    with pytest.raises(ValueError, match="have atoms of number 9, which no training example has"):
        PropertyTask(SchNet(8, 8, 1), "U0", references="fit").prepare(data)
    PropertyTask(SchNet(8, 8, 1), "U0", references="atomref").prepare(data)


@pytest.mark.parametrize("rule", ["mean", "fit"])
def test_what_a_repulsion_leaves(rule):
    """Labels that are single-atom values and the repulsion of squeezed molecules: nothing is left to learn."""
    structures = []
    layer = SchNet(4, 4, 1, 5, cutoff=1.3, repulsion="zbl", zero_output=True).double()
    for size in (1.0, 0.8, 0.7, 0.57):
        pos = size * torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], dtype=torch.float64)
        z = torch.tensor([8, 1, 1])
        energy = layer(z, pos).detach().flatten() + 3.0
        structures.append(Data(z=z, pos=pos.float(), energy=energy))
    model = SchNet(4, 4, 1, 5, cutoff=1.3, repulsion="zbl")
    set_references(model, as_dataset(structures), [Target("energy", "energy", None, "eV")], rule)
    total = model.reference.of_structures(torch.tensor([8, 1, 1]), torch.zeros(3, dtype=torch.long), 1)
    assert float(total) == pytest.approx(3.0, abs=1e-4)  # float32 positions, steep repulsion
    assert float(structures[-1].energy) > 20.0


def test_units_of_a_repulsion():
    """It is in eV: labels in other units are refused before anything is computed."""
    molecules = [Data(z=torch.tensor([1, 1]), pos=torch.rand(2, 3), energy=torch.ones(1).double()) for _ in range(4)]
    model = SchNet(4, 4, 1, 5, cutoff=1.3, repulsion="zbl")
    task = PropertyTask(model, "energy")
    dataset = as_dataset(molecules)
    task.check(dataset)
    dataset.units = {"energy": "kcal/mol"}
    with pytest.raises(ValueError, match=r"repulsion='zbl' must be in eV, .*'kcal/mol'; convert the data"):
        task.check(dataset)
