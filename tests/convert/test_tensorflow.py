"""Networks of the authors' TensorFlow code: the C20 networks against their reference, and files written here."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pyg_schnet import Potential, SchNet, load, save
from pyg_schnet.convert import from_tensorflow
from pyg_schnet.convert.tensorflow_checkpoint import masked_crc32c, read_bundle

# --- the networks of the paper ---


@pytest.fixture(params=["energy_model", "force_model"])
def network(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def check_c20(real_data: Path, network: str) -> Callable[[SchNet, float], None]:
    """Energies and forces at two geometries, from an independent evaluation."""
    reference = dict(np.load(real_data / "c20" / "reference.npz"))

    def check(model: SchNet, factor: float = 1.0) -> None:
        z, offset = torch.from_numpy(reference["numbers"]), 20 * float(model.reference.mean)
        for i in range(2):
            out = Potential(model)(z, torch.from_numpy(reference["positions"][i]))
            energy, forces = factor * reference[f"{network}_energy"][i], factor * reference[f"{network}_forces"][i]
            # without the mean of -4.8e5, of whose 16 digits eps leaves 6e-11, 2e-12 of the rest
            assert out["energy"].item() - offset == pytest.approx(energy - offset, rel=1e-11)
            # the reference differs from us by 4e-11 of the largest force, its own error
            np.testing.assert_allclose(out["forces"], forces, rtol=0, atol=1e-10 * np.abs(forces).max())

    return check


def test_npz(real_data: Path, network: str, check_c20: Callable, tmp_path: Path) -> None:
    model = SchNet.from_tensorflow(real_data / "c20" / f"{network}.npz")
    check_c20(model)
    assert model.embedding.weight.dtype == torch.float64
    assert not model.training
    save(model, tmp_path / "model.safetensors")
    check_c20(load(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("part", ["", "validation", "validation/best_model", "validation/best_model.index"])
def test_checkpoint(part: str, real_data: Path, check_c20: Callable, network: str) -> None:
    model = SchNet.from_tensorflow(str(real_data / "c20" / "tensorflow" / network / part))
    check_c20(model)
    assert (model.cutoff, model.config["gamma"], model.num_interactions) == (20.0, 10.0, 6)


def test_checkpoint_is_the_npz(real_data: Path, network: str) -> None:
    bundle = read_bundle(real_data / "c20" / "tensorflow" / network / "validation" / "best_model")
    with np.load(real_data / "c20" / f"{network}.npz") as arrays:
        assert set(arrays.files) == set(bundle)
        for name, value in bundle.items():
            np.testing.assert_array_equal(value, arrays[name])
            assert value.dtype == arrays[name].dtype


def test_energies_in_ev(real_data: Path, network: str, check_c20: Callable) -> None:
    check_c20(SchNet.from_tensorflow(real_data / "c20" / f"{network}.npz", energy_unit="eV"), 0.04336410390059322)


# --- networks written here ---


def variables(shared: bool = False, blocks: int = 2) -> dict[str, np.ndarray]:
    """Random variables of a small network: 5 features, 4 filters, 30 Gaussians."""
    rng = np.random.default_rng(0)
    shapes = {"Dense/W": (5, 2), "Dense/b": (2,), "Dense_1/W": (2, 1), "Dense_1/b": (1,)}
    shapes |= {"atom_embedding/embeddings/W": (100, 5), "atomref/embeddings/W": (100, 1)}
    shapes |= {"mean_per_atom": (1,), "std_per_atom": (1,)}
    for block in ["interaction"] if shared else [f"interaction_{i}" for i in range(blocks)]:
        inside = {"SchNetFilter/Dense/W": (30, 4), "SchNetFilter/Dense/b": (4,)}
        inside |= {"SchNetFilter/Dense_1/W": (4, 4), "SchNetFilter/Dense_1/b": (4,), "CFConv/in2fac/W": (5, 4)}
        inside |= {"CFConv/fac2out/W": (4, 5), "CFConv/fac2out/b": (5,), "Dense/W": (5, 5), "Dense/b": (5,)}
        shapes |= {f"{block}/{name}": shape for name, shape in inside.items()}
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    arrays["std_per_atom"] = np.abs(arrays["std_per_atom"])
    return arrays


def plain_energy(arrays: dict[str, np.ndarray], z: Tensor, pos: Tensor, rule: tuple[int, bool, bool]) -> Tensor:
    """The authors' network on all pairs; ``rule``: number of blocks, whether filters and atoms are averaged."""
    w = {name: torch.from_numpy(value).double() for name, value in arrays.items()}
    blocks, mean_filters, mean_atoms = rule

    def dense(name: str, x: Tensor) -> Tensor:
        return x @ w[f"{name}/W"] + w.get(f"{name}/b", 0.0)

    def ssp(x: Tensor) -> Tensor:
        return torch.log(0.5 * torch.exp(x) + 0.5)

    i, j = (~torch.eye(len(z), dtype=torch.bool)).nonzero().t()
    d = (pos[j] - pos[i]).norm(dim=1)
    rbf = torch.exp(-((d[:, None] - torch.from_numpy(np.linspace(0, 3, 30))) ** 2) / 0.1)
    x = w["atom_embedding/embeddings/W"][z]
    for number in range(blocks):
        block = f"interaction_{number}" if f"interaction_{number}/Dense/W" in w else "interaction"
        f = ssp(dense(f"{block}/SchNetFilter/Dense_1", ssp(dense(f"{block}/SchNetFilter/Dense", rbf))))
        f = f / (len(z) - 1) if mean_filters else f
        y = dense(f"{block}/CFConv/in2fac", x)
        y = torch.zeros_like(y).index_add(0, i, y[j] * f)
        x = x + dense(f"{block}/Dense", ssp(dense(f"{block}/CFConv/fac2out", y)))
    y = dense("Dense_1", ssp(dense("Dense", x))) * w["std_per_atom"] + w["mean_per_atom"]
    y = y + w["atomref/embeddings/W"][z]
    return y.mean() if mean_atoms else y.sum()


def varint(value: int) -> bytes:
    out = []
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def table_block(pairs: list[tuple[bytes, bytes]], kind: int = 0) -> bytes:
    body = b"".join(varint(0) + varint(len(k)) + varint(len(v)) + k + v for k, v in pairs) + bytes(4) + b"\1\0\0\0"
    return body + bytes([kind]) + masked_crc32c(body + bytes([kind])).to_bytes(4, "little")


def write_bundle(prefix: Path, arrays: dict[str, np.ndarray], kind: int = 0, shards: int = 1) -> None:
    """A checkpoint as TensorFlow writes it, from its description."""
    data, pairs = b"", [(b"", b"\x08" + bytes([shards]))]
    for name, value in sorted(arrays.items()):
        raw = value.tobytes()
        shape = b"".join(b"\x12" + bytes([len(varint(n)) + 1]) + b"\x08" + varint(n) for n in value.shape)
        entry = b"\x08\x01\x12" + varint(len(shape)) + shape + b"\x20" + varint(len(data)) + b"\x28" + varint(len(raw))
        pairs.append((f"{name}:0".encode(), entry + b"\x35" + masked_crc32c(raw).to_bytes(4, "little")))
        data += raw
    content = table_block(pairs, kind)
    places = table_block([(b"~", varint(0) + varint(len(content) - 5))])
    handles = varint(0) + varint(0) + varint(len(content)) + varint(len(places) - 5)
    prefix.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{prefix}.index").write_bytes(
        content + places + handles.ljust(40, b"\0") + 0xDB4775248B80FB57.to_bytes(8, "little")
    )
    Path(f"{prefix}.data-00000-of-00001").write_bytes(data)


def write_network(folder: Path, arrays: dict[str, np.ndarray], **args: Any) -> Path:
    write_bundle(folder / "validation" / "best_model", arrays)
    np.save(folder / "args.npy", np.array(argparse.Namespace(cutoff=3.0, filter_pool_mode="sum", **args)), True)
    return folder


@pytest.mark.parametrize("intensive", [True, False])
def test_args_are_read(intensive: bool, water: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    arrays = variables()
    model = from_tensorflow(write_network(tmp_path, arrays, interactions=2, intensive=intensive))
    expected = plain_energy(arrays, *water, (2, False, intensive))
    assert model(*water).item() == pytest.approx(expected.item(), rel=1e-13)


@pytest.mark.parametrize("pool", ["sum", "mean"])
def test_shared_blocks(pool: str, water: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    arrays = variables(shared=True)
    write_network(tmp_path, arrays)
    args = argparse.Namespace(cutoff=3.0, filter_pool_mode=pool, interactions=3, shared_interactions=True)
    np.save(tmp_path / "args.npy", np.array(args), True)
    model = from_tensorflow(tmp_path)
    z, pos = water
    pos = pos.requires_grad_()
    expected, energy = plain_energy(arrays, z, pos, (3, pool == "mean", False)), model(z, pos)
    assert energy.item() == pytest.approx(expected.item(), rel=1e-13)
    forces = [torch.autograd.grad(each.sum(), pos)[0] for each in (energy, expected)]
    torch.testing.assert_close(*forces, rtol=1e-11, atol=1e-11)
    (tmp_path / "args.npy").unlink()
    with pytest.raises(ValueError, match="share their weights; pass `num_interactions`"):
        from_tensorflow(tmp_path)
    assert from_tensorflow(tmp_path, num_interactions=3).config["shared_interactions"]


def test_mean_of_filters_that_the_code_ignores_must_be_decided(water: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    arrays = variables()
    write_network(tmp_path, arrays)
    np.save(tmp_path / "args.npy", np.array(argparse.Namespace(cutoff=3.0, filter_pool_mode="mean")), True)
    with pytest.raises(
        ValueError, match="applies only if the blocks share .*; pass `normalization`, None as that code"
    ):
        from_tensorflow(tmp_path)
    for normalization in (None, "mean"):
        model = from_tensorflow(tmp_path, normalization=normalization)
        expected = plain_energy(arrays, *water, (2, normalization == "mean", False))
        assert model(*water).item() == pytest.approx(expected.item(), rel=1e-13)


def test_npz_without_args(water: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    arrays = variables()
    np.savez(tmp_path / "network.npz", **arrays)
    model = from_tensorflow(tmp_path / "network.npz", readout="mean")
    assert model.cutoff == 3.0
    assert model(*water).item() == pytest.approx(plain_energy(arrays, *water, (2, False, True)).item(), rel=1e-13)


# --- bad input ---


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("Dense_1/W", None, "expected 'Dense_1/W' of a network of the authors' TensorFlow code, got 'Dense/W', "),
        ("interaction_1/Dense/b", None, "expected 'interaction_1/Dense/b'"),
        ("mean_per_atom", None, "expected 'mean_per_atom'"),
        ("interaction_1/Dense/W", np.ones((5, 4), np.float32), r"expected 'interaction_1/Dense/W' .* shape \[5, 5\]"),
        ("atom_embedding/embeddings/W", np.ones(5, np.float32), r"two dimensions, got shape \[5\]"),
    ],
)
def test_another_network_is_refused(name: str, value: np.ndarray | None, message: str, tmp_path: Path) -> None:
    arrays = variables()
    if value is None:
        del arrays[name]
    else:
        arrays[name] = value
    np.savez(tmp_path / "network.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        from_tensorflow(tmp_path / "network.npz")


def test_no_network_and_no_argument(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    with pytest.raises(ValueError, match="expected 'atom_embedding/embeddings/W' of a network .*, got 'a'"):
        from_tensorflow(tmp_path / "other.npz")
    with pytest.raises(TypeError, match="from_tensorflow has no argument 'cut'; expected one of cutoff, gamma"):
        from_tensorflow(tmp_path / "other.npz", cut=3.0)
    with pytest.raises(FileNotFoundError, match=r"holds no checkpoint; expected .*validation.best_model\.index"):
        from_tensorflow(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        from_tensorflow(tmp_path / "none.npz")
    with pytest.raises(FileNotFoundError, match="expected a checkpoint of TensorFlow"):
        from_tensorflow(tmp_path / "none")
    (tmp_path / "broken.npz").write_bytes(b"PK\3\4 broken")
    with pytest.raises(ValueError, match="is not a readable npz file of plain arrays"):
        from_tensorflow(tmp_path / "broken.npz")
    for name in ("a", "b"):
        write_bundle(tmp_path / "many" / name, {})
    with pytest.raises(ValueError, match="holds 2 checkpoints; give one of them"):
        from_tensorflow(tmp_path / "many")


def test_cutoff_must_fit_the_gaussians(tmp_path: Path) -> None:
    np.savez(tmp_path / "network.npz", **variables())
    with pytest.raises(
        ValueError, match="a cutoff of 5 Angstrom and gamma=10 make 50 Gaussians .*, this network has 30"
    ):
        from_tensorflow(tmp_path / "network.npz", cutoff=5.0)
    assert from_tensorflow(tmp_path / "network.npz", cutoff=6.0, gamma=5.0).config["gamma"] == 5.0
    # the authors' code rounds the number of Gaussians up, which leaves the cutoff as it is
    assert from_tensorflow(tmp_path / "network.npz", cutoff=2.93).cutoff == 2.93


def test_npz_with_pickles_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "network.npz", a=np.array([Mischief(tmp_path / "ran")], dtype=object))
    with pytest.raises(ValueError, match="plain arrays"):
        from_tensorflow(tmp_path / "network.npz")
    assert not (tmp_path / "ran").exists()


class Mischief:
    """Runs a command when it is unpickled by an ordinary reader."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable, tuple[str]]:
        return os.system, (f"touch '{self.path}'",)


def test_args_that_run_code_are_refused(tmp_path: Path) -> None:
    write_network(tmp_path, variables())
    np.save(tmp_path / "args.npy", np.array(Mischief(tmp_path / "ran"), dtype=object), True)
    np.load(tmp_path / "args.npy", allow_pickle=True)
    assert (tmp_path / "ran").exists()  # it does harm
    (tmp_path / "ran").unlink()
    model = from_tensorflow(tmp_path)
    assert not (tmp_path / "ran").exists()
    assert model.cutoff == 3.0  # as the number of Gaussians tells
    np.save(tmp_path / "args.npy", np.ones(3))
    with pytest.raises(ValueError, match="is not a pickled namespace"):
        from_tensorflow(tmp_path)


def damage(path: Path, place: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda prefix: damage(Path(f"{prefix}.data-00000-of-00001"), 700), "variable .* does not have its checksum"),
        (lambda prefix: damage(Path(f"{prefix}.index"), 40), "its index does not have its checksum"),
        (lambda prefix: damage(Path(f"{prefix}.index"), -1), "does not end as a table of TensorFlow does"),
        (lambda prefix: Path(f"{prefix}.index").write_bytes(b""), "does not end as a table of TensorFlow does"),
        (lambda prefix: os.truncate(f"{prefix}.data-00000-of-00001", 100), "does not have its checksum"),
        (lambda prefix: write_bundle(prefix, variables(), kind=1), "index is compressed"),
        (lambda prefix: write_bundle(prefix, variables(), shards=2), "expected one little-endian file of data, got 2"),
    ],
)
def test_damaged_checkpoints(change: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    prefix = tmp_path / "best_model"
    write_bundle(prefix, variables())
    from_tensorflow(prefix)
    change(prefix)
    with pytest.raises(ValueError, match=message):
        from_tensorflow(prefix)
    Path(f"{prefix}.data-00000-of-00001").unlink()
    with pytest.raises(FileNotFoundError, match="expected a checkpoint of TensorFlow in one piece"):
        from_tensorflow(prefix)


def test_cut_off_index_never_crashes(tmp_path: Path) -> None:
    write_bundle(tmp_path / "best_model", variables(blocks=1))
    path = tmp_path / "best_model.index"
    raw = path.read_bytes()
    for size in range(0, len(raw) - 48, 97):
        path.write_bytes(raw[:size] + raw[-48:])
        with pytest.raises(ValueError, match="best_model"):
            from_tensorflow(tmp_path)


def test_checksum_is_castagnoli() -> None:
    """CRC-32C of "123456789" is E3069283 (RFC 3720), masked by TensorFlow's rule."""
    crc = 0xE3069283
    assert masked_crc32c(b"123456789") == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
