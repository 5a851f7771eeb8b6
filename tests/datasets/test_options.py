"""What every dataset takes: transforms, filters and reading again reach what they are for."""

import pytest
import torch
from ase import Atoms
from ase.io import write

from pyg_schnet.datasets import ISO17, MD17, QM9, MaterialsProject, Trajectory


def own(root, **options):
    path = root.parent / "own.xyz"
    if not path.exists():
        write(path, [Atoms("He2", [[0, 0, 0], [0, 0, 1 + z]], info={"energy": 1.0 * z}) for z in range(9)])
    return Trajectory(root, path, forces_key=None, **options)


DATASETS = {
    "QM9": lambda root, **options: QM9(root, "bundled", **options),
    "MD17": lambda root, **options: MD17(root, "ethanol_xtb", **options),
    "ISO17": lambda root, **options: ISO17(root, name="bundled", **options),
    "MaterialsProject": lambda root, **options: MaterialsProject(root, "emt_alloys", **options),
    "Trajectory": own,
}


def moved(data):
    data.pos = data.pos + 1.0
    return data


def size(data):
    return float((data.pos - data.pos.mean(0)).norm())


@pytest.mark.parametrize("name", DATASETS)
def test_transforms_and_filters(name, tmp_path):
    make = DATASETS[name]
    plain = make(tmp_path / "root", log=False)
    sizes = [size(data) for data in plain]
    middle = sorted(sizes)[len(sizes) // 2]
    chosen = [number for number, one in enumerate(sizes) if one < middle]
    assert 0 < len(chosen) < len(plain)
    places = [plain[number].pos for number in (0, len(plain) - 1)]
    accessed = make(tmp_path / "root", log=False, transform=moved)
    stored = make(tmp_path / "root", log=False, pre_transform=moved)
    for dataset in (accessed, stored):
        assert len(dataset) == len(plain)
        for number, pos in zip((0, -1), places, strict=True):
            torch.testing.assert_close(dataset[number].pos, pos + 1.0, rtol=0, atol=0)
    filtered = make(tmp_path / "root", log=False, pre_filter=lambda data: size(data) < middle)
    assert len(filtered) == len(chosen)
    assert torch.equal(filtered[-1].pos, plain[chosen[-1]].pos)
    assert torch.equal(make(tmp_path / "root", log=False)[0].pos, places[0])  # what is stored without is as it was


@pytest.mark.parametrize("name", DATASETS)
def test_reading_is_told_and_done_again_if_asked_for(name, tmp_path, monkeypatch, capsys):
    make, times = DATASETS[name], []
    kind = type(make(tmp_path / "root", log=False))
    assert not capsys.readouterr().out
    read = kind.read

    def counted(dataset, paths):
        times.append(1)
        return read(dataset, paths)

    monkeypatch.setattr(kind, "read", counted)
    make(tmp_path / "root", log=True)
    assert not times
    make(tmp_path / "root", log=True, force_reload=True)
    assert len(times) == 1
    assert "reading" in capsys.readouterr().out
