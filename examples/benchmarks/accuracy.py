"""Errors of energies, forces and gradients of parameters against the distance between the knots of filter tables.

    OMP_NUM_THREADS=1 python examples/benchmarks/accuracy.py --plot results/accuracy.png --json results/accuracy.json
    python examples/benchmarks/accuracy.py --basis pyg --model model.safetensors

Measured by ``pyg_schnet.models.accuracy.table_accuracy`` on a batch of molecules with displaced atoms, against exact
filters in float64: relative errors, norms of differences over norms. Tables are those of training; frozen ones have the
same errors of energies and forces. Spacings are given in widths of the Gaussians, of which a tenth is the default.
"""

import argparse
import importlib.metadata
import json
import platform
import sys
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import Data

from pyg_schnet import SchNet, load
from pyg_schnet.analysis.figure import BLUE, GREY, ORANGE, new_figure, save_figure
from pyg_schnet.datasets import from_smiles
from pyg_schnet.fast.tables import spacing_of
from pyg_schnet.models.accuracy import TableAccuracy, table_accuracy

MOLECULES = ("CC(=O)Oc1ccccc1C(=O)O", "CCO", "Cc1ccccc1", "NC(=O)N", "O")
BASES: dict[str, dict[str, Any]] = {
    "papers": {"num_gaussians": 200, "cutoff": 20.0, "gamma": 10.0, "activate_last": True, "cutoff_function": None},
    "pyg": {"num_gaussians": 50, "cutoff": 10.0},
    "bessel": {"num_gaussians": 20, "cutoff": 5.0, "basis": "bessel"},
}
#: Spacings in tenths of the width of a Gaussian.
SPACINGS = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6)
DTYPES = {"float64": torch.float64, "float32": torch.float32}
#: What the default spacing is meant to keep.
GOALS = {"energy": 1e-6, "forces": 1e-5, "gradients": 1e-4}
NAMES = {"energy": "energies", "forces": "forces", "gradients": "gradients of parameters"}


def structures(smiles: tuple[str, ...], copies: int) -> list[Data]:
    """Molecules with atoms displaced by 0.05 Angstrom, float64."""
    generator, found = torch.Generator().manual_seed(0), []
    for one in smiles:
        molecule = from_smiles(one)
        for _ in range(copies):
            shift = 0.05 * torch.randn(molecule.pos.shape, dtype=torch.float64, generator=generator)
            found.append(Data(z=molecule.z, pos=molecule.pos.double() + shift))
    return found


def model_of(options: argparse.Namespace) -> SchNet:
    """The network, in float32 as it is trained."""
    if options.model:
        model = load(options.model)
        if not isinstance(model, SchNet):
            sys.exit(f"{options.model} holds a {type(model).__name__}; expected a SchNet")
        return model.unfreeze()
    torch.manual_seed(0)
    return SchNet(**BASES[options.basis])


def measure(model: SchNet, data: list[Data], tenths: float, dtype: torch.dtype) -> TableAccuracy:
    """Errors with knots at so many tenths of the width of a Gaussian."""
    other = SchNet(**model.config)
    other.load_state_dict(model.state_dict())
    other.knot_spacing = tenths * spacing_of(model.basis)
    return table_accuracy(other.to(dtype), data)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Errors against spacing, a panel for each dtype."""
    figure, panels = new_figure(columns=2, width=4.6, height=3.8)
    for panel, kind in zip(panels, DTYPES, strict=True):
        draw(panel, [row for row in rows if row["dtype"] == kind])
        panel.set(xlabel="distance between knots (Å)", ylabel="relative error", title=kind)
    limits = [panel.get_ylim() for panel in panels]
    for panel in panels:
        panel.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    panels[0].legend(frameon=False, loc="lower right")
    (line,) = panels[1].plot([], [], ":", color="black")
    panels[1].legend([line], ["exact filters in float32"], frameon=False, loc="lower right")
    save_figure(figure, path)


def draw(panel: Any, rows: list[dict[str, Any]]) -> None:
    """One dtype; without tables its errors are round-off, drawn if there is any."""
    spacing = [row["spacing"] for row in rows]
    for name, colour in zip(GOALS, (BLUE, ORANGE, GREY), strict=True):
        panel.loglog(spacing, [row["tabulated"][name] for row in rows], "o-", color=colour, label=NAMES[name])
        if rows[0]["exact"][name] > 0:
            panel.axhline(rows[0]["exact"][name], color=colour, linestyle=":", linewidth=1)
    default = next(row["spacing"] for row in rows if row["tenths"] == 1.0)
    panel.axvline(default, color="black", linestyle="--", linewidth=0.8)
    place = {"xycoords": ("data", "axes fraction"), "xytext": (-4, 0), "textcoords": "offset points", "ha": "right"}
    panel.annotate("default", (default, 0.96), fontsize="small", **place)


def measure_all(model: SchNet, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Errors for all spacings and dtypes, printed."""
    data, rows = structures(MOLECULES[1:] if options.quick else MOLECULES, options.copies), []
    print(f"{'':8}{'knots':>10}{'tabulated':^32}{'frozen':^32}{'exact':^32}")
    print(f"{'dtype':8}{'(Angstrom)':>10}" + "".join(f"{name:>{11 if name == 'energy' else 10}}" for name in GOALS) * 3)
    for kind, dtype in DTYPES.items():
        for tenths in (0.5, 1.0, 2.0) if options.quick else SPACINGS:
            found = measure(model, data, tenths, dtype)
            errors = {"tabulated": found.tabulated, "frozen": found.frozen, "exact": found.rounding}
            cells = [["-" if error is None else f"{error:.1e}" for error in one] for one in errors.values()]
            line = "".join(f"{energy:>11}{forces:>10}{gradients:>10}" for energy, forces, gradients in cells)
            print(f"{kind:8}{found.spacing:10.4f}{line}", flush=True)
            row: dict[str, Any] = {name: one._asdict() for name, one in errors.items()}
            rows.append({"dtype": kind, "tenths": tenths, "spacing": found.spacing, **row})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--basis", choices=list(BASES), default="papers", help="radial basis of a network at random")
    parser.add_argument("--model", type=Path, help="trained SchNet to measure instead, for organic molecules")
    parser.add_argument("--copies", type=int, default=1, help="copies of each molecule")
    parser.add_argument("--quick", action="store_true", help="three spacings, the small molecules only")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--plot", type=Path, help="PNG file to draw")
    options = parser.parse_args()
    rows = measure_all(model_of(options), options)
    default = next(row["tabulated"] for row in rows if row["tenths"] == 1.0 and row["dtype"] == "float64")
    kept = all(default[name] <= goal for name, goal in GOALS.items())
    print(f"the default spacing {'keeps' if kept else 'misses'} {GOALS} in float64")
    if options.plot:
        plot(rows, options.plot)
    if options.json:
        machine = {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}
        versions = {name: importlib.metadata.version(name) for name in ("torch", "torch_geometric", "numba")}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        facts = {"machine": machine, "versions": versions, "model": str(options.model or options.basis), "rows": rows}
        options.json.write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
