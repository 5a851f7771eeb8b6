"""The npz layout of MD17: fingerprint, checks, messages."""

import hashlib
import random

import numpy as np
import pytest

from pyg_schnet.datasets.sgdml_npz import fingerprint, read_npz, write_npz


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "z": np.array([8, 1, 1], dtype=np.uint8),
        "R": rng.normal(size=(4, 3, 3)),
        "E": rng.normal(size=(4, 1)),
        "F": rng.normal(size=(4, 3, 3)),
    }


def store(path, arrays, **text):
    np.savez_compressed(path, **arrays, **{key: np.bytes_(value) for key, value in text.items()})
    return path


def test_fingerprint_is_md5_of_md5_digests(arrays):
    expected = hashlib.md5(b"".join(hashlib.md5(arrays[key].tobytes()).digest() for key in "zREF")).hexdigest()
    assert fingerprint(arrays) == expected


def test_fingerprint_of_published_files(real_data):
    for path in sorted((real_data / "md17").glob("*.npz")):
        with np.load(path) as file:
            published = bytes(file["md5"]).decode()
            assert fingerprint({key: file[key] for key in file.files}) == published, path.name


def test_round_trip(tmp_path, arrays):
    path = tmp_path / "water.npz"
    write_npz(path, **arrays, name="water", theory="none")
    read = read_npz(path)
    assert read["z"].dtype == np.int64
    np.testing.assert_array_equal(read["R"], arrays["R"])
    np.testing.assert_array_equal(read["E"], arrays["E"].ravel())
    np.testing.assert_array_equal(read["F"], arrays["F"])
    assert [file.name for file in tmp_path.iterdir()] == ["water.npz"]


def test_energies_of_shape_m_are_read_too(tmp_path, arrays):
    arrays["E"] = arrays["E"].ravel()
    assert read_npz(store(tmp_path / "x.npz", arrays))["E"].shape == (4,)


@pytest.mark.parametrize("key", ["z", "R", "E", "F"])
def test_missing_key(tmp_path, arrays, key):
    del arrays[key]
    with pytest.raises(ValueError, match=rf"lacks the keys {key} of the MD17 layout; it has"):
        read_npz(store(tmp_path / "x.npz", arrays))


def test_wrong_md5(tmp_path, arrays):
    path = store(tmp_path / "x.npz", arrays, md5=fingerprint(arrays))
    assert read_npz(path)["E"].shape == (4,)
    arrays["E"][2] += 1e-9
    path = store(tmp_path / "x.npz", arrays, md5=bytes(np.load(path)["md5"]))
    with pytest.raises(ValueError, match="is damaged: its arrays have the fingerprint .* fetch it again"):
        read_npz(path)


@pytest.mark.parametrize(("key", "shape"), [("R", (4, 2, 3)), ("F", (3, 3, 3)), ("E", (5, 1)), ("z", (3, 1))])
def test_shapes_that_do_not_match(tmp_path, arrays, key, shape):
    arrays[key] = np.ones(shape, dtype=arrays[key].dtype)
    with pytest.raises(ValueError, match=r"expected z \[n\], R \[M, n, 3\], E \[M, 1\] and F \[M, n, 3\], got"):
        read_npz(store(tmp_path / "x.npz", arrays))


@pytest.mark.parametrize("key", ["R", "E", "F"])
def test_values_that_are_not_finite(tmp_path, arrays, key):
    arrays[key].flat[1] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        read_npz(store(tmp_path / "x.npz", arrays))


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04 cut off"])
def test_not_an_npz_file(tmp_path, content):
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a readable npz file"):
        read_npz(path)


def test_truncated_file(tmp_path, arrays):
    path = store(tmp_path / "x.npz", arrays)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="not a readable npz file"):
        read_npz(path)


def test_pickled_arrays_are_not_executed(tmp_path, arrays):
    arrays["extra"] = np.array([print], dtype=object)
    with pytest.raises(ValueError, match="not a readable npz file"):
        read_npz(store(tmp_path / "x.npz", arrays))


def test_damaged_files_give_data_or_a_sentence(tmp_path, arrays):
    path = tmp_path / "x.npz"
    write_npz(path, **arrays, name="water", theory="none")
    whole, rng = path.read_bytes(), random.Random(0)
    for trial in range(150):
        content = bytearray(whole[: rng.randrange(len(whole))] if trial % 2 else whole)
        for _ in range(trial // 10):
            if content:
                content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)
        try:
            assert read_npz(path)["R"].shape == (4, 3, 3)
        except ValueError as error:
            assert "x.npz" in str(error)  # noqa: PT017  it may also be read


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"z": np.array([0, 1, 1])}, "expected atomic numbers from 1 to 118, got 0 to 1"),
        ({"z": np.array([8.0, 1.0, 1.0])}, "expected whole numbers z"),
        ({"E": np.array(["a", "b", "c", "d"])}, "real numbers R, E, F"),
        ({"R": np.array(1.0)}, "expected z"),
        ({"z": np.empty(0, int), "R": np.empty((4, 0, 3)), "F": np.empty((4, 0, 3))}, "holds no frames or no atoms"),
    ],
)
def test_values_that_cannot_be(tmp_path, arrays, change, message):
    with pytest.raises(ValueError, match=message):
        read_npz(store(tmp_path / "x.npz", arrays | change))
