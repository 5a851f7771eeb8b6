"""Models from wherever a run or :func:`pyg_schnet.save` has left them."""

import inspect
import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyg_schnet.fast.tabulated import TabulatedFilters
from pyg_schnet.models.atomistic import AtomisticModel
from pyg_schnet.models.checkpoint import ARCHITECTURES, built, read_file, to_device
from pyg_schnet.models.model_folder import FILE
from pyg_schnet.models.places import place_of

#: Checkpoints in the folder of a run, the best first.
_CHECKPOINTS = ("best.ckpt", "last.ckpt")
#: Before the names of the model's weights in checkpoints: of tasks for potentials, for properties, and of others.
_PREFIXES = ("potential.model.", "network.", "model.")


def load_model(path: str | Path, device: str | torch.device = "cpu", *, filters: str | None = None) -> AtomisticModel:
    """Read one model, as :func:`pyg_schnet.load` does.

    Args:
        path: A model file, the folder of a run, a checkpoint of its training, the name of a model that comes with the
            package, or its address in the Hugging Face hub.
        device: Where to put the model.
        filters: How to evaluate filters, ``None`` for the default.

    Returns:
        The model in evaluation mode.

    Raises:
        FileNotFoundError, TypeError, ValueError: As :func:`pyg_schnet.load`.
    """
    file = _file_of(path)
    model = _read_checkpoint(file) if _is_torch(file) else read_file(file)
    return as_asked(model, file, device, filters)


def as_asked(model: AtomisticModel, source: Any, device: str | torch.device, filters: str | None) -> AtomisticModel:
    """A model on a device, its filters evaluated as they should be.

    Args:
        model: The model; changed in place.
        source: Where it comes from, for messages.
        device: Where to put it.
        filters: How to evaluate filters, ``None`` for the default.

    Returns:
        The model.

    Raises:
        ValueError: If there is no such device or no such way, or the model has no filters.
    """
    if filters is not None:
        if not isinstance(model, TabulatedFilters):
            raise ValueError(f"`filters` is a choice of SchNet; {source} holds a {type(model).__name__}, leave it out")
        model.filters = filters
        if filters == "exact":
            model.unfreeze()
    moved: AtomisticModel = to_device(model, device)
    return moved


def _file_of(path: Any) -> Path:
    """The file that holds the model."""
    place = place_of(path)
    if not place.is_dir():
        return place
    if (place / FILE).is_file():
        return place / FILE
    if any(place.glob("member_*")):
        raise ValueError(f"{place} is the folder of a committee, expected one model; pass the folder of a member")
    found = [name for name in _CHECKPOINTS if (place / name).is_file()]
    if found:
        raise FileNotFoundError(
            f"there is no model file in {place}: its run has not ended; resume it, or pass {place / found[0]}"
        )
    others = sorted(place.glob("*.safetensors"))
    hint = f"; pass {others[0]}" if len(others) == 1 else f"; expected {FILE} of a run, or a file"
    raise FileNotFoundError(f"there is no model file in {place}{hint}")


def _is_torch(file: Path) -> bool:
    """True if a file is one of ``torch.save``, a zip archive."""
    with file.open("rb") as stream:
        return stream.read(4) == b"PK\x03\x04"


def _read_checkpoint(file: Path) -> AtomisticModel:
    """The averaged weights of a checkpoint of our training; nothing in it is executed."""
    content: Any = None
    try:
        with warnings.catch_warnings(action="ignore"):
            content = torch.load(io.BytesIO(file.read_bytes()), map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, KeyError, ValueError, AttributeError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{file} is not a readable model file ({reason}); write or fetch it again") from None
    except pickle.UnpicklingError:
        pass  # it names classes, which nobody imports here
    facts = content.get("hyper_parameters") if isinstance(content, dict) else None
    if not isinstance(facts, dict) or not isinstance(facts.get("config"), dict):
        raise ValueError(f"{file} is not a readable model file: {_what_is(content)}")
    state = content.get("state_dict")
    if not isinstance(state, dict):
        raise ValueError(f"{file} is not a readable model file: a checkpoint without `state_dict`; fetch it again")
    prefix = next((one for one in _PREFIXES if any(name.startswith(one) for name in state)), "")
    tensors = {
        name.removeprefix(prefix): tensor
        for name, tensor in state.items()
        if name.startswith(prefix) and isinstance(tensor, Tensor)
    }
    header = {"config": facts["config"], "training_set": content.get("training_set")}
    model = built(_architecture(content.get("model"), facts["config"], file), header, tensors, file)
    units = content.get("units")
    model.units = {name: unit for name, unit in units.items() if unit} if isinstance(units, dict) else {}
    return model


def _architecture(name: Any, config: dict[str, Any], file: Path) -> str:
    """The architecture of a checkpoint; older ones do not say it, but no two have the same arguments."""
    if name is None:
        for known, kind in ARCHITECTURES.items():
            if config.keys() <= inspect.signature(kind).parameters.keys():
                return known
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise ValueError(f"{file} holds a model {name!r}; this version reads {', '.join(ARCHITECTURES)}")
    return name


def _what_is(content: Any) -> str:
    """What a file of ``torch.save`` holds instead of a model, and what to do with it."""
    convert = "pyg_schnet.convert"
    if content is None:
        return (
            "it was pickled and names classes, which are not imported; if it is a model of PyG or SchNetPack, read it "
            f"with {convert}.from_pyg or {convert}.from_schnetpack, otherwise save its state_dict"
        )
    if not isinstance(content, dict):
        return f"it holds {type(content).__name__}; expected a file of pyg_schnet.save"
    state = content.get("state_dict", content)
    names = {str(name) for name in state} if isinstance(state, dict) else set[str]()
    if "distance_expansion.offset" in names:
        return f"it is a state dict of PyG's SchNet; read it with {convert}.from_pyg"
    if any(name.startswith(("representation.", "output_modules.")) for name in names):
        return f"it is a model of SchNetPack; read it with {convert}.from_schnetpack"
    if any(name.endswith("embedding.weight") for name in names):
        return (
            "it is a state dict, which does not tell the architecture; build the model, "
            "model.load_state_dict(torch.load(path)), and write it with pyg_schnet.save"
        )
    return (
        f"it holds none of our models, but {', '.join(sorted(names)[:3]) or 'nothing'}; pass a file of pyg_schnet.save"
    )
