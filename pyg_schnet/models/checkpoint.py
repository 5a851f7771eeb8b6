"""Models as safetensors files with a readable header: no pickle, no code."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pyg_schnet.models.schnet import SchNet

FORMAT = "pyg_schnet"
#: Files of a newer version are refused.
FORMAT_VERSION = 1


def save(model: SchNet, path: str | Path, **info: Any) -> None:
    """Write a model to a safetensors file.

    The header holds the architecture as JSON, a sha256 of all tensors and whatever is passed as ``info``. The file
    replaces an older one in a single step, so an interruption leaves nothing half-written.

    Args:
        model: The model.
        path: File to write, usually ``*.safetensors``.
        **info: Further JSON-compatible facts worth keeping, for example ``units`` or ``training``; read them with
            :func:`read_header`.

    Raises:
        TypeError: If ``model`` is no SchNet or ``info`` is not JSON-compatible.

    Example:
        >>> import tempfile
        >>> from pyg_schnet import SchNet, load, save
        >>> path = Path(tempfile.mkdtemp()) / "model.safetensors"
        >>> save(SchNet(16, 16, 1), path, training={"steps": 100})
        >>> load(path).config["hidden_channels"], read_header(path)["training"]
        (16, {'steps': 100})
    """
    if not isinstance(model, SchNet):
        raise TypeError(f"`model` must be a SchNet, got {type(model).__name__}; save the model inside a Potential")
    path = Path(path)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": "SchNet",
        "config": model.config,
        "sha256": _checksum(tensors),
        "torch": torch.__version__,
    }
    try:
        metadata = {name: json.dumps(value) for name, value in (info | header).items()}
    except TypeError as error:
        raise TypeError(f"`info` must be JSON-compatible: {error}") from None
    part = path.with_name(path.name + ".part")
    save_file(tensors, part, metadata=metadata)
    part.replace(path)


def load(path: str | Path, device: str | torch.device = "cpu") -> SchNet:
    """Read a model written by :func:`save`. Nothing in the file is executed.

    Args:
        path: The file.
        device: Where to put the model.

    Returns:
        The model in evaluation mode.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, of a newer format or not written by :func:`save`.
    """
    header = read_header(path)
    with safe_open(str(path), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if _checksum(tensors) != header.get("sha256"):
        raise ValueError(
            f"{path} is damaged: its tensors do not have the checksum of its header; fetch or write it again"
        )
    try:
        model = SchNet(**header["config"])
        model.to(tensors["embedding.weight"].dtype)
        model.load_state_dict(tensors)
    except (KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} does not describe a SchNet of this version ({reason})") from None
    return model.to(device).eval()


def read_header(path: str | Path) -> dict[str, Any]:
    """The header of a model file.

    Args:
        path: The file.

    Returns:
        Architecture (``config``), checksum, versions and what else was given to :func:`save`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no safetensors file of this package or of a newer format.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no model file {path}")
    try:
        with safe_open(str(path), framework="pt") as file:
            header = {name: json.loads(value) for name, value in (file.metadata() or {}).items()}
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} is not a readable model file ({error}); expected one written by pyg_schnet.save"
        ) from None
    if header.get("format") != FORMAT:
        raise ValueError(f"{path} was not written by pyg_schnet.save; convert it first (pyg_schnet.models.convert)")
    if header["format_version"] > FORMAT_VERSION:
        raise ValueError(
            f"{path} has format {header['format_version']}, this version reads up to {FORMAT_VERSION}; "
            "upgrade pyg_schnet"
        )
    return header


def _checksum(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
