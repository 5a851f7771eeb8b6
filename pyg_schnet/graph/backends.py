"""Neighbour searches of other packages behind one signature, and which of them to use when.

A search takes what :func:`pyg_schnet.graph.search.candidate_pairs` takes and returns what it returns: every pair closer
than the cutoff once, and perhaps some a hair's breadth farther. :func:`pyg_schnet.radius_graph` tests them exactly
afterwards, in float64 and by its own arithmetic, so all back ends give the identical graph. What another package counts
as close, in which order it lists pairs and whether it knows a pair of an atom with its own image does not matter. Only
the searches of this package that do the same arithmetic themselves return the finished graph.
"""

import importlib
import itertools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pyg_schnet.compiling import trouble_with
from pyg_schnet.graph.compiled import compiled_graph
from pyg_schnet.graph.device_search import device_graph
from pyg_schnet.graph.edges import Graph
from pyg_schnet.graph.lattice import Lattice
from pyg_schnet.graph.matrix import matrix_graph
from pyg_schnet.graph.reduction import in_old_vectors, reduced
from pyg_schnet.graph.search import MARGIN, bounds, candidate_pairs

#: Target i [P], source j [P], image of j relative to i [P, 3], and the same image for atoms in the cell [P, 3].
Pairs = tuple[Tensor, Tensor, Tensor, Tensor]
Search = Callable[[Tensor, float, Tensor, int, Lattice | None], Pairs | Graph]

#: On the CPU, ``auto`` leaves all searches to Numba. Without, those of open structures of up to so many atoms in all to
#: the matrix of their distances, and from so many atoms per structure on, open and periodic ones to vesin, which takes
#: one structure at a time. ``python examples/benchmarks/neighbors.py --thresholds`` measures it.
MATRIX_UP_TO = 96
VESIN_FROM_OPEN, VESIN_FROM_PERIODIC = 128, 16
#: Atoms per cubic Angstrom for a first guess at the number of neighbours, where a package wants to know beforehand.
DENSITY = 0.2
#: Searches whose packages have failed when they were used unasked.
_FAILED: set[Search] = set()


@dataclass(frozen=True)
class Backend:
    """A neighbour search and what it can do.

    Attributes:
        search: The search, with the arguments of :func:`pyg_schnet.graph.search.candidate_pairs`; it returns the same,
            or the finished graph.
        package: Module it imports; empty if it needs none.
        install: What to pass to ``pip install`` to have it.
        periodic: True if it knows periodic boundaries.
        devices: Types of the devices it runs on.
    """

    search: Search
    package: str = ""
    install: str = ""
    periodic: bool = True
    devices: tuple[str, ...] = ("cpu", "cuda")

    def installed(self) -> bool:
        """True if the package is there and works."""
        return not self.package or _is_there(self.package)

    def suits(self, device: torch.device, periodic: bool) -> bool:
        """True if it runs on this device and with these boundaries."""
        return device.type in self.devices and (self.periodic or not periodic)


def find_search(name: str, device: torch.device, num_atoms: int, batch_size: int, periodic: bool) -> Search:
    """The search to use: the one asked for, or with ``"auto"`` the fastest installed one.

    Args:
        name: A key of :data:`BACKENDS`, or ``"auto"``.
        device: Where the positions are.
        num_atoms: Atoms in all structures together.
        batch_size: Number of structures.
        periodic: True if any axis of any structure is periodic.

    Returns:
        A function with the arguments of :func:`pyg_schnet.graph.search.candidate_pairs`, which returns the same or the
        finished graph.

    Raises:
        ImportError: If the package of this back end is not installed.
        ValueError: If there is no such back end, or it cannot do the job.

    Example:
        >>> find_search("torch", torch.device("cpu"), 100, 1, True) is candidate_pairs
        True
    """
    if name == "auto":
        name = _fastest(device, num_atoms, batch_size, periodic)
    if name not in BACKENDS:
        raise ValueError(f"`backend` must be 'auto' or one of {sorted(BACKENDS)}, got {name!r}")
    backend = BACKENDS[name]
    if periodic and not backend.periodic:
        raise ValueError(f"backend {name!r} knows no periodic boundaries; use backend='auto' or 'torch'")
    if device.type not in backend.devices:
        raise ValueError(
            f"backend {name!r} runs on {' and '.join(backend.devices)} only, but `pos` is on {device.type}; "
            "use backend='auto' or 'torch'"
        )
    if not backend.installed():
        remedy = f"; install it with pip install {backend.install}"
        if trouble := trouble_with(backend.package):
            remedy = f", which is installed but cannot be used ({trouble}); repair it or use backend='auto'"
        raise ImportError(f"backend {name!r} needs {backend.package}{remedy}")
    return backend.search if num_atoms else candidate_pairs


def find(
    name: str, pos: Tensor, cutoff: float, batch: Tensor, batch_size: int, lattice: Lattice | None
) -> Pairs | Graph:
    """Search with the back end of this name; very skewed lattices are reduced and left to plain PyTorch.

    Args:
        name: A key of :data:`BACKENDS`, or ``"auto"``.
        pos: Positions in Angstrom [N, 3] float64.
        cutoff: Cutoff distance in Angstrom.
        batch: Structure of each atom [N], sorted.
        batch_size: Number of structures.
        lattice: Lattices, or ``None`` if all structures are open.

    Returns:
        Candidate pairs, or the finished graph.

    Raises:
        ImportError: If the package of this back end is not installed.
        ValueError: If there is no such back end, or it cannot do the job.
    """
    if pos.device.type != "cpu" and name in {"auto", "torch"}:
        given = (None, None) if lattice is None else (lattice.cell, lattice.pbc)
        return device_graph(pos, cutoff, batch, batch_size, *given)
    search = find_search(name, pos.device, pos.size(0), batch_size, periodic=lattice is not None)
    short = None if lattice is None else reduced(lattice)
    if short is None and name == "auto":
        return _first_that_works(search, pos, cutoff, batch, batch_size, lattice)
    if short is None:
        return search(pos, cutoff, batch, batch_size, lattice)
    i, j, shift, image = candidate_pairs(pos, cutoff, batch, batch_size, short[0])
    matrix = short[1].index_select(0, batch.index_select(0, i))
    return i, j, in_old_vectors(shift, matrix), in_old_vectors(image, matrix)


def _first_that_works(
    search: Search, pos: Tensor, cutoff: float, batch: Tensor, batch_size: int, lattice: Lattice | None
) -> Pairs | Graph:
    """The result of a search that was not asked for by name, or of plain PyTorch if its package fails."""
    if search in _FAILED:
        search = candidate_pairs
    try:
        return search(pos, cutoff, batch, batch_size, lattice)
    except (ValueError, MemoryError):  # of the atoms
        raise
    except Exception as error:  # a broken package may fail in any way
        if search is candidate_pairs:
            raise
        _FAILED.add(search)
        package = next(backend.package for backend in BACKENDS.values() if backend.search is search)
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        warnings.warn(f"{package} failed ({reason}); neighbors are searched without it", RuntimeWarning, stacklevel=3)
        return candidate_pairs(pos, cutoff, batch, batch_size, lattice)


def _fastest(device: torch.device, num_atoms: int, batch_size: int, periodic: bool) -> str:
    """The fastest installed one on a CPU; elsewhere nothing has been measured, and plain PyTorch is taken."""
    if device.type != "cpu":
        return "torch"
    if BACKENDS["numba"].installed():
        return "numba"
    if num_atoms <= MATRIX_UP_TO and not periodic:
        return "numpy"
    least = VESIN_FROM_PERIODIC if periodic else VESIN_FROM_OPEN
    pays = num_atoms >= least * batch_size or (periodic and batch_size == 1)
    return "vesin" if pays and BACKENDS["vesin"].installed() else "torch"


def _is_there(package: str) -> bool:
    return trouble_with(package) is None


def _torch_cluster(pos: Tensor, cutoff: float, batch: Tensor, batch_size: int, lattice: Lattice | None) -> Pairs:
    """Pairs of open structures by a k-d tree (CPU) or by trying all pairs (GPU)."""
    package = importlib.import_module("torch_cluster")

    def find(reach: float, most: int) -> Tensor:
        return package.radius(pos, pos, reach, batch, batch, max_num_neighbors=most, batch_size=batch_size)

    return open_pairs(find, pos, cutoff, batch, batch_size)


def _pyg_lib(pos: Tensor, cutoff: float, batch: Tensor, batch_size: int, lattice: Lattice | None) -> Pairs:
    """Pairs of open structures by the operator that PyG itself calls since 2.8 (``torch_geometric.nn.radius``)."""
    package = importlib.import_module("pyg_lib")
    pointer = _pointer(batch, batch_size)

    def find(reach: float, most: int) -> Tensor:
        return package.ops.radius(pos, pos, pointer, pointer, reach, most, 1, False)

    return open_pairs(find, pos, cutoff, batch, batch_size)


def open_pairs(
    find: Callable[[float, int], Tensor], pos: Tensor, cutoff: float, batch: Tensor, batch_size: int
) -> Pairs:
    """Repeat a search that keeps at most so many neighbours of an atom, itself among them, until none can be lost.

    Args:
        find: The search; it takes a distance in Angstrom and the number of neighbours to keep, and returns targets and
            sources [2, E].
        pos: Positions in Angstrom [N, 3] float64.
        cutoff: Cutoff distance in Angstrom.
        batch: Structure of each atom [N], sorted.
        batch_size: Number of structures.

    Returns:
        Candidate pairs.
    """
    largest = int(torch.bincount(batch, minlength=batch_size).max())
    reach = _reach(cutoff, pos, None)
    most = min(largest, _guess(reach)) if pos.is_cuda else largest  # a GPU reserves room for all, a CPU does not
    found = find(reach, most)
    while most < largest and int(torch.bincount(found[0]).max()) >= most:
        most = min(largest, 4 * most)
        found = find(reach, most)
    i, j = found[:, found[0] < found[1]]
    none = i.new_zeros(i.size(0), 3)
    return i, j, none, none


def _vesin(pos: Tensor, cutoff: float, batch: Tensor, batch_size: int, lattice: Lattice | None) -> Pairs:
    """Pairs by linked cells in C++, one structure after the other."""
    boxes = _Boxes.around(pos, batch, batch_size, lattice)
    search = importlib.import_module("vesin").NeighborList(cutoff=_reach(cutoff, pos, lattice), full_list=False)
    points, vectors, periodic = boxes.pos.numpy(), boxes.cell.numpy(), boxes.pbc.numpy()
    pairs, images = [pos.new_zeros(0, 2).long()], [pos.new_zeros(0, 3).int()]
    for structure, (start, stop) in enumerate(itertools.pairwise(_pointer(batch, batch_size).tolist())):
        if stop > start:
            pair, image = search.compute(points[start:stop], vectors[structure], periodic[structure], "PS")
            pairs.append(torch.from_numpy(pair.view("int64")) + start)
            images.append(torch.from_numpy(image))
    i, j = torch.cat(pairs).unbind(1)
    return boxes.unwrap(i, j, torch.cat(images).long())


def _nvalchemi(pos: Tensor, cutoff: float, batch: Tensor, batch_size: int, lattice: Lattice | None) -> Pairs:
    """Pairs by the Warp kernels of nvalchemi-toolkit-ops, which chooses between all pairs and linked cells.

    Checked on a CPU only, with version 0.5.0; its documentation promises the same of a GPU.
    """
    neighbor_list = importlib.import_module("nvalchemiops.torch.neighbors").neighbor_list
    boxes = _Boxes.around(pos, batch, batch_size, lattice)
    pointer = _pointer(batch, batch_size)
    reach = _reach(cutoff, pos, lattice)
    most = _guess(reach)
    if lattice is None:
        most = min(most, int(pointer.diff().max()))
    num_atoms = pos.size(0)
    while True:
        neighbor, number, image = neighbor_list(
            boxes.pos,
            reach,
            cell=boxes.cell,
            pbc=boxes.pbc,
            batch_idx=batch.int(),
            batch_ptr=pointer.int(),
            fill_value=num_atoms,
            max_neighbors=most,
        )  # [N, most], [N], [N, most, 3]
        found = int(number.max())
        if found <= neighbor.size(1):
            break
        most = found
    i, column = (neighbor != num_atoms).nonzero(as_tuple=True)
    return boxes.unwrap(*_half(i, neighbor[i, column].long(), image[i, column].long()))


@dataclass(frozen=True)
class _Boxes:
    """Structures moved into boxes around them: the cell along periodic axes, as long as needed along open ones.

    Attributes:
        pos: Positions inside the boxes in Angstrom [N, 3].
        wrap: Cells by which each atom was moved [N, 3].
        cell: Vectors of the boxes as rows in Angstrom [B, 3, 3].
        pbc: Periodic axes [B, 3].
    """

    pos: Tensor
    wrap: Tensor
    cell: Tensor
    pbc: Tensor

    @classmethod
    def around(cls, pos: Tensor, batch: Tensor, batch_size: int, lattice: Lattice | None) -> "_Boxes":
        """The boxes of structures as :func:`pyg_schnet.graph.search.candidate_pairs` gets them."""
        if lattice is None:
            cell = torch.eye(3, dtype=pos.dtype, device=pos.device).repeat(batch_size, 1, 1)
            pbc = torch.zeros(batch_size, 3, dtype=torch.bool, device=pos.device)
            fractional = pos
        else:
            cell, pbc = lattice.cell, lattice.pbc
            fractional = torch.einsum("nk,nkl->nl", pos, lattice.inverse[batch])
        wrap = torch.where(pbc[batch], fractional.floor(), 0.0)
        fractional = fractional - wrap
        low, high = bounds(fractional, batch, batch_size)
        length = torch.where(pbc, 1.0, high - low + 1.0)  # vectors of open axes have length 1 Angstrom
        inside = torch.einsum("nk,nkl->nl", fractional - torch.where(pbc, 0.0, low)[batch], cell[batch])
        return cls(inside.contiguous(), wrap.long(), (cell * length.unsqueeze(-1)).contiguous(), pbc)

    def unwrap(self, i: Tensor, j: Tensor, image: Tensor) -> Pairs:
        """Pairs of the wrapped atoms [P], [P], [P, 3] as pairs of the original ones."""
        return i, j, image - self.wrap[j] + self.wrap[i], image


def _half(i: Tensor, j: Tensor, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One of the two directions of each pair, without atoms as neighbours of themselves."""
    x, y, z = image.unbind(1)
    forward = (x > 0) | ((x == 0) & ((y > 0) | ((y == 0) & (z > 0))))
    keep = ((i < j) | ((i == j) & forward)).nonzero().squeeze(1)
    return i[keep], j[keep], image[keep]


def _pointer(batch: Tensor, batch_size: int) -> Tensor:
    """First atom of each structure, and the number of atoms [B + 1]."""
    count = torch.bincount(batch, minlength=batch_size)
    return torch.cat([count.new_zeros(1), count.cumsum(0)])


def _reach(cutoff: float, pos: Tensor, lattice: Lattice | None) -> float:
    """The cutoff with its margin; in open structures no more than the largest distance there can be."""
    if lattice is None:
        cutoff = min(cutoff, 1.0 + float((pos.amax(dim=0) - pos.amin(dim=0)).norm()))
    return cutoff * MARGIN


def _guess(reach: float) -> int:
    """Neighbours to expect at most in ordinary matter; more are found by trying again."""
    return 16 + int(min(DENSITY * 4 / 3 * math.pi * reach**3, 1e9))


#: All back ends by the name under which :func:`pyg_schnet.radius_graph` knows them.
BACKENDS: dict[str, Backend] = {
    "torch": Backend(candidate_pairs),
    "numpy": Backend(matrix_graph, periodic=False, devices=("cpu",)),
    "numba": Backend(compiled_graph, "numba", '"pyg_schnet[fast]"', devices=("cpu",)),
    "torch_cluster": Backend(_torch_cluster, "torch_cluster", '"pyg_schnet[cluster]"', periodic=False),
    "pyg_lib": Backend(_pyg_lib, "pyg_lib", "pyg-lib -f https://data.pyg.org/whl", periodic=False),
    "vesin": Backend(_vesin, "vesin", '"pyg_schnet[neighbors]"', devices=("cpu",)),
    "nvalchemi": Backend(_nvalchemi, "nvalchemiops", '"pyg_schnet[gpu]"'),
}
