"""Small molecules from positions on: results of the ordinary way, and never where that has something to say."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from pyg_schnet import Potential, SchNet, fast
from pyg_schnet.nn import ShiftedSoftplus
from pyg_schnet.sizes import SIZES
from tests.conftest import assert_forces_are_slopes

pytest.importorskip("numba")
MakeModel = Callable[..., SchNet]
VARIANTS: dict[str, dict[str, Any]] = {
    "no cutoff function": {"cutoff_function": None, "std": 2.5, "mean": -3.0},
    "cosine, PyG's softplus": {"act": "ssp-pyg", "atomref": torch.arange(100.0)},
    "mean of atoms, sizes that sixteen divides": {"readout": "mean", "std": 0.5, "hidden_channels": 32},
    "polynomial, shared": {"cutoff_function": "polynomial", "shared_interactions": True},
    "mollifier": {"cutoff_function": "mollifier", "num_interactions": 3},
    "repulsion": {"repulsion": "zbl", "std": 0.5},
}


def molecules(dtype: torch.dtype, *sizes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Atomic numbers, positions and structures."""
    count = sum(sizes)
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return torch.randint(1, 10, (count,)), 2.5 * torch.randn(count, 3, dtype=dtype), batch


def compare(result: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(result) == set(expected)
    for name, value in expected.items():
        assert result[name].dtype == value.dtype
        assert not result[name].requires_grad
        eps = torch.finfo(result["forces"].dtype).eps
        assert (result[name] - value).abs().max() <= 60 * eps * value.abs().max()  # energies are sums over atoms


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_equal_to_the_ordinary_way(
    variant: str, dtype: torch.dtype, make_model: MakeModel, ways: list[str], without_pass: Any
) -> None:
    potential = Potential(make_model(**VARIANTS[variant]).to(dtype).freeze())
    z, pos, batch = molecules(dtype, 5, 0, 1, 14, 90, 100, 3)
    for call in (
        lambda: potential(z, pos, batch),
        lambda: potential(z, pos, batch, batch_size=9),
        lambda: potential(z[:5], pos[:5]),
    ):
        compare(call(), without_pass(call))
    assert ways == ["molecules"] * 3


def test_threads_change_nothing(make_model: MakeModel, ways: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    potential = Potential(make_model().float().freeze())
    inputs = molecules(torch.float32, 40, 70, 30, 2, 96, 120, 7, 50)
    expected = potential(*inputs)
    monkeypatch.setattr(SIZES, "products_per_thread", 1)
    for threads in (2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        for name, value in potential(*inputs).items():
            assert torch.equal(value, expected[name])
    assert ways == ["molecules"] * 3


def test_data_with_a_cell_but_no_periodic_axes(make_model: MakeModel, ways: list[str], without_pass: Any) -> None:
    """As ASE describes molecules."""
    potential = Potential(make_model().freeze())
    z, pos, _ = molecules(torch.float64, 8)
    open_cell = {"cell": torch.zeros(1, 3, 3, dtype=torch.float64), "pbc": torch.zeros(1, 3, dtype=torch.bool)}
    data = Data(z=z, pos=pos, **open_cell)
    compare(potential(data), without_pass(lambda: potential(data)))
    assert ways == ["molecules"]
    compare(
        potential(Batch.from_data_list([data, data])),
        without_pass(lambda: potential(z, pos))
        | {name: torch.cat([value, value]) for name, value in without_pass(lambda: potential(z, pos)).items()},
    )
    pbc = torch.tensor([[True, False, False]])
    potential(z, pos, cell=20 * torch.eye(3, dtype=torch.float64).unsqueeze(0), pbc=pbc)
    potential(z, pos, virials=True)
    assert ways == ["molecules", "pass", "pass", "pass"]


def test_forces_are_those_of_the_energy(make_model: MakeModel, ways: list[str]) -> None:
    potential = Potential(make_model(cutoff_function="mollifier").freeze())
    structures = molecules(torch.float64, 6, 5)
    assert_forces_are_slopes(potential, structures, ((0, 0), (4, 1), (10, 2)), rel=1e-6, abs=1e-8)
    assert set(ways) == {"molecules"}


def test_weights_and_layers_that_change_are_seen(make_model: MakeModel, ways: list[str]) -> None:
    model = make_model(hidden_channels=16).freeze()
    z, pos, _ = molecules(torch.float64, 9)
    found = [float(Potential(model)(z, pos)["energy"])]
    with torch.no_grad():
        model.embedding.weight.mul_(1.5)
    found.append(float(Potential(model)(z, pos)["energy"]))
    model.embedding.weight = torch.nn.Parameter(2 * model.embedding.weight.detach())
    found.append(float(Potential(model)(z, pos)["energy"]))
    assert len(set(found)) == 3
    assert float(Potential(copy.deepcopy(model))(z, pos)["energy"]) == found[2]
    assert ways == ["molecules"] * 4
    model.interactions[1].act = ShiftedSoftplus(shift=0.5)
    assert float(Potential(model)(z, pos)["energy"]) != found[2]
    model.total = lambda residual, *_: 0 * residual
    assert float(Potential(model)(z, pos)["energy"]) == 0.0
    assert ways == ["molecules"] * 4 + ["frozen tables"] * 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_kinds_of_numbers_that_loops_do_not_have(
    dtype: torch.dtype, make_model: MakeModel, ways: list[str], without_pass: Any
) -> None:
    model = make_model().freeze()
    z, pos, batch = molecules(torch.float64, 5, 8)
    potential = Potential(copy.deepcopy(model).to(dtype))
    compare(potential(z, pos.to(dtype), batch), without_pass(lambda: potential(z, pos.to(dtype), batch)))
    exact = Potential(model)(z, pos.to(dtype).double(), batch)
    given = potential(z, pos.to(dtype), batch)
    assert given["forces"].dtype == dtype
    assert (given["energy"] - exact["energy"]).abs().max() < 20 * torch.finfo(dtype).eps * exact["energy"].abs().max()
    assert ways == ["frozen tables", "molecules", "frozen tables"]


def test_a_frozen_model_made_in_inference_mode(make_model: MakeModel) -> None:
    with torch.inference_mode():
        model = make_model().freeze()
    expected = make_model().freeze()
    expected.load_state_dict({name: tensor.clone() for name, tensor in model.state_dict().items()})
    z, pos, batch = molecules(torch.float64, 5, 8)
    compare(Potential(model)(z, pos, batch), Potential(expected)(z, pos, batch))


INPUTS: dict[str, tuple[Callable[[Tensor, Tensor, Tensor], Any], str | None]] = {
    "NaN": (lambda z, pos, batch: (z, pos.index_fill(0, torch.tensor([2]), torch.nan), batch), "must be finite"),
    "same place": (lambda z, pos, batch: (z, pos.index_copy(0, torch.tensor([1]), pos[:1]), batch), "same place"),
    "not sorted": (lambda z, pos, batch: (z, pos, batch.flip(0)), "must be sorted"),
    "negative": (lambda z, pos, batch: (z, pos, batch - 1), "must be sorted and not negative"),
    "too many structures": (lambda z, pos, batch: (z, pos, batch, 1), "batch_size"),
    "wrong kind": (lambda z, pos, batch: (z, pos.float(), batch), "float32"),
    "wrong shape": (lambda z, pos, batch: (z[:-1], pos, batch), "`z` must have shape"),
    "unknown element": (lambda z, pos, batch: (z + 200, pos, batch), "from 1 to 118, got 2"),
    "no element": (lambda z, pos, batch: (z - 300, pos, batch), "from 1 to 118, got -"),
    "far apart": (lambda z, pos, batch: (z, 1000 * pos, batch), None),
    "not in one piece": (lambda z, pos, batch: (z, pos.repeat(1, 2)[:, ::2], batch), None),
    "nothing": (lambda z, pos, batch: (z[:0], pos[:0], batch[:0], 0), None),
}


@pytest.mark.parametrize("case", INPUTS)
def test_what_is_unusual_is_left_to_the_ordinary_way(case: str, make_model: MakeModel, ways: list[str]) -> None:
    potential, (change, message) = Potential(make_model().freeze()), INPUTS[case]
    z, pos, batch, *size = change(*molecules(torch.float64, 6, 5))
    call = lambda: potential(z, pos, batch, batch_size=size[0] if size else None)  # noqa: E731
    if message is None:
        assert call()["forces"].isfinite().all()
        assert ways in (["pass"], ["frozen tables"])
    else:
        with pytest.raises((ValueError, TypeError), match=message):
            call()
        assert ways == []


def test_large_structures_and_machines_without_loops(make_model: MakeModel, ways: list[str]) -> None:
    potential = Potential(make_model(cutoff=3.0).freeze())
    potential(*molecules(torch.float64, 5, 300))
    assert ways == ["pass"]
    with fast.without("compiled loops"):
        potential(*molecules(torch.float64, 5))
        assert ways == ["pass", "frozen tables"]
        potential.hessian(*molecules(torch.float64, 5))
        with torch.inference_mode():
            assert potential(*molecules(torch.float64, 5))["forces"].isfinite().all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        potential(*molecules(torch.float64, 5))
    assert ways[1:] == ["frozen tables"] * 4
