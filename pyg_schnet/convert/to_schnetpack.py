"""SchNet as SchNetPack's, version 2."""

import math
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from pyg_schnet.convert.schnetpack import VERSION_2
from pyg_schnet.models.schnet import SchNet

_ACTIVATIONS = {
    "ssp-schnetpack": {"_target_": "hydra.utils.get_method", "path": "schnetpack.nn.activations.shifted_softplus"},
    "silu": {"_target_": "torch.nn.SiLU"},
    "tanh": {"_target_": "torch.nn.Tanh"},
    "softplus": {"_target_": "torch.nn.Softplus"},
    "gelu": {"_target_": "torch.nn.GELU"},
}
_CUTOFFS = {"cosine": "schnetpack.nn.cutoff.CosineCutoff", "mollifier": "schnetpack.nn.cutoff.MollifierCutoff"}
_READOUTS = {"add": "sum", "sum": "sum", "mean": "avg"}


class SchNetPackState(OrderedDict[str, Tensor]):
    """A state dict for SchNetPack 2, with the model that it fits; ``torch.save`` writes it as a plain ``OrderedDict``.

    Attributes:
        arguments: The model as a configuration of Hydra, as SchNetPack's own are:
            ``hydra.utils.instantiate(state.arguments)`` builds it, its ``load_state_dict(state)`` fills it.
        facts: Arguments of SchNet that the names do not tell, for :func:`~pyg_schnet.convert.from_schnetpack`.
    """

    arguments: dict[str, Any]
    facts: dict[str, Any]

    def __reduce__(self) -> tuple[Any, ...]:
        """As torch pickles its own state dicts, so that any reader has the class."""
        return OrderedDict, (), vars(self), None, iter(self.items())


def to_schnetpack(model: SchNet) -> SchNetPackState:
    """The state dict for SchNetPack 2 with the weights of a SchNet.

    Energies and forces agree to round-off. References become ``ScaleProperty`` and ``AddOffsets``; SchNetPack keeps
    those, the cutoff and the basis in float32 unless its model is cast first (``.double()``).

    Args:
        model: A model like ``SchNet.preset("schnetpack")``: cosine or mollifier cutoff, one activation in the filter
            network, sum or mean of the atoms, ``act`` one of ``"ssp-schnetpack"``, ``"silu"``, ``"tanh"``,
            ``"softplus"``, ``"gelu"``.

    Returns:
        Tensors by SchNetPack's names, copied; ``arguments`` describes the model they fit.

    Raises:
        TypeError: If ``model`` is no SchNet.
        ValueError: If SchNetPack cannot express the model.

    Example:
        >>> state = to_schnetpack(SchNet.preset("schnetpack", num_interactions=1))
        >>> state["representation.interactions.0.in2f.weight"].shape
        torch.Size([128, 128])
        >>> state.arguments["representation"]["radial_basis"]["n_rbf"]
        20
    """
    if not isinstance(model, SchNet):
        raise TypeError(f"`model` must be a SchNet, got {type(model).__name__}")
    _check(model)
    state = SchNetPackState({name: value.detach().clone() for name, value in _weights(model).items()})
    config = model.config
    state.arguments = _arguments(model)
    state.facts = {name: config[name] for name in ("act", "cutoff", "cutoff_function", "readout", "trainable_basis")}
    state.facts["output_act"] = config["output_act"] or config["act"]
    return state


def _check(model: SchNet) -> None:
    config = model.config
    allowed: dict[str, Any] = {
        "cutoff_function": tuple(_CUTOFFS),
        "activate_last": (False,),
        "act": tuple(_ACTIVATIONS),
        "output_act": (None, *_ACTIVATIONS),
        "normalization": (None,),
        "readout": tuple(_READOUTS),
        "repulsion": (None,),
    }
    for name, values in allowed.items():
        if not any(config[name] is value or config[name] == value for value in values):
            raise ValueError(
                f"SchNetPack's SchNet has `{name}` {' or '.join(map(repr, values))}, got a model with {config[name]!r}"
            )
    if config["num_interactions"] < 1:
        raise ValueError("SchNetPack's SchNet has at least one interaction block, got a model with none")
    if config["out_channels"] > 1 and not model.reference.trivial:
        raise ValueError("SchNetPack adds offsets to one target only, got a model of several with references")


def _weights(model: SchNet) -> dict[str, Tensor]:
    config, ours = model.config, model.state_dict()
    weights = {}
    for our, their in VERSION_2.names(config["num_interactions"]).items():
        parts = our.split(".")
        if parts[0] == "interactions":  # SchNetPack lists shared blocks as often as they are used
            parts[1] = str(int(parts[1]) % len(model.interactions))
        weights[their] = ours[".".join(parts)]
    like, basis, cutoff = ours["embedding.weight"], VERSION_2.basis, config["cutoff"]
    if config["basis"] == "bessel":
        weights[f"{basis}.freqs"] = (ours["basis.frequencies"].double() / cutoff).to(like)
        factor = math.sqrt(2 / cutoff)  # SchNetPack's functions have no prefactor
        for name in [name for name in weights if name.endswith("filter_network.0.weight")]:
            weights[name] = (weights[name].double() * factor).to(like)
    else:
        gamma = torch.as_tensor(model.basis.gamma, dtype=torch.float64).detach().to(like.device)
        weights[f"{basis}.offsets"] = ours["basis.offset"]
        weights[f"{basis}.widths"] = (0.5 / gamma).sqrt().expand(config["num_gaussians"]).to(like)
    weights[f"{VERSION_2.cutoff}.cutoff"] = torch.tensor([cutoff], dtype=torch.float64).to(like)
    if config["cutoff_function"] == "mollifier":
        weights[f"{VERSION_2.cutoff}.eps"] = torch.tensor([1e-7]).to(like)
    return weights | _offsets(model)


def _offsets(model: SchNet) -> dict[str, Tensor]:
    """References, in float64 as SchNetPack's casting before them makes its properties."""
    if _plain(model):
        return {}
    reference = model.reference
    offsets = {"postprocessors.1.scale": reference.std}
    if not reference.trivial:
        offsets |= {"postprocessors.2.mean": reference.mean, "postprocessors.2.atomref": reference.atomref[:, 0]}
    return offsets


def _plain(model: SchNet) -> bool:
    return model.reference.trivial and bool((model.reference.std == 1).all())


def _arguments(model: SchNet) -> dict[str, Any]:
    """Constructor arguments of the model that the state dict fits."""
    config = model.config
    size, cutoff, elements = config["hidden_channels"], config["cutoff"], config["max_z"] + 1
    basis = {"_target_": "schnetpack.nn.radial.BesselRBF", "n_rbf": config["num_gaussians"], "cutoff": cutoff}
    if config["basis"] == "gaussian":
        basis |= {"_target_": "schnetpack.nn.radial.GaussianRBF", "trainable": config["trainable_basis"]}
    representation = {
        "_target_": "schnetpack.representation.SchNet",
        "n_atom_basis": size,
        "n_interactions": config["num_interactions"],
        "n_filters": config["num_filters"],
        "shared_interactions": config["shared_interactions"],
        "radial_basis": basis,
        "cutoff_fn": {"_target_": _CUTOFFS[config["cutoff_function"]], "cutoff": cutoff},
        "activation": _ACTIVATIONS[config["act"]],
    }
    if elements != 100:
        table = {"_target_": "torch.nn.Embedding", "num_embeddings": elements, "embedding_dim": size}
        representation["nuclear_embedding"] = table
    output = {
        "_target_": "schnetpack.atomistic.Atomwise",
        "n_in": size,
        "n_out": config["out_channels"],
        "n_hidden": size // 2,
        "activation": _ACTIVATIONS[config["output_act"] or config["act"]],
        "aggregation_mode": _READOUTS[config["readout"]],
        "output_key": "energy",
    }
    return {
        "_target_": "schnetpack.model.NeuralNetworkPotential",
        "representation": representation,
        "input_modules": [{"_target_": "schnetpack.atomistic.PairwiseDistances"}],
        "output_modules": [output],
        "postprocessors": _postprocessors(model),
    }


def _postprocessors(model: SchNet) -> list[dict[str, Any]]:
    if _plain(model):
        return []
    steps: list[dict[str, Any]] = [
        {"_target_": "schnetpack.transform.CastTo64"},
        {"_target_": "schnetpack.transform.ScaleProperty", "input_key": "energy"},
    ]
    if not model.reference.trivial:
        offsets = {
            "_target_": "schnetpack.transform.AddOffsets",
            "property": "energy",
            "add_mean": True,
            "add_atomrefs": True,
            "is_extensive": _READOUTS[model.config["readout"]] == "sum",
            "zmax": model.config["max_z"] + 1,
        }
        steps.append(offsets)
    return steps
