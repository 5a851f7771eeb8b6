"""Contributions add up to what the model predicts, and the figure shows them."""

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data

pytest.importorskip("ase")
pytest.importorskip("matplotlib")
from ase.build import bulk, molecule

from pyg_schnet import Potential, SchNet
from pyg_schnet.analysis.decomposition import energy_decomposition
from pyg_schnet.analysis.decomposition_figure import draw_decomposition
from pyg_schnet.models import DTNN, Committee, CommitteePotential, EnnS2S
from pyg_schnet.simulation.ase import atoms_to_data
from pyg_schnet.units import KCAL_PER_MOL

ATOMS = torch.zeros(10)
ATOMS[[1, 6, 8]] = torch.tensor([-13.6, -1029.9, -2042.6])


def small(preset="jcp2018", seed=0, **options):
    torch.manual_seed(seed)
    return SchNet.preset(preset, hidden_channels=8, num_filters=8, num_interactions=2, **options).eval()


def ethanol(dtype=torch.float32):
    return atoms_to_data(molecule("CH3CH2OH"), dtype)


@pytest.mark.parametrize("make", [small, DTNN, lambda **o: small("pyg", **o).freeze()])
def test_sum_is_the_prediction(make):
    """In float32, with a total energy of which a float32 step is 0.5 meV; what Potential says, too."""
    model = make(atomref=ATOMS, mean=-0.3, std=0.7).eval()
    found = energy_decomposition(model, ethanol())
    assert found.contributions.dtype == torch.float64
    assert abs(found.prediction) > 4000.0
    # float32 sums of nine numbers of order one
    assert found.total == pytest.approx(found.prediction, abs=2e-6)
    assert found.prediction == pytest.approx(float(Potential(model)(ethanol())["energy"]), abs=2e-6)
    assert found.total == pytest.approx(float(found.contributions.sum()), abs=1e-12)
    assert torch.equal(found.contributions, model.contributions(ethanol())[:, 0])


def test_mean_of_a_crystal():
    model = small("jcp2018-materials").double()
    data = atoms_to_data(bulk("NaCl", "rocksalt", 5.64), torch.float64)
    found = energy_decomposition(model, data)
    assert found.how == "mean"
    assert found.total == pytest.approx(float(model(data).detach()), abs=1e-12)
    assert found.total == pytest.approx(float(found.contributions.mean()), abs=1e-14)
    assert found.less == ""  # one atom of each element, no references
    assert draw_decomposition(model, data).get_title().splitlines()[1].startswith("mean of the atoms")


def test_baselines():
    """Single atoms as the model has them, or means that leave nothing over for each element."""
    data, model = ethanol(), small(atomref=ATOMS)
    auto = energy_decomposition(model, data)
    assert auto.less == "the single-atom value of its element"
    np.testing.assert_allclose(auto.baseline, ATOMS.double()[data.z])
    element = energy_decomposition(model, data, less="element")
    rest = element.contributions - element.baseline
    for number in (1, 6, 8):
        assert float(rest[data.z == number].sum()) == pytest.approx(0.0, abs=1e-10)
        assert len(element.baseline[data.z == number].unique()) == 1
    assert energy_decomposition(small(), data).less == "the mean of its element"
    assert not bool(energy_decomposition(model, data, less="none").baseline.any())
    assert energy_decomposition(small(), Data(z=torch.tensor([8]), pos=torch.zeros(1, 3))).less == ""


def test_equivalent_atoms_of_benzene():
    """Six-fold symmetry: carbon atoms have one contribution, hydrogen atoms another."""
    data = atoms_to_data(molecule("C6H6"), torch.float64)
    found = energy_decomposition(small().double(), data)
    for number in (1, 6):
        # ASE's geometry has six decimals
        assert float(found.contributions[data.z == number].std()) < 1e-5
    assert abs(float(found.contributions[0] - found.contributions[-1])) > 1e-3


def test_units():
    """A model in kcal/mol gives eV; what is no energy keeps its unit; nothing is said where nothing is known."""
    model, data = small(atomref=ATOMS), ethanol()
    plain = energy_decomposition(model, data)
    assert plain.unit == ""
    model.units = {"energy": "kcal/mol", "forces": "kcal/mol/Ang"}
    converted = energy_decomposition(model, data)
    assert converted.unit == "eV"
    np.testing.assert_allclose(converted.contributions, KCAL_PER_MOL * plain.contributions)
    np.testing.assert_allclose(converted.baseline, KCAL_PER_MOL * plain.baseline)
    assert converted.prediction == pytest.approx(KCAL_PER_MOL * plain.prediction)
    model.units = {"pos": "Ang", "alpha": "a0^3"}
    assert energy_decomposition(model, data).unit == "a0^3"
    assert draw_decomposition(model, data).get_title().splitlines()[0].endswith("a₀³")


def test_several_targets_and_training_mode():
    model = small(out_channels=2).train()
    data = ethanol()
    second = energy_decomposition(model, data, target=1)
    assert second.total == pytest.approx(float(model(data)[0, 1].detach()), abs=1e-6)
    assert model.training
    with pytest.raises(ValueError, match="`target` must be at least 0 and at most 1, got 2"):
        energy_decomposition(model, data, target=2)
    with pytest.raises(TypeError, match="`target` must be an integer, got str"):
        energy_decomposition(model, data, target="gap")
    model.units = {"pos": "Ang", "mu": "D", "gap": "kcal/mol"}  # of the same targets, in their order
    converted = energy_decomposition(model, data, target=1)
    assert converted.unit == "eV"
    assert converted.total == pytest.approx(KCAL_PER_MOL * second.total)


def test_committee_and_potentials():
    """The mean of the members; potentials are looked through."""
    members = [small(seed=seed) for seed in (0, 1)]
    committee, data = Committee(members), ethanol()
    found = energy_decomposition(committee, data)
    expected = sum(energy_decomposition(member, data).contributions for member in members) / 2
    np.testing.assert_allclose(found.contributions, expected, rtol=1e-6)
    assert found.total == pytest.approx(found.prediction, abs=1e-6)
    members[1].reference.atomref.fill_(-2.0)  # the mean of the members' single atoms, too
    baselines = [energy_decomposition(member, data, less="reference").baseline for member in members]
    torch.testing.assert_close(
        energy_decomposition(committee, data, less="reference").baseline, sum(baselines) / 2, rtol=1e-12, atol=0
    )
    found = energy_decomposition(committee, data)
    through = energy_decomposition(CommitteePotential(committee), data)
    assert torch.equal(through.contributions, found.contributions)
    one = energy_decomposition(Potential(members[0]), data)
    assert torch.equal(one.contributions, energy_decomposition(members[0], data).contributions)


def test_figure_shows_the_differences():
    """Title with both numbers; colours in the order of the contributions less the baseline."""
    model, data = small(atomref=ATOMS), ethanol()
    model.units = {"energy": "eV"}
    found = energy_decomposition(model, data)
    axes = draw_decomposition(model, data)
    first, second = axes.get_title().splitlines()
    assert first == f"prediction {found.prediction:.3f} eV"
    assert second == f"sum of the atoms {found.prediction:.3f} eV"
    bar = axes.figure.axes[1]
    assert bar.get_ylabel() == "contribution (eV)\nless the single-atom value of its element"
    shown = (found.contributions - found.baseline).numpy()
    drawn = draw_decomposition(found, data, cmap="gray", limits=(shown.min(), shown.max()))
    brightness = [patch.get_facecolor()[0] for patch in drawn.patches]
    assert np.corrcoef(brightness, shown)[0, 1] > 0.9999  # 256 shades of grey


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda d: energy_decomposition(small(), d, less="atoms"), ValueError, "must be one of 'auto'"),
        (lambda d: energy_decomposition("file", d), TypeError, "model of atoms such as SchNet, got str"),
        (lambda d: energy_decomposition(EnnS2S(), d), ValueError, "contributions of atoms exist for"),
        (lambda d: energy_decomposition(small(readout="dipole"), d), ValueError, "contributions of atoms exist for"),
        (lambda d: energy_decomposition(small(), 3), TypeError, "`data` must be a Data"),
        (lambda d: energy_decomposition(small().double(), d), TypeError, "convert one of them"),
        (lambda d: energy_decomposition(small(), Batch.from_data_list([d, d])), ValueError, "one by one"),
    ],
)
def test_bad_input(call, kind, text):
    with pytest.raises(kind, match=text):
        call(ethanol())
