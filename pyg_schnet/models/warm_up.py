"""All loops compiled before they are needed: in the image of a container, or before many jobs of a cluster start.

Each kind of computation is done once for small structures, so what is compiled is what such computations call.
"""

import sys
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyg_schnet.compiling import trouble_with
from pyg_schnet.fast.dynamics import CompiledMotion
from pyg_schnet.graph import radius_graph
from pyg_schnet.models.potential import Potential
from pyg_schnet.models.schnet import SchNet
from pyg_schnet.sizes import SIZES

#: Numbers by their names on the command line.
NUMBERS = {"float32": torch.float32, "float64": torch.float64}
_REPULSIONS = None, "zbl"


class Compiled(NamedTuple):
    """What was compiled for a kind of computation.

    Attributes:
        kind: One of :data:`KINDS`.
        new: Number of loops that were compiled; those that were kept already are not.
        folders: Where the machine code of all loops so far lies; empty where no folder can be written to.
    """

    kind: str
    new: int
    folders: list[str]


def _structures(numbers: torch.dtype, atoms: int, edge: float) -> tuple[Tensor, Tensor]:
    """Atomic numbers and positions of atoms at places of a lattice, displaced a little."""
    generator = torch.Generator().manual_seed(0)
    places = torch.cartesian_prod(*[torch.arange(edge)] * 3)[:atoms]
    pos = 1.5 * places + 0.1 * torch.randn(atoms, 3, generator=generator)
    return torch.randint(1, 10, (atoms,), generator=generator), pos.to(numbers)


def _model(numbers: torch.dtype, **options: Any) -> SchNet:
    return SchNet(16, 16, 2, cutoff=4.0, filters="table", **options).to(numbers)


def _batches(numbers: torch.dtype) -> Iterator[tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]]:
    """Two open structures, and two periodic ones."""
    z, pos = _structures(numbers, 24, 3)
    batch = torch.arange(2).repeat_interleave(12)
    yield z, pos, batch, {}
    cell = 6.0 * torch.eye(3, dtype=numbers).repeat(2, 1, 1)
    yield z, pos, batch, {"cell": cell, "pbc": torch.ones(2, 3, dtype=torch.bool)}


def _large(numbers: torch.dtype) -> tuple[Tensor, Tensor]:
    """A structure that is too large for a group."""
    atoms = SIZES.max_atoms + 1
    return _structures(numbers, atoms, round(atoms ** (1 / 3) + 1))


def _train(model: SchNet, *structures: Any, **periodic: Tensor) -> None:
    out = Potential(model.train())(*structures, **periodic)
    (out["energy"].sum() + out["forces"].square().sum()).backward()


def _training(numbers: torch.dtype) -> None:
    for z, pos, batch, periodic in _batches(numbers):
        for repulsion in _REPULSIONS:
            _train(_model(numbers, repulsion=repulsion), z, pos, batch, **periodic)


def _training_large(numbers: torch.dtype) -> None:
    _train(_model(numbers), *_large(numbers))


def _inference(numbers: torch.dtype) -> None:
    for repulsion in _REPULSIONS:
        potential = Potential(_model(numbers, repulsion=repulsion).freeze())
        for z, pos, batch, periodic in _batches(numbers):
            potential(z, pos, batch, **periodic)


def _inference_large(numbers: torch.dtype) -> None:
    Potential(_model(numbers).freeze())(*_large(numbers))


def _neighbours(numbers: torch.dtype) -> None:
    """By all pairs and by bins, both of them with and without images."""
    atoms = SIZES.all_pairs_up_to + 1
    radius_graph(_structures(numbers, atoms, round(atoms ** (1 / 3) + 1))[1], 4.0)
    for _, some, batch, periodic in _batches(numbers):
        radius_graph(some, 4.0, batch, periodic.get("cell"), periodic.get("pbc"))


def _dynamics(numbers: torch.dtype) -> None:
    """Steps of open structures, with a thermostat and without, by models with a repulsion and without."""
    z, pos = _structures(numbers, 12, 3)
    within, ones = np.arange(12), np.ones(12)
    still = np.zeros((12, 3))
    for decay, repulsion in product((1.0, 0.9), _REPULSIONS):
        atoms = _model(numbers, repulsion=repulsion).freeze(), z.numpy(), np.zeros_like(within), within
        motion = CompiledMotion(*atoms, 1.0, 0.1, decay, 1e-4 * ones, 1e-6 * ones, 0, 1.0, 0.5)
        if motion.suits():
            motion.advance((pos.numpy(), still, still, np.zeros(1)), 0, 1)


def _derivatives(numbers: torch.dtype) -> None:
    """What is differentiated otherwise: Hessians, and properties without forces."""
    z, pos = _structures(numbers, 12, 3)
    Potential(_model(numbers).freeze()).hessian(z, pos)
    for normalization in (None, "smooth"):
        model = _model(numbers, normalization=normalization)
        model(z, pos).sum().backward()
        moving = pos.clone().requires_grad_()
        model(z, moving).sum().backward()


#: Kinds of computations, most used ones first.
KINDS: dict[str, Callable[[torch.dtype], None]] = {
    "neighbours": _neighbours,
    "inference": _inference,
    "training": _training,
    "inference-large": _inference_large,
    "training-large": _training_large,
    "dynamics": _dynamics,
    "derivatives": _derivatives,
}


def warm_up(kinds: list[str] | None = None, numbers: str = "float32") -> Iterator[Compiled]:
    """Compile loops now, and keep the machine code where later processes find it.

    Args:
        kinds: Names of :data:`KINDS`; ``None`` for all.
        numbers: ``"float32"`` or ``"float64"``.

    Yields:
        What was compiled, after each kind.

    Raises:
        ValueError: If there is no such kind, or no such numbers.
        ImportError: If Numba cannot be used.

    Example:
        >>> next(warm_up(["neighbours"])).kind
        'neighbours'
    """
    chosen = list(KINDS) if kinds is None else kinds
    if unknown := [kind for kind in chosen if kind not in KINDS]:
        raise ValueError(f"there is no kind {unknown[0]!r} of computations; expected some of {', '.join(KINDS)}")
    if numbers not in NUMBERS:
        raise ValueError(f"`numbers` must be one of {', '.join(NUMBERS)}, got {numbers!r}")
    if (trouble := trouble_with("numba")) is not None:
        reason = f"cannot be used ({trouble})" if trouble else "is not installed"
        raise ImportError(
            f'loops are compiled by Numba, which {reason}; install it with pip install "pyg_schnet[fast]"'
        )
    return _warm_up(chosen, numbers)


def _warm_up(kinds: list[str], numbers: str) -> Iterator[Compiled]:
    for kind in kinds:
        before = _misses()
        state = torch.get_rng_state()
        try:
            KINDS[kind](NUMBERS[numbers])
        finally:
            torch.set_rng_state(state)
        folders = sorted({loop.stats.cache_path for loop in _loops()})
        yield Compiled(kind, _misses() - before, folders)


def _loops() -> Iterator[Any]:
    """All loops of this package whose machine code Numba keeps, each once."""
    seen = set[int]()
    for name, module in list(sys.modules.items()):
        if name.startswith("pyg_schnet."):
            for one in vars(module).values():
                kept = hasattr(one, "overloads") and getattr(getattr(one, "stats", None), "cache_path", None)
                if kept and id(one) not in seen:
                    seen.add(id(one))
                    yield one


def _misses() -> int:
    """How often loops were compiled in this process."""
    return sum(sum(loop.stats.cache_misses.values()) for loop in _loops())
