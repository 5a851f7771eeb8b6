"""Models from elsewhere: PyG's SchNet, both ways."""

import torch
from torch import Tensor, nn
from torch_geometric.nn.aggr import MeanAggregation, SumAggregation
from torch_geometric.nn.models import SchNet as PyGSchNet

from pyg_schnet.graph import radius_graph
from pyg_schnet.models.schnet import SchNet
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


class InteractionGraph(nn.Module):
    """An ``interaction_graph`` for PyG's SchNet that needs no compiled package and leaves out no neighbour.

    Args:
        cutoff: Cutoff distance in Angstrom.

    Example:
        >>> from torch_geometric.nn.models import SchNet as PyGSchNet
        >>> model = PyGSchNet(interaction_graph=InteractionGraph(10.0))
        >>> model(torch.tensor([1, 1]), torch.tensor([[0.0, 0, 0], [0.74, 0, 0]])).shape
        torch.Size([1, 1])
    """

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


def from_pyg(model: PyGSchNet) -> SchNet:
    """A SchNet with the weights of PyG's SchNet.

    Energies and forces agree as long as PyG's graph is complete: PyG leaves out all but 32 neighbours of an atom.

    Args:
        model: A ``torch_geometric.nn.models.SchNet``, trained or not.

    Returns:
        The same model as :class:`~pyg_schnet.SchNet`, in the same dtype, on the same device and in the same mode.

    Raises:
        TypeError: If ``model`` is not PyG's SchNet.
        ValueError: If it predicts dipole moments or scales its output, which this version does not.

    Example:
        >>> from torch_geometric.nn.models import SchNet as PyGSchNet
        >>> from_pyg(PyGSchNet(hidden_channels=32, num_filters=32)).config["hidden_channels"]
        32
    """
    if not isinstance(model, PyGSchNet):
        raise TypeError(f"`model` must be a torch_geometric.nn.models.SchNet, got {type(model).__name__}")
    if model.dipole or model.scale is not None:
        raise ValueError(
            "PyG's SchNet with `dipole=True` or a `scale` cannot be converted; expected a model of a scalar"
        )
    readout = {SumAggregation: "add", MeanAggregation: "mean"}.get(type(model.readout))
    if readout is None:
        raise ValueError(f"`readout` must be a sum or a mean to be converted, got {type(model.readout).__name__}")
    scaled = model.mean is not None and model.std is not None  # PyG applies both or none
    ours = SchNet(
        model.hidden_channels,
        model.num_filters,
        model.num_interactions,
        model.num_gaussians,
        model.cutoff,
        readout=readout,
        gamma=-model.distance_expansion.coeff,
        cutoff_function="cosine",
        activate_last=False,
        act="ssp-pyg",
        max_z=model.embedding.num_embeddings - 1,
        mean=model.mean if scaled else None,
        std=model.std if scaled else None,
        atomref=None if model.atomref is None else model.atomref.weight.detach(),
    )
    ours.to(model.embedding.weight)
    _copy(dict(_names(ours)), model, ours)
    return ours.train(model.training)


def to_pyg(model: SchNet) -> PyGSchNet:
    """PyG's SchNet with the weights of a SchNet of the same architecture.

    Args:
        model: A :class:`~pyg_schnet.SchNet` like ``SchNet.preset("pyg")``.

    Returns:
        The same model as PyG's, with an exact :class:`InteractionGraph`.

    Raises:
        ValueError: If PyG's SchNet cannot express the model.
    """
    config = model.config
    expected = {"cutoff_function": "cosine", "activate_last": False, "act": "ssp-pyg", "max_z": 99}
    different = [f"{name}={config[name]!r}" for name, value in expected.items() if config[name] != value]
    if different:
        needed = ", ".join(f"{name}={value!r}" for name, value in expected.items())
        raise ValueError(f"PyG's SchNet has {needed}; got a model with {', '.join(different)}")
    reference = model.reference
    theirs = PyGSchNet(
        config["hidden_channels"],
        config["num_filters"],
        config["num_interactions"],
        config["num_gaussians"],
        config["cutoff"],
        InteractionGraph(config["cutoff"]),
        readout=config["readout"],
        mean=float(reference.mean),
        std=float(reference.std),
        atomref=reference.atomref.unsqueeze(-1) if reference.atomref.any() else None,
    )
    theirs.to(model.embedding.weight)
    theirs.distance_expansion.coeff = -model.basis.gamma
    _copy({pyg: ours for ours, pyg in _names(model)}, model, theirs)
    return theirs.train(model.training)


def _names(model: SchNet) -> list[tuple[str, str]]:
    """Our name and PyG's name of every weight."""
    blocks = range(len(model.interactions))
    inside = [
        (f"interactions.{i}.{ours}", f"interactions.{i}.{theirs}") for i in blocks for ours, theirs in _BLOCK.items()
    ]
    return list(_REST.items()) + inside


def _copy(source_of: dict[str, str], source: nn.Module, target: nn.Module) -> None:
    """Copy ``source``'s tensors into ``target``; ``source_of`` maps names in ``target`` to names in ``source``."""
    values, slots = source.state_dict(), target.state_dict()
    with torch.no_grad():
        for name, origin in source_of.items():
            slots[name].copy_(values[origin])
