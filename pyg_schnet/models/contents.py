"""What a model file holds: tensors and a header of JSON in the format of safetensors, checked before anything is made.

Reading runs nothing that a file names, and takes no more memory than a few times its size.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from pyg_schnet.compat import DispatchMode

FORMAT = "pyg_schnet"
#: Files of a newer version are refused. Since version 2 the checksum covers the whole header, not only ``config``.
FORMAT_VERSION = 2
#: Longest header that is read, in bytes; that of safetensors itself.
LONGEST = 100_000_000
#: Kinds of weights that a model may have.
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def encoded(header: dict[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    """A model file.

    Args:
        header: Header, JSON-compatible; its checksum is filled in.
        tensors: Weights and buffers by name.

    Returns:
        Its content.

    Raises:
        ValueError: If a weight is not finite or of a kind that no model has.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    check_values(tensors, "the model")
    header = header | {"sha256": checksum(tensors, header)}
    return safetensors.torch.save(tensors, metadata={name: json.dumps(value) for name, value in header.items()})


def read_entries(file: BinaryIO, path: Path) -> tuple[dict[str, Any], bytes]:
    """The header of a model file.

    Args:
        file: The file, open at its beginning.
        path: How to call it in messages.

    Returns:
        The header, and the bytes that have been read for it.

    Raises:
        ValueError: If it is no model file, or one of a newer format.
    """
    start = file.read(8)
    length = int.from_bytes(start, "little")
    try:
        if len(start) < 8 or length > LONGEST:
            raise ValueError("it does not begin with the length of a header")
        text = file.read(length)
        if len(text) < length:
            raise ValueError("it ends within its header")
        entries = json.loads(text)
        metadata = entries.get("__metadata__") or {}
        if metadata.get("format") != json.dumps(FORMAT):
            raise LookupError
        header = {name: json.loads(value) for name, value in metadata.items()}
    except LookupError:
        raise ValueError(f"{path} was not written by pyg_schnet.save; convert it first (pyg_schnet.convert)") from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is not a readable model file ({error}); write or fetch it again") from None
    version = header.get("format_version")
    if not isinstance(version, int):
        raise ValueError(f"{path} has no format version in its header; write or fetch it again")
    if version > FORMAT_VERSION:
        raise ValueError(f"{path} has format {version}, this version reads up to {FORMAT_VERSION}; upgrade pyg_schnet")
    return header, start + text


def decoded(file: BinaryIO, path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a model file, both from one opening of it: another file may take its name meanwhile.

    Args:
        file: The file, open at its beginning.
        path: How to call it in messages.

    Returns:
        Both; they have the checksum of the header, and all tensors are finite weights.

    Raises:
        ValueError: If it is no model file, of a newer format, damaged, or its weights are none.
    """
    header, content = read_entries(file, path)
    content += file.read()
    try:
        tensors = safetensors.torch.load(content)
    except (SafetensorError, ValueError, RuntimeError, KeyError) as error:
        raise ValueError(f"{path} is not a readable model file ({error}); write or fetch it again") from None
    if checksum(tensors, header) != header.get("sha256"):
        raise ValueError(
            f"{path} is damaged: its tensors and header do not have the checksum of its header; fetch or write it again"
        )
    check_values(tensors, str(path))
    return header, tensors


def check_values(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse what no trained model has among its weights.

    Args:
        tensors: Weights and buffers by name.
        where: Whose they are, for messages.

    Raises:
        ValueError: If one is complex, of 8 bits or no floating-point number, or not finite.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES:
            known = ", ".join(str(kind).removeprefix("torch.") for kind in DTYPES)
            raise ValueError(f"{where} has {name} in {tensor.dtype}; expected weights of one of {known}")
        bad = int((~tensor.isfinite()).sum())
        if bad:
            raise ValueError(
                f"{where} has {bad} of {tensor.numel()} values of {name} that are not finite; nothing can be "
                "predicted with it, go back to a model from before its training failed"
            )


def checksum(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> str:
    """Checksum of tensors and header.

    Args:
        tensors: Tensors by name.
        header: The header; its ``sha256`` does not count.

    Returns:
        The sha256 as a hexadecimal number.
    """
    covered: Any = {name: value for name, value in header.items() if name != "sha256"}
    covered = header.get("config") if header["format_version"] == 1 else covered
    digest = hashlib.sha256(json.dumps(covered, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class WithinSize(DispatchMode):
    """Refuses to make tensors of more numbers than a model of such a file can have.

    A header of some hundred bytes may ask for a network of terabytes.

    Args:
        tensors: Those of the file.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.left = 4 * sum(tensor.numel() for tensor in tensors.values()) + 1_000_000

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count what is about to be made."""
        name = func.overloadpacket.__name__
        if name in {"empty", "zeros", "ones", "full", "rand", "randn", "empty_strided"}:
            self.left -= math.prod(args[0])
        elif name in {"arange", "linspace"}:
            numbers = [abs(one) for one in args if isinstance(one, (int, float))]
            self.left -= int(max(numbers, default=0))
        if self.left < 0:
            raise ValueError("its sizes are beyond those of its tensors")
        return func(*args, **(kwargs or {}))
