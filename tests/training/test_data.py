"""Data of a run in every form that users have them in."""

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Subset
from torch_geometric.data import Batch, Data

from pyg_schnet import SchNet, load
from pyg_schnet.datasets import MD17
from pyg_schnet.models import properties
from pyg_schnet.training import PotentialTask, PropertyTask, SplitDataModule, fit
from pyg_schnet.training.casting import in_dtype_of

SPLIT = {"train": range(16), "val": range(16, 24)}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return MD17(tmp_path_factory.mktemp("md17"), "ethanol_xtb", log=False)[:24]


def trained(structures, folder, split=SPLIT, **options):
    torch.manual_seed(0)
    task = PotentialTask(SchNet(8, 8, 1, 10, cutoff=4.0, filters="exact"))
    data = SplitDataModule(structures, split, batch_size=8)
    options = {"logger": False, "accelerator": "cpu", "enable_progress_bar": False} | options
    return load(fit(task, data, folder, max_steps=2, **options).model)


class Sequence:
    """The least that can be called one."""

    def __init__(self, structures):
        self.structures = structures

    def __len__(self):
        return len(self.structures)

    def __getitem__(self, position):
        return self.structures[position]


@pytest.mark.parametrize(
    "form",
    [
        list,
        tuple,
        lambda dataset: Subset(dataset, list(range(24))),
        lambda dataset: ConcatDataset([dataset[:5], dataset[5:]]),
        lambda dataset: Sequence(list(dataset)),
    ],
    ids=["list", "tuple", "Subset", "ConcatDataset", "sequence"],
)
def test_every_form_of_structures_trains_alike(dataset, tmp_path, form):
    one, other = trained(dataset, tmp_path / "one"), trained(form(dataset), tmp_path / "other")
    # where structures are asked for one by one, batches are the same and so are the weights
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def mask(*positions):
    return [position in positions for position in range(24)]


@pytest.mark.parametrize(
    "part",
    [
        [3, 1, 2],
        (3, 1, 2),
        np.array([3, 1, 2], dtype=np.int32),
        torch.tensor([3, 1, 2], dtype=torch.int32),
        range(3),
        slice(0, 3),
        mask(1, 2, 3),
        np.array(mask(1, 2, 3)),
        torch.tensor(mask(1, 2, 3)),
    ],
)
def test_every_form_of_a_split(dataset, part):
    data = SplitDataModule(dataset, {"train": part, "val": slice(-4, None)})
    expected = {0, 1, 2} if isinstance(part, (range, slice)) else {1, 2, 3}
    assert set(data.split["train"].tolist()) == expected
    assert data.split["val"].tolist() == [20, 21, 22, 23]


@pytest.mark.parametrize(
    ("split", "error", "message"),
    [
        ({"train": mask(1)[:5], "val": [2]}, ValueError, r"a mask \[5\]; expected a truth value for each of the 24"),
        ({"train": "all", "val": [2]}, (TypeError, ValueError), "part 'train' .*positions"),
        ({"train": mask(), "val": [2]}, ValueError, "the split has no 'train' examples"),
        ({"train": [0, -1], "val": [2]}, ValueError, "has positions from -1 to 0"),
        (([0], [1]), TypeError, "`split` must be positions by part, .* got tuple; make one with"),
    ],
)
def test_impossible_splits(dataset, split, error, message):
    with pytest.raises(error, match=message):
        SplitDataModule(dataset, split)


def test_dataset_without_a_split_is_refused(dataset, tmp_path):
    with pytest.raises(TypeError, match="`data` must be a SplitDataModule, structures and their split, got MD17"):
        fit(PotentialTask(SchNet(8, 8, 1)), dataset, tmp_path, max_steps=1)


def partly_labelled(dataset):
    """Some energies, some forces of atoms and all forces of some structures are not known."""
    structures = list(dataset)
    for number, one in enumerate(structures):
        if number % 3 == 0:
            del one.forces
        elif number % 3 == 1:
            one.forces[:4] = torch.nan
        if number % 4 == 3:
            one.energy = torch.full_like(one.energy, torch.nan)
    return structures


def test_missing_labels_are_left_out_everywhere(dataset, tmp_path):
    """Of the loss, the references and the errors of the validation."""
    structures = partly_labelled(dataset)
    torch.manual_seed(0)
    task = PotentialTask(SchNet(8, 8, 1, 10, cutoff=4.0))
    data = SplitDataModule(structures, SPLIT, batch_size=8)
    result = fit(task, data, tmp_path, max_steps=2, logger=False, accelerator="cpu", enable_progress_bar=False)
    known = [float(one.energy) / 9 for one in structures[:16] if one.energy.isfinite()]
    assert float(task.model.reference.mean) == pytest.approx(sum(known) / len(known), rel=1e-12)
    assert 0 < result.validation_loss < float("inf")
    assert all(parameter.isfinite().all() for parameter in task.parameters())


def test_labels_of_any_name(dataset, tmp_path):
    """They train as those of the usual names do."""
    renamed = [Data(z=one.z, pos=one.pos, E_dft=one.energy, f_dft=one.forces) for one in dataset]
    torch.manual_seed(0)
    keys = {"energy_key": "E_dft", "forces_key": "f_dft"}
    task = PotentialTask(SchNet(8, 8, 1, 10, cutoff=4.0, filters="exact"), **keys)
    data = SplitDataModule(renamed, SPLIT, batch_size=8)
    options = {"logger": False, "accelerator": "cpu", "enable_progress_bar": False}
    model = load(fit(task, data, tmp_path / "other", max_steps=2, **options).model)
    usual = trained(dataset, tmp_path / "usual")
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in usual.state_dict().items())
    assert model.units["energy"] == "eV"
    with pytest.raises(ValueError, match="has no target 'E', it has .*E_dft"):
        PotentialTask(SchNet(8, 8, 1), energy_key="E").prepare(data)


@pytest.mark.parametrize("loss", ["absolute", "huber"])
def test_other_losses_train(dataset, tmp_path, loss):
    task = PotentialTask(SchNet(8, 8, 1, 10, cutoff=4.0), loss=loss, learning_rate=5e-3)
    data = SplitDataModule(dataset, SPLIT, batch_size=8)
    task.prepare(data)
    before = float(task.loss_on(next(iter(data.val_dataloader()))).detach())
    options = {"logger": False, "accelerator": "cpu", "enable_progress_bar": False, "ema_decay": 0.0}
    assert fit(task, data, tmp_path, max_steps=10, **options).validation_loss < before


def test_property_weights_reach_the_loss(dataset):
    """Only the structures that count are in the loss."""
    structures = [Data(z=one.z, pos=one.pos, gap=one.energy) for one in dataset[:4]]
    for one, weight in zip(structures, (0.0, 2.0, 0.0, 0.0), strict=True):
        one.config_weight = torch.tensor([weight])
    torch.manual_seed(0)
    task = PropertyTask(SchNet(8, 8, 1, 10, cutoff=4.0, mean=-30.0), "gap")
    data = SplitDataModule(structures, {"train": [0, 1], "val": [2, 3]})
    task.check(data.dataset)
    batch = next(iter(SplitDataModule(structures, {"train": [0], "val": [1, 2, 3]}).val_dataloader()))
    error = (batch.gap - properties(task.model, batch).squeeze(1))[0] ** 2
    assert float(task.loss_on(batch).detach()) == pytest.approx(2 * float(error.detach()) / 3, rel=1e-5)


def test_float64_positions_far_from_the_origin_keep_their_digits():
    """Each structure is moved near the origin before it is rounded, those that are near stay."""
    pos = torch.randn(5, 3, dtype=torch.float64)
    offset = torch.tensor([[5e5, -3e6, 2e4]]).double().repeat(3, 1)
    batch = Batch.from_data_list(
        [Data(z=torch.ones(3).long(), pos=pos[:3] + offset), Data(z=torch.ones(2).long(), pos=pos[3:])]
    )
    moved = in_dtype_of(SchNet(4, 4, 1), batch).pos
    assert moved.dtype == torch.float32
    assert batch.pos.dtype == torch.float64
    torch.testing.assert_close(
        torch.cdist(moved[:3], moved[:3]), torch.cdist(pos[:3], pos[:3]).float(), rtol=0, atol=1e-6
    )
    assert torch.equal(moved[3:], pos[3:].float())
