"""How `make docs` builds the site. Nothing is fetched; formulas become MathML, which browsers draw by themselves."""

import ast
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

from pyg_schnet import __version__
from pyg_schnet.models.model_folder import MARK, elements_in_words, predicts
from pyg_schnet.models.registry import bundled_models

SITE = Path(__file__).parent
EXAMPLES = SITE.parent
#: Figures of the examples, in `examples/figures`.
PICTURES = {
    "04_evaluate": ["parity"],
    "05_molecular_dynamics": ["nve"],
    "10_collect_results": ["learning_curve_qm9"],
    "11_local_chemical_potential": ["local_chemical_potential_surfaces", "local_chemical_potential_cuts"],
    "12_filters": ["filter_cuts_crystals", "filters_ethanol", "filter_curves_ethanol"],
    "13_embeddings": ["embeddings_materials", "embeddings_learned"],
    "14_energy_decomposition": ["decomposition_qm9"],
    "15_normal_modes": ["ethanol_modes", "c20_modes"],
    "16_phonons": ["phonons"],
    "17_structure": ["c20_distances", "c20_states", "liquid_copper"],
    "18_from_smiles": ["from_smiles_modes", "from_smiles_dynamics"],
}

#: Letters of several signs as an index, which TeX takes without braces around them and docutils does not.
UNBRACED = re.compile(r"([_^])(\\(?:mathrm|mathbf|text|hat)\{[^{}]*\})")
#: Sizes of brackets, which MathML finds by itself.
SIZES = re.compile(r"\\[bB]igg?[lr]?\s*(\\?[^a-zA-Z\s])")
#: A letter with an accent and an index, which docutils puts below it.
ACCENTED = re.compile(
    r'<munderover>\s*(<mi>[^<]*</mi>)\s*((?:(?!<munderover>).)*?)\s*(<mo stretchy="false">[^<]*</mo>)\s*</munderover>',
    re.DOTALL,
)
LOGGER = logging.getLogger(__name__)

project, author, release = "pyg_schnet", "The pyg_schnet authors", __version__
project_copyright = author
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
root_doc = "index"

html_theme = "furo"
html_title = f"pyg_schnet {release}"
html_show_sphinx = False
html_copy_source = False
html_math_renderer = "mathml"
html_static_path = ["static"]
html_css_files = ["site.css"]
copybutton_exclude = ".linenos, .gp, .go"

# notebooks are run while the site is built, and can be downloaded
sphinx_gallery_conf = {
    "examples_dirs": str(EXAMPLES / "notebooks"),
    "gallery_dirs": "notebooks",
    "filename_pattern": r"\.py$",
    "image_scrapers": ("matplotlib",),
    "within_subsection_order": "FileNameSortKey",
    "capture_repr": (),
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1e6,
}

myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_attr_annotations = False


def _mathml(visitor: Any, node: nodes.Node, block: bool) -> None:
    """Write a formula as MathML."""
    formula = UNBRACED.sub(r"\1{\2}", SIZES.sub(r"\1", node.astext())).replace(r"\dots", r"\ldots")
    try:
        text = tex2mathml(formula, as_block=block)
        text = ACCENTED.sub(r'<msub><mover accent="true">\1\3</mover>\2</msub>', text)
    except MathError as error:
        LOGGER.warning("a formula cannot be written as MathML (%s): %s", error, formula, location=node)
        text = formula
    visitor.body.append(f'<div class="math">{text}</div>' if block else text)
    raise nodes.SkipNode


def _inline(visitor: Any, node: nodes.Node) -> None:
    _mathml(visitor, node, block=False)


def _block(visitor: Any, node: nodes.Node) -> None:
    _mathml(visitor, node, block=True)


def _page_of(script: Path) -> tuple[str, str]:
    """What an example is about beyond its title, and its page, from its docstring."""
    code = ast.parse(script.read_text())
    first, _, rest = (ast.get_docstring(code) or "").partition("\n\n")
    title, mark, more = re.findall(r"^(.*?)(?:([:?]) (.*))?$", " ".join(first.split()).rstrip("."))[0]
    title += "?" * (mark == "?")
    shell = ".. code-block:: bash\n\n"
    body = re.sub(r"^(?=    python examples)", shell, rest, count=1, flags=re.MULTILINE)
    pictures = [f".. image:: ../../figures/{name}.png\n   :alt: {title}\n" for name in PICTURES.get(script.stem, [])]
    parts = [title, "=" * len(title), "", f"{more[:1].upper()}{more[1:]}." if more else "", "", body, "", *pictures]
    parts += [
        f".. literalinclude:: ../../{script.name}",
        "   :language: python",
        f"   :lines: {code.body[0].end_lineno + 2}-",
    ]
    return more, "\n".join([*parts, ""])


def write_gallery(*given: object) -> None:
    """Write a page for each numbered example, and one with all of them."""
    folder = SITE / "gallery"
    folder.mkdir(exist_ok=True)
    lines = ["Examples", "========", "", "Numbered scripts in reading order, each with ``--help``.", ""]
    listed = []
    for script in sorted(EXAMPLES.glob("[0-9]*.py")):
        more, page = _page_of(script)
        _write(folder / f"{script.stem}.rst", page)
        listed.append(f"   {script.stem}")
        lines += [f"- :doc:`{script.stem}`" + (f": {more}" if more else "")]
    lines += ["", ".. toctree::", "   :hidden:", "", *listed, ""]
    for stem, (name, *_) in PICTURES.items():
        lines += [f".. image:: ../../figures/{name}.png", f"   :target: {stem}.html", "   :width: 45%"]
        lines += [f"   :alt: {stem}", ""]
    _write(folder / "index.rst", "\n".join(lines))


def write_models(*given: object) -> None:
    """Write a table of the trained models that come with the package, and their cards, for a page to include."""
    lines = ["## All of them", "", "| name | predicts | elements | mean absolute errors |", "|---|---|---|---|"]
    for one in bundled_models():
        cells = [predicts(one.facts), elements_in_words(one.elements), one.card.errors_in_words()]
        lines.append(f"| [{one.name}](#{one.name}) | {' | '.join(cells)} |")
    for one in bundled_models():
        card = one.page.split(MARK, 1)[1].strip()
        lines += ["", re.sub(r"^# ", "### ", card, count=1, flags=re.MULTILINE)]
    _write(SITE / "gallery" / "models.inc", "\n".join([*lines, ""]))


def _write(path: Path, text: str) -> None:
    """Write a file unless it is as it should be, so that a second build reads only what has changed."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def setup(app: Sphinx) -> None:
    """Register what is above."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("builder-inited", write_gallery)
    app.connect("builder-inited", write_models)
