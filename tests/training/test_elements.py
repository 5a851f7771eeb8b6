"""A run writes down what it has trained on, and counts on where a trained model is trained further."""

import copy
from itertools import combinations

import pytest
import torch
from ase import Atoms

from pyg_schnet import SchNet, load, save
from pyg_schnet.datasets import MD17
from pyg_schnet.models import Committee, read_header
from pyg_schnet.models.elements import TrainingSet
from pyg_schnet.training import PotentialTask, SplitDataModule, fit

SPLIT = {"train": torch.arange(8), "val": torch.arange(8, 10)}
OTHER = {"train": torch.arange(10, 40), "val": torch.arange(8, 10)}
ETHANOL = TrainingSet({1: 48, 6: 16, 8: 8}, structures=8, compositions=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return SplitDataModule(MD17(tmp_path_factory.mktemp("md17"), "ethanol_xtb", log=False), SPLIT, batch_size=8)


def prepared(model, data):
    PotentialTask(model).prepare(data)
    return model


def counted(model, data):
    """What was counted, without distances and electrons."""
    return prepared(model, data).training_set._replace(distances={}, charges={}, unpaired={})


def test_the_training_part_is_counted_and_nothing_else(data):
    assert counted(SchNet(8, 8, 1), data) == ETHANOL


def test_references_that_are_given_do_not_hide_it(data):
    assert counted(SchNet(8, 8, 1, mean=-1.0, std=2.0), data) == ETHANOL


def extremes(frames, cutoff):
    """Smallest and largest distance within a cutoff, by ASE."""
    found = {}
    for frame in frames:
        atoms = Atoms(frame.z.numpy(), frame.pos.double().numpy())
        lengths = atoms.get_all_distances()
        for i, j in combinations(range(len(atoms)), 2):
            if lengths[i, j] < cutoff:
                pair = "-".join(one.symbol for one in sorted((atoms[i], atoms[j]), key=lambda one: one.number))
                near, far = found.get(pair, (9e9, 0.0))
                found[pair] = min(near, lengths[i, j]), max(far, lengths[i, j])
    return found


@pytest.mark.parametrize("cutoff", [3.0, 20.0])
def test_distances_are_those_of_the_training_part(data, cutoff):
    found = prepared(SchNet(8, 8, 1, cutoff=cutoff), data).training_set.distances
    expected = extremes(data.dataset[:8], cutoff)
    assert found.keys() == expected.keys()
    assert ("C-O" in found, "O-O" in found) == (True, False)
    for pair, extreme in expected.items():
        assert found[pair] == pytest.approx(extreme, abs=1e-6)
    assert (
        found != prepared(SchNet(8, 8, 1, cutoff=cutoff), SplitDataModule(data.dataset, OTHER)).training_set.distances
    )


def test_a_run_writes_distances_down_and_training_further_adds_to_them(data, tmp_path):
    """In its checkpoint and in its file; a committee and copies have them, too."""
    result = fit(PotentialTask(SchNet(8, 8, 1)), data, tmp_path / "run", max_steps=2, validate_every=1)
    model = load(result.model)
    first = model.training_set.distances
    assert first == load(tmp_path / "run" / "last.ckpt").training_set.distances == copy.deepcopy(model).training_set[3]
    Committee([model, model]).save(tmp_path / "committee")
    assert [one.distances for one in load(tmp_path / "committee").training_sets] == [first, first]
    assert {name: tuple(one) for name, one in read_header(result.model)["training_set"]["distances"].items()} == first
    task = PotentialTask(SchNet(8, 8, 1))
    task.begin_from(model)
    task.prepare(SplitDataModule(data.dataset, OTHER))
    both, second = task.model.training_set.distances, extremes(data.dataset[10:40], 10.0)
    assert both.keys() == first.keys()
    for pair, (near, far) in both.items():
        assert (near, far) == pytest.approx((min(near, second[pair][0]), max(far, second[pair][1])), abs=1e-6)
        assert near <= first[pair][0] <= first[pair][1] <= far
    assert both != first


def test_old_files_know_no_distances(data, tmp_path):
    """And do not learn them from other structures; the same ones again tell them."""
    model = SchNet(8, 8, 1)
    model.training_set = ETHANOL
    save(model, tmp_path / "old.safetensors")
    assert prepared(load(tmp_path / "old.safetensors"), data).training_set.distances
    other = SplitDataModule(data.dataset, OTHER)
    assert prepared(load(tmp_path / "old.safetensors"), other).training_set.distances == {}


def test_what_a_loaded_model_has_seen_stays(data, tmp_path):
    model = SchNet(8, 8, 1)
    save(model, tmp_path / "unknown.safetensors")
    assert prepared(load(tmp_path / "unknown.safetensors"), data).training_set is None
    model.training_set = TrainingSet({7: 5}, structures=5, compositions=1)
    save(model, tmp_path / "nitrogen.safetensors")
    assert prepared(load(tmp_path / "nitrogen.safetensors"), data).elements == [1, 6, 7, 8]
