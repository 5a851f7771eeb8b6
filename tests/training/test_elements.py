"""A run writes down what it has trained on, and counts on where a trained model is trained further."""

import pytest
import torch

from pyg_schnet import SchNet, load, save
from pyg_schnet.datasets import MD17
from pyg_schnet.models.elements import TrainingSet
from pyg_schnet.training import PotentialTask, SplitDataModule

SPLIT = {"train": torch.arange(8), "val": torch.arange(8, 10)}
ETHANOL = TrainingSet({1: 48, 6: 16, 8: 8}, structures=8, compositions=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return SplitDataModule(MD17(tmp_path_factory.mktemp("md17"), "ethanol_xtb", log=False), SPLIT, batch_size=8)


def prepared(model, data):
    PotentialTask(model).prepare(data)
    return model


def test_the_training_part_is_counted_and_nothing_else(data):
    assert prepared(SchNet(8, 8, 1), data).training_set == ETHANOL


def test_references_that_are_given_do_not_hide_it(data):
    assert prepared(SchNet(8, 8, 1, mean=-1.0, std=2.0), data).training_set == ETHANOL


def test_what_a_loaded_model_has_seen_stays(data, tmp_path):
    model = SchNet(8, 8, 1)
    save(model, tmp_path / "unknown.safetensors")
    assert prepared(load(tmp_path / "unknown.safetensors"), data).training_set is None
    model.training_set = TrainingSet({7: 5}, structures=5, compositions=1)
    save(model, tmp_path / "nitrogen.safetensors")
    assert prepared(load(tmp_path / "nitrogen.safetensors"), data).elements == [1, 6, 7, 8]
