"""How PyG's SchNet spells things: taken where it means the same here, else one sentence says what to write instead."""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

#: Targets of QM9 in PyG's order, by the names of :func:`~pyg_schnet.convert.from_pretrained`.
QM9_TARGETS = ("mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "U0", "U", "H", "G", "Cv")
#: A tensor of the state dict of PyG's SchNet and of SchNetPack's, and what converts it.
_FOREIGN = {"distance_expansion.offset": ("PyG's SchNet", "from_pyg")}
#: Arguments that our SchNet does not have, and what is said of them.
_REFUSED = {
    "interaction_graph": (
        "`interaction_graph` is a {kind}, but the model searches all neighbours within its cutoff itself; leave it "
        "out, or pass a graph of your own in the call: model(z, pos, batch, edge_index=edge_index)"
    ),
    "max_num_neighbors": (
        "`max_num_neighbors` is {value}, but every neighbour within the cutoff counts, none is left out; leave it out"
    ),
    "dipole": (
        "`dipole` of PyG's SchNet is readout='dipole_magnitude' here, with charges that add up to zero; for PyG's "
        "charges about the centre of mass, also pass readout_options={{'masses': masses by atomic number}}"
    ),
}


def check_spellings(spellings: Mapping[str, Any], model: Callable[..., Any], cutoff: float) -> None:
    """Take arguments of PyG's SchNet that change nothing, refuse all others.

    Args:
        spellings: Arguments that our SchNet does not have.
        model: Our SchNet, whose signature says which it has.
        cutoff: Cutoff distance in Angstrom.

    Raises:
        TypeError: If one means something else here, or nothing.

    Example:
        >>> check_spellings({"dipole": False, "interaction_graph": None, "max_num_neighbors": None}, dict, 5.0)
        >>> check_spellings({"max_num_neighbors": 32}, dict, 5.0)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        TypeError: `max_num_neighbors` is 32, but every neighbour within the cutoff counts, none is left ...
    """
    for name, value in spellings.items():
        if name not in _REFUSED:
            known = list(inspect.signature(model).parameters)[:-1]
            raise TypeError(f"SchNet has no argument {name!r}; expected one of {', '.join(known)}")
        if value is not None and value is not False and not _is_ours(value, cutoff):
            raise TypeError(_REFUSED[name].format(value=value, kind=type(value).__name__))


def check_state(state: Collection[str]) -> None:
    """Refuse the state dict of another SchNet, of which a part would fit.

    Args:
        state: Names of a state dict.

    Raises:
        ValueError: If it is that of PyG's SchNet.
    """
    for name, (owner, function) in _FOREIGN.items():
        if name in state:
            raise ValueError(
                f"this is the state dict of {owner}, whose weights have other names; convert it: "
                f"model = pyg_schnet.convert.{function}(state)"
            )


def pretrained_name(target: Any) -> str:
    """Our name of a model that PyG numbers.

    Args:
        target: Number of the property of QM9, 0 to 11.

    Returns:
        The name.

    Raises:
        ValueError: If there is none of this number.

    Example:
        >>> pretrained_name(7)
        'qm9-U0'
    """
    if not isinstance(target, int) or not 0 <= target < len(QM9_TARGETS):
        raise ValueError(f"`target` must be the number of a property of QM9 from 0 to 11, got {target!r}")
    return f"qm9-{QM9_TARGETS[target]}"


def _is_ours(graph: Any, cutoff: float) -> bool:
    """True if a graph is the exact one that the model searches anyway."""
    return getattr(graph, "exact", False) and float(graph.cutoff) == float(cutoff)
