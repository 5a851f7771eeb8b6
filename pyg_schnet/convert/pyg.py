"""PyG's SchNet, both ways."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.nn.aggr import (
    MaxAggregation,
    MeanAggregation,
    MedianAggregation,
    MinAggregation,
    MulAggregation,
    SumAggregation,
)
from torch_geometric.nn.models import SchNet as PyGSchNet

from pyg_schnet.convert.safe_pickle import Record, name_of, part_of, read_torch, state_of
from pyg_schnet.convert.weights import fill, need, need_matrix
from pyg_schnet.graph import radius_graph
from pyg_schnet.models.contents import check_values
from pyg_schnet.models.schnet import SchNet
from pyg_schnet.nn import Reference
from pyg_schnet.ops import edge_vectors

#: Parameters of a block: our name, PyG's name.
_BLOCK = {
    "conv.nn.0.weight": "mlp.0.weight",
    "conv.nn.0.bias": "mlp.0.bias",
    "conv.nn.2.weight": "mlp.2.weight",
    "conv.nn.2.bias": "mlp.2.bias",
    "conv.lin1.weight": "conv.lin1.weight",
    "conv.lin2.weight": "conv.lin2.weight",
    "conv.lin2.bias": "conv.lin2.bias",
    "lin.weight": "lin.weight",
    "lin.bias": "lin.bias",
}
#: Parameters outside the blocks.
_REST = {
    "embedding.weight": "embedding.weight",
    "basis.offset": "distance_expansion.offset",
    "output.lin1.weight": "lin1.weight",
    "output.lin1.bias": "lin1.bias",
    "output.lin2.weight": "lin2.weight",
    "output.lin2.bias": "lin2.bias",
}

_READOUTS = {
    SumAggregation: "add",
    MeanAggregation: "mean",
    MaxAggregation: "max",
    MinAggregation: "min",
    MulAggregation: "mul",
    MedianAggregation: "median",
}
_WHAT = "PyG's SchNet"
#: Length of PyG's table of atomic masses.
_ELEMENTS = 119


class InteractionGraph(nn.Module):
    """An ``interaction_graph`` for PyG's SchNet that needs no compiled package and leaves out no neighbour.

    Args:
        cutoff: Cutoff distance in Angstrom.

    Example:
        >>> import torch
        >>> from torch_geometric.nn.models import SchNet as PyGSchNet
        >>> model = PyGSchNet(interaction_graph=InteractionGraph(10.0))
        >>> model(torch.tensor([1, 1]), torch.tensor([[0.0, 0, 0], [0.74, 0, 0]])).shape
        torch.Size([1, 1])
    """

    #: True if no neighbour is left out.
    exact = True

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff

    def forward(self, pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Edges and distances.

        Args:
            pos: Positions in Angstrom [N, 3].
            batch: Structure of each atom [N].

        Returns:
            ``edge_index`` [2, E] and distances [E].
        """
        edge_index = radius_graph(pos, self.cutoff, batch).edge_index
        return edge_index, edge_vectors(pos, edge_index).norm(dim=-1)


def from_pyg(
    model: PyGSchNet | Mapping[str, Tensor] | str | Path,
    *,
    readout: str | None = None,
    mean: float | None = None,
    std: float | None = None,
) -> SchNet:
    """A SchNet with the weights of PyG's SchNet.

    Energies and forces agree as long as PyG's graph is complete: PyG leaves out all but 32 neighbours of an atom. A
    ``scale`` becomes part of the references. With ``dipole=True``, latent charges that need not add up to zero count
    about the centre of mass, as in PyG.

    Args:
        model: A ``torch_geometric.nn.models.SchNet``, trained or not, its state dict, or a file of ``torch.save`` with
            either, also a checkpoint that holds it; nothing that the file names is imported or run. Names of a state
            dict may have something before them, such as ``model.`` or ``module.``.
        readout: For a state dict only, which does not tell it: the readout, ``None`` for PyG's ``"add"``.
        mean: For a state dict only: the mean that the model was built with.
        std: For a state dict only: the standard deviation that the model was built with.

    Returns:
        The same model as :class:`~pyg_schnet.SchNet`, in the same dtype, on the same device and in the same mode
        (evaluation mode for a state dict).

    Raises:
        TypeError: If ``model`` is none of these, or what a model tells itself is given.
        ValueError: If its readout does not commute with its references, a state dict is not that of PyG's SchNet, or a
            weight is not finite.
        FileNotFoundError: If there is no such file.

    Example:
        >>> from torch_geometric.nn.models import SchNet as PyGSchNet
        >>> from_pyg(PyGSchNet(hidden_channels=32, num_filters=32)).config["hidden_channels"]
        32
    """
    if isinstance(model, (str, Path)):
        model = _read(Path(model), (readout, mean, std))
    if isinstance(model, Mapping):
        model = _from_state(model, readout or "add", mean, std)
    elif not isinstance(model, PyGSchNet):
        raise TypeError(
            f"`model` must be a torch_geometric.nn.models.SchNet, its state dict or a file of it, got "
            f"{type(model).__name__}"
        )
    elif (readout, mean, std) != (None, None, None):
        raise TypeError("`readout`, `mean` and `std` go with a state dict; a model tells them itself")
    kind = "dipole_magnitude" if model.dipole else _READOUTS.get(type(model.readout))
    if kind is None:
        known = ", ".join(map(repr, _READOUTS.values()))
        raise ValueError(f"`readout` must be one of {known} to be converted, got {type(model.readout).__name__}")
    ours = SchNet(
        model.hidden_channels,
        model.num_filters,
        model.num_interactions,
        model.num_gaussians,
        model.cutoff,
        readout=kind,
        readout_options={"masses": model.atomic_mass.tolist()} if model.dipole else None,
        gamma=-model.distance_expansion.coeff,
        cutoff_function="cosine",
        activate_last=False,
        act="ssp-pyg",
        max_z=model.embedding.num_embeddings - 1,
        **_references(model),
    )
    _check_order(kind, ours.reference)
    ours.to(model.embedding.weight)
    weights, theirs = _names(model.num_interactions), model.state_dict()
    fill(ours, {our: need(theirs, their, _WHAT) for our, their in weights.items()}, weights, _WHAT)
    return ours.train(model.training)


def to_pyg(model: SchNet) -> PyGSchNet:
    """PyG's SchNet with the weights of a SchNet of the same architecture.

    Args:
        model: A :class:`~pyg_schnet.SchNet` like ``SchNet.preset("pyg")``. Shared interaction blocks become copies.

    Returns:
        The same model as PyG's, with an exact :class:`InteractionGraph`.

    Raises:
        TypeError: If ``model`` is no SchNet.
        ValueError: If PyG's SchNet cannot express the model.
    """
    if not isinstance(model, SchNet):
        raise TypeError(f"`model` must be a pyg_schnet.SchNet, got {type(model).__name__}")
    _check_architecture(model)
    config, reference = model.config, model.reference
    dipole = config["readout"] == "dipole_magnitude"
    theirs = PyGSchNet(
        config["hidden_channels"],
        config["num_filters"],
        config["num_interactions"],
        config["num_gaussians"],
        config["cutoff"],
        InteractionGraph(config["cutoff"]),
        readout="add" if dipole else config["readout"],
        dipole=dipole,
        mean=None if dipole else float(reference.mean),
        std=None if dipole else float(reference.std),
        atomref=reference.atomref.clone() if reference.atomref.any() else None,  # PyG keeps what it is given
    )
    if dipole:
        theirs.scale = float(reference.std)
        theirs.atomic_mass = torch.tensor(config["readout_options"]["masses"], dtype=torch.float64)  # no longer ASE's
    theirs.to(model.embedding.weight)
    if theirs.atomref is not None:  # its digits would be lost in the float32 of its making
        for table in (theirs.atomref.weight.data, theirs.initial_atomref):
            table.copy_(reference.atomref)
    gamma: Any = model.basis.gamma  # one number: the Gaussians are not trainable
    theirs.distance_expansion.coeff = -float(gamma)
    names, state, values = _names(config["num_interactions"]), model.state_dict(), {}
    for our, their in names.items():
        parts = our.split(".")
        if parts[0] == "interactions":
            parts[1] = str(int(parts[1]) % len(model.interactions))
        values[their] = state[".".join(parts)]
    fill(theirs, values, {}, _WHAT)
    return theirs.train(model.training)


def _read(path: Path, given: tuple[Any, ...]) -> Mapping[str, Tensor] | PyGSchNet:
    """The state dict in a file, or the model that is pickled there, of which nothing is imported."""
    content = read_torch(path)
    if isinstance(content, Mapping):
        inner = [content[key] for key in ("state_dict", "model_state_dict", "model") if key in content]
        content = inner[0] if inner and isinstance(inner[0], (Mapping, Record)) else content
    if isinstance(content, Mapping):
        return content
    if not isinstance(content, Record):
        raise ValueError(f"{path} holds {type(content).__name__}, expected {_WHAT} or its state dict")
    if name_of(content) != "SchNet":
        return state_of(content)  # of a module of one's own, PyG's SchNet being a part of it
    if given != (None, None, None):
        raise TypeError("`readout`, `mean` and `std` go with a state dict; a model tells them itself")
    facts = vars(content)
    kind = name_of(part_of(content, "readout"))
    readout = next((name for known, name in _READOUTS.items() if known.__name__ == kind), None)
    if readout is None:
        raise ValueError(f"{path} has a readout {kind}, expected one of {', '.join(map(repr, _READOUTS.values()))}")
    mean, std = (None if facts.get(name) is None else float(facts[name]) for name in ("mean", "std"))
    model = _from_state(state_of(content), readout, mean, std)
    model.scale = facts.get("scale")
    model.cutoff = float(facts.get("cutoff", model.cutoff))
    return model


def _from_state(state: Mapping[str, Tensor], readout: str, mean: float | None, std: float | None) -> PyGSchNet:
    """PyG's SchNet from its state dict; the sizes are those of the weights."""
    mark = _REST["basis.offset"]
    before = next((name.removesuffix(mark) for name in state if str(name).endswith(f".{mark}")), "")
    state = {name.removeprefix(before): value for name, value in state.items() if name.startswith(before)}
    check_values({name: value for name, value in state.items() if isinstance(value, Tensor)}, _WHAT)
    embedding = need_matrix(state, _REST["embedding.weight"], _WHAT)
    offset = need(state, _REST["basis.offset"], _WHAT)
    blocks = len({name.split(".")[1] for name in state if name.startswith("interactions.")})
    filters = need_matrix(state, "interactions.0.mlp.0.weight", _WHAT).size(0) if blocks else 1
    atomref = state.get("atomref.weight")
    model = PyGSchNet(
        embedding.size(1),
        filters,
        blocks,
        offset.numel(),
        float(str(np.float32(offset[-1].item()))),  # the number that was rounded to float32: 4.7, not 4.69999981
        readout=readout,
        dipole="atomic_mass" in state,
        mean=mean,
        std=std,
        atomref=None if atomref is None else atomref.clone(),  # PyG keeps what it is given
    )
    if model.dipole:  # the table of ASE itself until here, into which the weights would be written
        model.atomic_mass = model.atomic_mass.clone()
    try:
        model.to(embedding).load_state_dict(dict(state))
    except RuntimeError as error:
        reason = " ".join(str(error).split("\n\t")[1:2]) or str(error)
        raise ValueError(f"expected the state dict of {_WHAT}: {reason.strip()}") from None
    return model.eval()


def _references(model: PyGSchNet) -> dict[str, Any]:
    """Mean, standard deviation and single-atom values, scale included."""
    scale: Any = 1.0 if model.scale is None else model.scale
    references: dict[str, Any] = {"std": scale}
    if model.dipole:  # PyG applies no other reference
        return references
    if model.mean is not None and model.std is not None:  # PyG applies both or none
        references = {"mean": model.mean * scale, "std": model.std * scale}
    if model.atomref is not None:
        references["atomref"] = model.atomref.weight.detach().double() * scale
    return references


def _check_architecture(model: SchNet) -> None:
    expected = {
        "basis": "gaussian",
        "trainable_basis": False,
        "cutoff_function": "cosine",
        "activate_last": False,
        "act": "ssp-pyg",
        "normalization": None,
        "out_channels": 1,
        "max_z": 99,
        "repulsion": None,
    }
    config = model.config
    different = [f"{name}={config[name]!r}" for name, value in expected.items() if config[name] != value]
    if config["output_act"] not in {None, expected["act"]}:
        different.append(f"output_act={config['output_act']!r}")
    masses = (config["readout_options"] or {}).get("masses")
    if config["readout"] not in {*_READOUTS.values(), "sum"} and not (masses and len(masses) == _ELEMENTS):
        different.append(f"readout={config['readout']!r}")
    if different:
        needed = ", ".join(f"{name}={value!r}" for name, value in expected.items())
        raise ValueError(f"PyG's SchNet has {needed}; got a model with {', '.join(different)}")
    _check_order(config["readout"], model.reference)


def _check_order(readout: str, reference: Reference) -> None:
    """PyG adds references to the atoms before the readout, we after it: the same only where the two commute."""
    if readout in {"add", "sum", "mean"}:
        return
    plain = bool((reference.mean == 0).all()) and bool((reference.std == 1).all())
    if reference.atomref.any() or (readout == "mul" and not plain):
        raise ValueError(
            f"expected a readout 'add' or 'mean' for a model with references, got {readout!r}: PyG adds them before "
            "the readout, we after it"
        )


def _names(num_interactions: int) -> dict[str, str]:
    """PyG's name of every weight by ours."""
    inside = {
        f"interactions.{i}.{ours}": f"interactions.{i}.{theirs}"
        for i in range(num_interactions)
        for ours, theirs in _BLOCK.items()
    }
    return _REST | inside
