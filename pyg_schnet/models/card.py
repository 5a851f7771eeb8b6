"""The card of a trained model: what it was trained on, how wrong it is, what it is for, who may use it."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

#: Entries of an error on a card; the first three must be there.
_ERROR = ("target", "mae", "unit", "structures", "median", "paper")


@dataclass(frozen=True)
class Card:
    """What a user must know of a trained model before relying on it.

    Attributes:
        summary: What it predicts and for what, in one sentence.
        data: What it was trained on, with the source.
        data_licence: Licence of these data.
        training: How it was trained.
        errors: Mean absolute errors on structures that were never seen: mappings with ``target``, ``mae`` and ``unit``,
            and, where they are known, ``structures`` (how many), ``median`` and ``paper`` (the mean absolute error of a
            paper, in words).
        applicability: What it is good for.
        limits: What it is not good for.
        licence: Licence of the model, an identifier of SPDX such as ``"MIT"``.
        made_by: The command that makes it again.
        tags: Words to find it by on a hub.

    Raises:
        TypeError: If an entry is not of its kind.
        ValueError: If an error lacks its target, value or unit.

    Example:
        >>> card = Card("Forces of water", errors=[{"target": "forces", "mae": 0.4, "unit": "kcal/mol/Å"}])
        >>> card.errors_in_words()
        'forces 0.4 kcal/mol/Å'
    """

    summary: str = ""
    data: str = ""
    data_licence: str = ""
    training: str = ""
    errors: Sequence[Mapping[str, Any]] = ()
    applicability: str = ""
    limits: str = ""
    licence: str = ""
    made_by: str = ""
    tags: Sequence[str] = ()

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name not in {"errors", "tags"} and not isinstance(value, str):
                raise TypeError(f"`{one.name}` of a card must be text, got {type(value).__name__}")
        if isinstance(self.tags, str) or not all(isinstance(tag, str) for tag in self.tags):
            raise TypeError(f"`tags` of a card must be a list of words, got {self.tags!r}")
        for error in self.errors:
            if not isinstance(error, Mapping) or not {*_ERROR[:3]} <= error.keys() <= {*_ERROR}:
                raise ValueError(
                    f"an error of a card has {', '.join(_ERROR[:3])} and perhaps {', '.join(_ERROR[3:])}, got {error!r}"
                )

    @classmethod
    def of(cls, given: "Card | Mapping[str, Any] | None") -> Self:
        """A card from its entries.

        Args:
            given: A card, its entries by name, or ``None`` for an empty one.

        Returns:
            The card.

        Raises:
            TypeError, ValueError: If an entry is not known or not of its kind.
        """
        if isinstance(given, cls):
            return given
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(f"`card` must be a Card or its entries by name, got {type(given).__name__}")
        known = [one.name for one in fields(cls)]
        for name in given or ():
            if name not in known:
                close = difflib.get_close_matches(str(name), known, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(known)}"
                raise ValueError(f"a card has no entry {name!r}; {hint}")
        return cls(**(given or {}))

    def entries(self) -> dict[str, Any]:
        """What is known, by name, JSON-compatible.

        Returns:
            All entries that are not empty.
        """
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        found |= {"errors": [dict(one) for one in self.errors], "tags": list(self.tags)}
        return {name: value for name, value in found.items() if value}

    def errors_in_words(self, long: bool = False) -> str:
        """The errors in one line.

        Args:
            long: True to say the medians, how many structures they are from, and what the paper has.

        Returns:
            The line, empty if there are no errors.
        """
        parts = []
        for one in self.errors:
            text = f"{one['target']} {one['mae']:.3g} {one['unit']}"
            median, paper = one.get("median"), one.get("paper")
            more = [f"median {median:.3g}"] if median is not None else []
            more += [f"the paper: {paper}"] if paper is not None else []
            parts.append(text + (f" ({'; '.join(more)})" if long and more else ""))
        line = ", ".join(parts)
        numbers = {one["structures"] for one in self.errors if one.get("structures") is not None}
        if long and line and len(numbers) == 1:
            line = f"mean absolute errors on {numbers.pop():,} structures that were never seen: {line}"
        return line
