"""Trained models that come with the package, by name; each is a folder with its card."""

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyg_schnet.files.download import digest
from pyg_schnet.models.card import Card
from pyg_schnet.models.model_folder import BUNDLED, FACTS, FILE, README
from pyg_schnet.models.published import PUBLISHED

#: Where they are; whatever folder is put there is one of them.
FOLDER = BUNDLED


@dataclass(frozen=True)
class BundledModel:
    """A trained model that comes with the package.

    Attributes:
        folder: Its folder, with the model, its facts and its card.
        facts: Architecture (``model``, ``config``, ``parameters``), ``units``, ``training_set`` without distances,
            ``sha256`` of the model file, and ``card``.

    Example:
        >>> ethanol = bundled_model("md17-ethanol")
        >>> ethanol.facts["units"]["energy"], ethanol.elements
        ('eV', [1, 6, 8])
    """

    folder: Path
    facts: dict[str, Any]

    @property
    def name(self) -> str:
        """Its name."""
        return self.folder.name

    @property
    def card(self) -> Card:
        """What a user must know of it."""
        return Card.of(self.facts["card"])

    @property
    def elements(self) -> list[int]:
        """Atomic numbers of its training set."""
        return [int(number) for number in self.facts["training_set"]["elements"]]

    @property
    def page(self) -> str:
        """Its card as a page in Markdown."""
        return (self.folder / README).read_text(encoding="utf-8")

    def checked_folder(self) -> Path:
        """Its folder, after a look at the sha256 of the model file.

        Returns:
            The folder.

        Raises:
            ValueError: If the file is not the one that the package was made with.
        """
        found = digest(self.folder / FILE, "sha256")
        if found != self.facts["sha256"]:
            raise ValueError(
                f"{self.folder / FILE} is damaged: expected sha256 {self.facts['sha256']}, got {found}; "
                "install pyg_schnet again"
            )
        return self.folder


def bundled_names() -> list[str]:
    """Names of the models that come with the package.

    Returns:
        The names, sorted.
    """
    return sorted(path.parent.name for path in FOLDER.glob(f"*/{FACTS}"))


def bundled_model(name: str) -> BundledModel:
    """A model that comes with the package.

    Args:
        name: Its name.

    Returns:
        What is known of it; :func:`pyg_schnet.load` reads the model itself.

    Raises:
        ValueError: If none of this name comes with the package.
    """
    if name not in bundled_names():
        raise ValueError(f"no model {name!r} comes with the package; {nearest(name, bundled_names())}")
    return BundledModel(FOLDER / name, json.loads((FOLDER / name / FACTS).read_text(encoding="utf-8")))


def bundled_models() -> list[BundledModel]:
    """All models that come with the package.

    Returns:
        What is known of each, sorted by name.
    """
    return [bundled_model(name) for name in bundled_names()]


def nearest(name: str, known: list[str] | None = None) -> str:
    """What to say after a name that is none.

    Args:
        name: The name.
        known: Names that there are; by default those that come with the package and those that others have published.

    Returns:
        The nearest names, or all.

    Example:
        >>> nearest("md17-etanol", ["md17-ethanol", "qm9-schnet"])
        "did you mean 'md17-ethanol'?"
        >>> nearest("water", ["md17-ethanol", "qm9-schnet"])
        "expected one of 'md17-ethanol', 'qm9-schnet'"
    """
    known = [*bundled_names(), *PUBLISHED] if known is None else known
    lower = {one.lower(): one for one in known}
    close = [lower[one] for one in difflib.get_close_matches(name.lower(), lower, 3, cutoff=0.7)]
    inside = [one for one in known if len(name) > 2 and name.lower() in one.lower()][:3]
    if close or inside:
        return f"did you mean {' or '.join(map(repr, close or inside))}?"
    return f"expected one of {', '.join(map(repr, known))}"
