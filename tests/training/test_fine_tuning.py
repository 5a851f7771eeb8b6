"""Trained models that learn further: what they keep, what moves, which layers learn, and that it pays."""

import pytest
import torch
from torch_geometric.data import Data, InMemoryDataset

from pyg_schnet import Potential, SchNet, load, save
from pyg_schnet.datasets import MD17, random_split
from pyg_schnet.datasets.targets import Target
from pyg_schnet.models import properties
from pyg_schnet.training import PotentialTask, PropertyTask, SplitDataModule, fit, read_checkpoint
from pyg_schnet.training.references import set_references

SMALL = {"hidden_channels": 16, "num_filters": 16, "num_interactions": 1, "num_gaussians": 20, "cutoff": 5.0}
MIXED = [[1, 1], [8, 1, 1], [8, 8], [6, 1, 1, 1, 1], [6, 8], [6, 8, 8], [6, 6, 1, 1], [8, 1, 1]]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return MD17(tmp_path_factory.mktemp("md17"), "ethanol_xtb", log=False)


@pytest.fixture
def trained(scramble):
    """A model whose weights, biases and references are all its own."""
    return scramble(SchNet(**SMALL, mean=-30.0, std=0.25))


class Labelled(InMemoryDataset):
    """Structures of the given atoms with given energies."""

    units = {"energy": "eV"}  # noqa: RUF012

    def __init__(self, elements, energies):
        super().__init__(None)
        generator = torch.Generator().manual_seed(3)
        structures = [
            Data(z=torch.tensor(z), pos=2 * torch.randn(len(z), 3, generator=generator), energy=energy.view(1))
            for z, energy in zip(elements, torch.as_tensor(energies, dtype=torch.float64), strict=True)
        ]
        self.data, self.slices = self.collate(structures)


def predicted(model, elements):
    dataset = Labelled(elements, torch.zeros(len(elements)))
    return torch.cat([properties(model, one).detach().view(1) for one in dataset])


ENERGY = [Target("energy", "energy", None, "eV")]


@pytest.mark.parametrize("rule", ["auto", "mean", "fit", "atomref"])
def test_trained_model_keeps_its_scale_and_its_forces(dataset, trained, rule):
    """Labels of another method lie 500 eV lower and spread differently: only the energies move."""
    other = dataset.copy(range(60))
    other._data.energy = other._data.energy * 3 - 500
    before = Potential(trained)(dataset[0])
    task = PotentialTask(trained, references=rule)
    task.prepare(SplitDataModule(other, random_split(60, 50, 10)))
    assert trained.reference.std.tolist() == [0.25]
    after = Potential(trained.eval())(dataset[0])
    assert torch.equal(after["forces"], before["forces"])
    errors = [float(other[int(i)].energy - Potential(trained)(other[int(i)])["energy"]) for i in range(60)]
    assert abs(sum(errors) / 60) < 1


def test_none_changes_nothing(dataset, trained):
    before = trained.reference.mean.clone()
    PotentialTask(trained, references="none").prepare(SplitDataModule(dataset, random_split(2000, 50, 10)))
    assert torch.equal(trained.reference.mean, before)


def test_offset_by_element_is_found(trained, capfd):
    """Labels that differ from the predictions by so much for each atom of an element, and by nothing else."""
    true = {1: -13.6, 6: 1030.0, 8: -2041.0}
    labels = predicted(trained, MIXED) + torch.tensor([sum(true[z] for z in one) for one in MIXED]).double()
    references = {z: float(trained.reference(torch.tensor([z]))) for z in (*true, 9)}
    set_references(trained, Labelled(MIXED, labels), ENERGY, "auto")
    for z, value in true.items():
        assert float(trained.reference(torch.tensor([z]))) - references[z] == pytest.approx(value, abs=1e-3)
    # the rest of the periodic table moves with the mean
    sizes = torch.tensor([len(one) for one in MIXED]).double()
    shift = float((sizes * (labels - predicted(trained, MIXED) + 0 * sizes)).sum())
    assert abs(shift) < 1e-2
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "keeps the scale 0.25 eV" in said
    assert all(f" {symbol} " in said for symbol in ("H", "C", "O"))


def test_one_composition_moves_as_a_whole(trained):
    """Nothing tells its elements apart: each atom moves by the mean, and no single-atom value appears."""
    elements = [[6, 1, 1, 1, 1]] * 6
    labels = predicted(trained, elements) - 500 + 0.1 * torch.randn(6).double()
    expected = trained.reference.mean + (labels - predicted(trained, elements)).mean() / 5
    set_references(trained, Labelled(elements, labels), ENERGY, "auto")
    torch.testing.assert_close(trained.reference.mean, expected, rtol=1e-9, atol=0)
    assert not trained.reference.atomref.any()


def test_elements_that_always_come_together_move_alike(trained):
    """Water and peroxide's halves differ in size alone: the same offset for each atom, not a guess for each element."""
    elements = [[8, 1], [8, 1, 8, 1], [8, 1, 8, 1, 8, 1], [8, 1], [8, 1, 8, 1]]
    sizes = torch.tensor([len(one) for one in elements]).double()
    set_references(trained, Labelled(elements, predicted(trained, elements) - 7 * sizes), ENERGY, "auto")
    assert float(trained.reference.mean) == pytest.approx(-37, abs=1e-4)
    assert not trained.reference.atomref.any()


def test_noise_is_no_offset(trained):
    """Oxygen in one structure among many: what that one is off by is mostly not its element's."""
    elements = [[6, 1, 1, 1, 1], [6, 6, 1, 1]] * 20 + [[6, 8]]
    noise = 0.5 * torch.randn(41, generator=torch.Generator().manual_seed(1)).double()
    noise[-1] = 1.5
    set_references(trained, Labelled(elements, predicted(trained, elements) + noise), ENERGY, "auto")
    assert abs(float(trained.reference(torch.tensor([8]))) + 30) < 1.2


@pytest.mark.parametrize("readout", ["mean", "max"])
def test_intensive_properties_move_by_the_mean(scramble, readout):
    model = scramble(SchNet(**SMALL, readout=readout, std=2.0))
    labels = predicted(model, MIXED) + 4.5
    set_references(model, Labelled(MIXED, labels), ENERGY, "mean")
    assert model.reference.std.tolist() == [2.0]
    torch.testing.assert_close(predicted(model, MIXED), labels, rtol=0, atol=1e-4)


def test_labels_that_are_not_known_do_not_move_it(trained):
    labels = predicted(trained, MIXED) + 4.0 * torch.tensor([len(one) for one in MIXED]).double()
    labels[2] = torch.nan
    set_references(trained, Labelled(MIXED, labels), ENERGY, "auto")
    assert float(trained.reference.mean) == pytest.approx(-26, abs=1e-4)


def test_loaded_model_trains(dataset, tmp_path):
    """It is read in evaluation mode, and may be frozen or have been kept from learning."""
    model = SchNet(**SMALL)
    save(model, tmp_path / "model.safetensors")
    model.freeze()
    save(model, tmp_path / "frozen.safetensors")
    kept = load(tmp_path / "model.safetensors").requires_grad_(False)
    for number, one in enumerate([load(tmp_path / "model.safetensors"), load(tmp_path / "frozen.safetensors"), kept]):
        before = one.embedding.weight.clone()
        data = SplitDataModule(dataset, {"train": range(16), "val": range(16, 24)}, batch_size=8)
        fit(PotentialTask(one), data, tmp_path / str(number), max_steps=2, logger=False, accelerator="cpu")
        assert not one.frozen
        assert bool((one.embedding.weight != before).any())
        assert all(parameter.requires_grad for parameter in one.parameters())


@pytest.mark.parametrize("filters", ["exact", "auto"])
def test_layers_that_are_kept_and_slower_ones(dataset, tmp_path, filters):
    """The first step of Adam is as long as the rate, whatever the gradient."""
    model = SchNet(**SMALL, filters=filters)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    task = PotentialTask(model, learning_rate=1e-2, freeze=["embedding"], backbone_rate=0.1)
    data = SplitDataModule(dataset, {"train": range(8), "val": range(8, 12)}, batch_size=8)
    fit(task, data, tmp_path, max_steps=1, logger=False, accelerator="cpu")
    moved = {name: float((value - before[name]).detach().abs().max()) for name, value in model.named_parameters()}
    assert moved["embedding.weight"] == 0
    assert moved["output.lin1.weight"] == pytest.approx(1e-2, rel=1e-2)
    inner = [value for name, value in moved.items() if name.startswith("interactions")]
    assert max(inner) == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("backbone_rate", [1.0, 0.1])
def test_matrices_decay_and_nothing_else_does(dataset, tmp_path, backbone_rate):
    """By the rate times the decay in a step, beside the step of Adam."""

    def after_a_step(decay):
        model = SchNet(**SMALL)
        model.load_state_dict(start)
        task = PotentialTask(model, learning_rate=1e-2, backbone_rate=backbone_rate, weight_decay=decay)
        data = SplitDataModule(dataset, {"train": range(8), "val": range(8, 12)}, batch_size=8)
        fit(task, data, tmp_path / str(decay), max_steps=1, logger=False, accelerator="cpu")
        return dict(model.named_parameters())

    start = SchNet(**SMALL).state_dict()
    kept, decayed = after_a_step(0.0), after_a_step(0.5)
    for name, value in decayed.items():
        rate = 1e-2 * (1 if name.startswith("output") else backbone_rate)
        lost = 0.5 * rate * start[name] if value.dim() > 1 and "embedding" not in name else torch.zeros(())
        torch.testing.assert_close(kept[name] - value, lost.expand_as(value), rtol=0, atol=1e-6)


def test_layers_the_user_has_frozen_stay_frozen(dataset, tmp_path):
    model = SchNet(**SMALL)
    model.embedding.requires_grad_(False)
    before = model.embedding.weight.clone()
    data = SplitDataModule(dataset, {"train": range(8), "val": range(8, 12)}, batch_size=8)
    fit(PotentialTask(model), data, tmp_path, max_steps=1, logger=False, accelerator="cpu")
    assert torch.equal(model.embedding.weight, before)


def test_fine_tuning_can_be_resumed(dataset, tmp_path, trained):
    """With its own groups of rates, from the file it began with; other layers or rates are refused."""
    save(trained, tmp_path / "start.safetensors")

    def run(folder, steps, resume=False, **options):
        data = SplitDataModule(dataset, {"train": range(16), "val": range(16, 24)}, batch_size=8)
        options = {"freeze": ["embedding"], "backbone_rate": 0.5} | options
        task = PotentialTask(load(tmp_path / "start.safetensors"), **options)
        options = {"max_steps": steps, "validate_every": 2, "resume": resume, "logger": False, "accelerator": "cpu"}
        fit(task, data, tmp_path / folder, **options)
        return read_checkpoint(tmp_path / folder / "last.ckpt")

    whole = run("whole", 6)
    run("parts", 2)
    with pytest.raises(ValueError, match=r"freeze was \['embedding'\], now \[\]"):
        run("parts", 6, resume=True, freeze=[])
    parts = run("parts", 6, resume=True)
    assert all(torch.equal(value, parts["state_dict"][name]) for name, value in whole["state_dict"].items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze": ["embeddings"]}, "must name layers of the model, embedding, .* got 'embeddings'"),
        ({"freeze": ["embedding", "interactions", "output"]}, "leaves no weight to learn"),
        ({"backbone_rate": 0.0}, "must be a positive factor, got 0.0; to keep layers as they are, name them"),
        ({"weight_decay": -0.1}, "`weight_decay` must be a number of at least 0, such as 0.01, got -0.1"),
    ],
)
def test_impossible_layers_are_refused(options, message):
    for task in (PotentialTask, lambda model, **given: PropertyTask(model, "U0", **given)):
        with pytest.raises(ValueError, match=message):
            task(SchNet(**SMALL), **options)


@pytest.mark.parametrize("what", [Potential, lambda _: "model.safetensors"])
def test_what_is_no_model_is_refused(what):
    with pytest.raises(TypeError, match="`model` must be a model such as SchNet, got (Potential|str); "):
        PotentialTask(what(SchNet(**SMALL)))


def test_a_hundred_frames_teach_a_trained_model_more(tmp_path, dataset):
    """Another level of theory: energies lie elsewhere, and the surface is stiffer; from scratch takes far longer."""
    torch.manual_seed(0)
    options = {"validate_every": 50, "logger": False, "accelerator": "cpu"}
    sizes = SMALL | {"filters": "auto", "cutoff_function": "mollifier"}
    data = SplitDataModule(dataset, random_split(2000, 600, 50, seed=1), batch_size=20)
    before = fit(PotentialTask(SchNet(**sizes), learning_rate=1e-2), data, tmp_path / "old", max_steps=250, **options)
    other = dataset.copy()
    other._data.energy = 1.1 * other._data.energy - 500
    other._data.forces = 1.1 * other._data.forces
    losses = []
    for number, model in enumerate([load(before.model), SchNet(**sizes)]):
        data = SplitDataModule(other, random_split(2000, 100, 50, seed=2), batch_size=20)
        task = PotentialTask(model, learning_rate=2e-3)
        losses.append(fit(task, data, tmp_path / str(number), max_steps=50, **options).validation_loss)
    assert losses[0] < 0.5 * losses[1]
