"""Sum, mean and other aggregations over the atoms of each structure."""

import pytest
import torch
from torch_geometric.nn.aggr import Set2Set

from pyg_schnet.nn import Atomwise, FeatureReadout, Readout, make_readout

Y = torch.tensor([[1.0, 10.0], [2.0, 20.0], [6.0, 60.0]])


@pytest.mark.parametrize(
    ("readout", "expected"),
    [
        ("add", [[3.0, 30.0], [0.0, 0.0], [6.0, 60.0], [0.0, 0.0]]),
        ("sum", [[3.0, 30.0], [0.0, 0.0], [6.0, 60.0], [0.0, 0.0]]),
        ("mean", [[1.5, 15.0], [0.0, 0.0], [6.0, 60.0], [0.0, 0.0]]),
    ],
)
def test_every_structure_gets_a_row_an_empty_last_one_too(readout: str, expected: list[list[float]]) -> None:
    assert Readout(readout)(Y, torch.tensor([0, 0, 2]), batch_size=4).tolist() == expected


@pytest.mark.parametrize("readout", ["add", "mean"])
def test_no_atoms(readout: str) -> None:
    y = Readout(readout)(Y[:0], torch.zeros(0, dtype=torch.long), batch_size=2)
    assert torch.equal(y, torch.zeros(2, 2))


@pytest.mark.parametrize("readout", ["add", "mean"])
def test_derivatives(readout: str) -> None:
    y, batch = Y.double().requires_grad_(), torch.tensor([0, 0, 2])
    assert torch.autograd.gradcheck(lambda y: Readout(readout)(y, batch, 4), (y,))


@pytest.mark.parametrize("readout", ["maxi", "Add", "", None])
def test_unknown_readout_is_refused(readout: str) -> None:
    with pytest.raises(ValueError, match=f"`readout` must be one of 'add', .*, got {readout!r}"):
        Readout(readout)


@pytest.mark.parametrize(
    ("readout", "expected"),
    [("max", [2.0, 20.0]), ("min", [1.0, 10.0]), ("mul", [2.0, 200.0]), ("median", [1.0, 10.0])],
)
def test_other_aggregations_of_contributions(readout: str, expected: list[float]) -> None:
    assert Readout(readout)(Y, torch.tensor([0, 0, 1]), batch_size=2).tolist() == [expected, [6.0, 60.0]]


# --- aggregated features ---

FEATURES = ["set2set", "Set2SetAggregation", "attentional", "softmax", "std", "SetTransformer"]


@pytest.mark.parametrize("name", FEATURES)
def test_any_aggregation_of_pyg(name: str) -> None:
    """A row for each structure, which depends on no atom of another."""
    readout = make_readout(name, 8)
    assert isinstance(readout, FeatureReadout)
    readout.eval()
    x, batch = torch.randn(7, 8), torch.tensor([0, 0, 0, 1, 1, 1, 1])
    together = readout(x, batch, 2)
    assert together.shape == (2, readout.out_channels(8))
    single = readout(x[3:], torch.zeros(4, dtype=torch.long), 1)
    torch.testing.assert_close(together[1:], single, rtol=1e-5, atol=1e-6)  # float32 sums in another order


def test_options_and_modules() -> None:
    readout = make_readout("set2set", 8, {"processing_steps": 1})
    assert readout.aggr.processing_steps == 1
    module = Set2Set(8, processing_steps=2)
    assert make_readout(module, 8).aggr is module
    with pytest.raises(ValueError, match="the readout Set2Set does not take 5 atom features"):
        make_readout(module, 5).out_channels(5)
    with pytest.raises(TypeError, match="`readout` must be a name or an Aggregation of PyG, got int"):
        make_readout(3, 8)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["lstm", "GRUAggregation"])
def test_aggregations_that_depend_on_the_order_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"readout='{name}' depends on the order of the atoms"):
        make_readout(name, 8)


@pytest.mark.parametrize("name", FEATURES)
def test_aggregations_are_differentiable_twice(name: str) -> None:
    """Training on forces needs it."""
    readout, x = make_readout(name, 8), torch.randn(4, 8, requires_grad=True)
    (slope,) = torch.autograd.grad(readout(x, torch.zeros(4, dtype=torch.long), 1).square().sum(), x, create_graph=True)
    slope.square().sum().backward()
    assert x.grad.any()


def test_reset_draws_the_aggregation_anew() -> None:
    readout = make_readout("set2set", 8)
    before = [parameter.clone() for parameter in readout.parameters()]
    readout.reset_parameters()
    assert not any(torch.equal(new, old) for new, old in zip(readout.parameters(), before, strict=True))


def test_zero_output() -> None:
    x = torch.randn(3, 8)
    output = Atomwise(8, 2, zero_output=True)
    assert not output(x).any()
    output.reset_parameters()
    assert not output(x).any()
    output(x).sum().backward()
    assert output.lin2.weight.grad.any()  # it can leave zero


@pytest.mark.parametrize("name", ["add", "max", "spatial_extent", "polarizability"])
def test_masses_are_for_dipole_moments_alone(name: str) -> None:
    with pytest.raises(ValueError, match=f"readout='{name}' takes no `readout_options`, got"):
        make_readout(name, 8, {"masses": [1.0] * 10})
    assert make_readout("dipole", 8, {"masses": [1.0] * 10}).masses.numel() == 10
