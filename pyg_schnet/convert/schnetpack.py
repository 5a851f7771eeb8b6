"""SchNetPack's SchNet, versions 0.x, 1 and 2, as ours."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pyg_schnet.convert.safe_pickle import Record, part_of, read_torch, state_of
from pyg_schnet.convert.schnetpack_module import facts_of
from pyg_schnet.convert.weights import check_arguments, fill, need, need_matrix, refuse_rest, to_unit
from pyg_schnet.models.schnet import SchNet

#: Arguments that a state dict does not tell.
ARGUMENTS = ("act", "output_act", "cutoff", "cutoff_function", "readout", "normalization", "trainable_basis")
_WHAT = "SchNetPack's SchNet with one Atomwise output"
_R = "representation."


@dataclass(frozen=True)
class Layout:
    """Where a version of SchNetPack keeps its weights."""

    block: dict[str, str]  #: our layer of a block, theirs
    output: str  #: output network
    basis: str  #: radial basis
    width: str  #: widths of the Gaussians
    cutoff: str  #: module of the cutoff function
    output_act: str  #: default activation of the output network

    @property
    def mark(self) -> str:
        """A weight that only this version has."""
        return f"{_R}interactions.0.{self.block['conv.lin1']}.weight"

    def names(self, num_blocks: int) -> dict[str, str]:
        """Their name of every weight, basis and references excluded, by ours."""
        layers = {"output.lin1": f"{self.output}.0", "output.lin2": f"{self.output}.1"}
        for i in range(num_blocks):
            layers |= {f"interactions.{i}.{our}": f"{_R}interactions.{i}.{their}" for our, their in self.block.items()}
        names = {"embedding.weight": f"{_R}embedding.weight"}
        for our, their in layers.items():
            kinds = ("weight",) if our.endswith("conv.lin1") else ("weight", "bias")
            names |= {f"{our}.{kind}": f"{their}.{kind}" for kind in kinds}
        return names


_FILTER = {"conv.nn.0": "filter_network.0", "conv.nn.2": "filter_network.1"}
VERSION_2 = Layout(
    block={**_FILTER, "conv.lin1": "in2f", "conv.lin2": "f2out.0", "lin": "f2out.1"},
    output="output_modules.0.outnet",
    basis=f"{_R}radial_basis",
    width="widths",
    cutoff=f"{_R}cutoff_fn",
    output_act="silu",
)
VERSION_1 = Layout(
    block={**_FILTER, "conv.lin1": "cfconv.in2f", "conv.lin2": "cfconv.f2out", "lin": "dense"},
    output="output_modules.0.out_net.1.out_net",
    basis=f"{_R}distance_expansion",
    width="width",
    cutoff=f"{_R}interactions.0.cutoff_network",
    output_act="ssp-schnetpack",
)


def from_schnetpack(
    source: nn.Module | Mapping[str, Any] | str | Path,
    *,
    energy_unit: str | None = None,
    source_unit: str | None = None,
    **arguments: Any,
) -> SchNet:
    """A SchNet with the weights of SchNetPack's, of version 2, 1 or 0.x.

    Energies and forces agree to round-off. ``AddOffsets``, ``ScaleProperty`` (version 2), ``standardize`` and
    ``atomref`` (version 1) become references. A state dict does not tell the activations, the readout or, in part, the
    cutoff function; a whole model does, and its file is read without importing or running anything it names.

    Args:
        source: A model, its state dict, or a file of ``torch.save`` with either (also a checkpoint of Lightning).
        energy_unit: Unit to convert energies to, ``None`` to leave them as they are.
        source_unit: Unit the model's energies are in, needed for ``energy_unit`` only.
        **arguments: What a state dict does not tell, as in :class:`~pyg_schnet.SchNet`: ``act`` (default
            ``"ssp-schnetpack"``), ``output_act`` (``"silu"`` for version 2, ``"ssp-schnetpack"`` before),
            ``cutoff_function`` (``"mollifier"`` if it has an ``eps``, else ``"cosine"``; ``None`` for version 0.x's
            hard cutoff), ``readout`` (``"add"``), ``normalization`` (``None``; ``"mean"`` for ``normalize_filter``),
            ``trainable_basis`` (true if the widths differ) and ``cutoff``. What is given here counts.

    Returns:
        The model in the dtype and on the device of the weights; in evaluation mode unless ``source`` is a model.

    Raises:
        TypeError: If an argument is not known or ``source`` is of the wrong kind.
        ValueError: If it is no such model, a weight is missing, or SchNet cannot express it.
        FileNotFoundError: If there is no such file.

    Example:
        >>> from pyg_schnet.convert import to_schnetpack
        >>> state = to_schnetpack(SchNet.preset("schnetpack", num_interactions=2))
        >>> from_schnetpack(dict(state)).config["output_act"]
        'silu'
    """
    check_arguments(arguments, ARGUMENTS, "from_schnetpack")
    state, facts = _read(source)
    model = build(state, facts | arguments)
    if isinstance(source, nn.Module):
        model.train(source.training)
    return to_unit(model, source_unit, energy_unit)


def build(state: Mapping[str, Tensor], arguments: Mapping[str, Any]) -> SchNet:
    """A SchNet from the state dict of SchNetPack's.

    Args:
        state: Tensors by SchNetPack's names.
        arguments: Arguments of SchNet that the state dict does not tell.

    Returns:
        The model in evaluation mode.

    Raises:
        ValueError: If it is no such state dict.
    """
    layout = VERSION_1 if VERSION_1.mark in state else VERSION_2
    need(state, layout.mark, f"{_WHAT} (version 2; {VERSION_1.mark!r} in version 1)")
    blocks = len({name.split(".")[2] for name in state if name.startswith(f"{_R}interactions.")})
    names = layout.names(blocks)
    values = {our: need(state, their, _WHAT).clone() for our, their in names.items()}
    config = _sizes(state, names, blocks) | {"act": "ssp-schnetpack", "output_act": layout.output_act} | dict(arguments)
    config["cutoff"] = _cutoff(state, layout, arguments)
    config.setdefault("cutoff_function", "mollifier" if f"{layout.cutoff}.eps" in state else "cosine")
    basis, basis_names = _basis(state, layout, config, values)
    references, reference_names = _references(state, config["out_channels"])
    used = [*names.values(), *basis_names, *reference_names, f"{layout.cutoff}.cutoff", f"{layout.cutoff}.eps"]
    refuse_rest(state, used, _WHAT)
    if blocks > 1 and all(_same(values, i) for i in range(1, blocks)):
        config["shared_interactions"] = True
        values = {name: value for name, value in values.items() if not _in_later_block(name)}
    model = SchNet(**config).to(state[f"{_R}embedding.weight"])
    fill(model, values | basis, names, _WHAT)
    model.reference.set(*references)
    return model.eval()


def normal(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """A state dict without what its way of saving added: prefixes, and weights listed twice.

    Args:
        state: Tensors by name, perhaps those of Lightning's task.

    Returns:
        Tensors by the names of a model of SchNetPack.
    """
    if any(name.startswith(f"model.{_R}") for name in state):
        state = {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}
    kept: dict[str, Tensor] = {}
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"expected tensors of {_WHAT} by name, got {type(value).__name__} for {name!r}")
        if ".cfconv.filter_network." in name or ".cfconv.cutoff_network." in name:
            continue  # the same module as without `cfconv`
        if ".cutoff_network." in name and not name.startswith(f"{VERSION_1.cutoff}."):
            continue  # the same in every block
        kept[name.replace("output_modules.out_net.", "output_modules.0.out_net.")] = value.detach()
    return kept


def _read(source: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State dict and what the source tells beyond it."""
    content = read_torch(Path(source)) if isinstance(source, str | Path) else source
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if isinstance(content, Mapping):
        facts = getattr(content, "facts", {})  # if it was made by `to_schnetpack`
        return normal(content), {name: facts[name] for name in ARGUMENTS if name in facts}
    if isinstance(content, Record | nn.Module) and part_of(content, "representation") is not None:
        return facts_of(content, normal(state_of(content)))
    kind = type(content).path if isinstance(content, Record) else type(content).__name__
    message = f"expected a model or state dict of SchNetPack, got {kind}"
    raise ValueError(f"{source}: {message}") if isinstance(source, str | Path) else TypeError(message)


def _sizes(state: Mapping[str, Tensor], names: dict[str, str], blocks: int) -> dict[str, Any]:
    first, last = (need_matrix(state, names[f"{name}.weight"], _WHAT) for name in ("embedding", "output.lin2"))
    filters = need_matrix(state, names["interactions.0.conv.nn.0.weight"], _WHAT)
    return {
        "hidden_channels": first.size(1),
        "max_z": first.size(0) - 1,
        "num_filters": filters.size(0),
        "num_gaussians": filters.size(1),
        "num_interactions": blocks,
        "out_channels": last.size(0),
    }


def _cutoff(state: Mapping[str, Tensor], layout: Layout, arguments: Mapping[str, Any]) -> float:
    if "cutoff" in arguments:
        return float(arguments["cutoff"])
    if f"{layout.cutoff}.cutoff" not in state:
        raise ValueError(f"expected '{layout.cutoff}.cutoff', or the cutoff distance as argument `cutoff`")
    return float(state[f"{layout.cutoff}.cutoff"])


def _basis(
    state: Mapping[str, Tensor], layout: Layout, config: dict[str, Any], values: dict[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """Values of the basis and the names they were read from; completes ``config``, rescales the first filter layer."""
    frequencies, offsets, widths = (f"{layout.basis}.{name}" for name in ("freqs", "offsets", layout.width))
    if frequencies in state:
        config["basis"] = "bessel"
        factor = math.sqrt(config["cutoff"] / 2)  # our functions are orthonormal, SchNetPack's have no prefactor
        for name in [name for name in values if name.endswith("conv.nn.0.weight")]:
            values[name] = (values[name].double() * factor).to(values[name])
        return {"basis.frequencies": state[frequencies].double() * config["cutoff"]}, [frequencies]
    centers, width = need(state, offsets, _WHAT), need(state, widths, _WHAT).double().flatten()
    one = bool((width == width[0]).all())
    if not config.setdefault("trainable_basis", not one):
        if not one:
            raise ValueError(f"`trainable_basis=False` needs Gaussians of one width, got {len(width.unique())} widths")
        config["gamma"] = 0.5 / float(width[0]) ** 2
        return {"basis.offset": centers}, [offsets, widths]
    return {"basis.offset": centers, "basis.gamma": (0.5 / width.square()).expand(len(centers))}, [offsets, widths]


def _references(state: Mapping[str, Tensor], channels: int) -> tuple[tuple[Tensor, Tensor, Tensor], list[str]]:
    """Mean, standard deviation and single-atom values: what all steps after the network do together."""
    steps = sorted({int(name.split(".")[1]) for name in state if name.startswith("postprocessors.")})
    prefixes = ["output_modules.0.standardize", "output_modules.0", *(f"postprocessors.{step}" for step in steps)]
    mean, std = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    atomref, used = torch.zeros(1, 1, dtype=torch.float64), []
    for prefix in prefixes:
        found = {
            name: state[f"{prefix}.{name}"].double().cpu()
            for name in ("stddev", "scale", "mean", "atomref", "atomref.weight")
            if f"{prefix}.{name}" in state
        }
        used += [f"{prefix}.{name}" for name in found]
        for name, value in found.items():
            if name in {"stddev", "scale"}:
                std, mean, atomref = std * value, mean * value, atomref * value
            elif name == "mean":
                mean = mean + value
            else:
                atomref = atomref + value.view(value.size(0), -1)
    if (mean.numel() > 1 or atomref.size(1) > 1) and channels == 1:
        raise ValueError(f"expected one offset for the one target of {_WHAT}, got {max(mean.numel(), atomref.size(1))}")
    return (mean.flatten(), std.flatten(), atomref), used


def _same(values: Mapping[str, Tensor], i: int) -> bool:
    first = {name: value for name, value in values.items() if name.startswith("interactions.0.")}
    return all(torch.equal(value, values[f"interactions.{i}.{name[15:]}"]) for name, value in first.items())


def _in_later_block(name: str) -> bool:
    return name.startswith("interactions.") and not name.startswith("interactions.0.")
