"""One HTML page with pictures, tables and interactive figures in it: a single file that needs no network."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyg_schnet.files import replacing

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a202c; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.3rem; margin-top: 2.5rem; border-bottom: 1px solid #cbd5e0; }
nav ul { columns: 2; list-style: none; padding: 0; } nav a, a { color: #2b6cb0; text-decoration: none; }
img { max-width: 100%; height: auto; } figure { margin: 1rem 0; } figcaption { color: #4a5568; font-size: 0.9rem; }
table { border-collapse: collapse; margin: 1rem 0; } td, th { padding: 0.2rem 0.8rem; border-top: 1px solid #e2e8f0; }
th { text-align: left; } td { text-align: right; font-variant-numeric: tabular-nums; }
td:first-child { text-align: left; }
.note { color: #744210; background: #fffbeb; border-left: 4px solid #d69e2e; padding: 0.4rem 0.8rem; }
"""


class Page:
    """A page of sections, with a table of contents.

    Everything is in the file: pictures as PNG, the code of interactive figures too, once for all of them.

    Args:
        title: Heading of the page.
        summary: One paragraph beneath it.

    Example:
        >>> page = Page("A model", "Trained on water.")
        >>> page.section("Errors")
        >>> page.table([("energy", "0.1"), ("forces", "0.3")], ("property", "error"))
        >>> page.html().count("<h2")
        1
    """

    def __init__(self, title: str, summary: str = "") -> None:
        self.title, self.summary = title, summary
        self._sections: list[tuple[str, list[str]]] = []
        self._interactive = False

    def section(self, title: str) -> None:
        """Begin a section; what is added from here on belongs to it.

        Args:
            title: Its heading.
        """
        self._sections.append((title, []))

    @property
    def sections(self) -> list[str]:
        """Headings of the sections, in order."""
        return [title for title, _ in self._sections]

    def text(self, text: str) -> None:
        """Add a paragraph.

        Args:
            text: Plain text.
        """
        self._add(f"<p>{html.escape(text)}</p>")

    def note(self, text: str) -> None:
        """Add a paragraph that stands out, for what is missing or should be known.

        Args:
            text: Plain text.
        """
        self._add(f'<p class="note">{html.escape(text)}</p>')

    def table(self, rows: Sequence[Sequence[Any]] | Mapping[str, Any], header: Sequence[str] = ()) -> None:
        """Add a table.

        Args:
            rows: Cells of each row, or names and values.
            header: Headings of the columns.
        """
        rows = list(rows.items()) if isinstance(rows, Mapping) else rows
        head = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in header)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>\n" for row in rows
        )
        self._add(f"<table>{f'<thead><tr>{head}</tr></thead>' if head else ''}<tbody>{body}</tbody></table>")

    def figure(self, figure: Any, caption: str) -> None:
        """Add a picture.

        Args:
            figure: Figure of matplotlib, or axes of one.
            caption: What is seen.
        """
        figure = getattr(figure, "figure", figure)
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=110)
        code = base64.b64encode(picture.getvalue()).decode()
        said = html.escape(caption)
        self._add(
            f'<figure><img alt="{html.escape(caption, quote=True)}" src="data:image/png;base64,{code}">'
            f"<figcaption>{said}</figcaption></figure>"
        )

    def interactive(self, figure: Any, caption: str, height: int = 620) -> None:
        """Add an interactive figure.

        Args:
            figure: Figure of plotly.
            caption: What is seen.
            height: Height in pixels.
        """
        self._interactive = True
        name = f"interactive-{sum(len(parts) for _, parts in self._sections)}-{len(self._sections)}"
        drawn = figure.to_html(full_html=False, include_plotlyjs=False, div_id=name, default_height=f"{height}px")
        self._add(f"<figure>{drawn}<figcaption>{html.escape(caption)}</figcaption></figure>")

    def html(self) -> str:
        """The page as text.

        Returns:
            HTML.
        """
        contents = "".join(
            f'<li><a href="#section-{number}">{html.escape(title)}</a></li>'
            for number, (title, _) in enumerate(self._sections)
        )
        body = "\n".join(
            f'<section><h2 id="section-{number}">{html.escape(title)}</h2>\n' + "\n".join(parts) + "</section>"
            for number, (title, parts) in enumerate(self._sections)
        )
        script = ""
        if self._interactive:
            from plotly.offline import get_plotlyjs  # noqa: PLC0415

            script = f"<script>{get_plotlyjs()}</script>"
        title = html.escape(self.title)
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<link rel="icon" href="data:,"><title>{title}</title><style>{STYLE}</style>{script}</head>\n'
            f"<body><h1>{title}</h1><p>{html.escape(self.summary)}</p>\n<nav><ul>{contents}</ul></nav>\n{body}\n"
            "</body></html>\n"
        )

    def write(self, path: str | Path) -> Path:
        """Write the page; the file appears when it is whole.

        Args:
            path: File to write, folders included.

        Returns:
            The path.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_text(self.html(), encoding="utf-8")
        return path

    def _add(self, part: str) -> None:
        if not self._sections:
            raise ValueError("a page is made of sections; begin one with `section` before adding to it")
        self._sections[-1][1].append(part)
