"""What every simulation needs of a model: its potential, the unit of its energies, elements that it knows."""

import copy
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pyg_schnet.models import Committee, CommitteePotential, Potential, load
from pyg_schnet.models.atomistic import check_unit
from pyg_schnet.models.charges import Electrons
from pyg_schnet.models.elements import check_elements
from pyg_schnet.models.model_folder import elements_in_words
from pyg_schnet.models.recordable import members_of
from pyg_schnet.simulation.freezing import frozen_copy
from pyg_schnet.units import ENERGY, SYMBOLS, target_unit


def potential_of(model: Any) -> Potential | CommitteePotential:
    """The potential of whatever a simulation takes.

    Args:
        model: A model of energies, a committee, a potential of either; or what :func:`pyg_schnet.load` reads: a path,
            a name, an address in the Hugging Face hub.

    Returns:
        The potential.

    Raises:
        TypeError: If it is none of these.
        ValueError: If it predicts anything else than an energy, or cannot be read.
    """
    if isinstance(model, (str, Path)):
        model = load(model)
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a SchNet, a Potential, a Committee or a path, got {type(model).__name__}")
    if isinstance(model, (Potential, CommitteePotential)):
        return model
    return CommitteePotential(model) if isinstance(model, Committee) else Potential(model)


def own_potential(
    given: Potential | CommitteePotential,
    device: str | torch.device,
    dtype: torch.dtype | None,
    frozen: bool | None,
    only_usual: bool = False,
) -> Any:
    """A copy of a potential for a simulation, its models frozen where that is worth it.

    Args:
        given: The potential; one of another kind, whose forces may be its own, stays of that kind.
        device: Where to put the copy.
        dtype: Floating-point type to evaluate in; ``None`` for the model's own.
        frozen: True if filters are read from tables; ``None`` for: in float32 on a CPU, and where they already are.
        only_usual: True to refuse potentials of another kind.

    Returns:
        The copy, in evaluation mode.

    Raises:
        TypeError: If the potential is of another kind and that is refused.
        ValueError: As :func:`~pyg_schnet.simulation.freezing.frozen_copy`.
    """
    copied = frozen_copy(given.model, device, dtype, frozen)
    if type(given) in {Potential, CommitteePotential}:
        return potential_of(copied).eval()
    if only_usual:
        raise TypeError(
            f"a {type(given).__name__} may have forces of its own, which are not known here; pass its model, for the "
            "forces of a Potential"
        )
    own = copy.deepcopy(given).eval()
    own.model = copied
    return own


def asked(potential: Any, *atoms: Tensor, **options: Any) -> dict[str, Tensor]:
    """What a potential says of structures, a user's own with those options that it takes.

    Args:
        potential: The potential.
        *atoms: Atomic numbers [N], positions [N, 3] and, for several structures, the structure of each atom [N].
        **options: Of :meth:`pyg_schnet.Potential.forward`: ``cell`` and ``pbc``, which a potential must take, and
            ``stress``, ``virials`` and ``batch_size``, which it need not.

    Returns:
        ``energy`` [B], ``forces`` [N, 3] and whatever else it returns.

    Raises:
        TypeError: If it does not take what it must.
    """
    if type(potential) not in {Potential, CommitteePotential}:
        signature = inspect.signature(potential.forward)
        if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in signature.parameters.values()):
            left_out = {"stress", "virials", "batch_size"} - signature.parameters.keys()
            options = {name: value for name, value in options.items() if name not in left_out}
        try:
            signature.bind(*atoms, **options)
        except TypeError as error:
            words = ["z", "pos", "batch"][: len(atoms)] + [f"{name}=..." for name in options]
            raise TypeError(
                f"the forward of {type(potential).__name__} cannot be called with ({', '.join(words)}): {error}; give "
                "it these arguments, as Potential.forward has them, or `*atoms, **options`"
            ) from None
    found: dict[str, Tensor] = potential(*atoms, **options)
    return found


def first_of(potential: Potential | CommitteePotential) -> Any:
    """The model of a potential, or the first one of a committee."""
    return potential.model[0] if isinstance(potential, CommitteePotential) else potential.model


def energy_unit_of(potential: Potential | CommitteePotential, energy_unit: str | None = None) -> str:
    """The unit of the energies of a potential.

    Args:
        potential: The potential.
        energy_unit: The unit, if it is known better than by the model.

    Returns:
        That given, else what the model or its file says, else eV.

    Raises:
        ValueError: If the model predicts a mean over the atoms, whose derivatives are no forces, or the unit is none
            of energy, or another than that of its repulsion.
    """
    bare = first_of(potential)
    if bare.config["readout"] == "mean":
        raise ValueError("`model` has readout='mean' and predicts an energy per atom; dynamics need readout='add'")
    unit = energy_unit or target_unit(bare.units) or "eV"
    if unit not in ENERGY:
        raise ValueError(f"`energy_unit` must be one of {', '.join(ENERGY)}, got {unit!r}")
    for member in members_of(potential.model):
        check_unit(member, unit)
    return unit


def checked_dtype(dtype: Any) -> torch.dtype | None:
    """The floating-point type to evaluate in.

    Args:
        dtype: What was asked for.

    Returns:
        The same.

    Raises:
        ValueError: If it is neither ``None`` nor float32 or float64.
    """
    if dtype not in {None, torch.float32, torch.float64}:
        raise ValueError(f"`dtype` must be torch.float32 or torch.float64, got {dtype}")
    return dtype


def check_numbers(
    potential: Potential | CommitteePotential,
    numbers: Tensor,
    batch: Tensor | None = None,
    strict: bool = False,
    said: Sequence[Mapping[str, float]] = (),
) -> None:
    """Look at the elements and charges of structures before the first step.

    Args:
        potential: The potential.
        numbers: Atomic numbers [N] on the CPU.
        batch: Structure of each atom [N].
        strict: True if elements and charges that no training example had are refused instead of warned of.
        said: The ``charge`` and ``multiplicity`` that each structure says.

    Raises:
        ValueError: If one is not known to the model at all, or ``strict`` and none was trained on.
    """
    largest = first_of(potential).embedding.weight.size(0) - 1
    wrong = (numbers < 1) | (numbers > largest)
    if wrong.any():
        atom = int(wrong.nonzero()[0])
        number = int(numbers[atom])
        name = SYMBOLS[number] if 0 <= number < len(SYMBOLS) else "?"
        known, remedy = f"elements from 1 to {largest}", "take a model of this element"
        if potential.model.elements:
            known = elements_in_words(potential.model.elements) + ", on which the model was trained"
        if number < 1:
            remedy = "set its number or remove it"
        raise ValueError(f"atom {atom} is {name!r} with the atomic number {number}; expected {known}: {remedy}")
    check_elements(potential.model, numbers, strict, batch, electrons_of(said))


def electrons_of(said: Sequence[Mapping[str, float]]) -> Electrons | None:
    """What structures say of their electrons.

    Args:
        said: ``charge`` and ``multiplicity`` of each structure, those that it says.

    Returns:
        The same for all of them; ``None`` if none says anything.
    """
    if not any(said):
        return None
    charge, multiplicity = (
        torch.tensor([one.get(name, torch.nan) for one in said], dtype=torch.float64)
        for name in ("charge", "multiplicity")
    )
    return Electrons(charge, multiplicity - 1)
