"""Errors and their figure."""

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from pyg_schnet import Potential, SchNet
from pyg_schnet.analysis import Predictions, error_summary, parity_plot, predict


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    energy, forces = rng.normal(size=6), rng.normal(size=(18, 3))
    return Predictions(energy, energy + np.array([1, -1, 1, -1, 2, -2]), forces, forces + 0.5)


def test_summary_by_hand(predictions):
    summary = error_summary(predictions, "eV")
    assert summary["energy_mae"] == pytest.approx(8 / 6)
    assert summary["energy_rmse"] == pytest.approx(np.sqrt(12 / 6))
    assert summary["forces_mae"] == summary["forces_rmse"] == pytest.approx(0.5)


def test_units(predictions):
    # 1 eV = 23.0605 kcal/mol (NIST)
    ratio = error_summary(predictions)["energy_mae"] / error_summary(predictions, "eV")["energy_mae"]
    assert ratio == pytest.approx(23.0605, abs=1e-4)


def test_predict_is_the_potential_structure_by_structure():
    torch.manual_seed(0)
    model = SchNet.preset("jcp2018", num_interactions=1, hidden_channels=8, num_filters=8)
    frames = []
    for n in (3, 1, 5):
        z, pos = torch.randint(1, 9, (n,)), torch.randn(n, 3) * 2
        frames.append(Data(z=z, pos=pos, energy=torch.randn(1).double(), forces=torch.randn(n, 3)))
    predictions = predict(model, frames, batch_size=2, progress=False)
    singles = [Potential(model.eval())(frame) for frame in frames]
    # float32 sums in another order: a few steps of 1e-7
    np.testing.assert_allclose(predictions.energy, [float(out["energy"]) for out in singles], atol=1e-6)
    np.testing.assert_allclose(predictions.forces, torch.cat([out["forces"] for out in singles]), atol=1e-6)
    np.testing.assert_array_equal(predictions.energy_target, torch.cat([frame.energy for frame in frames]))


def test_nothing_to_evaluate():
    with pytest.raises(ValueError, match="no structure to evaluate"):
        predict(SchNet(8, 8, 1), [])


def test_parity_plot(predictions, tmp_path):
    path = parity_plot(predictions, tmp_path / "new" / "parity.png")
    assert path.read_bytes().startswith(b"\x89PNG")
