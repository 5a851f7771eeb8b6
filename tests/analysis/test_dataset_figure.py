"""The figure of a dataset."""

import pytest
import torch
from torch_geometric.data import Data, InMemoryDataset

pytest.importorskip("matplotlib")
from pyg_schnet.analysis.dataset_figure import contents_of, figure_of, main
from pyg_schnet.analysis.distances import distances_in, pair_distances
from pyg_schnet.datasets import MD17


class InMemory(InMemoryDataset):
    def __init__(self, structures):
        super().__init__(None)
        self.data, self.slices = self.collate(structures)


def mixture():
    """Molecules of 1 to 30 atoms of 30 elements, one target with NaN, one vector of 4, one constant."""
    return InMemory(
        [
            Data(
                z=torch.arange(1, n + 1),
                pos=3 * torch.rand(n, 3),
                y=torch.rand(1, 4),
                energy=torch.tensor([float("nan") if n == 3 else -n * 100.0]),
                constant=torch.ones(1),
            )
            for n in range(1, 31)
        ]
    )


def test_bundled_trajectory(tmp_path, capsys):
    main(["ethanol_xtb", "--root", str(tmp_path), "--out", str(tmp_path / "deep" / "x.png")])
    assert (tmp_path / "deep" / "x.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.endswith("x.png\n")


def test_mixture(tmp_path):
    dataset = mixture()
    assert figure_of(dataset, tmp_path / "x.png").stat().st_size > 10_000
    figure_of(dataset[:1], tmp_path / "one.png")  # a hydrogen atom: no pairs
    counts, elements, targets, total = contents_of(dataset[[4, 2]])
    assert counts.tolist() == [5, 3]
    assert total == elements.sum() == 8
    assert elements[:7].tolist() == [0, 2, 2, 2, 1, 1, 0]
    assert targets["energy"].tolist() == [-500.0]  # NaN is no value
    assert {f"y[{column}]" for column in range(4)} <= targets.keys()


def test_distances():
    """Each pair once: two atoms, and simple cubic with 6 neighbours at 1 and 12 at 2^0.5, half of them per atom."""
    pair = Data(z=torch.tensor([1, 1]), pos=torch.tensor([[0.0, 0, 0], [0, 0, 0.7]]), energy=torch.zeros(1))
    assert pair_distances(InMemory([pair, pair]), 6.0).tolist() == pytest.approx([0.7, 0.7])
    cubic = Data(z=torch.tensor([1]), pos=torch.zeros(1, 3), cell=torch.eye(3)[None], pbc=torch.ones(1, 3).bool())
    assert pair_distances(InMemory([cubic, cubic]), 1.5).tolist() == pytest.approx([1.0] * 6 + [2**0.5] * 12)


def test_distances_of_whatever_holds_them(tmp_path):
    """A sample is the same each time, arrays are taken as they are up to the cutoff, others are refused."""
    dataset = MD17(tmp_path, "ethanol_xtb", log=False)
    some = distances_in(dataset, 5.0, sample=7)
    assert len(some) == 7 * 36  # pairs of nine atoms, all nearer than 5 Angstrom
    assert some.tolist() == distances_in(dataset, 5.0, sample=7).tolist()
    assert distances_in([dataset[0]], 1.2).tolist() == pytest.approx(torch.pdist(dataset[0].pos).sort().values[:6])
    assert distances_in(torch.tensor([1.0, 7.0]), 5.0).tolist() == [1.0]
    for bad, kind, text in (
        (torch.zeros(2), ValueError, "positive and finite"),
        (torch.ones(2, 2), ValueError, r"\[P\], got an array \[2, 2\]"),
        ("ethanol", TypeError, "got str"),
        ([], ValueError, "no structure"),
    ):
        with pytest.raises(kind, match=text):
            distances_in(bad, 5.0)
    with pytest.raises(ValueError, match="`sample` must be at least 1, got 0"):
        distances_in(dataset, 5.0, sample=0)


def test_bad_input(tmp_path):
    with pytest.raises(ValueError, match="there is no structure to draw"):
        figure_of(MD17(tmp_path, "ethanol_xtb", log=False)[:0], tmp_path / "x.png")
    with pytest.raises(SystemExit, match="unknown dataset 'nothing'"):
        main(["nothing"])
