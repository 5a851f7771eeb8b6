"""PyG's and SchNetPack's SchNet with the weights of ours, both handed finished edges."""

import functools
import importlib
import math
from collections.abc import Callable
from typing import Any

import torch
from systems import System
from torch import Tensor, nn
from torch_geometric.nn.models.schnet import ShiftedSoftplus

from pyg_schnet import SchNet
from pyg_schnet.convert import to_pyg, to_schnetpack
from pyg_schnet.ops import edge_vectors


def peers_of(model: SchNet) -> tuple[str, ...]:
    """Those that are installed and can express the model."""
    config = model.config
    same = config["cutoff_function"] == "cosine" and not config["activate_last"]
    return ("pyg", "schnetpack") if same and _optional("hydra") and _optional("schnetpack") else ("pyg",)


def peer_of(name: str, model: SchNet, system: System) -> nn.Module:
    """A peer with the weights; it takes atomic numbers, positions and structures of the atoms."""
    return SchNetPack(model, system) if name == "schnetpack" else pyg_of(model, system)


class GivenGraph(nn.Module):
    """An interaction graph for PyG's SchNet that has its edges already."""

    def __init__(self, system: System) -> None:
        super().__init__()
        graph = system.graph()
        self.edges, self.cell = (graph.edge_index, graph.edge_shift), system.periodic.get("cell")

    def forward(self, pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Edges and distances."""
        return self.edges[0], edge_vectors(pos, *self.edges, self.cell, batch).norm(dim=-1)


def pyg_of(model: SchNet, system: System) -> nn.Module:
    """PyG's SchNet; the papers' has no cutoff function and activates twice."""
    theirs = to_pyg(_with_weights(model, cutoff_function="cosine", activate_last=False))
    theirs.interaction_graph = GivenGraph(system)
    for block in theirs.interactions:
        if model.config["cutoff_function"] is None:
            block.conv.cutoff = math.inf  # the cosine of zero is one
        if model.config["activate_last"]:
            block.mlp.append(ShiftedSoftplus())
    return theirs


class SchNetPack(nn.Module):
    """SchNetPack's SchNet, called as PyG's."""

    def __init__(self, model: SchNet, system: System) -> None:
        super().__init__()
        state = to_schnetpack(_with_weights(model, act="ssp-schnetpack"))  # a rounded ln 2 off PyG's
        self.model = importlib.import_module("hydra.utils").instantiate(state.arguments)
        self.model.load_state_dict(state)
        self.model.to(model.embedding.weight)
        graph = system.graph()
        (j, i), still = graph.edge_index, torch.zeros_like(system.pos)
        offsets = edge_vectors(still, graph.edge_index, graph.edge_shift, system.periodic.get("cell"), system.batch)
        self.edges = {"_idx_i": i, "_idx_j": j, "_offsets": offsets, "_n_atoms": torch.bincount(system.batch)}

    def forward(self, z: Tensor, pos: Tensor, batch: Tensor) -> Tensor:
        """Energies [B, 1]."""
        inputs = {"_atomic_numbers": z, "_positions": pos, "_idx_m": batch, **self.edges}
        return self.model(inputs)["energy"].view(-1, 1)


def search_of(system: System) -> tuple[str, Callable[[], int]]:
    """A search of the edges for peers: that of nvalchemi for periodic structures if it is installed, else ours."""
    nvalchemi = _optional("nvalchemiops.torch.neighbors")
    if not system.periodic or nvalchemi is None:
        return "ours", lambda: system.graph().edge_index.size(1)
    most = int(torch.bincount(system.graph().edge_index[1]).max())
    options = {"batch_idx": system.batch.int(), "max_neighbors": most, "return_neighbor_list": True, **system.periodic}
    return "nvalchemi", lambda: nvalchemi.neighbor_list(system.pos, system.cutoff, **options)[0].size(1)


def _with_weights(model: SchNet, **changes: Any) -> SchNet:
    """A model with other arguments and the same weights."""
    other = SchNet(**(model.config | changes)).to(model.embedding.weight)
    other.load_state_dict(model.state_dict())
    return other.train(model.training)


@functools.cache
def _optional(module: str) -> Any:
    """The module, or None if its package is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None
