"""Cost of energies and forces against atoms, neighbours and features: what is varied, and the figure of it."""

from pathlib import Path
from typing import Any, NamedTuple

from systems import ASPIRIN, MOLECULES, WATER_CUTOFF, System, molecules, water

from pyg_schnet.analysis.figure import BLUE, GREY, ORANGE, new_figure, save_figure


class Case(NamedTuple):
    """A system and a size of the network: so many molecules, of water along each edge of a box."""

    name: str
    size: int
    cutoff: float = WATER_CUTOFF
    features: int = 128

    def system(self) -> System:
        """The structures."""
        if self.name == "water":
            return water(self.size, self.cutoff)
        return molecules((ASPIRIN,) if self.name == "aspirin" else MOLECULES, self.size, self.cutoff)


#: What is varied, and the label of its axis.
LABELS = {"atoms": "atoms of water", "neighbours": "neighbours of each atom", "features": "features and filters"}


def series(quick: bool, gpu: bool) -> dict[str, list[Case]]:
    """Boxes of water of several sizes, of one size with several cutoffs, and with several networks."""
    edge, cutoffs, features = 6, [3.0, 4.0, 5.2, 6.5, 8.0], [32, 64, 96, 128, 192, 256]
    sizes = [3, 4, 6, 8, 10, 14, 18]
    if gpu:  # small boxes do not fill it
        edge, sizes = 14, [4, 6, 10, 14, 18, 24, 33, 48, 70]
    if quick:
        edge, cutoffs, features, sizes = 2, cutoffs[1:3], features[:2], [2, 3]
    return {
        "atoms": [Case("water", size) for size in sizes],
        "neighbours": [Case("water", edge, cutoff) for cutoff in cutoffs],
        "features": [Case("water", edge, features=number) for number in features],
    }


def plot(rows: dict[str, list[dict[str, Any]]], peer: str, path: Path) -> None:
    """A panel for each series, with a dashed line for costs in proportion."""
    figure, panels = new_figure(columns=len(rows), width=4.2, height=3.8)
    for panel, (what, found) in zip(panels, rows.items(), strict=True):
        for name, label, colour in (("pyg", peer, ORANGE), ("frozen", "frozen", BLUE)):
            points = [(row[what], row["seconds"][name]) for row in found if name in row["seconds"]]
            panel.loglog(*zip(*points, strict=True), "o-", color=colour, label=label)
        ends, last = [found[0][what], found[-1][what]], found[-1]["seconds"]["frozen"]
        panel.loglog(
            ends, [last * end / ends[1] for end in ends], "--", color=GREY, label=f"proportional to the {what}"
        )
        panel.set(xlabel=LABELS[what], title=titles(what, found[0]))
        if what != "atoms":  # less than a power of ten or two
            panel.set_xticks([row[what] for row in found], [f"{row[what]:.0f}" for row in found])
            panel.set_xticks([], minor=True)
        panel.legend(frameon=False, fontsize="small")
    panels[0].set_ylabel("time of energies and forces (s)")
    save_figure(figure, path)


def titles(what: str, row: dict[str, Any]) -> str:
    """What is not varied."""
    fixed = {"atoms": "{atoms} atoms", "neighbours": "{neighbours:.0f} neighbours", "features": "{features} features"}
    return ", ".join(text.format(**row) for name, text in fixed.items() if name != what)
