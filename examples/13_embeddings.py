"""Does a network trained on formation energies know the periodic table? The embeddings of its elements.

    python examples/13_embeddings.py

Draws the first two principal components of the embeddings of the s and p elements, coloured by group (figure 4 of the
paper), and prints what the eye would judge as numbers, each beside what chance gives: the share of the variance in the
plane, how far groups are apart, how far they are ordered by period, and the nearest elements. Groups should be apart by
more than chance has them, in the whole space more clearly than in the plane; order should be seen in some of them.
Noble gases, of which there are few atoms, hardly moved from where chance put them: ``--least 1000`` leaves them out.
The others have not moved far, either: ``--start 0`` takes off where the training began, at embeddings of seed 0, and
shows what it has learned alone: metals on one side, the alkali metals in order.
"""

import argparse
import sys
from pathlib import Path

from pyg_schnet import load
from pyg_schnet.analysis import (
    draw_embeddings,
    embedding_map,
    group_separation,
    nearest_elements,
    order_within_groups,
    untrained,
    variance_by_chance,
)
from pyg_schnet.analysis.embeddings.periodic_table import group_name
from pyg_schnet.analysis.figure import save_figure
from pyg_schnet.units import SYMBOLS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model of many elements (default: the bundled one of the Materials Project)")
    parser.add_argument("--elements", nargs="+", help="symbols (default: s and p elements that it was trained on)")
    parser.add_argument("--least", type=int, default=1, help="leave out elements with fewer atoms in the training set")
    parser.add_argument("--start", type=int, metavar="SEED", help="look at what was learned since this seed")
    parser.add_argument("--permutations", type=int, default=1000, help="random permutations to compare with")
    parser.add_argument("--out", type=Path, default=Path("results/embeddings.png"))
    args = parser.parse_args()
    model = load(args.model or "materials-formation-energy")
    start = None if args.start is None else untrained(model, args.start)
    found = embedding_map(model, args.elements, least=args.least, start=start)
    print(save_figure(draw_embeddings(found).figure, args.out))

    plane, chance = (float(shares[:2].sum()) for shares in (found.explained_variance_ratio, variance_by_chance(found)))
    print(f"{len(found.elements)} elements; variance in the plane {100 * plane:.1f} %, by chance {100 * chance:.1f} %")
    apart = group_separation(found, args.permutations)
    print("\nseparation of groups                   found   by chance         p")
    for what, value, random, p_value in (
        ("silhouette in the whole space", apart.silhouette, apart.random_silhouette, apart.p_value),
        ("silhouette in the plane", apart.plane, apart.random_plane, apart.plane_p_value),
        ("nearest element of the same group", apart.neighbours, apart.random_neighbours, apart.neighbours_p_value),
    ):
        print(f"  {what:34} {value:7.3f} {random:11.3f} {p_value:9.4f}")

    order = order_within_groups(found, 10 * args.permutations)
    print("\norder within groups (rank correlation with the period)")
    print("           along the first component         p   along the group's own direction         p")
    for one in order.groups:
        symbols = " ".join(SYMBOLS[number] for number in one.elements.tolist())
        print(f"  {group_name(one.group):6} {one.rho:27.2f} {one.p_value:9.3f} {one.own_rho:33.2f}", end="")
        print(f" {one.own_p_value:9.3f}   {symbols}")
    print(
        f"  mean   {order.mean_rho:27.2f} {order.p_value:9.4f} {order.mean_own_rho:33.2f} {order.own_p_value:9.4f}",
        end="",
    )
    print(f"   (by chance 0.00 and {order.random_own_rho:.2f})")

    count = min(3, len(found.elements) - 1)
    print("\nnearest elements")
    for symbol, row in zip(found.symbols, nearest_elements(found, count).elements.tolist(), strict=True):
        print(f"  {symbol:3} {' '.join(SYMBOLS[number] for number in row)}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
