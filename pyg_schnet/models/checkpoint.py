"""Models as safetensors files with a readable header: no pickle, no code."""

import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch_geometric
from torch import Tensor

from pyg_schnet.fast.tabulated import TabulatedFilters
from pyg_schnet.files import replacing
from pyg_schnet.models.atomistic import AtomisticModel
from pyg_schnet.models.card import Card
from pyg_schnet.models.contents import DTYPES, FORMAT, FORMAT_VERSION, WithinSize, decoded, encoded, read_entries
from pyg_schnet.models.dtnn import DTNN
from pyg_schnet.models.elements import TrainingSet
from pyg_schnet.models.enn_s2s import EnnS2S
from pyg_schnet.models.model_folder import FILE, is_folder, write_folder
from pyg_schnet.models.places import place_of
from pyg_schnet.models.schnet import SchNet

#: Architectures that files may hold, by name. Add a model of your own here, before saving and before loading it.
ARCHITECTURES: dict[str, type[AtomisticModel]] = {"SchNet": SchNet, "DTNN": DTNN, "EnnS2S": EnnS2S}
#: Ways to compute, which are no part of the architecture: in files of older versions only.
_WAYS = ("filters", "knot_spacing")


def save(model: AtomisticModel, path: str | Path, *, card: Card | Mapping[str, Any] | None = None, **info: Any) -> None:
    """Write a model to a safetensors file, or to a folder in the layout of the Hugging Face hub.

    The header holds the architecture as JSON, versions, what the model was trained on as far as it is known
    (``training_set``), whatever is passed as ``info``, and a sha256 of all that and the tensors. A frozen model is
    written with its tables, see :meth:`pyg_schnet.SchNet.freeze`. The file replaces an older one in a single step, so
    an interruption leaves nothing half-written, and any number of processes may write and read it.

    A folder gets ``model.safetensors``, ``config.json`` with what a program wants to know without reading the model
    (architecture, units, elements, card, sha256), and ``README.md``, the card for people, whose first lines the hub
    reads. It can be uploaded as it is; :func:`load` takes its path, or its address in the hub.

    Args:
        model: The model, one of :data:`ARCHITECTURES`.
        path: File to write, usually ``*.safetensors``; or a folder: one that is there, or a name without a suffix.
        card: What a user must know beyond that, see :class:`~pyg_schnet.models.Card`, or its entries by name; for
            folders only. Without it, a ``README.md`` that is there stays as it is.
        **info: Further JSON-compatible facts worth keeping, for example ``training``; read them with
            :func:`read_header`. ``units`` (those of the model by default) come back as ``model.units``.

    Raises:
        TypeError: If ``model`` is none of these or has arguments that no file can hold, or if ``info`` is not
            JSON-compatible or uses a name of the header.
        ValueError: If a weight is not finite, the model has layers that its arguments do not make (such a file would
            be read as another model), or there is a card without a folder or with an entry that no card has.
        FileNotFoundError: If the folder of the file, or the one to make a folder in, does not exist.
        OSError: If it cannot be written to, or there is no space left.

    Example:
        >>> import tempfile
        >>> from pyg_schnet import SchNet, load, save
        >>> path = Path(tempfile.mkdtemp()) / "model.safetensors"
        >>> save(SchNet(16, 16, 1), path, training={"steps": 100})
        >>> load(path).config["hidden_channels"], read_header(path)["training"]
        (16, {'steps': 100})
    """
    content = content_of(model, **info)
    if is_folder(path):
        header = read_entries(io.BytesIO(content), Path(path))[0]
        write_folder(Path(path), content, header, sum(one.numel() for one in model.parameters()), card)
        return
    if card is not None:
        raise ValueError(f"a card is written beside a model, into its folder; {path} is a file, name a folder instead")
    with replacing(path) as part:
        part.write_bytes(content)


def content_of(model: AtomisticModel, **info: Any) -> bytes:
    """What :func:`save` writes.

    Args:
        model: The model.
        **info: Further facts.

    Returns:
        The content of the file.

    Raises:
        TypeError, ValueError: As :func:`save`.
    """
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": name_of(model),
        "config": _writable({name: value for name, value in model.config.items() if name not in _WAYS}),
        "sha256": "",
        "pyg_schnet": sys.modules["pyg_schnet"].__version__,
        "torch": torch.__version__,
        "torch_geometric": torch_geometric.__version__,
    }
    check_layers(model)
    if model.training_set is not None:
        header["training_set"] = model.training_set._asdict()
    if model.units:
        info = {"units": model.units} | info
    if reserved := info.keys() & (header.keys() | {"training_set"}):
        raise TypeError(f"`info` must not use the names of the header itself: {', '.join(sorted(reserved))}")
    try:
        header = json.loads(json.dumps(info | header))  # as it will be read
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"`info` must be JSON-compatible: {error}") from None
    return encoded(header, model.state_dict())


def read_file(path: Path) -> AtomisticModel:
    """Read a model written by :func:`save`. Nothing in the file is executed.

    Args:
        path: The file.

    Returns:
        The model on the CPU, of the class it was saved from, frozen if it was, in evaluation mode.

    Raises:
        ValueError: If the file is damaged, of a newer format, of an unknown architecture or not written by
            :func:`save`.
    """
    with path.open("rb") as file:
        header, tensors = decoded(file, path)
    name = header.get("model")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise ValueError(f"{path} holds a model {name!r}; this version reads {', '.join(ARCHITECTURES)}")
    model = built(name, header, tensors, path)
    units = header.get("units")
    model.units = units if isinstance(units, dict) else {}
    return model


def built(name: str, header: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> AtomisticModel:
    """A model of a given architecture with given weights.

    Args:
        name: Name of the architecture.
        header: ``config``, its arguments, and perhaps ``training_set``.
        tensors: Weights and buffers by name.
        path: Where all that comes from, for messages.

    Returns:
        The model on the CPU in evaluation mode.

    Raises:
        ValueError: If one does not fit the other.
    """
    try:
        config = {key: value for key, value in header["config"].items() if key != "filters"}
        # whatever the defaults are, with no dice rolled and parameters that can be trained
        with torch.device("cpu"), torch.random.fork_rng(devices=[]), torch.inference_mode(False):
            with WithinSize(tensors):
                model = ARCHITECTURES[name](**config)
            model.training_set = TrainingSet.read(header.get("training_set"))
            model.trained_elsewhere = model.training_set is None
            dtype = tensors["embedding.weight"].dtype
            model.to(dtype)
            _check_kinds(tensors, {name: tensor.dtype for name, tensor in model.state_dict().items()}, dtype)
            model.load_state_dict({key: tensor.clone() for key, tensor in tensors.items()})
            if isinstance(model, TabulatedFilters) and "filter_tables" in tensors:
                model.freeze(tensors["filter_tables"].clone())
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError, MemoryError) as error:
        reason = " ".join(line.strip() for line in str(error).splitlines()[:2])
        raise ValueError(f"{path} does not describe a {name} of this version ({reason})") from None
    return model.eval()


def to_device(module: Any, device: str | torch.device, dtype: torch.dtype | None = None) -> Any:
    """Move a module, or say in one sentence that the device is not there.

    Args:
        module: The module.
        device: Where to put it.
        dtype: Floating-point type, ``None`` to leave it.

    Returns:
        The module.

    Raises:
        ValueError: If there is no such device, or it has no float64.
    """
    if str(device).startswith("mps"):
        raise ValueError(
            f"energies are summed in float64, which `device` {device} does not have; choose the CPU, which is fast, too"
        )
    try:
        return module.to(device=device, dtype=dtype)
    except (AssertionError, RuntimeError) as error:  # torch without CUDA asserts
        raise ValueError(f"`device` {device} is not there ({str(error).splitlines()[0]})") from None


def read_header(path: str | Path) -> dict[str, Any]:
    """The header of a model file.

    Args:
        path: The file, the folder of its run, or the name of a model that comes with the package.

    Returns:
        Architecture (``config``), checksum, versions, ``training_set`` (missing if it is not known) and what else was
        given to :func:`save`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no safetensors file of this package or of a newer format.
    """
    place = place_of(path)
    file = place / FILE if place.is_dir() else place
    if not file.is_file():
        raise FileNotFoundError(f"there is no model file {path}")
    with file.open("rb") as stream:
        return read_entries(stream, file)[0]


def name_of(model: AtomisticModel) -> str:
    """Name of the architecture of a model.

    Args:
        model: The model.

    Returns:
        Its name in :data:`ARCHITECTURES`.

    Raises:
        TypeError: If it is none of these.
    """
    for name, architecture in ARCHITECTURES.items():
        if type(model) is architecture:
            return name
    hint = "; save the model inside it" if isinstance(getattr(model, "model", None), AtomisticModel) else ""
    raise TypeError(f"`model` must be one of {', '.join(ARCHITECTURES)}, got {type(model).__name__}{hint}")


def check_layers(model: AtomisticModel) -> None:
    """Refuse layers that somebody has replaced, added or taken away: a file tells the arguments of a model alone.

    Args:
        model: The model.

    Raises:
        TypeError: If it is none of :data:`ARCHITECTURES`, or has arguments that no file can hold.
        ValueError: If its layers or the shapes of its weights are not those that its arguments make.
    """
    name, config = name_of(model), _writable(model.config)
    with torch.device("cpu"), torch.random.fork_rng(devices=[]), torch.inference_mode(False):
        made = ARCHITECTURES[name](**config)
    for found, expected in ((_kinds(model), _kinds(made)), (_shapes(model), _shapes(made))):
        others = sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
        for one in others[:1]:
            is_one, should_be = found.get(one, "not there"), expected.get(one, "nothing")
            raise ValueError(
                f"the model is not the {name} that its arguments make: {one} is {is_one}, expected {should_be}; a file "
                "of it would be read as another model. Undo what was replaced "
                "(merge adapters, make pruning permanent), or save the state_dict yourself"
            )


def _kinds(model: AtomisticModel) -> dict[str, str]:
    return {name: type(layer).__name__ for name, layer in model.named_modules(remove_duplicate=False)}


def _shapes(model: AtomisticModel) -> dict[str, list[int]]:
    tensors = model.state_dict().items()
    return {name: list(tensor.shape) for name, tensor in tensors if name != "filter_tables"}


def _check_kinds(tensors: Mapping[str, Tensor], own: Mapping[str, torch.dtype], dtype: torch.dtype) -> None:
    """Weights are of one kind, but for what a model of it has in another; references may be of any."""
    for name, tensor in tensors.items():
        free = name.startswith(("reference.", "filter_tables")) and tensor.dtype in DTYPES
        if tensor.dtype not in {dtype, own.get(name, dtype)} and not free:
            raise ValueError(f"{name} is {tensor.dtype}, embedding.weight {dtype}")


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
