"""What is said of the data before a run, and what of them is doubted."""

import warnings

import pytest
import torch
from torch_geometric.data import Data

from pyg_schnet import SchNet
from pyg_schnet.datasets import MD17, QM9, random_split
from pyg_schnet.training import PotentialTask, PropertyTask, SplitDataModule, fit
from pyg_schnet.units import conversion


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return MD17(tmp_path_factory.mktemp("md17"), "ethanol_xtb", log=False)[:24]


def run(structures, folder, **options):
    data = SplitDataModule(structures, {"train": range(16), "val": range(16, 24)}, batch_size=8)
    options = {"logger": False, "accelerator": "cpu"} | options
    fit(PotentialTask(SchNet(4, 4, 1)), data, folder, max_steps=1, **options)


def test_one_line_before_it_starts(dataset, tmp_path, capfd):
    run(dataset, tmp_path / "run")
    said = capfd.readouterr().err
    energies = torch.stack([one.energy for one in dataset[:16]]).view(-1) / 9
    force = float(torch.cat([one.forces for one in dataset[:16]]).double().square().mean().sqrt())
    line = (
        f"16 training and 8 validation examples of H, C, O (9 atoms each); energy per atom {float(energies.mean()):.6g}"
        f", spread {float(energies.std(correction=0)):.3g} eV; RMS force {force:.3g} eV/Ang\n"
    )
    assert said.count(line) == 1
    assert said.index(line) == 0
    run(dataset, tmp_path / "silent", enable_progress_bar=False)
    assert capfd.readouterr().err.strip() == ""


def test_missing_labels_are_counted(dataset, capfd, tmp_path):
    structures = list(dataset)
    del structures[3].forces
    structures[4].forces[:2] = torch.nan
    structures[5].energy = torch.full_like(structures[5].energy, torch.nan)
    run(structures, tmp_path)
    said = capfd.readouterr().err
    assert " eV, 1 not known; " in said
    assert " eV/Ang, 11 of 144 atoms without\n" in said


def scaled(dataset, energy=1.0, forces=1.0):
    return [Data(z=one.z, pos=one.pos, energy=energy * one.energy, forces=forces * one.forces) for one in dataset]


def all_electrons(dataset):
    """Total energies of density-functional theory, in eV."""
    return [Data(z=one.z, pos=one.pos, energy=one.energy * 0 - 4216.0, forces=one.forces) for one in dataset]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda dataset: scaled(dataset, forces=conversion("eV", "kcal/mol")), "the RMS force .* in kcal/mol/Ang"),
        (
            lambda dataset: scaled(all_electrons(dataset), energy=23.06),
            "deeper than with all electrons; .* in kcal/mol",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # those of other packages, in newer versions of Python
def test_other_units_are_doubted(dataset, tmp_path, change, message):
    with pytest.warns(UserWarning, match=message):
        run(change(dataset), tmp_path)


def test_what_is_usual_is_not_doubted(dataset, tmp_path):
    with warnings.catch_warnings(action="error", category=UserWarning):
        run(dataset, tmp_path / "valence")
        run(all_electrons(dataset), tmp_path / "all")


def test_energies_alone_need_no_forces(dataset, tmp_path):
    structures = [Data(z=one.z, pos=one.pos, energy=one.energy, forces=one.forces * torch.nan) for one in dataset]
    with pytest.raises(ValueError, match="no training example has a known `forces` to learn; set `forces=False`"):
        run(structures, tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("weight", "message"),
    [(-1.0, "`config_weight` must be at least 0"), (0.0, "all weights of the training set are zero")],
)
def test_impossible_weights(dataset, tmp_path, weight, message):
    structures = scaled(dataset)
    for one in structures:
        one.config_weight = torch.tensor([weight])
    with pytest.raises(ValueError, match=message):
        run(structures, tmp_path)


def test_properties(tmp_path, capfd):
    dataset = QM9(tmp_path / "data", "bundled", log=False)
    data = SplitDataModule(dataset, random_split(len(dataset), 16, 8), batch_size=8)
    task = PropertyTask(SchNet(4, 4, 1, readout="mean"), "gap")
    fit(task, data, tmp_path / "run", max_steps=1, logger=False, accelerator="cpu")
    said = capfd.readouterr().err.splitlines()[0]
    values = torch.cat([dataset[int(k)].y[:, dataset.targets["gap"]] for k in data.split["train"]])
    assert said.startswith("16 training and 8 validation examples of ")
    assert f"; gap {float(values.mean()):.6g}, spread " in said


def test_weights_that_leave_nothing_to_learn(dataset, tmp_path):
    """Each of the labels is switched off, though none of the structures is."""
    structures = scaled(dataset)
    for one in structures:
        one.config_energy_weight, one.atom_weight = torch.zeros(1), torch.zeros(len(one.z))
    with pytest.raises(ValueError, match="all weights of the training set are zero"):
        run(structures, tmp_path)


def test_validation_examples_without_labels(dataset, tmp_path):
    """Their loss would be zero, and the first model the best."""
    structures = scaled(dataset)
    for one in structures[16:]:
        one.energy, one.forces = one.energy * torch.nan, one.forces * torch.nan
    with pytest.raises(ValueError, match="no validation example has a known value"):
        run(structures, tmp_path)
    structures[20].forces = dataset[20].forces
    run(structures, tmp_path)


def test_elements_that_do_not_exist(dataset, tmp_path):
    for number in (0, 119):
        structures = scaled(dataset)
        structures[3].z = structures[3].z.index_fill(0, torch.tensor([2]), number)
        with pytest.raises(ValueError, match=f"atomic numbers from 1 to 118, got {number}; remove"):
            run(structures, tmp_path)
