"""Sum and mean over the atoms of each structure."""

import pytest
import torch

from pyg_schnet.nn import Readout

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


@pytest.mark.parametrize("readout", ["max", "Add", "", None])
def test_unknown_readout_is_refused(readout: str) -> None:
    with pytest.raises(ValueError, match=f"`readout` must be 'add' or 'mean', got {readout!r}"):
        Readout(readout)
