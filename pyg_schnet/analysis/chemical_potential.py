"""The local chemical potential: what an atom would feel at any point of space."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from torch_geometric.data import Batch, Data
from tqdm import tqdm

from pyg_schnet.analysis.checks import count
from pyg_schnet.graph import Edges, radius_graph
from pyg_schnet.graph.edges import between, shift_vectors, squared_norm
from pyg_schnet.graph.points import Surroundings
from pyg_schnet.models.atomistic import AtomisticModel
from pyg_schnet.models.committee import Committee, mean_and_spread
from pyg_schnet.models.compiled import as_it_was_written
from pyg_schnet.models.elements import check_elements
from pyg_schnet.models.inputs import check_edges
from pyg_schnet.models.structures import Structures, usable

#: Edges that are evaluated together, beside a multiple of those of the structure itself.
EDGES_AT_ONCE, TIMES_THE_STRUCTURE = 1 << 17, 8
#: Features of atoms that change by more than this share when there are probes: they feel them.
INFLUENCE = 1e-2
#: A probe closer to an atom than this, in Angstrom, is on top of it.
ON_TOP = 1e-3


def local_chemical_potential(
    model: Any,
    data: Data,
    points: Any,
    probe: int = 6,
    *,
    chunk: int | None = None,
    strict: bool = False,
    progress: bool = True,
) -> Tensor:
    r"""Energy of a probe atom that senses a structure and does not influence it.

    .. math:: \Omega_{Z_\mathrm{probe}}(r) = \hat E_\mathrm{probe}, \quad
              x_\mathrm{probe}^{l+1} = x_\mathrm{probe}^l + v\Big(\sum_i x_i^l \circ W^l(r - r_i)\Big)

    Schütt et al., J. Chem. Phys. 148, 241722 (2018), section III.C and equation (6). The features :math:`x_i^l` of the
    atoms are those without the probe: all edges between atoms and probe lead to the probe, and probes do not see one
    another. The result is what :meth:`~pyg_schnet.models.AtomisticModel.contributions` says of the probe on such
    edges, with the reference of its element and, in crystals, with all images of the atoms within the cutoff and the
    normalisation by the number of neighbours that the model has.

    Points are evaluated in chunks of bounded memory, together with the atoms, whose share of the work is small. If
    points (or positions) require gradients, the result is differentiable with respect to them, in bounded memory, too:
    chunks are computed once more on the way back. Else nothing is recorded.

    Args:
        model: A model whose property is a sum or mean over atoms: a SchNet, a DTNN or any
            :class:`~pyg_schnet.models.AtomisticModel` in which features go along edges; a
            :class:`~pyg_schnet.Potential` of one; or a :class:`~pyg_schnet.models.Committee`, for the mean.
        data: One structure: ``z`` and ``pos``, in crystals ``cell`` and ``pbc``.
        points: Places of the probe in Angstrom [P, 3], or any shape [..., 3].
        probe: Atomic number of the probe.
        chunk: Points to evaluate at once; ``None`` for as many as are fast.
        strict: True to refuse a probe or atoms of an element that the model was never trained on; otherwise there
            is one warning.
        progress: True to show a progress bar if it takes more than two seconds.

    Returns:
        :math:`\Omega` [P] float64, or [...] as the points, in the unit of the model's energies; [P, C] for C targets.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If there is no such element, a point is not finite or on top of an atom, there are several
            structures, or the model has no contributions of atoms, is broken, or lets the probe change other atoms.

    Example:
        >>> from pyg_schnet import SchNet
        >>> water = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
        >>> local_chemical_potential(SchNet.preset("jcp2018"), water, torch.tensor([[0.0, 0, 3], [0, 0, 4]])).shape
        torch.Size([2])
    """
    model = getattr(model, "model", model)  # of a potential
    if isinstance(model, Committee):
        each = [
            local_chemical_potential(member, data, points, probe, chunk=chunk, strict=strict, progress=progress)
            for member in model
        ]
        return mean_and_spread(torch.stack(each)).mean
    structure = _Structure(model, data, probe, strict)
    points = structure.checked(points)
    flat = points.reshape(-1, 3)
    differentiable = torch.is_grad_enabled() and (flat.requires_grad or structure.pos.requires_grad)
    with torch.inference_mode(False), torch.set_grad_enabled(differentiable):
        order = structure.surroundings.order(flat)
        pieces = list(structure.pieces(flat, order, chunk))
        structure.check_influence(flat[order[:4]])
        again = differentiable and len(pieces) > 1
        bar = tqdm(pieces, desc="local chemical potential", unit="chunk", delay=2.0, disable=not progress, leave=False)
        found = [
            checkpoint(structure.potential, flat[piece], use_reentrant=False)
            if again
            else structure.potential(flat[piece])
            for piece in bar
        ]
        values = torch.cat(found) if found else structure.none()  # [P, C]
        values = values[torch.argsort(order)]
    values = values.reshape(*points.shape[:-1], values.size(-1))
    return values.squeeze(-1) if values.size(-1) == 1 else values


class _Structure:
    """One structure, and its own edges, around which probes are put."""

    def __init__(self, model: Any, data: Any, probe: int, strict: bool) -> None:
        if not isinstance(model, AtomisticModel):
            raise TypeError(
                "`model` must be a SchNet, a DTNN or another AtomisticModel, to have features of the probe, "
                f"got {type(model).__name__}; pyg_schnet.convert takes networks of PyG and SchNetPack over"
            )
        if not isinstance(data, Data):
            raise TypeError(f"`data` must be a Data with `z` and `pos`, got {type(data).__name__}")
        if isinstance(data, Batch) and data.num_graphs != 1:
            raise ValueError(f"`data` must be one structure, got a batch of {data.num_graphs}; take one: batch[0]")
        self.model = as_it_was_written(model)
        given = Structures.of_data(data, model.cutoff)
        given.batch_size = 1
        given.check()
        z, self.pos, cell = given.z, usable(given.pos), usable(given.cell)
        edge_index, edge_shift = given.edge_index, given.edge_shift
        model.check_input(z, self.pos, edge_shift, cell, given.pbc)
        self.probe = _checked_probe(probe, model.embedding.weight.size(0) - 1).to(z.device)
        check_elements(model, torch.cat([z, self.probe]), strict)
        self.z, self.cell, self.pbc = z, None if cell is None else cell.double(), given.pbc
        self.batch = torch.zeros_like(z)
        exact = self.pos.double()
        self.surroundings = Surroundings(exact, model.cutoff, cell, given.pbc)
        if edge_index is None:
            graph = radius_graph(self.pos, model.cutoff, cell=cell, pbc=given.pbc)
            edge_index, edge_shift = graph.edge_index, graph.edge_shift
        else:
            check_edges(given)
        self.edge_index, self.edge_vec = self._within(exact, edge_index, edge_shift)
        with torch.no_grad():
            shares = self.model.shares_on(z, self._edges())  # refuses a readout that has none
        self.num_targets = shares.size(1)

    def none(self) -> Tensor:
        """The potential at no point [0, C]."""
        return self.pos.new_zeros(0, self.num_targets, dtype=torch.float64)

    def checked(self, points: Any) -> Tensor:
        """Points as float64 [..., 3] where the structure is."""
        if isinstance(points, (np.ndarray, list, tuple)):
            try:
                points = torch.as_tensor(np.asarray(points, dtype=np.float64))
            except (TypeError, ValueError):
                raise TypeError("`points` must be numbers in rows of three [P, 3], got others in a list") from None
        if not isinstance(points, Tensor) or not points.is_floating_point():
            kind = points.dtype if isinstance(points, Tensor) else type(points).__name__
            raise TypeError(f"`points` must be a floating-point tensor [P, 3], got {kind}")
        if points.dim() == 0 or points.size(-1) != 3:
            raise ValueError(f"`points` must have shape [P, 3], got {list(points.shape)}")
        points = usable(points).to(device=self.pos.device, dtype=torch.float64)
        bad = ~points.detach().isfinite().all(-1).reshape(-1)
        if bad.any():
            raise ValueError(f"point {int(bad.nonzero()[0])} of {bad.numel()} is not finite; leave such points out")
        atom, point, _ = Surroundings(self.pos.double(), ON_TOP, self.cell, self.pbc).around(points.reshape(-1, 3))
        if atom.numel():
            raise ValueError(
                f"point {int(point[0])} of {bad.numel()} is on top of atom {int(atom[0])}, where nothing has been "
                "learnt; leave out points that are closer to an atom than some 0.1 Angstrom"
            )
        return points

    def pieces(self, points: Tensor, order: Tensor, chunk: int | None) -> Iterator[Tensor]:
        """Numbers of the points of each chunk."""
        if chunk is None:
            budget = EDGES_AT_ONCE + TIMES_THE_STRUCTURE * self.edge_index.size(1)
            chunk = max(1, budget // max(16, self.surroundings.degree(points[order])))
        yield from order.split(count("chunk", chunk)) if order.numel() else ()

    def potential(self, points: Tensor) -> Tensor:
        """The potential at some points [P, C]."""
        z = torch.cat([self.z, self.probe.expand(points.size(0))])
        return self.model.shares_on(z, self._edges(*self._seen_from(points)))[self.z.size(0) :]

    def _seen_from(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Edges from the atoms to probes, and their vectors."""
        num_atoms = self.z.size(0)
        atom, point, shift = self.surroundings.around(points)
        places = torch.cat([self.pos.double(), points])
        return self._within(places, torch.stack([atom, point + num_atoms]), shift)

    def _within(self, places: Tensor, edge_index: Tensor, edge_shift: Tensor | None) -> tuple[Tensor, Tensor]:
        """Those edges that are within the cutoff, by the exact rule, with their vectors in float64."""
        offset = None
        if self.cell is not None and edge_shift is not None:
            rows = torch.where(self.cell.isfinite().all(-1, keepdim=True), self.cell, 0.0)
            offset = shift_vectors(edge_shift, rows)
        edge_vec = between(places, edge_index[1], edge_index[0], offset)
        inside = (squared_norm(edge_vec.detach()) < self.model.cutoff**2).nonzero().squeeze(1)
        return edge_index[:, inside], edge_vec[inside]

    def _edges(self, edge_index: Tensor | None = None, edge_vec: Tensor | None = None) -> Edges:
        """Edges of the structure, and those that lead to probes."""
        index, vectors = self.edge_index, self.edge_vec
        if edge_index is not None and edge_vec is not None:
            index, vectors = torch.cat([index, edge_index], dim=1), torch.cat([vectors, edge_vec])
        return Edges(index, vectors.to(self.pos.dtype), None, index)

    def check_influence(self, points: Tensor) -> None:
        """Refuse a model whose atoms feel probes although no edge leads from these to them."""
        z = torch.cat([self.z, self.probe.expand(points.size(0))])
        with torch.no_grad():
            alone = self.model.represent(self.z, self._edges())
            features = self.model.represent(z, self._edges(*self._seen_from(points)))[: self.z.size(0)]
        if not alone.isfinite().all():
            raise ValueError("the features of the atoms are not finite: the model is broken; load or train it again")
        if (features - alone).norm() > INFLUENCE * alone.norm():
            raise ValueError(
                f"{type(self.model).__name__} lets a probe change the features of the atoms although no edge leads "
                "from it to them; equation (6) needs a model of the papers' layers, whose features go along edges only"
            )


def _checked_probe(probe: Any, largest: int) -> Tensor:
    if isinstance(probe, Tensor) and probe.numel() == 1 and not probe.is_floating_point():
        probe = int(probe)
    if not isinstance(probe, (int, np.integer)) or isinstance(probe, bool):
        raise TypeError(f"`probe` must be an atomic number, for example 6 for carbon, got {probe!r}")
    if not 1 <= probe <= largest:
        raise ValueError(f"`probe` must be an atomic number from 1 to {largest}, those of the model, got {probe}")
    return torch.tensor([int(probe)])
