"""Checks that other ways to the same prediction agree: in a batch, on a GPU, in single precision, from tables."""

import copy
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from pyg_schnet.analysis.doctor.check import Check, Skipped, judged, larger
from pyg_schnet.analysis.doctor.derivatives import largest
from pyg_schnet.analysis.doctor.samples import Sample, with_positions
from pyg_schnet.analysis.doctor.subject import Evaluator, Subject
from pyg_schnet.fast.tabulated import TabulatedFilters


def _predicted(subject: Subject, evaluator: Evaluator, data: Data) -> list[Tensor]:
    """Values [B, C] and, where there are any, forces [N, 3]."""
    if subject.no_forces:
        return [evaluator.values(data)]
    energy, forces = evaluator.both(data)
    return [energy.unsqueeze(1), forces]


def _apart(subject: Subject, sample: Sample, first: list[Tensor], second: list[Tensor]) -> float:
    """Largest relative difference: of values less references, and of forces."""
    depth = max(float(subject.residual(subject.exact, sample.data).abs().max()), 1e-6)
    if len(first) == 2:
        depth = max(depth, largest(first[1]))
    error = float((first[0] - second[0]).abs().max()) / depth
    if len(first) == 2:
        error = larger(error, float((first[1] - second[1]).abs().max()) / largest(first[1]))
    return error


def check_batch(subject: Subject, sample: Sample) -> Check:
    """A structure alone, and in a batch beside others of other sizes."""
    data = sample.data
    generator = torch.Generator().manual_seed(8)
    moved = with_positions(data, data.pos + 0.1 * torch.randn(data.pos.shape, generator=generator, dtype=torch.float64))
    few = max(1, data.z.numel() // 2)
    part = with_positions(data, data.pos[:few])
    part.z = data.z[:few]
    alone = [_predicted(subject, subject.exact, one) for one in (data, moved, part)]
    together = _predicted(subject, subject.exact, Batch.from_data_list([data, moved, part]))
    expected = [torch.cat(parts) for parts in zip(*alone, strict=True)]
    return judged(
        "batch",
        _apart(subject, sample, expected, together),
        1e-9,
        "relative difference of three structures in a batch and each by itself, float64",
        "no sum, mean, norm or largest value over atoms of other structures: reduce with `batch`; no batch statistics",
        structure=sample.name,
    )


def check_single(subject: Subject, sample: Sample) -> Check:
    """Single against double precision, filters evaluated."""
    dtype = torch.float32 if subject.dtype == torch.float64 else subject.dtype
    module = copy.deepcopy(subject.exact.module).to(dtype)
    single = Evaluator(module, dtype, subject.exact.device)
    data = sample.data
    # the same positions to the last digit for both
    data = with_positions(data, data.pos.to(dtype).double())
    if data.get("cell") is not None:
        data.cell = data.cell.to(dtype).double()
    one, other = (_predicted(subject, evaluator, data) for evaluator in (subject.exact, single))
    return judged(
        "single precision",
        _apart(subject, sample._replace(data=data), one, other),
        1e-4,
        f"relative difference of {str(dtype)[6:]} and float64, energies less references, exact filters",
        "compute in float32 or float64 throughout, add references in float64; else run the model in float64",
        structure=sample.name,
        tolerated=1e-2,
        worst="WARN" if dtype.itemsize < 4 else "FAIL",
    )


def check_tables(subject: Subject, sample: Sample) -> Check | Skipped:
    """Frozen tables, those of the model if it has some, against filters that are evaluated."""
    if not all(isinstance(member, TabulatedFilters) for member in subject.members):
        return Skipped("tables", "the model makes no tables of its filters")
    module: Any = copy.deepcopy(subject.given.module)
    network = module.model if hasattr(module, "model") else module
    kept = all(member.frozen for member in subject.members)
    try:
        for member in network.members if hasattr(network, "members") else [network]:
            if not member.frozen:
                member.freeze()
    except ValueError as error:
        return Skipped("tables", str(error))
    tables = Evaluator(module, subject.dtype, subject.given.device)
    data = with_positions(sample.data, sample.data.pos.to(subject.dtype).double())
    if data.get("cell") is not None:
        data.cell = data.cell.to(subject.dtype).double()
    one, other = (_predicted(subject, evaluator, data) for evaluator in (subject.exact, tables))
    return judged(
        "tables",
        _apart(subject, sample._replace(data=data), one, other),
        1e-4,
        f"relative difference of {'its' if kept else 'new'} frozen tables, {str(subject.dtype)[6:]}, and exact filters",
        "freeze() the model again after its weights have changed, with a smaller knot_spacing if that does not help",
        structure=sample.name,
        tolerated=1e-3,
    )


def check_gpu(subject: Subject, sample: Sample) -> Check | Skipped:
    """The same in double precision on a CPU and on a GPU."""
    if not torch.cuda.is_available():
        return Skipped("GPU", "there is none here; CPU alone")
    places = [torch.device("cpu"), torch.device("cuda")]
    evaluators = [Evaluator(copy.deepcopy(subject.exact.module).to(one), torch.float64, one) for one in places]
    here, there = (_predicted(subject, evaluator, sample.data) for evaluator in evaluators)
    return judged(
        "GPU",
        _apart(subject, sample, here, there),
        1e-9,
        "relative difference of CPU and GPU, float64",
        "put every tensor that the network makes on the device of its input; compare with fast.exactly()",
        structure=sample.name,
    )
