"""A model as a folder in the layout of the Hugging Face hub: model, facts for programs, card for people."""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyg_schnet.files import replacing
from pyg_schnet.models.card import Card
from pyg_schnet.units import SYMBOLS, target_unit

#: Files of the folder: the model itself, what is known of it as JSON, and its card.
FILE, FACTS, README = "model.safetensors", "config.json", "README.md"
#: Where the models are that come with the package.
BUNDLED = Path(__file__).resolve().parent / "bundled"
#: What the hub calls the package that reads the folder.
LIBRARY = "pyg_schnet"
#: Between the lines for the hub at the beginning of a card and its text.
MARK = "<!-- card -->"
#: Arguments of a model that a card tells, in words; ``{}`` is the value.
_TOLD = {
    "num_interactions": "T = {}",
    "hidden_channels": "F = {}",
    "num_gaussians": "{} Gaussians",
    "cutoff": "cutoff {:g} Å",
    "readout": "readout {}",
    "out_channels": "{} targets",
}


def is_folder(path: str | Path) -> bool:
    """True if a model is to be written as a folder.

    Args:
        path: Where to write it.

    Returns:
        True for a folder that is there, and for a name without a suffix at which nothing is.
    """
    place = Path(path)
    return place.is_dir() or (not place.suffix and not place.exists())


def write_folder(
    folder: Path,
    content: bytes,
    header: Mapping[str, Any],
    parameters: int,
    card: Card | Mapping[str, Any] | None = None,
) -> None:
    """Write the folder of a model, made if it is not there. No file takes its name before all are written.

    Args:
        folder: The folder, whose name the model has.
        content: The model file.
        header: Its header.
        parameters: How many numbers its weights are.
        card: What is known of it beyond its header. Without one a card that is there stays as it is.

    Raises:
        FileNotFoundError: If there is no folder to make it in.
        TypeError, ValueError: If the card has an entry that is not known or not of its kind.
    """
    folder = folder.resolve()
    name, seen = folder.name, header.get("training_set")
    facts: dict[str, Any] = {
        "library_name": LIBRARY,
        "name": name,
        "model": header["model"],
        "config": header["config"],
        "parameters": parameters,
        "units": header.get("units", {}),
        "training_set": seen and {key: value for key, value in seen.items() if key != "distances" and value},
        "sha256": hashlib.sha256(content).hexdigest(),
        "card": Card.of(card).entries(),
    }
    page = card_text(facts, name if folder.parent == BUNDLED else f"hf://OWNER/{name}")
    files = {FACTS: f"{json.dumps(facts, indent=2, ensure_ascii=False)}\n".encode(), FILE: content}
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {folder.parent} to make {name} in; create it first")
    folder.mkdir(exist_ok=True)
    if card is not None or not (folder / README).exists():
        files = {README: page.encode()} | files
    with contextlib.ExitStack() as stack:
        for file, written in files.items():
            stack.enter_context(replacing(folder / file)).write_bytes(written)


def card_text(facts: Mapping[str, Any], usage: str) -> str:
    """The card of a model as a page, with the lines at its beginning that the hub reads.

    Args:
        facts: What the file of facts holds.
        usage: What :func:`pyg_schnet.load` is called with.

    Returns:
        The page, in Markdown.
    """
    card = Card.of(facts.get("card"))
    head = [f"library_name: {LIBRARY}", *([f"license: {card.licence.lower()}"] if card.licence else [])]
    head += ["pipeline_tag: graph-ml", f"tags: {json.dumps(['SchNet', 'chemistry', *card.tags])}"]
    table = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in card_rows(facts).items())]
    code = ["```python", "from pyg_schnet import load", "", f'model = load("{usage}")', "```"]
    parts = ["---", *head, "---", MARK, "", f"# {facts['name']}", "", *([card.summary, ""] if card.summary else [])]
    return "\n".join([*parts, *table, "", *code, ""])


def card_rows(facts: Mapping[str, Any]) -> dict[str, str]:
    """What a card says, by what it is about.

    Args:
        facts: What the file of facts holds.

    Returns:
        Lines of text; what is not known is left out.
    """
    card = Card.of(facts.get("card"))
    rows = {
        "model": model_in_words(facts),
        "predicts": predicts(facts),
        "elements": seen_in_words(facts),
        "data": card.data,
        "licence of the data": card.data_licence,
        "training": card.training,
        "errors": card.errors_in_words(long=True),
        "good for": card.applicability,
        "not good for": card.limits,
        "licence": card.licence,
        "made by": f"`{card.made_by}`" if card.made_by else "",
        "sha256": f"`{facts['sha256']}`",
    }
    return {name: value for name, value in rows.items() if value}


def model_in_words(facts: Mapping[str, Any]) -> str:
    """Architecture and sizes of a model in a line.

    Args:
        facts: What the file of facts holds.

    Returns:
        The line.
    """
    config = facts["config"]
    told = [text.format(config[name]) for name, text in _TOLD.items() if config.get(name) is not None]
    if config.get("out_channels") == 1:
        told.remove("1 targets")
    return f"{facts['model']} ({', '.join(told)}), {facts['parameters']:,} parameters"


def predicts(facts: Mapping[str, Any]) -> str:
    """What a model predicts, with units.

    Args:
        facts: What the file of facts holds.

    Returns:
        The line; empty if the file does not say it.
    """
    units: Mapping[str, str] = facts["units"]
    names = [name for name in units if target_unit({name: units[name]})]
    sums = facts["config"].get("readout") != "mean"
    if "energy" in names:
        return f"energy in {units['energy']}{', forces and stress as its derivatives' if sums else ''}"
    return ", ".join(f"{name} in {units[name]}" for name in names)


def seen_in_words(facts: Mapping[str, Any]) -> str:
    """Elements and number of structures that a model was trained on.

    Args:
        facts: What the file of facts holds.

    Returns:
        The line; empty if it is not known.
    """
    seen = facts.get("training_set")
    if not seen:
        return ""
    symbols = elements_in_words([int(number) for number in seen["elements"]])
    kinds = "composition" if seen["compositions"] == 1 else "compositions"
    return f"{symbols}; {seen['structures']:,} structures of {seen['compositions']:,} {kinds}"


def elements_in_words(numbers: list[int], most: int = 12) -> str:
    """Elements by their symbols.

    Args:
        numbers: Atomic numbers, sorted.
        most: How many are named; of more there is the number.

    Returns:
        The symbols, or how many elements there are.

    Example:
        >>> elements_in_words([1, 6, 8])
        'H, C, O'
    """
    if len(numbers) > most:
        return f"{len(numbers)} elements"
    return ", ".join(SYMBOLS[z] if 0 < z < len(SYMBOLS) else f"[{z}]" for z in numbers)
