"""One battery for every model with every head: the contract that callers rely on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from pyg_schnet import Potential, SchNet, load, radius_graph, save
from pyg_schnet.models import DTNN, AtomisticModel, EnnS2S
from pyg_schnet.nn.readout import MOMENTS

SMALL = {"hidden_channels": 8, "num_filters": 6, "num_interactions": 2}
PLAIN = SMALL | {"num_gaussians": 12, "cutoff": 5.0}
TENSOR = {"hidden_channels": 8, "num_factors": 6, "num_interactions": 2, "num_gaussians": 30, "cutoff": 9.0}
EDGE = {"hidden_channels": 6, "edge_channels": 5, "num_interactions": 2, "num_gaussians": 9, "cutoff": 9.0}
MODELS: dict[str, Callable[..., AtomisticModel]] = {
    "SchNet": lambda **head: SchNet(**PLAIN | head),
    "DTNN": lambda **head: DTNN(**TENSOR | head),
    "EnnS2S": lambda **head: EnnS2S(**EDGE | {"readout_options": {"processing_steps": 2}} | head),
}
#: Variants of each model beside its plain form
VARIANTS: dict[str, Callable[..., AtomisticModel]] = {
    "nips2017": lambda **head: SchNet.preset("nips2017", **SMALL, **head),
    "jcp2018": lambda **head: SchNet.preset("jcp2018", **SMALL, **head),
    "jcp2018-materials": lambda **head: SchNet.preset("jcp2018-materials", **SMALL, **head),
    "schnetpack": lambda **head: SchNet.preset("schnetpack", **SMALL, **head),
    "pyg": lambda **head: SchNet.preset("pyg", **SMALL, **head),
    "shared interactions": lambda **head: SchNet(**PLAIN, shared_interactions=True, **head),
    "bessel": lambda **head: SchNet(**PLAIN, basis="bessel", **head),
    "trainable bessel": lambda **head: SchNet(**PLAIN, basis="bessel", trainable_basis=True, **head),
    "trainable gaussian": lambda **head: SchNet(**PLAIN, trainable_basis=True, **head),
    "no cutoff function": lambda **head: SchNet(**PLAIN, cutoff_function=None, **head),
    "mollifier": lambda **head: SchNet(**PLAIN, cutoff_function="mollifier", **head),
    "polynomial": lambda **head: SchNet(**PLAIN, cutoff_function="polynomial", **head),
    "normalization mean": lambda **head: SchNet(**PLAIN, normalization="mean", **head),
    "normalization smooth": lambda **head: SchNet(**PLAIN, normalization="smooth", **head),
    "repulsion": lambda **head: SchNet(**PLAIN, repulsion="zbl", std=1.3, **head),
    "DTNN repulsion": lambda **head: DTNN(**TENSOR, repulsion="zbl", **head),
    "EnnS2S repulsion": lambda **head: EnnS2S(**EDGE, readout="add", repulsion="zbl", **head),
    "DTNN cosine": lambda **head: DTNN(**TENSOR | {"cutoff": 4.0}, cutoff_function="cosine", **head),
    "EnnS2S cosine": lambda **head: EnnS2S(**EDGE | {"cutoff": 4.0}, cutoff_function="cosine", **head),
    "EnnS2S raw distance": lambda **head: EnnS2S(**EDGE | {"num_gaussians": 0}, **head),
}
REFERENCES = {"mean": -0.7, "std": 1.3, "atomref": torch.linspace(-9, -1, 60)}
HEADS: dict[str, dict[str, Any]] = {
    "add": {"readout": "add", **REFERENCES},
    "mean": {"readout": "mean", **REFERENCES},
    "max": {"readout": "max", **REFERENCES},
    "dipole": {"readout": "dipole"},
    "dipole_magnitude": {"readout": "dipole_magnitude"},
    "spatial_extent": {"readout": "spatial_extent", **REFERENCES},
    "polarizability": {"readout": "polarizability", **REFERENCES},
    "set2set": {"readout": "set2set", "readout_options": {"processing_steps": 2}, **REFERENCES},
    "attentional": {"readout": "attentional", "readout_options": None, **REFERENCES},
    "softmax": {"readout": "softmax", "readout_options": {"learn": True}, **REFERENCES},
    "three targets": {
        "readout": "add",
        "out_channels": 3,
        "mean": [1.0, -2.0, 0.5],
        "std": [0.1, 2.0, 3.0],
        "atomref": torch.linspace(-9, -1, 180).view(60, 3),
    },
    "three targets of set2set": {"readout": "set2set", "readout_options": {"processing_steps": 2}, "out_channels": 3},
}


class Case(NamedTuple):
    """A model with a head."""

    make: Callable[..., AtomisticModel]
    head: dict[str, Any]

    def size(self) -> int:
        """Numbers of each structure."""
        return 3 if self.head.get("readout") == "dipole" else self.head.get("out_channels", 1)


CASES = {
    f"{name}-{head}": Case(make, options if "readout_options" in options else options | {"readout_options": None})
    for name, make in MODELS.items()
    for head, options in HEADS.items()
} | {name: Case(make, {}) for name, make in VARIANTS.items()}
ENERGIES = {
    name: case
    for name, case in CASES.items()
    if case.head.get("readout") not in MOMENTS and case.head.get("out_channels", 1) == 1
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
every_energy = pytest.mark.parametrize("case", ENERGIES.values(), ids=ENERGIES)
MakeCase = Callable[[Case], AtomisticModel]
# laws of nature hold to the round-off of some thousand float64 operations on numbers of order one to hundred
LAW = {"rtol": 1e-10, "atol": 1e-10}


@pytest.fixture
def make_case(scramble: Callable[[Any], Any]) -> MakeCase:
    """Function that makes the model of a case with random weights in float64."""
    return lambda case: scramble(case.make(**case.head)).double()


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_and_device(
    case: Case, dtype: torch.dtype, device: torch.device, molecules: Any, make_case: MakeCase
) -> None:
    model = make_case(case)
    expected = model(*molecules)
    y = model.to(device, dtype)(molecules.z.to(device), molecules.pos.to(device, dtype), molecules.batch.to(device))
    assert (y.dtype, y.device.type, y.shape) == (dtype, device.type, (3, case.size()))
    # some thousand operations; float32 references of order hundred have steps of 1e-5
    tolerance = 2e-4 if dtype == torch.float32 else 1e-10
    torch.testing.assert_close(y.cpu().double(), expected, rtol=tolerance, atol=tolerance)


@every_case
def test_a_batch_equals_its_structures(case: Case, molecules: Any, make_case: MakeCase) -> None:
    model = make_case(case)
    singles = torch.cat([model(z, pos) for z, pos in molecules.split()])
    torch.testing.assert_close(model(*molecules), singles, **LAW)
    assert singles[0].sub(singles[1]).abs().min() > 1e-6


@every_case
def test_single_isolated_and_missing_atoms(case: Case, water: tuple[Tensor, Tensor], make_case: MakeCase) -> None:
    """Structures: water, empty, a carbon, water beside a far carbon, empty, empty."""
    model = make_case(case)
    z, pos = water
    carbon, origin = torch.tensor([6]), torch.zeros(1, 3, dtype=torch.float64)
    both = torch.cat([z, carbon]), torch.cat([pos, origin + 99])
    batch = torch.tensor([0, 0, 0, 2, 3, 3, 3, 3])
    y = model(torch.cat([z, carbon, both[0]]), torch.cat([pos, origin, both[1]]), batch, batch_size=6)
    nothing = model(carbon[:0], origin[:0], batch[:0], batch_size=1)
    expected = torch.cat([model(z, pos), nothing, model(carbon, origin), model(*both), nothing, nothing])
    # the moments of the far carbon are differences of numbers of order 1e4
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-7)
    assert y.isfinite().all()


@every_case
def test_no_structure_at_all(case: Case, make_case: MakeCase) -> None:
    nothing = torch.zeros(0, dtype=torch.long)
    y = make_case(case)(nothing, torch.zeros(0, 3, dtype=torch.float64), nothing, batch_size=0)
    assert y.shape == (0, case.size())


@every_case
def test_permutation_of_atoms(case: Case, molecules: Any, make_case: MakeCase) -> None:
    model = make_case(case)
    z, pos, batch = molecules
    order = torch.cat([start + torch.randperm(size) for start, size in [(0, 3), (3, 5), (8, 8)]])
    torch.testing.assert_close(model(z[order], pos[order], batch), model(z, pos, batch), **LAW)


@every_case
@pytest.mark.parametrize("improper", [False, True], ids=["rotation", "reflection"])
def test_translation_rotation_and_reflection(
    case: Case, improper: bool, molecules: Any, rotation: Tensor, make_case: MakeCase
) -> None:
    """Scalars stay, the vector of a dipole moment turns with the structure."""
    model = make_case(case)
    z, pos, batch = molecules
    turn = -rotation if improper else rotation
    y = model(z, pos, batch)
    expected = y @ turn if case.head.get("readout") == "dipole" else y
    moved = pos @ turn + torch.tensor([3.0, -50.0, 7.0])
    torch.testing.assert_close(model(z, moved, batch), expected, **LAW)
    assert (model(z, 1.1 * pos, batch) - y).abs().max() > 1e-6  # it does look at positions


@every_case
def test_given_edges_equal_own_graph(case: Case, molecules: Any, make_case: MakeCase) -> None:
    model = make_case(case)
    graph = radius_graph(molecules.pos, model.cutoff, molecules.batch)
    shuffled = graph.edge_index[:, torch.randperm(graph.edge_index.size(1))]
    torch.testing.assert_close(model(*molecules, edge_index=shuffled), model(*molecules), **LAW)


@every_case
def test_file_gives_the_same_model(case: Case, molecules: Any, make_case: MakeCase, tmp_path: Path) -> None:
    model = make_case(case)
    save(model, tmp_path / "model.safetensors")
    other = load(tmp_path / "model.safetensors")
    assert type(other) is type(model)
    assert other.config == model.config
    state = other.state_dict()
    assert list(state) == list(model.state_dict())
    for name, value in model.state_dict().items():
        assert state[name].dtype == value.dtype, name
        assert torch.equal(state[name], value), name
    assert torch.equal(other(*molecules), model(*molecules))


@every_case
def test_training_reaches_every_parameter(case: Case, molecules: Any, make_case: MakeCase) -> None:
    model = make_case(case).train()
    model(*molecules).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@every_energy
def test_forces_are_the_slope_of_the_energy(case: Case, molecules: Any, make_case: MakeCase) -> None:
    potential = Potential(make_case(case)).eval()
    forces = potential(*molecules)["forces"]
    direction = torch.randn_like(molecules.pos)
    direction, step = direction / direction.norm(), 1e-4
    forth, back = (
        potential(molecules.z, molecules.pos + s * step * direction, molecules.batch)["energy"].sum() for s in (1, -1)
    )
    # error of the difference quotient: step^2 times third derivatives of up to 1000 (Gaussians 0.2 Angstrom wide)
    torch.testing.assert_close((forces * direction).sum(), (back - forth) / (2 * step), rtol=1e-5, atol=1e-5)
    assert forces.abs().max() > 1e-4


@every_energy
def test_training_on_forces_reaches_what_they_depend_on(case: Case, molecules: Any, make_case: MakeCase) -> None:
    model = make_case(case).train()
    Potential(model)(*molecules)["forces"].square().sum().backward()
    for name, parameter in model.named_parameters():
        if name != "output.lin2.bias":  # a constant
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


@every_case
def test_reset_draws_anew_and_keeps_references(case: Case, make_case: MakeCase) -> None:
    model = make_case(case)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = dict(model.named_parameters())
    model.reset_parameters()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) is (name not in parameters), name


@every_case
def test_reset_draws_as_the_constructor(case: Case) -> None:
    """Weights as large as at the start: the same kind of numbers, not the same numbers."""
    model = case.make(**case.head)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    model.reset_parameters()
    for name, value in model.named_parameters():
        scale, drawn = before[name].square().mean().sqrt(), value.detach().square().mean().sqrt()
        # the size of n random numbers scatters by 1/sqrt(n) or less (a few of them tell nothing), zeros stay zeros
        if value.numel() >= 16 or scale == 0:
            assert (drawn - scale).abs() <= 4 * scale / value.numel() ** 0.5, name


def architectures(kind: type) -> list[type]:
    """Classes that say what the network is, and so everything that is derived from them."""
    found = [kind] if "represent" in vars(kind) and kind is not AtomisticModel else []
    return found or [cls for one in kind.__subclasses__() for cls in architectures(one)]


def test_the_battery_has_every_architecture() -> None:
    known = {cls.__name__ for cls in architectures(AtomisticModel) if cls.__module__.startswith("pyg_schnet.")}
    assert known == set(MODELS)


def test_a_model_must_say_how_it_represents_atoms(water: tuple[Tensor, Tensor]) -> None:
    class Empty(AtomisticModel):
        pass

    with pytest.raises(NotImplementedError, match=r"Empty must implement `represent\(z, edges\)`"):
        Empty(8, 5.0, {}).double()(*water)


def test_a_model_of_ones_own_gets_everything(molecules: Any, scramble: Callable[[nn.Module], nn.Module]) -> None:
    """The example of a subclass: atoms that count their neighbours."""

    class Counting(AtomisticModel):
        def represent(self, z: Tensor, edges: Any) -> Tensor:
            x = self.embedding(z)
            return x.index_add(0, edges.edge_index[1], x[edges.edge_index[0]])

    model = scramble(Counting(8, 5.0, {}, readout="set2set")).double()
    assert model(*molecules).shape == (3, 1)
