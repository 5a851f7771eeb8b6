"""A look at a dataset: sizes, elements, targets and distances (extra ``plot``).

python -m pyg_schnet.analysis.dataset_figure ethanol_xtb --root data --out ethanol_xtb.png
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import InMemoryDataset

from pyg_schnet.analysis.distances import pair_distances
from pyg_schnet.analysis.figure import BLUE, GREY, ORANGE, panel_grid, save_figure
from pyg_schnet.datasets import StructureLoader
from pyg_schnet.datasets.registry import REGISTRY, open_dataset
from pyg_schnet.units import SYMBOLS

_SHOWN_ELEMENTS = 24
_SHOWN_TARGETS = 21
_NO_TARGETS = ("z", "pos", "cell", "pbc", "batch", "ptr", "edge_index", "edge_shift")


def figure_of(dataset: InMemoryDataset, path: str | Path, cutoff: float = 6.0, sample: int = 500) -> Path:
    """Draw sizes of structures, elements, distributions of targets, and distances of pairs of atoms.

    Distances are those within the cutoff, periodic images included, of structures drawn at random with a fixed seed;
    each pair counts once. Targets are drawn one panel each, of tensors all their components together.

    Args:
        dataset: The dataset, or a subset of one.
        path: PNG file to write.
        cutoff: Largest distance in Angstrom.
        sample: Largest number of structures whose distances are counted.

    Returns:
        The path.

    Raises:
        ValueError: If the dataset is empty.
    """
    if len(dataset) == 0:
        raise ValueError("there is no structure to draw; expected at least one")
    counts, elements, targets, total = contents_of(dataset)
    distances = pair_distances(dataset, cutoff, sample)
    names = list(targets)[:_SHOWN_TARGETS]
    count = 3 + len(names)
    figure, panels = panel_grid(count, width=3.6, height=2.9, columns=2 if count == 4 else 3)
    figure.suptitle(_title(dataset, total, len(targets) - len(names)))
    _bars_of_sizes(panels[0], counts)
    _bars_of_elements(panels[1], elements)
    panels[2].hist(distances, bins=120, range=(0, cutoff), color=BLUE)
    panels[2].set(xlabel="distance of two atoms (Å)", ylabel=f"pairs of {min(sample, len(dataset)):,} structures")
    for panel, name in zip(panels[3:], names, strict=True):
        _histogram(panel, targets[name], _label(dataset, name))
    return save_figure(figure, path)


def contents_of(dataset: InMemoryDataset) -> tuple[NDArray, NDArray, dict[str, NDArray], int]:
    """What of a dataset is drawn.

    Args:
        dataset: The dataset, or a subset of one.

    Returns:
        The number of atoms of each structure [B], the number of atoms of each element by atomic number, the known
        values of each target, and the number of atoms in all.
    """
    counts: list[Tensor] = []
    elements = torch.zeros(len(SYMBOLS), dtype=torch.long)
    targets: dict[str, list[Tensor]] = {}
    for batch in StructureLoader(dataset, batch_size=5000):
        counts.append(batch.ptr.diff())
        elements += torch.bincount(batch.z, minlength=len(SYMBOLS))[: len(SYMBOLS)]
        for key, value in batch.to_dict().items():
            if isinstance(value, Tensor) and key not in _NO_TARGETS and value.is_floating_point():
                targets.setdefault(key, []).append(value)
    values = {name: torch.cat(parts) for name, parts in targets.items()}
    sizes = torch.cat(counts).numpy()
    return sizes, elements.numpy(), _columns(dataset, values), int(sizes.sum())


def _columns(dataset: InMemoryDataset, values: dict[str, Tensor]) -> dict[str, NDArray]:
    """Each column of a target that is a vector of a structure, as those of QM9, is a target of its own."""
    names = list(getattr(dataset, "targets", {}))
    found: dict[str, NDArray] = {}
    for name, value in values.items():
        if value.dim() == 2 and len(value) == len(dataset) and value.size(1) > 3:
            columns = names if len(names) == value.size(1) else [f"{name}[{i}]" for i in range(value.size(1))]
            found |= {column: value[:, i].numpy() for i, column in enumerate(columns)}
        else:
            found[name] = value.flatten().numpy()
    return {name: array[np.isfinite(array)] for name, array in found.items()}


def _title(dataset: Any, atoms: int, left_out: int) -> str:
    name = " ".join([type(dataset).__name__, *filter(None, [getattr(dataset, "folder", None)])])
    more = f"; {left_out} more targets not shown" if left_out > 0 else ""
    return f"{name}: {len(dataset):,} structures, {atoms:,} atoms{more}"


def _bars_of_sizes(panel: Any, counts: NDArray) -> None:
    few, many = int(counts.min()), int(counts.max())
    panel.hist(counts, bins=np.linspace(few - 0.5, many + 0.5, min(many - few + 1, 60) + 1), color=BLUE, rwidth=0.9)
    panel.set(xlabel="atoms in a structure", ylabel="structures", xlim=(few - 1.5, many + 1.5))
    panel.xaxis.get_major_locator().set_params(integer=True)


def _bars_of_elements(panel: Any, elements: NDArray) -> None:
    present = np.flatnonzero(elements)
    shown = np.sort(present[np.argsort(-elements[present], kind="stable")][:_SHOWN_ELEMENTS])
    panel.bar([SYMBOLS[number] for number in shown], elements[shown], color=ORANGE)
    more = f" ({_SHOWN_ELEMENTS} most frequent of {len(present)})" if len(present) > len(shown) else ""
    panel.set(xlabel=f"element{more}", ylabel="atoms")
    panel.tick_params(axis="x", labelsize=7 if len(shown) > 10 else 10, rotation=90 if len(shown) > 12 else 0)


def _histogram(panel: Any, values: NDArray, label: str) -> None:
    if len(values) == 0:
        panel.set(xlabel=f"{label}: no values")
        return
    mean, spread = values.mean(dtype=np.float64), values.std(dtype=np.float64)
    panel.hist(values, bins=80, color=GREY)
    panel.set(xlabel=label, ylabel="number", title=f"mean {mean:.4g}, standard deviation {spread:.3g}")
    panel.title.set_fontsize(8)
    panel.ticklabel_format(axis="x", useOffset=False)
    panel.locator_params(axis="x", nbins=4)


def _label(dataset: Any, name: str) -> str:
    units = {**getattr(dataset, "units", {}), **getattr(dataset, "target_units", {})}
    unit = units.get(name.split("[", maxsplit=1)[0], "")
    return f"{name} ({unit.replace('Ang', 'Å')})" if isinstance(unit, str) and unit else name


def main(arguments: list[str] | None = None) -> None:
    """Draw the figure of a dataset.

    Args:
        arguments: Of the command line.
    """
    parser = argparse.ArgumentParser(
        prog="python -m pyg_schnet.analysis.dataset_figure", description="Draw the figure of a dataset."
    )
    parser.add_argument("name", help=f"one of {', '.join(REGISTRY)}")
    parser.add_argument("--root", default="data", help="folder for downloaded and processed files (default: data)")
    parser.add_argument("--source", help="folder with raw files; default: the one that PYG_SCHNET_DATA names")
    parser.add_argument("--out", type=Path, help="PNG file to write (default: <name>.png)")
    options = parser.parse_args(arguments)
    try:
        dataset = open_dataset(options.name, options.root, source=options.source)
        print(figure_of(dataset, options.out or Path(f"{options.name}.png")))
    except (ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
