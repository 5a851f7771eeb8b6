"""Distances of atoms in data, which tell where a filter has learned something."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyg_schnet.analysis.checks import count
from pyg_schnet.analysis.evaluate import Structures
from pyg_schnet.datasets import StructureLoader
from pyg_schnet.graph import check_cutoff, radius_graph
from pyg_schnet.ops import edge_vectors


def pair_distances(dataset: Structures, cutoff: float, sample: int | None = None) -> NDArray:
    """Distances within a cutoff, periodic images included; each pair counts once.

    Args:
        dataset: Structures with ``z``, ``pos`` and, where they are periodic, ``cell`` and ``pbc``.
        cutoff: Largest distance in Angstrom.
        sample: Count so many structures, drawn at random with a fixed seed; ``None`` for all.

    Returns:
        Distances in Angstrom, sorted [P] float64.

    Raises:
        ValueError: If there is no structure or ``cutoff`` is not positive.

    Example:
        >>> from torch_geometric.data import Data
        >>> water = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
        >>> pair_distances([water], 1.5).round(2).tolist()
        [0.96, 0.96]
    """
    check_cutoff(cutoff)
    sample = None if sample is None else count("sample", sample)
    if len(dataset) == 0:
        raise ValueError("there is no structure; expected at least one")
    chosen: Any = dataset
    if sample is not None and sample < len(dataset):
        order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))[:sample]
        chosen = torch.utils.data.Subset(dataset, order.tolist())  # type: ignore[arg-type]
    parts = []
    for batch in StructureLoader(chosen, batch_size=50):
        periodic = {key: batch[key] for key in ("cell", "pbc") if key in batch}
        pos, cell = batch.pos.double(), batch.cell.double() if "cell" in batch else None
        graph = radius_graph(pos, cutoff, batch.batch, **periodic)
        parts.append(edge_vectors(pos, graph.edge_index, graph.edge_shift, cell, batch.batch).norm(dim=1))
    both = torch.cat(parts).sort().values
    return both[::2].cpu().numpy()  # both directions of a pair are edges


def distances_in(data: Structures | NDArray | Tensor, cutoff: float, sample: int = 500) -> NDArray:
    """Distances from whatever holds them.

    Args:
        data: Structures, or distances in Angstrom [P].
        cutoff: Largest distance in Angstrom; larger ones are left out.
        sample: Largest number of structures whose distances are counted.

    Returns:
        Distances in Angstrom [P] float64.

    Raises:
        TypeError: If ``data`` is neither.
        ValueError: If distances are no row of finite, positive numbers, or there is no structure.
    """
    if isinstance(data, (np.ndarray, Tensor)):
        values = np.asarray(data.detach().cpu() if isinstance(data, Tensor) else data, dtype=float)
        if values.ndim != 1 or not (np.isfinite(values) & (values > 0.0)).all():
            raise ValueError(
                f"distances must be positive and finite numbers in Angstrom [P], got an array {list(values.shape)}"
                + (" with others" if values.ndim == 1 else "")
            )
        return values[values < cutoff]
    if not hasattr(data, "__len__") or not hasattr(data, "__getitem__") or isinstance(data, str):
        raise TypeError(
            f"expected structures (a dataset, a list of Data) or an array of distances, got {type(data).__name__}"
        )
    return pair_distances(data, cutoff, sample)
