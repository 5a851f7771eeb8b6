"""What a GPU would have to do: the results of a CPU, the same bits each time, launches and waits within bounds.

Counts are those of :mod:`tests.pretended_gpu`, of aspirin and of a small box of water; T = 6 interactions.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from pyg_schnet import Potential, SchNet
from pyg_schnet.fast import tabulated
from pyg_schnet.models import Committee, CommitteePotential
from pyg_schnet.models.elements import TrainingSet
from pyg_schnet.simulation import RecordedPotential
from pyg_schnet.simulation.gpu_steps import GpuSteps
from pyg_schnet.simulation.stepping import SteppedPotential
from pyg_schnet.sizes import SIZES
from pyg_schnet.training import PotentialTask, RecordedTraining
from tests.pretended_gpu import Gpu, OnGpu, pretended_gpu

ASPIRIN = [6, 6, 8, 8, 6, 6, 6, 6, 6, 6, 6, 8, 8, 1, 1, 1, 1, 1, 1, 1, 1]


def values(tree: Any) -> Any:
    """On the CPU, whatever a tensor is on."""
    return {name: one.detach().inner if isinstance(one, OnGpu) else one.detach() for name, one in tree.items()}


def molecule() -> tuple[Tensor, Tensor]:
    """As many atoms as aspirin has, at about its density, none closer than 1.1 Angstrom to another."""
    grid = torch.cartesian_prod(torch.arange(3.0), torch.arange(3.0), torch.arange(3.0))[: len(ASPIRIN)]
    return torch.tensor(ASPIRIN), 1.6 * grid + 0.25 * torch.rand(len(ASPIRIN), 3)


def molecules(number: int) -> Batch:
    data = []
    for _ in range(number):
        z, pos = molecule()
        data.append(Data(z=z, pos=pos, energy=torch.randn(1), forces=torch.randn(pos.shape)))
    return Batch.from_data_list(data)


def crystal() -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    z, pos = molecule()
    cell = torch.tensor([[[6.5, 0, 0], [0.3, 6.7, 0], [-0.2, 0.4, 6.6]]])
    return z, pos, {"cell": cell, "pbc": torch.ones(1, 3, dtype=torch.bool)}


def schnet(**options: Any) -> SchNet:
    sizes = {"hidden_channels": 16, "num_filters": 16, "num_interactions": 6, "cutoff": 5.0, "filters": "exact"}
    return SchNet(**(sizes | options)).eval()


def to_gpu(tree: dict[str, Any]) -> dict[str, Any]:
    return {name: one.to("cuda") if isinstance(one, Tensor) else one for name, one in tree.items()}


def close(found: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    """Sums in another order, of float32: relative to the largest number."""
    assert found.keys() == expected.keys()
    for name, one in values(found).items():
        truth = expected[name].detach().double()
        assert (one.double() - truth).abs().max() <= tolerance * truth.abs().max().clamp(min=1.0), name


KINDS: dict[str, dict[str, Any]] = {
    "exact": {},
    "frozen": {},
    "counted": {"normalization": "smooth"},
    "mollified, shared": {"cutoff_function": "mollifier", "shared_interactions": True},
    "mean": {"readout": "mean"},
    "no cutoff function": {"cutoff_function": None, "normalization": "mean"},
    "repulsion": {"repulsion": "zbl"},
    "frozen with repulsion": {"repulsion": "zbl"},
}


@pytest.mark.parametrize("periodic", [False, True], ids=["molecules", "crystal"])
@pytest.mark.parametrize("kind", KINDS)
def test_results_are_those_of_a_cpu_and_the_same_each_time(kind: str, periodic: bool) -> None:
    model = schnet(**KINDS[kind])
    if kind.startswith("frozen"):
        model.freeze()
    if periodic:
        z, pos, graph = crystal()
    else:
        batch = molecules(3)
        z, pos, graph = batch.z, batch.pos, {"batch": batch.batch, "batch_size": 3}
    more = {"stress": periodic, "virials": True}
    expected = Potential(model.double())(z, pos.double(), **_wide(graph), **more)
    model.float()
    with pretended_gpu() as gpu:
        potential, given = Potential(model.to("cuda")), (z.to("cuda"), pos.to("cuda"))
        gpu.clear()
        found = potential(*given, **to_gpu(graph), **more)
        assert not gpu.atomic, gpu.report()
        assert not gpu.mixed
        close(found, expected, 2e-4 if kind.startswith("frozen") else 2e-5)
        again = potential(*given, **to_gpu(graph), **more)
        assert all(torch.equal(one.inner, again[name].inner) for name, one in found.items())


def _wide(tree: dict[str, Any]) -> dict[str, Any]:
    floats = (name for name, one in tree.items() if isinstance(one, Tensor) and one.is_floating_point())
    return tree | {name: tree[name].double() for name in floats}


@pytest.mark.parametrize(("kind", "launches"), [("exact", 370), ("frozen", 175)])
def test_evaluation_of_molecules(kind: str, launches: int) -> None:
    """One wait: how many pairs there are."""
    model = schnet()
    if kind == "frozen":
        model.freeze()
    batch = molecules(32)
    with pretended_gpu() as gpu:
        potential, z, pos = Potential(model.to("cuda")), batch.z.to("cuda"), batch.pos.to("cuda")
        structure = batch.batch.to("cuda")
        bounded(gpu, lambda: potential(z, pos, structure, batch_size=32), launches, 1)


def bounded(gpu: Gpu, step: Callable[[], Any], launches: int, waits: int, warm_up: int = 1) -> None:
    """After a few calls, a step has no more launches and waits."""
    for _ in range(warm_up):
        step()
    gpu.clear()
    step()
    assert gpu.total[0] <= launches, gpu.report()
    assert gpu.total[1] <= waits, gpu.report()
    assert not gpu.atomic, gpu.report()


@pytest.mark.parametrize(("kind", "nodes"), [("exact", 335), ("frozen", 120), ("no cutoff function", 400)])
def test_recorded_dynamics(kind: str, nodes: int) -> None:
    """Results of the ordinary potential; a replay and one wait, and so many kernels in the recording."""
    model = schnet(**KINDS[kind])
    if kind == "frozen":
        model.freeze()
    z, pos = molecule()
    places = [pos + 0.01 * step * torch.randn(pos.shape) for step in range(7)]
    expected = [Potential(model)(z, one) for one in places]
    with pretended_gpu() as gpu:
        potential = RecordedPotential(model.to("cuda"), z.to("cuda"), skin=0.6)
        for one, truth in zip(places, expected, strict=True):
            gpu.clear()
            close(potential(one.to("cuda")), truth, 2e-4 if kind == "frozen" else 2e-5)
            assert not gpu.atomic
        assert gpu.replays == 1
        assert sum(gpu.nodes[0].values()) <= nodes, gpu.nodes[0].most_common()
        assert potential.recordings == 1
        numbers = places[-1].double().numpy()
        bounded(gpu, lambda: potential.of_numbers(numbers), 3, 1)  # there, on, played, and back
        close(potential.of_numbers(numbers), {name: one.double() for name, one in expected[-1].items()}, 2e-4)


@pytest.mark.parametrize("periodic", [False, True], ids=["molecule", "crystal"])
def test_a_committee_records_by_itself(periodic: bool) -> None:
    """Members of several cutoffs, one of them never trained on oxygen: means and spreads of the ordinary potential."""
    committee = Committee(
        [schnet(num_interactions=2), schnet(num_interactions=1, cutoff=4.0), schnet(shared_interactions=True)]
    )
    committee[0].training_set = TrainingSet({1: 1, 6: 1}, structures=1, compositions=1)
    z, pos = molecule()
    cell, pbc = 7.0 * torch.eye(3) * periodic, torch.tensor([periodic] * 3)
    periodic_kind = {"cell": cell.unsqueeze(0), "pbc": pbc.unsqueeze(0)} if periodic else {}
    places = [pos + 0.01 * step * torch.randn(pos.shape) for step in range(8)]
    with pytest.warns(UserWarning, match="trained"):
        expected = [CommitteePotential(committee, virials=periodic)(z, one, **periodic_kind) for one in places]
    assert expected[0]["energy_std"].isinf().all()
    with pretended_gpu() as gpu:
        own = copy.deepcopy(committee).to("cuda")
        own[0].training_set = committee[0].training_set
        stepped, z = SteppedPotential(CommitteePotential(own)), z.to("cuda")
        for one, truth in zip(places, expected, strict=True):
            gpu.clear()
            numbers = one.double().numpy(), cell.double().numpy(), pbc.numpy()
            found = stepped(z, *numbers, stress=False, virials=periodic)
            assert found.keys() == truth.keys()
            for name, value in found.items():
                assert torch.allclose(value.to("cpu").double(), truth[name].detach().double(), rtol=1e-4, atol=1e-5), (
                    name
                )
            assert not gpu.atomic, gpu.report()
        assert gpu.replays == 1
        assert gpu.total[0] <= 5
        assert gpu.total[1] == 1
        assert stepped.rebuilds == 1


@pytest.mark.parametrize("kind", ["single", "committee"])
def test_steps_on_the_device_record_by_themselves(kind: str) -> None:
    """A replay and one wait, also where numbers and structures come as copies; other atoms are another recording."""
    models = [schnet(num_interactions=2, filters="exact") for _ in range(2)]
    batch = molecules(3)
    expected = (CommitteePotential(Committee(models)) if kind == "committee" else Potential(models[0]))(
        batch.z, batch.pos, batch.batch, batch_size=3
    )
    with pretended_gpu() as gpu:
        model = Committee(models) if kind == "committee" else models[0]
        steps = GpuSteps((CommitteePotential if kind == "committee" else Potential)(model.to("cuda")))
        z, pos, structure = batch.z.int().to("cuda"), batch.pos.to("cuda"), batch.batch.to("cuda")
        assert steps.on_device(z, pos, structure, 3) is None
        for _ in range(5):
            gpu.clear()
            found = steps.on_device(z, pos, structure, 3)
        close(found, expected, 2e-5)
        assert gpu.replays == 1
        assert gpu.total[0] <= 2 + len(found)  # positions there, the replay, and results of one's own
        assert gpu.total[1] == 1
        gpu.clear()
        steps.on_device(z.clone(), pos, structure.clone(), 3)
        assert gpu.replays == 1
        assert gpu.total[1] <= 3
        z[0] = 7
        assert steps.on_device(z, pos, structure, 3) is None


@pytest.mark.parametrize("kind", ["exact", "frozen"])
def test_recorded_dynamics_of_a_crystal_that_is_strained(kind: str) -> None:
    model = schnet()
    if kind == "frozen":
        model.freeze()
    z, pos, periodic = crystal()
    steps = [(pos + 0.02 * torch.randn(pos.shape), periodic["cell"] * (1 + 0.004 * step)) for step in range(7)]
    potential = Potential(model, stress=True, virials=True)
    expected = [potential(z, one, cell=cell, pbc=periodic["pbc"]) for one, cell in steps]
    with pretended_gpu() as gpu:
        recorded = RecordedPotential(
            model.to("cuda"), z.to("cuda"), **to_gpu(periodic), stress=True, virials=True, skin=0.15
        )
        for (one, cell), truth in zip(steps, expected, strict=True):
            close(recorded.of_numbers(one.double().numpy(), cell.double().numpy()), truth, 2e-4)
        assert recorded.rebuilds > 1
        assert gpu.replays >= 1


@pytest.mark.parametrize("kind", ["molecules", "crystals"])
@pytest.mark.parametrize("filters", ["exact", "table"])
def test_recorded_training(filters: str, kind: str) -> None:
    """Losses of the ordinary steps; search and filling up within 60 launches and two waits, or 135 and four."""
    torch.manual_seed(1)
    model, batches = schnet(num_interactions=2, filters=filters).train(), [molecules(4) for _ in range(3)]
    if kind == "crystals":
        for batch in batches:
            batch.cell, batch.pbc = 7.0 * torch.eye(3).repeat(4, 1, 1), torch.rand(4, 3) < 0.5
            batch.stress = 0.01 * torch.randn(4, 3, 3)
    task = PotentialTask(model, rho_stress=0.1 if kind == "crystals" else 0.0)
    other = PotentialTask(SchNet(**model.config, filters=filters))
    other.load_state_dict(task.state_dict())
    adam = torch.optim.Adam(other.parameters(), lr=1e-3)
    expected = []
    for number in range(8):
        adam.zero_grad()
        loss = other.loss_on(batches[number % 3])
        loss.backward()
        adam.step()
        expected.append(loss.item())
    with pretended_gpu() as gpu:
        task.to("cuda")
        step = RecordedTraining(task, torch.optim.Adam(task.parameters(), lr=1e-3))
        moved = [one.to("cuda") for one in batches]
        losses = [float(step(moved[number % 3]).inner) for number in range(8)]
        assert losses == pytest.approx(expected, rel=2e-3 if filters == "table" else 2e-4)
        assert step.recordings <= 2
        bounded(gpu, lambda: step(moved[0]), *((135, 4) if kind == "crystals" else (60, 2)))
        assert gpu.replays == 2


def test_validation_waits_once_a_batch() -> None:
    batch = molecules(8)
    batch.forces[3] = torch.nan
    task = PotentialTask(schnet(num_interactions=1))
    task.validation_step(batch, 0)
    expected = {name: error.compute().item() for name, error in task.errors.items()}
    task.errors.reset()
    with pretended_gpu() as gpu:
        task.to("cuda")
        moved = batch.to("cuda")
        task.errors.to("cuda"), task.validation_loss.to("cuda")
        bounded(gpu, lambda: task.validation_step(moved, 0), 200, 1, warm_up=0)
        found = {name: float(error.compute().inner) for name, error in task.errors.items()}
    assert found == pytest.approx(expected, rel=1e-4)


def test_without_triton_networks_are_evaluated_and_that_is_said() -> None:
    z, pos = molecule()
    model = schnet(num_interactions=1)
    expected = Potential(model)(z, pos)
    model.freeze()
    tabulated._say_slow.cache_clear()
    with pretended_gpu(kernels=False) as gpu:
        potential = Potential(model.to("cuda"))
        with pytest.warns(RuntimeWarning, match="tables of filters need Triton 3.4 on a GPU"):
            found = potential(z.to("cuda"), pos.to("cuda"))
        assert not any("fast/convolution_reference" in place for _, place in gpu.launches)
    close(found, expected, 2e-5)


def test_a_million_atoms_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search, energies, forces and stress of a frozen model of ordinary size: bytes of an atom, at water's density."""
    monkeypatch.setattr(SIZES, "rows_on_device", 1000)  # pieces as small against the whole as they would be there
    monkeypatch.setattr(SIZES, "candidates_on_device", 10_000)
    atoms, edge = 216, 12.9
    grid = torch.cartesian_prod(*[torch.arange(6.0)] * 3) * (edge / 6)
    pos, z = grid + 0.3 * torch.rand(atoms, 3), torch.full((atoms,), 8)
    periodic = {"cell": edge * torch.eye(3).unsqueeze(0), "pbc": torch.ones(1, 3, dtype=torch.bool)}
    model = SchNet(num_interactions=2, cutoff=5.0).eval().freeze()
    with pretended_gpu() as gpu:
        given, graph = (z.to("cuda"), pos.to("cuda")), to_gpu(periodic)
        potential = Potential(model.to("cuda"))
        before = gpu.in_use
        gpu.clear()
        out = potential(*given, **graph, stress=True)
        assert out["forces"].shape == (atoms, 3)
        assert 1e6 * (gpu.peak - before) / atoms < 40e9
