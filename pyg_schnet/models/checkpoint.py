"""Models as safetensors files with a readable header: no pickle, no code."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch_geometric
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pyg_schnet.files import replacing
from pyg_schnet.models.atomistic import AtomisticModel
from pyg_schnet.models.dtnn import DTNN
from pyg_schnet.models.elements import TrainingSet
from pyg_schnet.models.enn_s2s import EnnS2S
from pyg_schnet.models.schnet import SchNet

FORMAT = "pyg_schnet"
#: Files of a newer version are refused. Since version 2 the checksum covers the whole header, not only ``config``.
FORMAT_VERSION = 2
#: Architectures that files may hold, by name. Add a model of your own here, before saving and before loading it.
ARCHITECTURES: dict[str, type[AtomisticModel]] = {"SchNet": SchNet, "DTNN": DTNN, "EnnS2S": EnnS2S}


def save(model: AtomisticModel, path: str | Path, **info: Any) -> None:
    """Write a model to a safetensors file.

    The header holds the architecture as JSON, versions, whatever is passed as ``info``, and a sha256 of all that and
    the tensors. A frozen model is written with its tables, see :meth:`pyg_schnet.SchNet.freeze`. The file replaces an
    older one in a single step, so an interruption leaves nothing half-written.

    Args:
        model: The model, one of :data:`ARCHITECTURES`.
        path: File to write, usually ``*.safetensors``.
        **info: Further JSON-compatible facts worth keeping, for example ``training``; read them with
            :func:`read_header`. ``units`` (those of the model by default) come back as ``model.units``.

    Raises:
        TypeError: If ``model`` is none of these or has arguments that no file can hold, or if ``info`` is not
            JSON-compatible or uses a name of the header.
        FileNotFoundError: If the folder does not exist.

    Example:
        >>> import tempfile
        >>> from pyg_schnet import SchNet, load, save
        >>> path = Path(tempfile.mkdtemp()) / "model.safetensors"
        >>> save(SchNet(16, 16, 1), path, training={"steps": 100})
        >>> load(path).config["hidden_channels"], read_header(path)["training"]
        (16, {'steps': 100})
    """
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": _name_of(model),
        "config": _writable(model.config),
        "sha256": "",
        "pyg_schnet": sys.modules["pyg_schnet"].__version__,
        "torch": torch.__version__,
        "torch_geometric": torch_geometric.__version__,
    }
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} into; create it first")
    if model.units:
        info = {"units": model.units} | info
    if model.training_set is not None:
        header["training_set"] = model.training_set._asdict()
    if reserved := info.keys() & header.keys():
        raise TypeError(f"`info` must not use the names of the header itself: {', '.join(sorted(reserved))}")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    try:
        header = json.loads(json.dumps(info | header))  # as it will be read
    except TypeError as error:
        raise TypeError(f"`info` must be JSON-compatible: {error}") from None
    header["sha256"] = _checksum(tensors, header)
    metadata = {name: json.dumps(value) for name, value in header.items()}
    with replacing(path) as part:
        save_file(tensors, part, metadata=metadata)


def load(path: str | Path, device: str | torch.device = "cpu") -> AtomisticModel:
    """Read a model written by :func:`save`. Nothing in the file is executed.

    Args:
        path: The file.
        device: Where to put the model.

    Returns:
        The model, of the class it was saved from, frozen if it was, in evaluation mode; call ``train()``, after
        ``unfreeze()`` if it is frozen, to train it further.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, of a newer format, of an unknown architecture or not written by
            :func:`save`, or there is no such device.
    """
    header = read_header(path)
    with safe_open(str(path), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if _checksum(tensors, header) != header.get("sha256"):
        raise ValueError(
            f"{path} is damaged: its tensors and header do not have the checksum of its header; fetch or write it again"
        )
    name = header.get("model")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise ValueError(f"{path} holds a model {name!r}; this version reads {', '.join(ARCHITECTURES)}")
    try:
        # whatever the defaults are, with no dice rolled and parameters that can be trained
        with torch.device("cpu"), torch.random.fork_rng(devices=[]), torch.inference_mode(False):
            model = ARCHITECTURES[name](**header["config"])
            model.training_set = TrainingSet.read(header.get("training_set"))
            model.trained_elsewhere = model.training_set is None
            model.to(tensors["embedding.weight"].dtype)
            model.load_state_dict({key: tensor.clone() for key, tensor in tensors.items()})
            if isinstance(model, SchNet) and "filter_tables" in tensors:
                model.freeze(tensors["filter_tables"].clone())
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(line.strip() for line in str(error).splitlines()[:2])
        raise ValueError(f"{path} does not describe a {name} of this version ({reason})") from None
    units = header.get("units")
    model.units = units if isinstance(units, dict) else {}
    moved: AtomisticModel = to_device(model, device)
    return moved.eval()


def to_device(module: Any, device: str | torch.device, dtype: torch.dtype | None = None) -> Any:
    """Move a module, or say in one sentence that the device is not there.

    Args:
        module: The module.
        device: Where to put it.
        dtype: Floating-point type, ``None`` to leave it.

    Returns:
        The module.

    Raises:
        ValueError: If there is no such device.
    """
    try:
        return module.to(device=device, dtype=dtype)
    except (AssertionError, RuntimeError) as error:  # torch without CUDA asserts
        raise ValueError(f"`device` {device} is not there ({str(error).splitlines()[0]})") from None


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
    except (SafetensorError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not a readable model file ({error}); write or fetch it again") from None
    version = header.get("format_version")
    if not isinstance(version, int):
        raise ValueError(f"{path} has no format version in its header; write or fetch it again")
    if version > FORMAT_VERSION:
        raise ValueError(f"{path} has format {version}, this version reads up to {FORMAT_VERSION}; upgrade pyg_schnet")
    return header


def _name_of(model: AtomisticModel) -> str:
    for name, architecture in ARCHITECTURES.items():
        if type(model) is architecture:
            return name
    hint = "; save the model inside it" if isinstance(getattr(model, "model", None), AtomisticModel) else ""
    raise TypeError(f"`model` must be one of {', '.join(ARCHITECTURES)}, got {type(model).__name__}{hint}")


def _writable(config: dict[str, Any]) -> dict[str, Any]:
    for name, value in config.items():
        try:
            json.dumps(value)
        except TypeError:
            raise TypeError(
                f"a model with {name}={type(value).__name__}(...) cannot be written, only numbers and names can; "
                "choose the module by its name, or save its state_dict yourself"
            ) from None
    return config


def _checksum(tensors: dict[str, Tensor], header: dict[str, Any]) -> str:
    covered = {name: value for name, value in header.items() if name != "sha256"}
    covered = header.get("config") if header["format_version"] == 1 else covered  # type: ignore[assignment]
    digest = hashlib.sha256(json.dumps(covered, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
