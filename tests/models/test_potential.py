"""Energies and forces from one call: finite differences, conservation laws, every way to call, dtypes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from pyg_schnet import Potential, SchNet, radius_graph
from pyg_schnet.graph import Edges
from pyg_schnet.models import AtomisticModel
from pyg_schnet.transforms import RadiusGraph

MakeModel = Callable[..., SchNet]
VARIANTS = {
    "jcp2018": {"cutoff_function": None, "activate_last": True, "gamma": 10.0, "cutoff": 20.0, "num_gaussians": 60},
    "cosine": {"cutoff": 2.5},  # through the molecules
    "references": {"mean": -50.0, "std": 3.0, "atomref": torch.linspace(0, -2000, 100)},
}
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def check_same(ours: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-11) -> None:
    """Equal to the round-off of sums in another order, on energies and forces of order one to hundred."""
    assert set(ours) == set(expected) == {"energy", "forces"}
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, rtol=tolerance, atol=tolerance)


# --- laws of nature ---


@every_variant
def test_forces_are_finite_differences_of_the_energy(variant: str, molecules: Any, make_model: MakeModel) -> None:
    potential = Potential(make_model(**VARIANTS[variant])).eval()
    z, pos, batch = molecules
    forces, step = potential(z, pos, batch)["forces"], 1e-4

    def energy(pos: Tensor) -> Tensor:
        """Without references, whose digits would be lost in the difference."""
        return potential.model.predict(z, pos, batch, 3, potential.model.edges(z, pos, batch, 3)).sum()

    expected = torch.zeros_like(pos)
    for atom, axis in np.ndindex(*pos.shape):
        shift = torch.zeros_like(pos)
        shift[atom, axis] = step
        ahead, behind = (energy(pos + s * shift) for s in (1, -1))
        expected[atom, axis] = -(ahead - behind) / (2 * step)
    # truncation h^2 E'''/6 ~ 1e-8 x 1e2 of the papers' narrow Gaussians; round-off 1e-15 x 10 / h is less
    torch.testing.assert_close(forces, expected.detach(), rtol=1e-6, atol=2e-6)
    assert forces.abs().max() > 1e-2


@every_variant
def test_no_net_force_and_no_net_torque(variant: str, molecules: Any, make_model: MakeModel) -> None:
    z, pos, batch = molecules
    forces = Potential(make_model(**VARIANTS[variant]))(z, pos, batch)["forces"].detach()
    for structure in range(3):
        f, r = forces[batch == structure], pos[batch == structure]
        # sums of at most eight forces of order ten
        torch.testing.assert_close(f.sum(0), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12)
        torque = torch.linalg.cross(r, f).sum(0)
        torch.testing.assert_close(torque, torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-11)


@every_variant
def test_forces_turn_with_the_molecule(variant: str, molecules: Any, rotation: Tensor, make_model: MakeModel) -> None:
    potential = Potential(make_model(**VARIANTS[variant])).eval()
    z, pos, batch = molecules
    out, turned = potential(z, pos, batch), potential(z, pos @ -rotation, batch)
    check_same(turned, {"energy": out["energy"], "forces": out["forces"] @ -rotation}, tolerance=1e-10)


# --- every way to call ---


@every_variant
def test_data_and_tensors_agree(variant: str, molecules: Any, make_model: MakeModel) -> None:
    potential = Potential(make_model(**VARIANTS[variant])).eval()
    expected = potential(*molecules)
    assert (expected["energy"].shape, expected["forces"].shape) == ((3,), (16, 3))
    check_same(potential(Batch.from_data_list(molecules.data())), expected)
    singles = [potential(data) for data in molecules.data()]
    check_same({name: torch.cat([out[name] for out in singles]) for name in expected}, expected)
    graph = radius_graph(molecules.pos, potential.model.cutoff, molecules.batch)
    check_same(potential(*molecules, edge_index=graph.edge_index, edge_shift=graph.edge_shift), expected)
    assert torch.equal(expected["energy"], potential.model(*molecules).detach().squeeze(-1))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("told", [{}, {"stress": True}, {"virials": True}, {"stress": True, "virials": True}], ids=str)
def test_what_is_returned_is_what_call_or_constructor_say(
    told: dict[str, bool], training: bool, water: tuple[Tensor, Tensor], make_model: MakeModel
) -> None:
    potential = Potential(make_model(), **told).train(training)
    cell = {"cell": 9 * torch.eye(3, dtype=torch.float64)[None], "pbc": torch.ones(1, 3, dtype=torch.bool)}
    always = {"energy", "forces"}
    assert set(potential(*water, **cell)) == always | set(told)
    for name in ("stress", "virials"):
        assert set(potential(*water, **cell, **{name: True})) == always | set(told) | {name}
        assert set(potential(*water, **cell, **{name: False})) == always | (set(told) - {name})


def test_data_with_a_batch_vector_of_its_own(molecules: Any, make_model: MakeModel) -> None:
    """A Data object with a ``batch`` that no Batch has made."""
    potential = Potential(make_model()).eval()
    z, pos, batch = molecules
    check_same(potential(Data(z=z, pos=pos, batch=batch)), potential(z, pos, batch))


def test_edges_of_data_count_only_beside_a_shift(water: tuple[Tensor, Tensor], make_model: MakeModel) -> None:
    potential = Potential(make_model()).eval()
    z, pos = water
    bonds = torch.tensor([[0, 1], [1, 0]])
    complete, bonded = potential(z, pos), potential(z, pos, edge_index=bonds)
    check_same(potential(Data(z=z, pos=pos, edge_index=bonds)), complete)
    check_same(potential(Data(z=z, pos=pos, edge_index=bonds, edge_shift=torch.zeros(2, 3).long())), bonded)
    assert not torch.allclose(complete["energy"], bonded["energy"])


@pytest.mark.parametrize("cutoffs", [(5.0, 3.0), (3.0, 5.0)])
def test_every_graph_of_a_batch_must_reach(
    cutoffs: tuple[float, float], water: tuple[Tensor, Tensor], make_model: MakeModel
) -> None:
    data = [RadiusGraph(cutoff)(Data(z=water[0], pos=water[1])) for cutoff in cutoffs]
    with pytest.raises(ValueError, match="built with a cutoff of 3 Angstrom, the model needs 5"):
        Potential(make_model(cutoff=5.0))(Batch.from_data_list(data))


def test_empty_structures_of_a_batch_are_kept(molecules: Any, make_model: MakeModel) -> None:
    potential = Potential(make_model()).eval()
    empty = Data(z=torch.zeros(0, dtype=torch.long), pos=torch.zeros(0, 3, dtype=torch.float64))
    data = molecules.data()
    out, expected = potential(Batch.from_data_list([data[0], empty, data[1], empty, empty])), potential(*molecules)
    energy = torch.zeros(5, dtype=torch.float64)
    energy[[0, 2]] = expected["energy"][:2]
    check_same(out, {"energy": energy, "forces": expected["forces"][:8]})
    out = potential(molecules.z, molecules.pos, molecules.batch, batch_size=5)
    assert out["energy"][3:].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("train", [True, False])
def test_single_atom_has_no_forces(train: bool, make_model: MakeModel) -> None:
    potential = Potential(make_model()).train(train)
    out = potential(torch.tensor([6]), torch.zeros(1, 3, dtype=torch.float64))
    assert torch.equal(out["forces"], torch.zeros(1, 3, dtype=torch.float64))
    assert out["energy"].item() != 0


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("cached", [True, False])
def test_works_where_gradients_are_off(
    context: Callable, train: bool, cached: bool, molecules: Any, make_model: MakeModel
) -> None:
    """With tensors made outside and inside of the context, whose kind differs in inference mode."""
    potential = Potential(make_model()).train(train)
    expected = {name: value.detach() for name, value in potential(*molecules).items()}
    transform = RadiusGraph(5.0) if cached else (lambda data: data)
    outside = Batch.from_data_list([transform(data) for data in molecules.data()])
    with context():
        inside = Batch.from_data_list([transform(data) for data in molecules.data()])
        for data in (outside, inside):
            out = potential(data)
            check_same(out, expected)
            assert not any(value.requires_grad for value in out.values())


def test_own_tensors_are_left_alone(molecules: Any, make_model: MakeModel) -> None:
    data = Batch.from_data_list(molecules.data())
    keys, pos = list(data.keys()), data.pos.clone()
    potential = Potential(make_model())
    potential(data)["forces"].sum().backward()
    assert list(data.keys()) == keys
    assert not data.pos.requires_grad
    assert data.pos.grad is None
    assert torch.equal(data.pos, pos)


def test_positions_inside_a_larger_graph(molecules: Any, make_model: MakeModel) -> None:
    """Positions that depend on something else: in training, energies and forces can be differentiated through them."""
    potential = Potential(make_model())
    scale = torch.ones(1, dtype=torch.float64, requires_grad=True)
    pos = molecules.pos * scale
    out = potential(molecules.z, pos, molecules.batch)
    (slope,) = torch.autograd.grad(out["energy"].sum(), scale, retain_graph=True)
    # the chain rule; 16 terms of order ten
    torch.testing.assert_close(slope, -(out["forces"] * molecules.pos).sum()[None].detach(), rtol=1e-11, atol=1e-11)


# --- training ---


@pytest.mark.parametrize("train", [True, False])
def test_differentiable_in_training_only(train: bool, molecules: Any, make_model: MakeModel) -> None:
    out = Potential(make_model(mean=1.0)).train(train)(*molecules)
    assert out["energy"].requires_grad is out["forces"].requires_grad is train


def test_gradient_of_a_force_loss_is_that_of_finite_differences(molecules: Any, make_model: MakeModel) -> None:
    """The derivative with respect to every tensor of weights, along a random direction."""
    potential = Potential(make_model(std=2.0))

    def loss() -> Tensor:
        out = potential(*molecules)
        return out["forces"].square().sum() + 0.1 * out["energy"].square().sum()

    parameters = dict(potential.named_parameters())
    gradients = torch.autograd.grad(loss(), list(parameters.values()))
    for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
        direction, step, values = torch.randn_like(parameter), 1e-5, []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(direction, alpha=sign * step)
            values.append(loss().item())
            with torch.no_grad():
                parameter.sub_(direction, alpha=sign * step)
        expected = (values[0] - values[1]) / (2 * step)
        # round-off eps x loss / h ~ 1e-16 x 1e3 / 1e-5 = 1e-8, truncation h^2 ~ 1e-10 relative
        assert (gradient * direction).sum().item() == pytest.approx(expected, rel=1e-6, abs=1e-6), name


def test_gradcheck_of_energy_and_forces(water: tuple[Tensor, Tensor], make_model: MakeModel) -> None:
    potential = Potential(make_model())

    def evaluate(pos: Tensor) -> tuple[Tensor, Tensor]:
        out = potential(water[0], pos)
        return out["energy"], out["forces"]

    assert torch.autograd.gradcheck(evaluate, (water[1].clone().requires_grad_(),))


# --- dtypes and devices ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every_variant
def test_dtypes_and_devices(
    variant: str, dtype: torch.dtype, device: torch.device, molecules: Any, make_model: MakeModel
) -> None:
    """Energies are float64, all else has the dtype of the model."""
    model = make_model(**VARIANTS[variant])
    expected = Potential(model).eval()(*molecules)
    z, pos, batch = (tensor.to(device) for tensor in molecules)
    out = Potential(model.to(device, dtype)).eval()(z, pos.to(dtype), batch)
    assert out["energy"].dtype == torch.float64
    assert out["forces"].dtype == dtype
    assert out["energy"].device.type == out["forces"].device.type == device.type
    # the narrow Gaussians lose some digits in float32; total energies of 1e4 must not: their step would be 1e-3
    tolerance = 2e-4 if dtype == torch.float32 else 1e-11
    for name, value in expected.items():
        torch.testing.assert_close(out[name].cpu().double(), value, rtol=tolerance * (name == "forces"), atol=tolerance)


# --- bad input ---


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((Data(z=torch.tensor([1])),), {}, ValueError, "`data` must have `z` .* and `pos` .*; `pos` is missing"),
        ((Data(pos=torch.zeros(1, 3)),), {}, ValueError, "`data` must have .*; `z` is missing"),
        ((torch.tensor([1]),), {}, TypeError, "`pos` is missing: pass a Data object or the tensors z and pos"),
        ((Data(), torch.zeros(1, 3)), {}, TypeError, r"pass either a Data object alone or tensors \(z, pos, ...\)"),
        ((Data(),), {"batch_size": 1}, TypeError, "pass either a Data object alone or tensors"),
        ((Data(),), {"cell": torch.eye(3)[None]}, TypeError, "pass either a Data object alone or tensors"),
        ((torch.tensor([1]), torch.full((1, 3), np.nan)), {}, ValueError, "`pos` must be finite"),
        ((torch.tensor([1, 1]), torch.zeros(2, 3)), {}, ValueError, "atoms 0 and 1 are at the same place"),
        ((torch.tensor([1, 1]), torch.zeros(1, 3)), {}, ValueError, r"`z` must have shape \[1\] like `pos`, got \[2\]"),
        (([1], torch.zeros(1, 3)), {}, TypeError, "`z` must be a tensor"),
        ((torch.tensor([1]), [[0.0, 0, 0]]), {}, TypeError, "`pos` must be a floating-point tensor"),
    ],
)
def test_bad_input_is_refused(arguments: tuple, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Potential(SchNet(8, 8, 1))(*arguments, **options)


def test_any_model_of_energies(molecules: Any) -> None:
    """A potential is composed: here with springs between all atoms, and a constant."""

    class Springs(AtomisticModel):
        def predict(self, z: Tensor, pos: Tensor, batch: Tensor, batch_size: int, edges: Edges) -> Tensor:
            energy = 0.5 * edges.edge_vec.square().sum(1)  # [P]
            return pos.new_zeros(batch_size).index_add(0, batch[edges.pair_index[0]], energy).unsqueeze(-1)

        def total(self, residual: Tensor, *_: Any) -> Tensor:
            return residual + 7

    out = Potential(Springs(2, 20.0, {}).double()).eval()(*molecules)
    expected = torch.cat([len(pos) * (pos.mean(0) - pos) for _, pos in molecules.split()])
    torch.testing.assert_close(out["forces"], expected, rtol=0, atol=1e-13)  # sums of seven terms of order ten
    assert (out["energy"] > 7).all()


def test_a_forward_of_its_own_is_not_passed_over() -> None:
    """Derivatives are those of `predict`: what a subclass does to the result elsewhere would be lost without a word."""

    class Doubled(SchNet):
        def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            return 2 * super().forward(*args, **kwargs)

    with pytest.raises(TypeError, match="Doubled has a `forward` of its own.* override `predict`"):
        Potential(Doubled(8, 8, 1))
