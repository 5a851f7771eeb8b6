"""Networks of the papers' own code, which was written for TensorFlow 1."""

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyg_schnet.convert.safe_pickle import read_namespace
from pyg_schnet.convert.tensorflow_checkpoint import read_bundle
from pyg_schnet.convert.weights import check_arguments, fill, need, need_matrix, to_unit
from pyg_schnet.models.schnet import SchNet

#: Arguments that may be given.
ARGUMENTS = ("cutoff", "gamma", "num_interactions", "readout", "normalization")
_WHAT = "a network of the authors' TensorFlow code"
_BLOCK = {
    "conv.nn.0": "SchNetFilter/Dense",
    "conv.nn.2": "SchNetFilter/Dense_1",
    "conv.lin1": "CFConv/in2fac",
    "conv.lin2": "CFConv/fac2out",
    "lin": "Dense",
}


def from_tensorflow(
    path: str | Path, *, energy_unit: str | None = None, source_unit: str = "kcal/mol", **arguments: Any
) -> SchNet:
    """A SchNet with the weights of a network of the authors' code (github.com/atomistic-machine-learning/SchNet).

    Reads their checkpoint folder (``args.npy`` and ``validation/best_model.*``), a checkpoint by its prefix, or its
    variables as a plain ``npz`` file. TensorFlow is not needed, and nothing in a file is executed. The C20 networks
    of J. Chem. Phys. 148, 241722 (2018) give their energies to 1e-11 and their forces to 1e-10 of the largest
    (``pytest tests/models/test_convert_tensorflow.py`` compares them with an independent evaluation).

    Args:
        path: Folder, prefix of a checkpoint, or ``npz`` file.
        energy_unit: Unit to convert energies to, ``None`` to leave them in the network's own: kcal/mol for C20.
        source_unit: The network's own unit, needed for ``energy_unit`` only.
        **arguments: What counts instead of ``args.npy``, or is missing without it: ``cutoff`` in Angstrom (default: as
            the number of Gaussians tells), ``gamma`` of the Gaussians (10, as the code has it), ``num_interactions``
            of shared blocks, ``readout`` (``"add"``) and ``normalization`` (``None``).

    Returns:
        The model in float64, the dtype in which the centres of its Gaussians are exact, in evaluation mode.

    Raises:
        TypeError: If an argument is not known.
        FileNotFoundError: If there is no such file.
        ValueError: If a file is damaged, or not of such a network.
    """
    check_arguments(arguments, ARGUMENTS, "from_tensorflow")
    variables, told = _read(Path(path).expanduser())
    arrays = {name: torch.from_numpy(value) for name, value in variables.items() if value.dtype.kind == "f"}
    blocks = {name.split("/")[0] for name in arrays if name.startswith("interaction")}
    names = _names(blocks)
    sizes = _sizes(arrays, names)
    model = SchNet(**_config(sizes, blocks, told, arguments)).double()
    values = {our: _oriented(our, need(arrays, their, _WHAT)) for our, their in names.items()}
    values["basis.offset"] = torch.linspace(0, model.cutoff, sizes["num_gaussians"], dtype=torch.float64)
    fill(model, values, names, _WHAT)
    mean, std = (need(arrays, f"{name}_per_atom", _WHAT) for name in ("mean", "std"))
    model.reference.set(mean, std, arrays.get("atomref/embeddings/W"))
    return to_unit(model.eval(), source_unit, energy_unit)


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Variables by name, and what ``args.npy`` says about the network, as arguments of SchNet."""
    if path.suffix == ".npz":
        return _read_npz(path), {}
    prefix = _prefix(path)
    for folder in (path, prefix.parent, prefix.parent.parent):
        if (folder / "args.npy").is_file():
            return read_bundle(prefix), _told(read_namespace(folder / "args.npy"))
    return read_bundle(prefix), {}


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a readable npz file of plain arrays ({error})") from None


def _prefix(path: Path) -> Path:
    """The checkpoint that a path means."""
    if not path.is_dir():
        return path.with_suffix("") if path.suffix == ".index" else path
    for folder in (path, path / "validation"):
        if (folder / "best_model.index").is_file():
            return folder / "best_model"
        if found := sorted(folder.glob("*.index")):
            if len(found) > 1:
                raise ValueError(f"{folder} holds {len(found)} checkpoints; give one of them, for example {found[-1]}")
            return found[0].with_suffix("")
    raise FileNotFoundError(f"{path} holds no checkpoint; expected {path / 'validation' / 'best_model.index'}")


def _told(args: Mapping[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "cutoff": float(args["cutoff"]) if "cutoff" in args else None,
        "num_interactions": args.get("interactions"),
        "readout": "mean" if args.get("intensive") else "add",
        "pool": args.get("filter_pool_mode", "sum"),
    }
    return {name: value for name, value in told.items() if value is not None}


def _names(blocks: set[str]) -> dict[str, str]:
    """Their name of every weight by ours."""
    layers = {"output.lin1": "Dense", "output.lin2": "Dense_1"}
    for i in range(max(1, len(blocks))):
        block = "interaction" if blocks == {"interaction"} else f"interaction_{i}"
        layers |= {f"interactions.{i}.{our}": f"{block}/{their}" for our, their in _BLOCK.items()}
    names = {"embedding.weight": "atom_embedding/embeddings/W"}
    for our, their in layers.items():
        names[f"{our}.weight"] = f"{their}/W"
        if not our.endswith("conv.lin1"):
            names[f"{our}.bias"] = f"{their}/b"
    return names


def _oriented(name: str, value: Tensor) -> Tensor:
    """A weight as torch has it, [out, in]; TensorFlow's dense layers are [in, out]."""
    return value.t() if value.dim() == 2 and not name.startswith("embedding") else value


def _sizes(arrays: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Any]:
    embedding, filters, last = (
        need_matrix(arrays, names[name], _WHAT)
        for name in ("embedding.weight", "interactions.0.conv.nn.0.weight", "output.lin2.weight")
    )
    return {
        "hidden_channels": embedding.size(1),
        "max_z": embedding.size(0) - 1,
        "num_gaussians": filters.size(0),
        "num_filters": filters.size(1),
        "out_channels": last.size(1),
    }


def _config(
    sizes: Mapping[str, Any], blocks: set[str], told: Mapping[str, Any], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """All arguments of SchNet."""
    shared = blocks == {"interaction"}
    config = {"gamma": 10.0, "num_interactions": None, **told, **arguments}
    pool = config.pop("pool", "sum")
    if not shared:
        config["num_interactions"] = len(blocks)
    elif config["num_interactions"] is None:
        raise ValueError("the blocks of this network share their weights; pass `num_interactions`, their number")
    if "normalization" not in config:
        if pool == "mean" and not shared:  # a silent choice would be wrong for one of the two
            raise ValueError(
                "args.npy says filter_pool_mode='mean', which the published code applies only if the blocks share "
                "their weights, as those of this network do not; pass `normalization`, None as that code or 'mean'"
            )
        config["normalization"] = "mean" if pool == "mean" else None
    fixed = {"cutoff_function": None, "activate_last": True, "act": "ssp", "shared_interactions": shared}
    return {"cutoff": _cutoff(sizes["num_gaussians"], config), **{**config, **fixed, **sizes}}


def _cutoff(num_gaussians: int, config: dict[str, Any]) -> float:
    """The cutoff distance, which with gamma makes the number of Gaussians."""
    cutoff, gamma = config.pop("cutoff", None), float(config["gamma"])
    if cutoff is None:
        return num_gaussians / gamma
    expected = math.ceil(cutoff / (1.0 / gamma))
    if num_gaussians != expected:
        raise ValueError(
            f"a cutoff of {cutoff:g} Angstrom and gamma={gamma:g} make {expected} Gaussians in the authors' code, this "
            f"network has {num_gaussians}; pass the `cutoff` and `gamma` it was trained with"
        )
    return float(cutoff)
