"""Molecules from SMILES: composition, geometry, and what cannot be read."""

import pytest
import torch
from torch_geometric.data import Batch

from pyg_schnet import Potential, SchNet
from pyg_schnet.datasets import from_smiles

pytest.importorskip("rdkit")


@pytest.mark.parametrize(
    ("smiles", "formula"),
    [
        ("CCO", {6: 2, 8: 1, 1: 6}),
        ("c1ccccc1", {6: 6, 1: 6}),
        ("[NH4+]", {7: 1, 1: 4}),
        ("O=C=O", {6: 1, 8: 2}),
        ("[He]", {2: 1}),
        ("C[Si](C)(C)C", {14: 1, 6: 4, 1: 12}),
    ],
)
def test_composition_and_geometry(smiles: str, formula: dict[int, int]) -> None:
    data = from_smiles(smiles)
    z, counts = data.z.unique(return_counts=True)
    assert dict(zip(z.tolist(), counts.tolist(), strict=True)) == formula
    assert data.pos.shape == (len(data.z), 3)
    if len(data.z) > 1:
        distance = torch.cdist(data.pos, data.pos) + 10 * torch.eye(len(data.z))
        assert 0.9 < distance.min() < 1.5  # the shortest bond of a molecule
        bonds = (data.pos[data.edge_index[0]] - data.pos[data.edge_index[1]]).norm(dim=1)
        assert bonds.max() < 2.0
        assert data.edge_attr.shape == (data.edge_index.size(1), 3)


def test_benzene_is_flat_and_regular() -> None:
    data = from_smiles("c1ccccc1")
    assert torch.linalg.svdvals(data.pos - data.pos.mean(0))[2] < 0.05
    carbon = data.pos[data.z == 6]
    ring = (carbon - carbon.roll(1, 0)).norm(dim=1)
    torch.testing.assert_close(ring, torch.full((6,), 1.395), rtol=0, atol=0.02)  # MMFF94, experiment 1.397


def test_seed_gives_the_conformer() -> None:
    one, same, other = (from_smiles("CCCCCO", seed=seed).pos for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not torch.equal(one, from_smiles("CCCCCO", seed=1, optimize=False).pos)


def test_batches_go_through_a_potential() -> None:
    batch = Batch.from_data_list([from_smiles("CCO"), from_smiles("O"), from_smiles("c1ccccc1")])
    out = Potential(SchNet.preset("jcp2018", num_interactions=1))(batch)
    assert out["energy"].shape == (3,)
    assert out["forces"].shape == (9 + 3 + 12, 3)


@pytest.mark.parametrize("smiles", ["", "C1CC", "Xx", "C(C)(C)(C)(C)C", "C*"])
def test_no_molecule_is_refused_in_one_sentence(smiles: str, capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(ValueError, match="`smiles` must be a valid molecule such as 'CCO', got ") as error:
        from_smiles(smiles)
    assert repr(smiles) in str(error.value)
    assert capfd.readouterr().err == ""
    with pytest.raises(
        ValueError, match=r"`smiles` must be one molecule, got '\[Na\+\]\.\[Cl-\]' with 2; build each by"
    ):
        from_smiles("[Na+].[Cl-]")  # distance geometry would put them on top of each other
    with pytest.raises(TypeError, match="`smiles` must be a string, got int"):
        from_smiles(6)  # type: ignore[arg-type]
