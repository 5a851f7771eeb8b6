"""Steps of training in few shapes: loss, gradients and new weights of the ordinary step."""

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Callback
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from pyg_schnet import SchNet
from pyg_schnet.compiling import loops_of
from pyg_schnet.graph import hidden_values
from pyg_schnet.models import DTNN, EnnS2S
from pyg_schnet.training import PotentialTask, PropertyTask, RecordedTraining, RunTrainer, SplitDataModule
from pyg_schnet.training.padding import Padded, Sizes, padded, sizes_for
from pyg_schnet.training.recordable import RecordableOptimizer, as_on_cpu
from pyg_schnet.training.recorded import gradients_on
from pyg_schnet.training.recorded_fit import against_recording
from pyg_schnet.transforms import RadiusGraph

MakeModel = Callable[..., Any]
VARIANTS: dict[str, dict[str, Any]] = {
    "exact": {"cutoff_function": None, "filters": "exact"},
    "automatic": {"filters": "auto", "cutoff_function": "polynomial"},
    "counted": {"normalization": "mean", "cutoff_function": None},
    "smoothly counted, shared": {"normalization": "smooth", "shared_interactions": True},
    "mean": {"readout": "mean", "cutoff_function": "mollifier"},
    "set2set": {"readout": "set2set"},
    "no interactions": {"num_interactions": 0},
    "repulsion": {"repulsion": "zbl"},
}


def structure(atoms: int, dtype: torch.dtype = torch.float64, crystal: bool = False) -> Data:
    """Random atoms with random labels."""
    edge = 1.6 * max(atoms, 2) ** (1 / 3)
    data = Data(z=torch.randint(1, 9, (atoms,)), pos=edge * torch.rand(atoms, 3, dtype=dtype))
    data.energy, data.forces = torch.randn(1, dtype=torch.float64), torch.randn(atoms, 3, dtype=dtype)
    data.stress, data.cell = torch.full((1, 3, 3), torch.nan, dtype=dtype), torch.zeros(1, 3, 3, dtype=dtype)
    data.pbc = torch.full((1, 3), crystal)
    if crystal:
        data.stress, data.cell = 0.1 * torch.randn(1, 3, 3, dtype=dtype), edge * torch.eye(3, dtype=dtype).unsqueeze(0)
    return data


def batches(sizes: list[list[int]], **options: Any) -> list[Batch]:
    return [Batch.from_data_list([structure(atoms, **options) for atoms in batch]) for batch in sizes]


def ordinary(task: PotentialTask, optimizer: torch.optim.Optimizer) -> Callable[[Data], Tensor]:
    def step(batch: Data) -> Tensor:
        loss = task.loss_on(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def adam(task: PotentialTask) -> torch.optim.Optimizer:
    return torch.optim.Adam(task.parameters(), lr=3e-3, fused=True)


def twins(model: nn.Module, **options: Any) -> tuple[PotentialTask, PotentialTask]:
    return PotentialTask(model, **options), PotentialTask(copy.deepcopy(model), **options)  # type: ignore[arg-type]


def same_weights(one: nn.Module, other: nn.Module, limit: float) -> None:
    for (name, left), right in zip(one.named_parameters(), other.parameters(), strict=True):
        for a, b in ((left, right), (left.grad, right.grad)):
            if a is not None or b is not None:
                a, b = (torch.zeros_like(left) if one is None else one.detach() for one in (a, b))  # noqa: PLW2901
                assert (a - b).abs().max() <= limit * max(1.0, float(b.abs().max())), name


SIZES = [[3, 7, 4], [3, 8, 4], [12, 1, 9], [3, 7, 4], [5], [2, 2, 2, 2, 2, 9], [12, 2, 9]]


@pytest.mark.parametrize("variant", VARIANTS)
def test_several_steps_are_those_of_the_ordinary_task(make_model: MakeModel, variant: str) -> None:
    # round-off of 1e-16 becomes 1e-12 of the weights because Adam divides small gradients by their size
    one, other = twins(make_model(cutoff=3.0, std=2.0, mean=-1.0, **VARIANTS[variant]), rho=0.1)
    recorded, step = RecordedTraining(one, adam(one)), ordinary(other, adam(other))
    for batch in batches(SIZES):
        assert recorded(batch).item() == pytest.approx(step(batch).item(), rel=1e-11)
        same_weights(one, other, 1e-10)
    assert recorded.recordings < len(SIZES)


@pytest.mark.parametrize("options", [{"rho": 0.0}, {"forces": False}, {"rho_stress": 30.0}], ids=str)
def test_other_losses(make_model: MakeModel, options: dict[str, Any]) -> None:
    one, other = twins(make_model(cutoff=2.5), **options)
    recorded, step = RecordedTraining(one, adam(one)), ordinary(other, adam(other))
    for crystal in (True, False, True):
        for batch in batches([[4, 3], [5, 3, 3]], crystal=crystal):
            assert recorded(batch).item() == pytest.approx(step(batch).item(), rel=1e-11)
            same_weights(one, other, 1e-10)


@pytest.mark.parametrize("missing", [0, 1])
def test_in_float32_with_graphs_made_before(make_model: MakeModel, missing: int) -> None:
    """Edges that are given are pairs unless one has no opposite; energies stay float64."""
    one, other = twins(make_model(cutoff=3.0).float())
    recorded, step = RecordedTraining(one, torch.optim.SGD(one.parameters(), lr=1e-3)), None
    step = ordinary(other, torch.optim.SGD(other.parameters(), lr=1e-3))
    graph = RadiusGraph(3.0)
    for sizes in SIZES:
        made = [graph(structure(atoms, torch.float32)) for atoms in sizes]
        made[0].edge_index, made[0].edge_shift = made[0].edge_index[:, missing:], made[0].edge_shift[missing:]
        batch = Batch.from_data_list(made)
        paired = missing == 0 and loops_of("pyg_schnet.graph.numba_pairs") is not None
        assert (padded(one, batch).edge_pair is not None) == paired
        assert recorded(batch).item() == pytest.approx(step(batch).item(), rel=1e-5)
        same_weights(one, other, 1e-5)


def test_tables_are_those_of_all_distances(make_model: MakeModel) -> None:
    """Not those of a batch, so gradients agree to the accuracy of tables."""
    one, other = twins(make_model(cutoff=3.0, filters="table"))
    batch = batches([[6, 7, 8]])[0]
    RecordedTraining(one, torch.optim.SGD(one.parameters(), lr=0.0))(batch)
    ordinary(other, torch.optim.SGD(other.parameters(), lr=0.0))(batch)
    same_weights(one, other, 1e-4)


def test_another_model(scramble: Callable[[nn.Module], nn.Module]) -> None:
    one, other = twins(scramble(DTNN(8, cutoff=3.0).double()))
    recorded, step = RecordedTraining(one, adam(one)), ordinary(other, adam(other))
    for batch in batches(SIZES[:3]):
        assert recorded(batch).item() == pytest.approx(step(batch).item(), rel=1e-11)
        same_weights(one, other, 1e-10)


def test_labels_that_are_not_known(make_model: MakeModel) -> None:
    one, other = twins(make_model(cutoff=3.0))
    recorded, step, batch = RecordedTraining(one, adam(one)), ordinary(other, adam(other)), batches([[3, 4]])[0]
    batch.energy[1], batch.forces[2] = torch.nan, torch.nan
    assert recorded(batch).item() == pytest.approx(step(batch).item(), rel=1e-11)
    same_weights(one, other, 1e-10)


def test_what_fills_up_has_no_effect_whatever_it_is(make_model: MakeModel) -> None:
    task = PotentialTask(make_model(cutoff=3.0, cutoff_function=None, normalization="mean"))
    recorded, batch = RecordedTraining(task, torch.optim.SGD(task.parameters(), lr=0.0)), batches([[3, 7, 4]])[0]
    expected, gradients = recorded(batch), [one.grad for one in task.parameters()]
    filled = padded(task, batch)
    atoms, pairs = batch.num_nodes, len(task.model.edges(batch.z, batch.pos, batch.batch, 3).edge_vec)
    assert filled.z.numel() > atoms + 1
    assert len(filled.edge_vec) > pairs
    filled.z[atoms:], filled.pos[atoms:], filled.edge_vec[pairs:] = 99, torch.nan, 0.01
    filled.pair_index[:, pairs:] = atoms
    assert torch.equal(gradients_on(task, filled, {}), expected)
    for parameter, gradient in zip(task.parameters(), gradients, strict=True):
        if gradient is not None:
            torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=1e-14)


def test_shapes_are_kept_and_forgotten(make_model: MakeModel) -> None:
    task = PotentialTask(make_model(cutoff=2.0))
    recorded = RecordedTraining(task, adam(task), max_shapes=2)
    small, other, large = batches([[3, 4], [4, 3], [40, 40]])
    for batch, recordings in ((small, 1), (other, 1), (large, 2), (small, 2)):
        recorded(batch)
        assert recorded.recordings == recordings
    recorded(batches([[200]])[0])  # the large one is forgotten, it was used before the small one
    recorded(small)
    assert recorded.recordings == 3
    recorded(large)
    assert recorded.recordings == 4
    recorded(small)
    recorded(large)
    assert recorded.recordings == 4
    recorded(batches([[200]])[0])  # is forgotten, too
    assert recorded.recordings == 5


number = st.integers(0, 5000)


@given(st.lists(st.tuples(number, st.integers(1, 900), st.integers(1, 64)), min_size=1, max_size=20))
def test_there_is_room_and_not_too_much(numbers: list[tuple[int, int, int]]) -> None:
    """Whatever was there before: a structure and atoms to fill up with, few pairs for each of them, a bounded waste."""
    known: list[Sizes] = []
    for needed in (Sizes(*one) for one in numbers):
        sizes = sizes_for(needed, known)
        assert sizes.fit(needed)
        assert sizes.structures > needed.structures
        ghosts, empty = sizes.atoms - needed.atoms, sizes.pairs - needed.pairs
        assert empty >= 0
        assert ghosts >= 1
        assert empty <= 64 * ghosts
        assert sizes.pairs <= max(8, 2.1 * needed.pairs)
        known.append(sizes)


def test_a_structure_is_left_to_fill_up_with() -> None:
    """A shape whose structures would all be real ones is not taken."""
    first = sizes_for(Sizes(pairs=100, atoms=21, structures=1), [])
    for structures in (first.structures - 1, first.structures):
        found = sizes_for(Sizes(pairs=100, atoms=21, structures=structures), [first])
        assert (found == first) == (structures < first.structures)
        assert found.structures > structures


def test_batches_of_many_sizes_have_few_shapes() -> None:
    """Thirty-two molecules of 18 atoms, three more or less."""
    known: dict[Sizes, None] = {}
    for _ in range(300):
        atoms = (18 + 3 * torch.randn(32)).round().long()
        known[sizes_for(Sizes(int((atoms * (atoms - 1) // 2).sum()), int(atoms.sum()), 32), known)] = None
    assert len(known) <= 4


@pytest.mark.parametrize("variant", ["exact", "counted", "tables", "stress"])
def test_recorded_steps(make_model: MakeModel, stage: Any, variant: str) -> None:
    """Two shapes in turns: each is recorded once, and every step counts exactly once."""
    options = {"filters": "table"} if variant == "tables" else VARIANTS.get(variant, {})
    one, other = twins(make_model(cutoff=2.5, **options), rho_stress=10.0 if variant == "stress" else 0.0)
    recorded, step = RecordedTraining(one, adam(one)), ordinary(other, adam(other))
    if variant == "tables":
        optimizer = adam(other)

        def step(batch: Data) -> Tensor:
            return RecordedTraining(other, optimizer)(batch)  # a new one, which has no recording yet

    shapes = batches([[3, 4], [12, 9, 1]], crystal=variant == "stress")
    for _ in range(6):
        for batch in shapes:
            batch.forces = torch.randn_like(batch.forces)
            batch.pos = batch.pos + 1e-3 * torch.randn_like(batch.pos)
            assert recorded(batch).item() == pytest.approx(step(batch).item(), rel=1e-9)
    for left, right in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-9)
    assert recorded.recordings == 2
    assert [tape.played for tape in stage.tapes] == [12 - 3, 6 - 3, 6 - 3]  # new weights, and gradients of each shape
    assert not any(tape.constants for tape in stage.tapes) or variant == "tables"
    one.model.interactions[0] = copy.deepcopy(one.model.interactions[0])
    for batch in shapes:
        recorded(batch)
    assert recorded.recordings == 4  # those of the old layer are gone


def test_a_copy_trains_its_own_weights(make_model: MakeModel) -> None:
    task, (batch,) = PotentialTask(make_model(cutoff=3.0)), batches([[3, 7]])
    recorded = RecordedTraining(task, adam(task))
    recorded(batch)
    copied = copy.deepcopy(recorded)
    before, expected = [one.clone() for one in task.parameters()], copied(batch)
    assert all(map(torch.equal, before, task.parameters()))
    assert torch.equal(recorded(batch), expected)
    same_weights(task, copied.task, 0.0)


@pytest.mark.parametrize("options", [{}, {"filters": "table"}, {"normalization": "mean"}], ids=str)
def test_everything_is_on_the_device_of_the_model(
    make_model: MakeModel, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one without values, where nobody can look at them and no tensor of a CPU may take part."""
    task = PotentialTask(make_model(cutoff=3.0, **options), rho_stress=1.0)
    batch = padded(task, batches([[4, 3]], crystal=True)[0])
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)  # does not know this device
    task.to("meta")
    with hidden_values():
        slopes: dict[str, Tensor] = {}
        loss = gradients_on(task, Padded(*(None if one is None else one.to("meta") for one in batch)), slopes)
    assert loss.is_meta
    assert slopes
    assert all(slope.is_meta for slope in slopes.values())


def test_another_state_of_the_optimizer(make_model: MakeModel, stage: Any) -> None:
    """A run that goes back to an earlier state of weights and optimizer takes the same steps again."""
    task, (batch,) = PotentialTask(make_model(cutoff=3.0)), batches([[3, 7]])
    optimizer = adam(task)
    recorded = RecordedTraining(task, optimizer)
    for _ in range(5):
        recorded(batch)
    weights, state = copy.deepcopy(task.state_dict()), copy.deepcopy(optimizer.state_dict())
    first = [recorded(batch).item() for _ in range(6)]
    task.load_state_dict(weights)  # in place
    optimizer.load_state_dict(state)  # not
    assert [recorded(batch).item() for _ in range(6)] == pytest.approx(first, rel=1e-11)
    assert len(stage.tapes) == 3  # gradients once, new weights twice


def test_gradients_of_several_mini_batches(make_model: MakeModel, stage: Any) -> None:
    """Averaged, and clipped as a whole: by recordings as without."""
    one, other = twins(make_model(cutoff=2.5))

    def clipped(task: PotentialTask) -> None:
        nn.utils.clip_grad_norm_(task.parameters(), 0.1)

    recorded = RecordedTraining(one, adam(one), accumulate=2, clip=lambda: clipped(one))
    optimizer = adam(other)
    for number in range(6):
        optimizer.zero_grad()
        for batch in batches([[3, 4 + number % 2], [5, 2]]):
            loss = other.loss_on(batch)
            assert recorded.gradients(batch).item() == pytest.approx(loss.item(), rel=1e-9)
            (loss / 2).backward()
        clipped(other)
        optimizer.step()
        recorded.optimizer.zero_grad()  # nobody minds
        recorded.update()
        same_weights(one, other, 1e-8)
    assert len(stage.tapes) > 1  # of new weights, and of the shapes that came often enough


def test_gradients_are_those_of_copies(make_model: MakeModel) -> None:
    """What autograd keeps of the weights themselves may belong to another stream, as long as results are alive."""
    task, (batch,) = PotentialTask(make_model(cutoff=3.0)), batches([[3, 7]])
    seen: list[Tensor] = []
    for parameter in task.parameters():
        parameter.register_hook(seen.append)
    recorded = RecordedTraining(task, adam(task))
    before = recorded(batch)
    assert not seen
    assert recorded(batch) < before
    task.loss_on(batch).backward()
    assert seen


def test_optimizers_for_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates and counters are tensors that stay where they are, whatever a schedule or somebody else does to them."""
    parameter, device = nn.Parameter(torch.ones(2)), torch.device("cuda")
    moved = Tensor.to

    def to(self: Tensor, *where: Any, **how: Any) -> Tensor:
        return moved(self, *("cpu" if one == device else one for one in where), **how)

    monkeypatch.setattr(Tensor, "to", to)
    optimizer = torch.optim.Adam([parameter], lr=1e-3)
    parameter.sum().backward()
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    optimizer.step()
    recordable = RecordableOptimizer(optimizer, device)
    (group,) = optimizer.param_groups
    rate = group["lr"]
    assert group["capturable"]
    assert torch.is_tensor(optimizer.state[parameter]["step"])
    schedule.step()
    assert float(rate) == pytest.approx(5e-4)
    recordable.remember()
    group["lr"] = 0.25
    assert recordable.prepare()
    assert group["lr"] is rate
    assert float(rate) == 0.25
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert not recordable.prepare()
    assert optimizer.param_groups[0]["lr"] is rate
    with pytest.raises(ValueError, match="SGD cannot be recorded on a GPU; expected an optimizer with the argument"):
        RecordableOptimizer(torch.optim.SGD([parameter], lr=0.1), device)


def test_bad_input(make_model: MakeModel) -> None:
    task = PotentialTask(make_model())
    optimizer, (batch,) = adam(task), batches([[3, 4]])
    with pytest.raises(TypeError, match="`task` must be a PotentialTask, got PropertyTask"):
        RecordedTraining(PropertyTask(task.model, "energy"), optimizer)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="EnnS2S cannot be recorded"):
        RecordedTraining(PotentialTask(EnnS2S()), optimizer)
    with pytest.raises(ValueError, match="`max_shapes` must be an integer of at least 1, got 0"):
        RecordedTraining(task, optimizer, max_shapes=0)
    recorded = RecordedTraining(task, optimizer)
    with pytest.raises(ValueError, match="`data` must be on the device of the model, cpu, got meta; move it"):
        recorded(batch.clone().to("meta"))
    with pytest.raises(TypeError, match="`pos` is torch.float32, the model torch.float64"):
        recorded(batches([[3]], dtype=torch.float32)[0])
    for name, value, message in (
        ("forces", batch.forces[:-1], r"`forces` of the data must have shape \[7, 3\], got \[6, 3\]"),
        ("forces", None, "the data have no `forces` to learn"),
        ("energy", batch.energy[:1], "`energy` must have one value for each of the 2 structures"),
        ("z", None, "`z` is missing"),
    ):
        bad = batch.clone()
        bad[name] = value
        with pytest.raises(ValueError, match=message):
            recorded(bad)
    assert recorded(batch).isfinite()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("variant", ["exact", "counted", "tables"])
def test_on_a_gpu(make_model: MakeModel, variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"filters": "table"} if variant == "tables" else VARIANTS[variant]
    one, other = (task.cuda() for task in twins(make_model(cutoff=3.0, **options)))
    recorded, step = RecordedTraining(one, adam(one)), ordinary(other, adam(other))
    limit = 1e-4 if variant == "tables" else 1e-8  # sums of atomic additions come in any order
    played, replay = [], torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: (played.append(graph), replay(graph)))
    for _ in range(6):
        for batch in batches([[3, 7, 4], [30, 20]]):
            moved = batch.cuda()
            assert recorded(moved).item() == pytest.approx(step(moved).item(), rel=limit)
    for left, right in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=limit)
    assert len(set(played)) == recorded.recordings


@pytest.mark.parametrize("options", [{}, {"gradient_clip_val": 0.5, "accumulate_grad_batches": 2}], ids=str)
def test_a_run_of_recorded_steps_is_the_run(options: dict[str, Any], tmp_path: Path) -> None:
    """On a CPU, what would be recorded is called."""
    dataset, found, steps = [structure(3 + number % 4) for number in range(12)], [], []
    for record in (False, True):
        torch.manual_seed(1)
        task = PotentialTask(SchNet(8, 8, 1, 10, cutoff=4.0, filters="exact"), learning_rate=1e-2)
        given = task.gradients_of
        task.gradients_of = lambda batch, given=given: steps.append(given(batch)) or steps[-1]  # type: ignore
        trainer = RunTrainer(
            tmp_path / str(record),
            max_steps=6,
            validate_every=3,
            record_steps=record,
            accelerator="cpu",
            precision="64-true",
            enable_progress_bar=False,
            **options,
        )
        data = SplitDataModule(dataset, {"train": range(8), "val": range(8, 12)}, batch_size=2)
        found.append(trainer.run(task, data).validation_loss)
    assert found[1] == pytest.approx(found[0], rel=1e-7)
    half = len(steps) // 2
    assert all(one is None for one in steps[:half])
    assert all(one is not None for one in steps[half:])


def test_what_speaks_against_recording(make_model: MakeModel) -> None:
    task = PotentialTask(make_model())
    trainer = SimpleNamespace(world_size=1, precision="32-true", optimizers=[adam(task)], callbacks=[])
    run = SimpleNamespace(trainer=trainer, model=task.model)
    assert against_recording(run) is None
    for name, value, reason in (
        ("world_size", 2, "several processes"),
        ("precision", "bf16-mixed", "precision bf16-mixed"),
        ("optimizers", [torch.optim.SGD(task.parameters())], "not Adam"),
        ("callbacks", [GradientWatcher()], "GradientWatcher looks at gradients"),
    ):
        other = SimpleNamespace(trainer=SimpleNamespace(**(vars(trainer) | {name: value})), model=task.model)
        assert reason in (against_recording(other) or "")
    assert "EnnS2S looks at values" in (against_recording(SimpleNamespace(trainer=trainer, model=EnnS2S())) or "")


class GradientWatcher(Callback):
    """Looks at gradients before each step."""

    def on_before_optimizer_step(self, *arguments: Any) -> None:
        """Look."""


def test_a_recorded_state_is_stored_as_all_others() -> None:
    """Rates are numbers and counters on the CPU, so that a run goes on on any device."""
    parameter = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([parameter], lr=1e-3, capturable=False)
    parameter.sum().backward()
    optimizer.step()
    state = copy.deepcopy(optimizer.state_dict())
    recorded = copy.deepcopy(state)
    recorded["param_groups"][0] |= {"lr": torch.tensor(1e-3, dtype=torch.float64), "capturable": True}
    checkpoint = {"optimizer_states": [recorded], "lr_schedulers": [{"_last_lr": [torch.tensor(0.5)]}]}
    as_on_cpu(checkpoint)
    assert recorded["param_groups"] == state["param_groups"]
    assert recorded["state"][0]["step"] == state["state"][0]["step"]
    assert checkpoint["lr_schedulers"] == [{"_last_lr": [0.5]}]
