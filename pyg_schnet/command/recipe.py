"""Settings that fit a user's own data: how they are chosen, in numbers."""

import math
from typing import Any, NamedTuple

import numpy as np

from pyg_schnet.datasets.resemblance import of_composition
from pyg_schnet.datasets.surveyed import Survey

#: Seconds that training should take on two cores, and seconds that it may take.
_SECONDS, _AT_MOST = 180, 240
#: Seconds of a step on two cores: for itself, and for a thousand edges in an interaction block of 64 features, where
#: forces are learnt and where they are not.
_STEP, _EDGES = 1.5e-2, {True: 3e-4, False: 4e-4}
#: Edges in a mini-batch, at most.
_MOST_EDGES = 60_000


class Choice(NamedTuple):
    """A setting and why it is chosen.

    Attributes:
        value: The setting.
        why: The reason, for a comment.
    """

    value: Any
    why: str


def cutoff(found: Survey) -> Choice:
    """Distance up to which atoms interact, with a smooth end.

    Args:
        found: The data.

    Returns:
        5 Angstrom, or 6 where nearest neighbours are far apart.
    """
    if found.neighbour > 2.2:
        return Choice(6.0, f"nearest neighbours are {found.neighbour:.1f} Ang apart")
    return Choice(5.0, "smooth; the paper's 20 Ang is for single molecules")


def edges(found: Survey, distance: float) -> float:
    """Typical number of edges of a structure.

    Args:
        found: The data.
        distance: The cutoff in Angstrom.

    Returns:
        The mean over some structures.
    """
    import torch  # noqa: PLC0415

    from pyg_schnet.graph import radius_graph  # noqa: PLC0415
    from pyg_schnet.units import LENGTH  # noqa: PLC0415

    structures, size = found.gathered.all, LENGTH[found.units["length"].unit]
    counts = []
    for one in structures[:: max(1, len(structures) // 20)]:
        periodic = one.pbc.any()
        cell = torch.from_numpy(one.cell * size).float()[None] if periodic else None
        pbc = torch.from_numpy(one.pbc.copy())[None] if periodic else None
        graph = radius_graph(torch.from_numpy(one.pos * size).float(), distance, cell=cell, pbc=pbc)
        counts.append(graph.edge_index.size(1))
    return float(np.mean(counts))


def rho(found: Survey) -> Choice:
    """Weight of the energies beside the forces.

    The paper's 0.01 Angstrom^-2 is for one molecule. Structures of one composition or group whose energies differ
    little for the size of their forces count them more, up to three times, and less in the opposite case. Differences
    between compositions, of which no force tells, count up to ten times as much, the more of the variance they are.

    Args:
        found: The data.

    Returns:
        A number between 0.003 and 0.1.
    """
    within, between = found.within_and_between()
    has_within = math.isfinite(within) and within > 0
    if found.groups == 1:
        if not has_within or not math.isfinite(found.force_square):
            return Choice(0.01, "the paper's")
        value = min(max(1e-4 * found.force_square / within, 0.003), 0.03)
        return Choice(_round(value), f"energies spread by {math.sqrt(within):.2g} eV")
    share = between / (between + within) if has_within else 1.0
    spread = f"energies differ by {math.sqrt(between):.2g} eV between groups or compositions"
    if has_within:
        spread += f" and by {math.sqrt(within):.2g} eV within them"
    return Choice(_round(0.01 * 10**share), spread)


def rho_stress(found: Survey) -> Choice:
    """Weight of the stresses beside the forces, so that both begin with the same part of the loss.

    Args:
        found: The data.

    Returns:
        A number between 10 and 1,000 Angstrom^4; 100 where stresses or forces are all zero.
    """
    ratio = found.force_square / found.stress_square if found.stress_square > 0 else math.nan
    if not math.isfinite(ratio) or ratio == 0:
        return Choice(100.0, "as usual for crystals")
    return Choice(_round(min(max(ratio, 10.0), 1000.0)), "mean square of the forces over that of the stresses")


def is_intensive(found: Survey, name: str, unit: str) -> Choice:
    """True if a property is that of each atom, rather than one that grows with the number of atoms.

    Args:
        found: The data.
        name: Name of the property.
        unit: Its unit, empty if it is not known.

    Returns:
        ``True`` or ``False``, and why.
    """
    if "per_atom" in name.lower() or "/atom" in unit.replace(" ", ""):
        return Choice(True, "its name or unit says that it is per atom")
    sizes, values = found.gathered.sizes, found.gathered.values(name)
    if len(set(sizes.tolist())) < 2 or np.isfinite(values).sum() < 5:
        return Choice(True, "assumed to be an average over the atoms; sums over them: readout add")
    numbers = [one.numbers for one in found.gathered.all]
    of_sums = float(np.nanvar(of_composition(values, numbers)))
    of_means = float(np.nanvar(of_composition(values * sizes, numbers) / sizes))
    if of_means < of_sums:
        return Choice(True, "an average over the atoms; it does not grow with their number")
    return Choice(False, "a sum over the atoms; it grows with their number")


class Steps(NamedTuple):
    """How long to train.

    Attributes:
        batch_size: Examples in a mini-batch.
        max_steps: Number of steps.
        validate_every: Steps between validations.
        max_time: Limit of time, as Lightning takes it.
        seconds: What it should take on two cores.
    """

    batch_size: int
    max_steps: int
    validate_every: int
    max_time: str
    seconds: float


def steps(num_train: int, edges: float, blocks: int, forces: bool) -> Steps:
    """Choose how long to train for a first result in minutes.

    Args:
        num_train: Number of training examples.
        edges: Typical number of edges of a structure.
        blocks: Number of interaction blocks.
        forces: True if forces are learnt.

    Returns:
        Steps and sizes.
    """
    most = min(32, max(4, num_train // 20), max(1, _MOST_EDGES // max(edges, 1)), num_train)
    batch = 2 ** int(math.log2(most))
    cost = _STEP + _EDGES[forces] * blocks * edges * batch / 1000
    number = min(_SECONDS / cost, 20_000, max(1000, 1000 * num_train / batch))
    number = int(_round(max(number, 200), digits=2))
    every = max(10, number // 20)
    return Steps(batch, number, every, f"00:00:{_AT_MOST // 60:02d}:{_AT_MOST % 60:02d}", min(number * cost, _AT_MOST))


def _round(value: float, digits: int = 1) -> float:
    """A number of so many digits."""
    return float(f"{value:.{digits - 1}e}")
