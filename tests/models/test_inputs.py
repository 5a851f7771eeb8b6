"""Impossible input: the same sentence in every way to call a model, whatever short cut it takes."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from pyg_schnet import Potential, SchNet
from pyg_schnet.models import DTNN, Committee, CommitteePotential, EnnS2S
from pyg_schnet.simulation import RecordedPotential

KINDS: dict[str, Callable[[SchNet], SchNet]] = {
    "exact": lambda model: model,
    "table": lambda model: setattr(model, "filters", "table") or model,
    "training": lambda model: setattr(model, "filters", "table") or model.train(),
    "frozen": lambda model: model.freeze(),
    "compiled": lambda model: model.compile_network(backend="eager"),
}
WAYS: dict[str, Callable[[SchNet, Tensor, Tensor], Any]] = {
    "model": lambda model, z, pos: model(z, pos),
    "features": lambda model, z, pos: model.features(z, pos),
    "contributions": lambda model, z, pos: model.contributions(z, pos),
    "potential": lambda model, z, pos: Potential(model)(z, pos),
    "stress": lambda model, z, pos: Potential(model)(
        z, pos, cell=9 * torch.eye(3)[None], pbc=torch.ones(1, 3, dtype=torch.bool), stress=True
    ),
    "hessian": lambda model, z, pos: Potential(model).hessian(z, pos),
    "given graph": lambda model, z, pos: Potential(model)(z, pos, edge_index=torch.tensor([[1, 0, 2], [0, 1, 1]])),
    "recorded": lambda model, z, pos: RecordedPotential(model, z)(pos),
    "committee": lambda model, z, pos: Committee([model, model])(z, pos),
    "nested committee": lambda model, z, pos: CommitteePotential(
        Committee([model, SchNet(8, 8, 1, 8, 9.0, max_z=200)])
    )(z, pos),
}
NUMBERS: dict[str, tuple[list[int], torch.dtype, type[Exception], str]] = {
    "none": ([8, 1, 0], torch.long, ValueError, "`z` must hold atomic numbers from 1 to 118, got 0; remove such atoms"),
    "119": ([8, 1, 119], torch.long, ValueError, "got 119; remove such atoms, or train a model with a larger `max_z`"),
    "negative": ([8, 1, -1], torch.long, ValueError, "from 1 to 118, got -1; remove such atoms"),
    "huge": ([8, 1, 2**60], torch.long, ValueError, "from 1 to 118, got 1152921504606846976; remove such atoms"),
    "float": ([8, 1, 1], torch.float32, TypeError, "`z` must hold atomic numbers as int64 [N], got torch.float32"),
    "uint8": ([8, 1, 1], torch.uint8, TypeError, "as int64 [N], got torch.uint8; convert them, for example z.long()"),
    "int32": ([8, 1, 1], torch.int32, TypeError, "as int64 [N], got torch.int32; convert them, for example z.long()"),
    "bool": ([1, 1, 1], torch.bool, TypeError, "as int64 [N], got torch.bool"),
}
POS = torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])


def small(kind: str) -> SchNet:
    return KINDS[kind](SchNet(16, 16, 2, 12, cutoff=5.0).eval())


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("kind", KINDS)
def test_atomic_numbers(kind: str, number: str) -> None:
    values, dtype, error, message = NUMBERS[number]
    model, z = small(kind), torch.tensor(values).to(dtype)
    for way, call in WAYS.items():
        if kind == "compiled" and way == "recorded":
            continue  # it computes with ghosts in shapes of its own
        with pytest.raises(error, match=re.escape(message)):
            call(model, z, POS)


@pytest.mark.parametrize("make", [DTNN, EnnS2S], ids=["DTNN", "EnnS2S"])
def test_atomic_numbers_of_other_models(make: Callable[[], Any]) -> None:
    for values, dtype, error, message in NUMBERS.values():
        with pytest.raises(error, match=re.escape(message)):
            make()(torch.tensor(values).to(dtype), POS)


EYE, OPEN = 9 * torch.eye(3), torch.zeros(1, 3, dtype=torch.bool)
OPTIONS: dict[str, dict[str, Any]] = {
    "kind of the cell": {"cell": EYE[None].double(), "pbc": OPEN},
    "shape of the cell": {"cell": EYE, "pbc": OPEN},
    "cells of two": {"cell": EYE[None], "pbc": OPEN, "batch": torch.tensor([0, 0, 1])},
    "cells for two": {"cell": EYE.repeat(2, 1, 1), "pbc": OPEN.repeat(2, 1)},
    "no axes": {"cell": EYE[None]},
    "no cell": {"pbc": ~OPEN},
    "kind of the axes": {"cell": EYE[None], "pbc": OPEN.long()},
    "not sorted": {"batch": torch.tensor([1, 0, 0])},
    "kind of the batch": {"batch": torch.zeros(3, dtype=torch.int32)},
    "shape of the batch": {"batch": torch.zeros(2, dtype=torch.long)},
    "too few structures": {"batch": torch.tensor([0, 0, 1]), "batch_size": 1},
    "half a structure": {"batch": torch.tensor([0, 0, 1]), "batch_size": 2.0},
    "structures of one": {"batch_size": 3},
}


@pytest.mark.parametrize("case", OPTIONS)
def test_other_arguments(case: str) -> None:
    """Short ways say what the ordinary way says."""
    z = torch.tensor([8, 1, 1])
    with pytest.raises((TypeError, ValueError)) as expected:
        Potential(small("exact"))(z, POS, **OPTIONS[case])
    assert str(expected.value).startswith("`")
    for kind in ("table", "training", "frozen"):
        with pytest.raises(type(expected.value), match=re.escape(str(expected.value))):
            Potential(small(kind))(z, POS, **OPTIONS[case])


@pytest.mark.parametrize("kind", ["table", "training", "frozen"])
def test_a_cell_without_periodic_axes_changes_nothing(kind: str) -> None:
    z, potential = torch.tensor([8, 1, 1]), Potential(small(kind))
    one, other = potential(z, POS), potential(z, POS, cell=EYE[None], pbc=OPEN)
    assert torch.equal(one["energy"], other["energy"])
    torch.testing.assert_close(one["forces"], other["forces"], rtol=0, atol=1e-6)
