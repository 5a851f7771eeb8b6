"""TensorFlow's checkpoint files ("tensor bundle", version 2), read without TensorFlow.

``<prefix>.index`` is a sorted table of blocks, as LevelDB writes it: its last 48 bytes say where the index block lies,
the index block where the data blocks lie. Keys are the names of the variables, stored as differences to the previous
key; values are small protocol buffers that say type, shape, place and checksum of a tensor.
``<prefix>.data-00000-of-00001`` holds the numbers, little-endian, one tensor after the other.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
#: TensorFlow's numbers of the types that variables have.
_DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 6: "i1", 9: "<i8", 10: "?"}


def read_bundle(prefix: str | Path) -> dict[str, np.ndarray]:
    """Read all variables of a checkpoint; checksums are verified.

    Args:
        prefix: Path of the checkpoint without ``.index``.

    Returns:
        Arrays by the name of their variable, without the ``:0`` at its end.

    Raises:
        FileNotFoundError: If one of the two files is missing.
        ValueError: If a file is damaged, or in a form that is not supported.
    """
    index, data = Path(f"{prefix}.index"), Path(f"{prefix}.data-00000-of-00001")
    for path in (index, data):
        if not path.is_file():
            raise FileNotFoundError(f"there is no {path}; expected a checkpoint of TensorFlow in one piece")
    raw, content = index.read_bytes(), data.read_bytes()
    try:
        entries = list(_entries(raw))
        _check_header(_message(dict(entries)[b""]))
        return {
            name.decode().removesuffix(":0"): _tensor(content, _message(value), name.decode())
            for name, value in entries
            if name
        }
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"{index} is damaged ({error!r}); fetch it again") from None
    except ValueError as error:
        raise ValueError(f"{prefix} cannot be read: {error}") from None


def _entries(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a table."""
    if len(raw) < _FOOTER or int.from_bytes(raw[-8:], "little") != _MAGIC:
        raise ValueError("its index does not end as a table of TensorFlow does")
    place = len(raw) - _FOOTER
    for _ in range(2):  # places of the metaindex and of the index
        offset, place = _varint(raw, place)
        size, place = _varint(raw, place)
    for _, handle in _pairs(_block(raw, offset, size)):
        start, place = _varint(handle, 0)
        length, _ = _varint(handle, place)
        yield from _pairs(_block(raw, start, length))


def _block(raw: bytes, offset: int, size: int) -> bytes:
    block, trailer = raw[offset : offset + size], raw[offset + size : offset + size + 5]
    if len(trailer) < 5:
        raise ValueError("its index is cut off")
    if trailer[0] != 0:
        raise ValueError("its index is compressed; expected an uncompressed one, as TensorFlow writes it")
    if masked_crc32c(block + trailer[:1]) != int.from_bytes(trailer[1:], "little"):
        raise ValueError("its index does not have its checksum; fetch it again")
    return block


def _pairs(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block; a key shares its beginning with the one before."""
    restarts = int.from_bytes(block[-4:], "little")
    end, place, key = len(block) - 4 * (restarts + 1), 0, b""
    while place < end:
        shared, place = _varint(block, place)
        fresh, place = _varint(block, place)
        size, place = _varint(block, place)
        key = key[:shared] + block[place : place + fresh]
        place += fresh
        yield key, block[place : place + size]
        place += size


def _varint(raw: bytes, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, and the place after it."""
    value = shift = 0
    while True:
        byte = raw[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
        if shift > 63:
            raise ValueError("its index is damaged; fetch it again")


def _message(raw: bytes) -> dict[int, list[Any]]:
    """Fields of a protocol buffer by number: integers, or bytes not yet looked into."""
    fields: dict[int, list[Any]] = {}
    value: Any
    place = 0
    while place < len(raw):
        tag, place = _varint(raw, place)
        kind = tag & 7
        if kind == 0:
            value, place = _varint(raw, place)
        elif kind == 2:
            size, place = _varint(raw, place)
            value, place = raw[place : place + size], place + size
        elif kind in {1, 5}:
            size = 8 if kind == 1 else 4
            value, place = int.from_bytes(raw[place : place + size], "little"), place + size
        else:
            raise ValueError("its index is damaged; fetch it again")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _check_header(header: dict[int, list[Any]]) -> None:
    """Field 1: number of files with data, field 2: 1 for big-endian."""
    shards, big = header.get(1, [1])[0], header.get(2, [0])[0]
    if shards != 1 or big:
        raise ValueError(f"expected one little-endian file of data, got {shards}{' big-endian' * bool(big)}")


def _tensor(content: bytes, entry: dict[int, list[Any]], name: str) -> np.ndarray:
    """Fields 1: type, 2: shape, 4: offset, 5: size, 6: checksum, 7: slices of a tensor in parts."""
    code, offset, size = (entry.get(field, [0])[0] for field in (1, 4, 5))
    if code not in _DTYPES or 7 in entry:
        raise ValueError(f"variable {name!r} is of a type that is not supported; expected plain numbers")
    shape = [_message(dim).get(1, [0])[0] for dim in _message(entry.get(2, [b""])[0]).get(2, [])]
    raw = content[offset : offset + size]
    if masked_crc32c(raw) != entry.get(6, [0])[0]:
        raise ValueError(f"variable {name!r} does not have its checksum; fetch the file of data again")
    return np.frombuffer(raw, _DTYPES[code]).reshape(shape).copy()


def _crc32c_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)  # noqa: PLW2901
        table.append(value)
    return table


_TABLE = _crc32c_table()


def masked_crc32c(raw: bytes) -> int:
    """Checksum of bytes, CRC-32C (Castagnoli, RFC 3720), rotated and shifted as TensorFlow stores it.

    Args:
        raw: The bytes.

    Returns:
        A number of 32 bits.

    Example:
        >>> hex(masked_crc32c(b""))
        '0xa282ead8'
    """
    crc = 0xFFFFFFFF
    for byte in raw:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
