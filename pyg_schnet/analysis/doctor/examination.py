"""All checks of a model, one after the other."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch_geometric.data import Batch, Data
from tqdm import tqdm

from pyg_schnet.analysis.doctor import agreement, coverage, derivatives, dynamics, smoothness, symmetries
from pyg_schnet.analysis.doctor.check import Check, Diagnosis, Skipped, worst_of
from pyg_schnet.analysis.doctor.samples import Sample, given_samples, made_samples, rattled
from pyg_schnet.analysis.doctor.subject import Subject

#: Of more structures, so many are examined, evenly spaced.
MOST = 4
#: Checks of one structure, the slightly displaced one.
CHECKS: dict[str, Callable[[Subject, Sample], Check | Skipped]] = {
    "forces": derivatives.check_forces,
    "forces as they come": derivatives.check_forces_as_given,
    "stress": derivatives.check_stress,
    "Hessian": derivatives.check_hessian,
    "translation": symmetries.check_translation,
    "rotation": symmetries.check_rotation,
    "reflection": symmetries.check_reflection,
    "permutation": symmetries.check_permutation,
    "supercell": symmetries.check_supercell,
    "extensivity": symmetries.check_extensivity,
    "graph": smoothness.check_graph,
    "smooth cutoff": smoothness.check_cutoff,
    "smooth path": smoothness.check_path,
    "energy drift": dynamics.check_drift,
    "batch": agreement.check_batch,
    "GPU": agreement.check_gpu,
    "single precision": agreement.check_single,
    "tables": agreement.check_tables,
    "repulsion": coverage.check_repulsion,
}
#: Checks of the model with all structures.
OF_MODEL = ("isolated pairs", "elements", "compositions", "distances")
#: Of these, one structure is enough: they make a cluster of it, add an atom, or take long.
ONCE = {"smooth cutoff", "smooth path", "energy drift"}


def doctor(
    model: Any,
    structures: Data | Sequence[Data] | None = None,
    *,
    training: Sequence[Data] | None = None,
    only: Sequence[str] | None = None,
    progress: bool = True,
) -> Diagnosis:
    """Check that a model is what dynamics, relaxations and batches take it for.

    Forces, stress and Hessian against finite differences; translation, rotation, reflection, permutation, supercell and
    extensivity; the graph, and steps at the cutoff and on the way; drift of the energy; batches, GPU, single precision
    and tables; elements and distances of the training; repulsion. All but what is said to be of the model "as it comes"
    is measured on a copy in float64 with exact filters, and of structures whose atoms are moved by up to 0.03 Angstrom.

    Args:
        model: A model of atoms, a committee, or a potential of either; also of classes of your own.
        structures: Structures with ``z`` and ``pos`` in Angstrom, ``cell`` and ``pbc`` of crystals, of which four are
            taken at most; ``None`` for some of the elements that the model knows.
        training: Structures of the training, whose distances are compared.
        only: Names of the checks to make, those of the report; ``None`` for all.
        progress: True to show a progress bar.

    Returns:
        All checks; print them, ask whether one ``failed``, or write them as JSON.

    Raises:
        TypeError: If ``model`` is none, or the structures are no ``Data``.
        ValueError: If there are no structures, or no such check.

    Example:
        >>> import torch
        >>> from pyg_schnet import SchNet
        >>> water = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
        >>> found = doctor(SchNet(16, 16, 1, cutoff=5.0), water, progress=False)
        >>> found.failed, found["forces"].verdict
        (False, 'PASS')
    """
    chosen = _chosen(only)
    subject = Subject(model)
    known = None if structures is None else given_samples(_listed(structures, "structures"))
    seen = None if training is None else _listed(training, "training")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what is said of elements is a check of its own
        samples = _some(made_samples(subject) if known is None else known)
        moved = [rattled(sample, subject) for sample in samples]
        of_model: dict[str, Callable[[], Check | Skipped]] = {
            "isolated pairs": lambda: coverage.check_isolated_pairs(subject),
            "elements": lambda: coverage.check_known_elements(subject, samples),
            "compositions": lambda: coverage.check_compositions(subject, samples),
            "distances": lambda: coverage.check_distances(subject, samples, seen),
        }
        found = Diagnosis(structures=[sample.name for sample in samples])
        bar = tqdm(chosen, desc="doctor", unit="check", disable=not progress, leave=False)
        for name in bar:
            bar.set_postfix_str(name)
            if name in of_model:
                _add(found, of_model[name]())
            else:
                examined = moved[:1] if name in ONCE else moved
                _add(found, worst_of([_made(name, CHECKS[name], subject, sample) for sample in examined]))
    return found


def _chosen(only: Sequence[str] | None) -> list[str]:
    """Names of checks, in their order."""
    every = [*CHECKS, *OF_MODEL]
    if only is None:
        return every
    only = [only] if isinstance(only, str) else list(only)
    if unknown := [name for name in only if name not in every]:
        raise ValueError(f"there is no check {unknown[0]!r}; expected some of {', '.join(every)}")
    return [name for name in every if name in only]


def _some(samples: list[Sample]) -> list[Sample]:
    """At most four, evenly spaced."""
    if len(samples) <= MOST:
        return samples
    return [samples[round(place * (len(samples) - 1) / (MOST - 1))] for place in range(MOST)]


def _made(
    name: str, check: Callable[[Subject, Sample], Check | Skipped], subject: Subject, sample: Sample
) -> Check | Skipped:
    """The check; what cannot be computed has failed."""
    try:
        return check(subject, sample)
    except (ValueError, TypeError, RuntimeError, IndexError, KeyError, ArithmeticError, AttributeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return Check(name, "FAIL", None, None, f"could not be computed: {reason}", "make it work first", sample.name)


def _add(found: Diagnosis, one: Check | Skipped) -> None:
    if isinstance(one, Check):
        found.checks.append(one)
    else:
        found.skipped.append(one)


def _listed(structures: Any, name: str) -> list[Data]:
    """Single structures, checked."""
    if isinstance(structures, Batch):
        structures = structures.to_data_list()
    listed = [structures] if isinstance(structures, Data) else list(structures)
    if not listed:
        raise ValueError(f"there is no structure in `{name}`; expected at least one")
    for data in listed:
        if not isinstance(data, Data):
            raise TypeError(f"`{name}` must be Data with `z` and `pos`, got {type(data).__name__}")
        if not isinstance(data.get("z"), Tensor) or not isinstance(data.get("pos"), Tensor):
            raise ValueError(f"every structure of `{name}` must have `z` [n] and `pos` [n, 3] in Angstrom")
        if data.pos.numel() == 0 or not bool(data.pos.isfinite().all()):
            raise ValueError(f"every structure of `{name}` must have atoms at finite positions")
    return listed
