"""The constant of integration that forces leave open."""

from types import SimpleNamespace

import pytest
import torch
from torch_geometric.data import Data, InMemoryDataset

from pyg_schnet import SchNet, load
from pyg_schnet.datasets import MD17, random_split
from pyg_schnet.models import properties
from pyg_schnet.training import PotentialTask, SplitDataModule, fit
from pyg_schnet.training.result import fit_integration_constant

SIZES = [3, 1, 4, 2, 3, 5]


class Chains(InMemoryDataset):
    """Atoms in a row, with any energies."""

    def __init__(self, energies):
        super().__init__(None)
        structures = [
            Data(z=torch.ones(n, dtype=torch.long), pos=torch.arange(3.0 * n, dtype=torch.float64).view(n, 3), energy=e)
            for n, e in zip(SIZES, energies.unsqueeze(1), strict=True)
        ]
        self.data, self.slices = self.collate(structures)


def data_of(dataset, train=(0, 1, 2, 3)):
    split = {"train": torch.tensor(train), "val": torch.tensor([4, 5])}
    return SimpleNamespace(dataset=dataset, split=split, batch_size=3)


def rests(model, dataset):
    return torch.stack([one.energy - properties(model, one).detach().view(1) for one in dataset]).view(-1)


@pytest.mark.parametrize("readout", ["add", "mean", "max"])
def test_closed_form(readout):
    """Least squares over the training set: no other shift leaves a smaller error."""
    dataset = Chains(-20.0 + 5 * torch.randn(6, dtype=torch.float64))
    model = SchNet(4, 4, 1, num_gaussians=5, readout=readout, mean=-1.5, std=2.0).double()
    before, start = rests(model, dataset)[:4], model.reference.mean.clone()
    n = torch.tensor(SIZES[:4]).double() if readout == "add" else torch.ones(4).double()
    fit_integration_constant(model, data_of(dataset))
    expected = (n * before).sum() / n.square().sum()
    torch.testing.assert_close(model.reference.mean, start + expected, rtol=1e-12, atol=0)
    after = rests(model, dataset)[:4]
    torch.testing.assert_close(after, before - expected * n, rtol=1e-12, atol=1e-12)
    assert float((n * after).sum()) == pytest.approx(0, abs=1e-12)  # the normal equation


def test_energies_that_are_not_known():
    energies = -20.0 + torch.randn(6, dtype=torch.float64)
    energies[1] = torch.nan
    dataset, model = Chains(energies), SchNet(4, 4, 1, num_gaussians=5).double()
    other = SchNet(4, 4, 1, num_gaussians=5).double()
    other.load_state_dict(model.state_dict())
    fit_integration_constant(model, data_of(dataset))
    fit_integration_constant(other, data_of(dataset, train=(0, 2, 3)))
    torch.testing.assert_close(model.reference.mean, other.reference.mean, rtol=1e-14, atol=0)
    none, mean = Chains(torch.full((6,), torch.nan)), model.reference.mean.clone()
    fit_integration_constant(model, data_of(none))
    assert torch.equal(model.reference.mean, mean)


@pytest.mark.parametrize("validated", [True, False], ids=["validated", "not validated"])
@pytest.mark.parametrize("rho", [0.0, 0.1])
def test_run_on_forces_alone(tmp_path, rho, validated):
    """One molecule: the mean error of its training energies vanishes, with rho above zero it does not."""
    dataset = MD17(tmp_path, "ethanol_xtb", log=False)[:100]
    task = PotentialTask(SchNet(4, 4, 1, num_gaussians=8, cutoff=4.0), rho, learning_rate=1e-2)
    data = SplitDataModule(dataset, random_split(100, 16, 8), batch_size=8)
    options = {"max_steps": 6, "validate_every": 2 if validated else 100, "accelerator": "cpu"}
    model = load(fit(task, data, tmp_path / "run", **options).model)
    error = rests(model, dataset[data.split["train"]]).mean().abs()
    if rho == 0:
        assert error < 1e-5  # float32 forward passes in batches of another size, energies of -310 eV in float64
    else:
        assert error > 1e-3


def test_what_no_file_can_hold_is_not_lost(tmp_path):
    """A run of a model with an adapter."""
    dataset = MD17(tmp_path, "ethanol_xtb", log=False)[:40]
    model = SchNet(4, 4, 1, num_gaussians=8, cutoff=4.0)
    torch.nn.utils.parametrizations.weight_norm(model.output.lin1)
    before = model.embedding.weight.detach().clone()
    data = SplitDataModule(dataset, random_split(40, 16, 8), batch_size=8)
    task = PotentialTask(model, learning_rate=1e-2)
    with pytest.warns(UserWarning, match=r"not written, the trained model is `task.model`.*output.lin1"):
        result = fit(task, data, tmp_path / "run", max_steps=2, validate_every=2, accelerator="cpu")
    assert not result.model.exists()
    assert not torch.equal(task.model.embedding.weight, before)
