"""What a whole model of SchNetPack tells beyond its weights."""

from typing import Any

from torch import Tensor

from pyg_schnet.convert.safe_pickle import name_of, part_of

_ACTIVATIONS = {
    "shifted_softplus": "ssp-schnetpack",
    "silu": "silu",
    "SiLU": "silu",
    "tanh": "tanh",
    "Tanh": "tanh",
    "softplus": "softplus",
    "Softplus": "softplus",
    "gelu": "gelu",
    "GELU": "gelu",
}
_CUTOFFS = {"CosineCutoff": "cosine", "MollifierCutoff": "mollifier", "HardCutoff": None, "NoneType": None}
_BASES = ("GaussianRBF", "GaussianRBFCentered", "BesselRBF", "GaussianSmearing")
_READOUTS = {"sum": "add", "avg": "mean"}
_NOT_OF_DIPOLES = ("output_modules.0.standardize.", "output_modules.0.atomref.")


def facts_of(model: Any, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Activations, cutoff function, readout and normalisation of a model.

    Args:
        model: A model of SchNetPack, or its record.
        state: Its state dict.

    Returns:
        The state dict without offsets that the model does not apply, and arguments of :class:`~pyg_schnet.SchNet`.

    Raises:
        ValueError: If the model has a part that SchNet does not.
    """
    kind = name_of(part_of(model, "representation"))
    if kind != "SchNet":
        raise ValueError(f"expected a model with SchNetPack's SchNet representation, got {kind}")
    output = part_of(model, "output_modules.0")
    output = part_of(model, "output_modules") if output is None else output  # a single one, in version 0.x
    version_2 = part_of(model, "representation.radial_basis") is not None
    known = ("Atomwise", "Energy") if version_2 else ("Atomwise", "Energy", "DipoleMoment")
    if _known("output", output, known) == "DipoleMoment":  # of charges alone: the others are stored, not applied
        state = {name: value for name, value in state.items() if not name.startswith(_NOT_OF_DIPOLES)}
    facts = _facts_2(model, output) if version_2 else _facts_1(model, output)
    basis = "radial_basis" if version_2 else "distance_expansion"
    if "offsets" in (part_of(model, f"representation.{basis}._parameters") or {}):
        facts["trainable_basis"] = True
    return _postprocessed(model, state, facts["readout"]), facts


def _facts_2(model: Any, output: Any) -> dict[str, Any]:
    mode = part_of(output, "aggregation_mode")
    if mode not in _READOUTS:
        raise ValueError(f"expected `aggregation_mode` 'sum' or 'avg' of the Atomwise output, got {mode!r}")
    _known("radial basis", part_of(model, "representation.radial_basis"), _BASES)
    return {
        "readout": _READOUTS[mode],
        "cutoff_function": _CUTOFFS[_known("cutoff", part_of(model, "representation.cutoff_fn"), _CUTOFFS)],
        "act": _activation(part_of(model, "representation.interactions.0.filter_network.0.activation")),
        "output_act": _activation(part_of(output, "outnet.0.activation")),
    }


def _facts_1(model: Any, output: Any) -> dict[str, Any]:
    pool, block = part_of(output, "atom_pool"), part_of(model, "representation.interactions.0")
    if part_of(model, "representation.distance_expansion.centered"):
        raise ValueError("expected Gaussians with centres, got SchNetPack's `centered=True`")
    readout = "max" if name_of(pool) == "MaxAggregate" else "mean" if part_of(pool, "average") else "add"
    _known("pooling", pool, ("Aggregate", "MaxAggregate"))
    if readout == "max" and part_of(output, "atomref") is not None:
        raise ValueError("expected a sum or mean over atoms with single-atom references, got a maximum")
    options = None
    if name_of(output) == "DipoleMoment":
        readout = "dipole" if part_of(output, "predict_magnitude") is False else "dipole_magnitude"
        options = {"masses": _masses()}
    return {
        "readout": readout,
        "readout_options": options,
        "cutoff_function": _CUTOFFS[_known("cutoff", part_of(block, "cutoff_network"), _CUTOFFS)],
        "act": _activation(part_of(block, "filter_network.0.activation")),
        "output_act": _activation(part_of(output, "out_net.1.out_net.0.activation")),
        "normalization": "mean" if part_of(block, "cfconv.agg.average") else None,
    }


def _masses() -> list[float]:
    """ASE's masses: the data sets of SchNetPack before version 2 put the centre of mass at the origin."""
    try:
        from ase.data import atomic_masses  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(
            'dipole moments need the masses of ASE; install it with pip install "pyg_schnet[md]"'
        ) from error
    return atomic_masses.tolist()


def _postprocessed(model: Any, state: dict[str, Tensor], readout: str) -> dict[str, Tensor]:
    """The state dict without offsets that are stored but not applied."""
    dropped: list[str] = []
    for name, step in (part_of(model, "postprocessors._modules") or {}).items():
        prefix = f"postprocessors.{name}"
        if part_of(model, "do_postprocessing") is False:
            dropped += [each for each in state if each.startswith(f"{prefix}.")]
        elif _known("postprocessor", step, ("AddOffsets", "ScaleProperty", "CastTo32", "CastTo64")) == "AddOffsets":
            dropped += [f"{prefix}.mean"] if not part_of(step, "add_mean") else []
            dropped += [f"{prefix}.atomref"] if not part_of(step, "add_atomrefs") else []
            if part_of(step, "is_extensive") is not (readout == "add"):
                raise ValueError(
                    f"expected `is_extensive={readout == 'add'}` of AddOffsets beside a readout {readout!r}, "
                    "got the other"
                )
    return {name: value for name, value in state.items() if name not in dropped}


def _known(what: str, part: Any, known: Any) -> str:
    name = name_of(part)
    if name not in known:
        raise ValueError(f"expected as {what} of SchNetPack's SchNet one of {', '.join(known)}, got {name}")
    return name


def _activation(function: Any) -> str:
    return _ACTIVATIONS[_known("activation", function, _ACTIVATIONS)]
