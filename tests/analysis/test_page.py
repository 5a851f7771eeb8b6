import base64
import re
from html.parser import HTMLParser

import pytest

from pyg_schnet.analysis.figure import new_axes
from pyg_schnet.analysis.page import Page


class Reader(HTMLParser):
    """Collects tags that are opened and closed, addresses, anchors and pictures."""

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.names, self.pictures, self.texts = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.links.append(attributes.get("href"))
        self.names.append(attributes.get("id"))
        self.pictures.append(attributes.get("src"))
        if tag not in {"meta", "link", "img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_contents_lead_to_the_sections():
    page = Page("Water <H2O>", "a & b")
    page.section("Filters & more")
    page.text("1 < 2")
    page.section("Modes")
    page.table({"zero-point energy": "0.5 eV"})
    page.note("nothing <b>here</b>")
    read = Reader(page.html())
    anchors = [link[1:] for link in read.links if link and link.startswith("#")]
    assert len(anchors) == 2
    assert set(anchors) <= set(read.names)
    assert page.sections == ["Filters & more", "Modes"]
    for text in ("Water <H2O>", "a & b", "1 < 2", "nothing <b>here</b>", "0.5 eV"):
        assert text in read.texts


def test_pictures_are_in_the_file(tmp_path):
    axes = new_axes()
    axes.plot([0, 1], [1, 0])
    page = Page("Pictures")
    page.section("One")
    page.figure(axes, 'a "line"')
    path = page.write(tmp_path / "deep" / "page.html")
    read = Reader(path.read_text(encoding="utf-8"))
    (picture,) = [one for one in read.pictures if one]
    head, code = picture.split(",", 1)
    assert head == "data:image/png;base64"
    assert base64.b64decode(code).startswith(b"\x89PNG")
    assert [one.name for one in path.parent.iterdir()] == ["page.html"]


def test_interactive_figures_bring_their_code_once():
    objects = pytest.importorskip("plotly.graph_objects")
    page = Page("Interactive")
    page.section("Two")
    for _ in range(2):
        page.interactive(objects.Figure(objects.Scatter(x=[0, 1], y=[1, 0])), "points")
    text = page.html()
    names = re.findall(r'id="(interactive-[\d-]+)"', text)
    assert len(names) == len(set(names)) == 2
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="(https?:)?//', text)
    assert text.count("* plotly.js v") == 1
    assert "plotly.js v" not in Page("None").html()


def test_adding_before_a_section_is_refused():
    with pytest.raises(ValueError, match="begin one with `section`"):
        Page("Empty").text("lost")
