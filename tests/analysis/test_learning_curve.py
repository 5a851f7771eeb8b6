"""Learning curves."""

import itertools

import pytest

pytest.importorskip("matplotlib")
from matplotlib.figure import Figure
from matplotlib.text import Text

from pyg_schnet.analysis import learning_curve, published_rows
from pyg_schnet.analysis.learning_curve import round_numbers, spread

CURVES = {
    "T = 2": [(50_000, 0.03), (110_000, 0.015)],
    "T = 6": [(110_000, 0.014), (50_000, 0.025)],
    "T = 3": [(110_000, 0.0141)],
}


@pytest.fixture
def figures(monkeypatch):
    """Every figure that is written."""
    written, write = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *args, **options: (written.append(figure), write(figure, *args, **options))
    )
    return written


def test_curves_and_labels(tmp_path, figures):
    rows = published_rows("QM9", "U0")[:1]
    path = tmp_path / "new" / "curve.png"
    assert (
        learning_curve(CURVES, path, unit="eV", target="U0", reference={"paper": [(rows[0].num_train, rows[0].value)]})
        == path
    )
    assert path.read_bytes().startswith(b"\x89PNG")
    (panel,) = figures[0].axes
    assert (panel.get_xscale(), panel.get_yscale()) == ("log", "log")
    assert [line.get_xydata().tolist() for line in panel.lines] == [
        [[50_000, 0.03], [110_000, 0.015]],
        [[50_000, 0.025], [110_000, 0.014]],
        [[110_000, 0.0141]],
        [[110_000, 0.014]],
    ]
    figures[0].draw_without_rendering()
    boxes = {text.get_text(): Text.get_window_extent(text) for text in panel.texts}  # without the leaders
    assert boxes.keys() == {*CURVES, "paper"}
    names = list(boxes)
    assert not any(boxes[a].overlaps(boxes[b]) for i, a in enumerate(names) for b in names[:i])
    inside = figures[0].bbox
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 for box in boxes.values())


def test_long_range_of_ticks(tmp_path, figures):
    learning_curve({"a": [(10, 5.0), (1_000_000, 1e-4)]}, tmp_path / "x.png", unit="", target="y")
    labels = [label.get_window_extent() for label in figures[0].axes[0].get_xticklabels() if label.get_text()]
    assert len(labels) >= 4
    assert not any(a.overlaps(b) for a, b in itertools.pairwise(labels))


@pytest.mark.parametrize(("low", "high"), [(9, 11), (450, 550), (3000, 60_000), (1e-5, 1e3), (1.01, 1.02)])
def test_round_numbers(low, high):
    found = round_numbers(low, high, most=7)
    assert len(found) <= 7
    assert found == sorted(found)
    assert all(low <= number <= high for number in found)


def test_spread():
    heights = [0.0, 0.01, 0.5, 0.52, 0.53, 0.9]
    moved = spread(heights, 0.1)
    assert all(b - a >= 0.1 - 1e-12 for a, b in itertools.pairwise(moved))
    assert sum(moved) == pytest.approx(sum(heights))  # each group stays where it was
    assert spread([0.1, 0.3], 0.1) == [0.1, 0.3]
    assert spread([], 0.1) == []


@pytest.mark.parametrize(
    ("series", "reference", "message"),
    [
        ({}, None, "`series` has a curve without points"),
        ({"a": []}, None, "`series` has a curve without points"),
        ({"a": [(1, 1.0)]}, {"b": []}, "`reference` has a curve without points"),
        ({"a": [(0, 1.0)]}, None, r"curve 'a' has the point \(0, 1.0\)"),
        ({"a": [(1, 0.0)]}, None, "need positive numbers"),
        ({"a": [(1, float("nan"))]}, None, "need positive numbers"),
    ],
    ids=["no curve", "no point", "no reference", "no example", "no error", "nan"],
)
def test_bad_input(series, reference, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        learning_curve(series, tmp_path / "x.png", unit="eV", target="U0", reference=reference)
    assert not (tmp_path / "x.png").exists()
