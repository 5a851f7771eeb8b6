"""``pyg-schnet models``: trained models by name, and the card of each."""

import json as text
import textwrap
from typing import Any

from pyg_schnet.models.model_folder import card_rows, elements_in_words, predicts
from pyg_schnet.models.published import PUBLISHED
from pyg_schnet.models.registry import BundledModel, bundled_model, bundled_models

#: A line of the table names so many targets; of more, one fewer and how many are left.
_TARGETS = 3


def models(name: str | None = None, *, json: bool = False) -> None:
    """List the trained models that come with the package, or show the card of one.

    Args:
        name: The model whose card is shown; all models in a table by default.
        json: True to print what programs read instead: facts and cards.
    """
    chosen = bundled_models() if name is None else [bundled_model(name)]
    if json:
        found = [facts_of(one) for one in chosen]
        print(text.dumps(found if name is None else found[0], indent=2, ensure_ascii=False))
    elif name is None:
        print(table(chosen))
    else:
        print(card(chosen[0]))


def facts_of(model: BundledModel) -> dict[str, Any]:
    """What programs may want to know of a model.

    Args:
        model: The model.

    Returns:
        Its file of facts, with elements and the path of its folder beside them; JSON-compatible.
    """
    return model.facts | {"elements": model.elements, "path": str(model.folder)}


def card(model: BundledModel) -> str:
    """The card of a model for a terminal.

    Args:
        model: The model.

    Returns:
        Its lines, at most 110 characters long where words allow it.
    """
    rows = card_rows(model.facts)
    width = max(map(len, rows))
    lines = [model.name, model.card.summary, ""]
    for name, value in rows.items():
        said = value.strip("`")
        wrapped = [said] if name == "made by" else textwrap.wrap(said, 108 - width)  # a command is copied whole
        lines += [f"{name:{width}}  {wrapped[0]}", *(f"{'':{width}}  {line}" for line in wrapped[1:])]
    lines += [f"{'folder':{width}}  {model.folder}"]
    return "\n".join(lines)


def _first(line: str) -> str:
    """The first of many targets, and how many more there are."""
    parts = line.split(", ")
    if len(parts) <= _TARGETS:
        return line
    shown = parts[: _TARGETS - 1]
    return f"{', '.join(shown)} and {len(parts) - len(shown)} more"


def table(listed: list[BundledModel]) -> str:
    """A table of models.

    Args:
        listed: The models.

    Returns:
        A line for each model, and how to use and to see more of them.

    Example:
        >>> table([bundled_model("qm9-dtnn")]).splitlines()[1].split()
        ['qm9-dtnn', 'U0', 'in', 'eV', 'H,', 'C,', 'N,', 'O,', 'F', 'U0', '0.127', 'eV', 'MIT']
    """
    head = ("name", "predicts", "elements", "mean absolute error", "licence")
    rows = [head]
    for one in listed:
        what = predicts(one.facts).replace("forces and stress as its derivatives", "forces, stress")
        elements = elements_in_words(one.elements, 8)
        rows.append((one.name, _first(what), elements, _first(one.card.errors_in_words()), one.card.licence))
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["   ".join(f"{word:{width}}" for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += ["", "pyg-schnet models NAME shows a card: data, licence, errors, what it is good for, how it was made."]
    more = "Published models, which are downloaded when they are asked for: "
    more += f"{', '.join(PUBLISHED)}; others by hf://owner/name from the Hugging Face hub."
    return "\n".join([*lines, *textwrap.wrap(more, 115)])
