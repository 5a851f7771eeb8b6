"""What filter-generating networks have learned: filters over the distance, and cuts through space.

    python examples/12_filters.py

Draws three figures from bundled models into results/filters:

- ``curves.png``: the filters of each block of a model of ethanol, with the distances in ethanol beneath. Where there
  are no distances, a filter is whatever smoothness makes of it.
- ``cuts.png``: filters of a model of crystals around a single atom, summed over the images of diamond's cubic cell and
  of graphite's hexagonal one (figure 2 of the paper): circles, then the symmetry of either lattice.
- ``all.png``: all filters of each block of the ethanol model, 10 Å x 10 Å, negative blue, positive red (figure 3 of the
  first paper).
"""

import argparse
import sys
from pathlib import Path

import torch
from tqdm import tqdm

from pyg_schnet import load
from pyg_schnet.analysis import draw_all_filters, draw_filter_cuts, draw_filters, filter_curves, filter_cut
from pyg_schnet.analysis.figure import panel_grid, save_figure
from pyg_schnet.datasets import MD17

DIAMOND = 3.567 * torch.eye(3)
GRAPHITE = torch.tensor([[2.46, 0.0, 0.0], [-1.23, 2.1304, 0.0], [0.0, 0.0, 6.7]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", help="a model of molecules (default: the bundled one of ethanol)")
    parser.add_argument("--crystals", help="a model of crystals (default: the bundled one of the Materials Project)")
    parser.add_argument("--block", type=int, default=0, help="block of the cuts in crystals")
    parser.add_argument("--resolution", type=int, default=81, help="places along a side of a cut")
    parser.add_argument("--out", type=Path, default=Path("results/filters"), help="folder of the figures")
    args = parser.parse_args()
    molecules = load(args.molecules or "md17-ethanol")
    crystals = load(args.crystals or "materials-formation-energy")

    ethanol = MD17(args.out / "data", "ethanol_xtb")
    print(save_figure(draw_filters(molecules, ethanol, sample=200), args.out / "curves.png"))

    surroundings = {"single atom": None, "diamond": DIAMOND, "graphite": GRAPHITE}
    sizes = {"block": args.block, "resolution": args.resolution}
    cuts = {name: filter_cut(crystals, cell, **sizes, progress=True) for name, cell in surroundings.items()}
    print(save_figure(draw_filter_cuts(cuts), args.out / "cuts.png"))
    for name, cut in cuts.items():
        quarter = (cut.values - cut.values.rot90(1, (0, 1))).abs().mean() / cut.values.abs().mean()
        print(f"{name:12} {cut.images:4} lattice vectors, turned by 90 degrees it differs by {100 * quarter:.0f} %")

    blocks = len(filter_curves(molecules, [1.0]).values)
    figure, panels = panel_grid(blocks, 4.8, 4.0, columns=min(blocks, 3))
    figure.get_layout_engine().set(wspace=0.06)
    for block, panel in enumerate(tqdm(panels, "blocks", leave=False)):
        draw_all_filters(filter_cut(molecules, block=block, width=10.0, resolution=args.resolution), panel)
        panel.set_title(f"block {block + 1}")
    print(save_figure(figure, args.out / "all.png"))


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
