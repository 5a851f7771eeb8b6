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

    The header holds the architecture as JSON, a sha256 of it and all tensors, and whatever is passed as ``info``. The
    file replaces an older one in a single step, so an interruption leaves nothing half-written.

    Args:
        model: The model.
        path: File to write, usually ``*.safetensors``.
        **info: Further JSON-compatible facts worth keeping, for example ``units`` or ``training``; read them with
            :func:`read_header`.

    Raises:
        TypeError: If ``model`` is no SchNet, or ``info`` is not JSON-compatible or uses a name of the header.
        FileNotFoundError: If the folder does not exist.

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
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} into; create it first")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": "SchNet",
        "config": model.config,
        "sha256": _checksum(tensors, model.config),
        "torch": torch.__version__,
    }
    if reserved := info.keys() & header.keys():
        raise TypeError(f"`info` must not use the names of the header itself: {', '.join(sorted(reserved))}")
    try:
        metadata = {name: json.dumps(value) for name, value in (info | header).items()}
    except TypeError as error:
        raise TypeError(f"`info` must be JSON-compatible: {error}") from None
    part = path.with_name(path.name + ".part")
    try:
        save_file(tensors, part, metadata=metadata)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


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
    if _checksum(tensors, header.get("config")) != header.get("sha256"):
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
            metadata = file.metadata() or {}
        if metadata.get("format") != json.dumps(FORMAT):
            raise ValueError(f"{path} was not written by pyg_schnet.save; convert it first (pyg_schnet.models.convert)")
        header = {name: json.loads(value) for name, value in metadata.items()}
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a readable model file ({error}); write or fetch it again") from None
    version = header.get("format_version")
    if not isinstance(version, int):
        raise ValueError(f"{path} has no format version in its header; write or fetch it again")
    if version > FORMAT_VERSION:
        raise ValueError(f"{path} has format {version}, this version reads up to {FORMAT_VERSION}; upgrade pyg_schnet")
    return header


def _checksum(tensors: dict[str, Tensor], config: Any) -> str:
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
