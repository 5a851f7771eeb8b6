"""Time of a training step on energies and forces: tabulated filters against exact ones and against PyG's SchNet.

    OMP_NUM_THREADS=1 python examples/benchmarks/force_training.py
    python examples/benchmarks/force_training.py --cases aspirin --repeats 20 --json results/force_training.json
    python examples/benchmarks/force_training.py --flush           # see below
    python examples/benchmarks/force_training.py --profile         # where the time of the tabulated step goes

A step is: search of the neighbours, energies, forces, the papers' loss and its gradients with respect to all
parameters; no optimizer. All models have the same weights and see the same edges. Steps of all of them take turns, the
best of each counts. Accuracy is that against the exact model in float64: of energies relative to their mean size, of
forces relative to their root mean square, of gradients relative to the norm. No times are given where results disagree.

PyG's Gaussians far from a distance are denormal numbers, with which processors compute some ten times slower; ours are
zero. ``--flush`` tells the processor to take denormal numbers as zero, which helps PyG only.
"""

import argparse
import importlib.metadata
import json
import math
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn.models.schnet import ShiftedSoftplus

from pyg_schnet import Potential, SchNet
from pyg_schnet.datasets import from_smiles
from pyg_schnet.models.convert import to_pyg
from pyg_schnet.ops import gradient
from pyg_schnet.training import energy_forces_loss

#: Molecule, arguments of the model. The papers' network, and PyG's with the papers' basis.
PAPERS = {"num_gaussians": 200, "cutoff": 20.0, "gamma": 10.0, "activate_last": True, "cutoff_function": None}
COSINE = PAPERS | {"activate_last": False, "cutoff_function": "cosine"}
ASPIRIN, ETHANOL = "CC(=O)Oc1ccccc1C(=O)O", "CCO"
LARGE = {"hidden_channels": 128, "num_filters": 128, "num_interactions": 6}
SMALL = {"hidden_channels": 64, "num_filters": 64, "num_interactions": 3}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "aspirin": (ASPIRIN, LARGE | PAPERS),
    "ethanol": (ETHANOL, SMALL | PAPERS),
    "aspirin, cosine cutoff": (ASPIRIN, LARGE | COSINE),
    "ethanol, cosine cutoff": (ETHANOL, SMALL | COSINE),
}
#: Largest errors with which times are given: those of float32, and what tables may add.
LIMITS = {"energy": 1e-5, "forces": 1e-4, "gradients": 1e-3}
Batch = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def batch_of(smiles: str, count: int, dtype: torch.dtype) -> Batch:
    """Copies of a molecule with atoms displaced by 0.05 Angstrom, and energies and forces to learn."""
    molecule, generator = from_smiles(smiles), torch.Generator().manual_seed(0)
    atoms = len(molecule.z)
    pos = molecule.pos.double().repeat(count, 1)
    pos = pos + 0.05 * torch.randn(pos.shape, dtype=torch.float64, generator=generator)
    energy = torch.randn(count, dtype=torch.float64, generator=generator)
    forces = torch.randn(pos.shape, dtype=torch.float64, generator=generator)
    batch = torch.arange(count).repeat_interleave(atoms)
    return molecule.z.repeat(count), pos.to(dtype), batch, energy.to(dtype), forces.to(dtype)


def step_of(model: nn.Module, batch: Batch) -> Callable[[], dict[str, Tensor]]:
    """A training step, returning energies, forces and gradients."""
    z, pos, index, energy_target, forces_target = batch
    ours = Potential(model.train()) if isinstance(model, SchNet) else None

    def step() -> dict[str, Tensor]:
        model.zero_grad(set_to_none=True)
        if ours is not None:
            out = ours(z, pos, index)
            energy, forces = out["energy"], out["forces"]
        else:
            moving = pos.detach().requires_grad_()
            energy = model(z, moving, index).squeeze(-1)
            forces = -gradient(energy, moving, create_graph=True)
        loss = energy_forces_loss(energy, forces, energy_target, forces_target, index, rho=0.01)
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        slopes = torch.autograd.grad(loss, weights, allow_unused=True)
        flat = [torch.zeros_like(w) if g is None else g for w, g in zip(weights, slopes, strict=True)]
        return {
            "energy": energy.detach(),
            "forces": forces.detach(),
            "gradients": torch.cat([g.flatten() for g in flat]),
        }

    return step


def pyg_of(model: SchNet) -> nn.Module:
    """PyG's SchNet with the weights; the papers' has no cutoff function and activates twice."""
    like = {"cutoff_function": "cosine", "activate_last": False}
    cosine = SchNet(**(model.config | like)).to(model.embedding.weight)
    cosine.load_state_dict(model.state_dict())
    theirs = to_pyg(cosine)
    for block in theirs.interactions:
        if model.config["cutoff_function"] is None:
            block.conv.cutoff = math.inf  # the cosine of zero is one
        if model.config["activate_last"]:
            block.mlp.append(ShiftedSoftplus())
    return theirs


def errors(result: dict[str, Tensor], reference: dict[str, Tensor]) -> dict[str, float]:
    """Relative errors; gradients are compared in ascending order, because PyG's parameters stand in another one."""
    off = {}
    for name, value in reference.items():
        found = result[name].double()
        difference = found - value if name != "gradients" else found.sort()[0] - value.sort()[0]
        off[name] = float(difference.square().mean().sqrt() / value.square().mean().sqrt())
    return off


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Time the steps of one case; exits if they do not agree."""
    smiles, arguments = CASES[name]
    torch.manual_seed(0)
    config: dict[str, Any] = {"act": "ssp-pyg", "max_z": 99, **arguments}
    exact = SchNet(**config)
    tabulated = SchNet(**config, filters="table")
    tabulated.load_state_dict(exact.state_dict())
    precise = SchNet(**config).double()
    precise.load_state_dict(exact.state_dict())
    batch = batch_of(smiles, options.count, torch.float32)
    wide = tuple(part.double() if part.is_floating_point() else part for part in batch)
    reference = step_of(precise, wide)()
    ours = step_of(tabulated, batch)
    steps = {"tabulated": ours, "exact": step_of(exact, batch), "pyg": step_of(pyg_of(exact), batch)}
    off = {key: errors(step(), reference) for key, step in steps.items()}
    if any(error > LIMITS[kind] for found in off.values() for kind, error in found.items()):
        sys.exit(f"{name}: no times, because the results disagree: {off}")
    times = dict.fromkeys(steps, math.inf)
    for _ in range(options.repeats):
        for key, step in steps.items():
            start = time.perf_counter()
            step()
            times[key] = min(times[key], time.perf_counter() - start)
    ratios = {key: value / times["tabulated"] for key, value in times.items()}
    print(f"{options.count} x {name}")
    for key, found in off.items():
        error = "  ".join(f"{kind} {value:.1e}" for kind, value in found.items())
        print(f"  {key:10} {1e3 * times[key]:9.1f} ms  {ratios[key]:6.2f} x  errors: {error}", flush=True)
    if options.profile:
        profile(ours)
    return {"case": name, "atoms": len(batch[0]), "seconds": times, "ratio to tabulated": ratios, "errors": off}


def profile(step: Callable[[], Any]) -> None:
    with torch.profiler.profile() as profiler:
        step()
    print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=40))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES), help="molecules and models")
    parser.add_argument("--count", type=int, default=32, help="molecules in a batch")
    parser.add_argument("--repeats", type=int, default=10, help="steps of each model")
    parser.add_argument("--flush", action="store_true", help="take denormal numbers as zero")
    parser.add_argument("--profile", action="store_true", help="show where the time of the tabulated step goes")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    torch.set_flush_denormal(options.flush)
    rows = [measure(name, options) for name in options.cases]
    machine = {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
    machine["denormal numbers"] = "flushed" if options.flush else "kept"
    versions = {name: importlib.metadata.version(name) for name in ("torch", "torch_geometric", "numba")}
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"machine": machine, "versions": versions, "cases": rows}, indent=1))


if __name__ == "__main__":
    main()
