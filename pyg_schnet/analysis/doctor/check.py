"""What a check found, and the table of all."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pyg_schnet.files import replacing

#: Verdicts, the worst one last.
VERDICTS = ("PASS", "WARN", "FAIL")


class Check(NamedTuple):
    """One check of a model.

    Attributes:
        name: What was checked.
        verdict: ``"PASS"``, ``"WARN"`` or ``"FAIL"``.
        value: What was measured; ``None`` if it could not be, or if the check has no figure.
        bound: Largest value that passes (smallest one, of a barrier); ``None`` without a figure.
        what: What the value is, its unit, and why the bound is what it is.
        remedy: What to do about it; empty if it passed.
        structure: Structure of which the value is the worst; empty if it is of the model alone.
    """

    name: str
    verdict: str
    value: float | None
    bound: float | None
    what: str
    remedy: str = ""
    structure: str = ""


class Skipped(NamedTuple):
    """A check that does not apply, or cannot be made here.

    Attributes:
        name: What was not checked.
        reason: Why.
    """

    name: str
    reason: str


@dataclass
class Diagnosis:
    """All checks of a model.

    Attributes:
        checks: Those that were made.
        skipped: Those that were not.
        structures: Names of the structures they were made with.

    Example:
        >>> found = Diagnosis([judged("forces", 2e-3, 1e-6, "relative error", "differentiate the energy")])
        >>> found.failed, found.checks[0].verdict
        (True, 'FAIL')
    """

    checks: list[Check] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    structures: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """True if a check failed."""
        return any(check.verdict == VERDICTS[-1] for check in self.checks)

    def __getitem__(self, name: str) -> Check:
        return next(check for check in self.checks if check.name == name)

    def as_dict(self) -> dict[str, Any]:
        """Checks as :meth:`write_json` writes them: those that were skipped are not among them."""
        return {"checks": [_finite(check._asdict()) for check in self.checks]}

    def write_json(self, path: str | Path) -> Path:
        """Write the checks, ``{"checks": [{"name", "verdict", "value", "bound", ...}, ...]}``.

        Args:
            path: File to write; it appears when it is whole.

        Returns:
            The path. A value that is not finite, or not known, is ``null``.
        """
        path = Path(path)
        with replacing(path) as part:
            part.write_text(json.dumps(self.as_dict(), indent=2) + "\n")
        return path

    def __str__(self) -> str:
        """A table, one line for each check, and remedies where something did not pass."""
        names = [check.name for check in self.checks] + [one.name for one in self.skipped]
        width = max(map(len, names), default=0)
        lines = [f"structures: {', '.join(self.structures)}"] if self.structures else []
        lines.append(f"{'check':{width}}  verdict    value    bound  what")
        for check in self.checks:
            where = f" ({check.structure})" if check.structure else ""
            figures = f"{_figure(check.value)} {_figure(check.bound)}"
            lines.append(f"{check.name:{width}}  {check.verdict:7} {figures}  {check.what}{where}")
        lines += [f"{one.name:{width}}  skipped {'':17}  {one.reason}" for one in self.skipped]
        counts = [sum(check.verdict == verdict for check in self.checks) for verdict in VERDICTS]
        lines.append(f"{counts[0]} passed, {counts[1]} with a warning, {counts[2]} failed, {len(self.skipped)} skipped")
        remedies = [check for check in self.checks if check.remedy]
        lines += [f"{check.verdict} {check.name}: {check.remedy}" for check in remedies]
        return "\n".join(lines)


def judged(
    name: str,
    value: float,
    bound: float,
    what: str,
    remedy: str,
    *,
    structure: str = "",
    tolerated: float | None = None,
    worst: str = "FAIL",
) -> Check:
    """A check whose value must not exceed a bound.

    Args:
        name: What was checked.
        value: What was measured; NaN exceeds every bound.
        bound: Largest value that passes.
        what: What the value is.
        remedy: What to do if it exceeds the bound.
        structure: Name of the structure.
        tolerated: Largest value that is only warned of; ``None`` for none.
        worst: Verdict beyond all that.

    Returns:
        The check.
    """
    if value <= bound:
        return Check(name, "PASS", value, bound, what, "", structure)
    verdict = "WARN" if tolerated is not None and value <= tolerated else worst
    return Check(name, verdict, value, bound, what, remedy, structure)


def worst_of(found: list[Check | Skipped]) -> Check | Skipped:
    """The worst of the same check with several structures.

    Args:
        found: At least one.

    Returns:
        The worst verdict; of equal ones, the largest share of its bound.
    """
    checks = [one for one in found if isinstance(one, Check)]
    return max(checks, key=_badness) if checks else found[0]


def larger(first: float, second: float) -> float:
    """The larger number, or that which is none: NaN must not be lost on the way to a verdict."""
    return first if first >= second or math.isnan(first) else second


def _badness(check: Check) -> tuple[int, float]:
    share = (check.value or 0.0) / check.bound if check.bound else 0.0
    return VERDICTS.index(check.verdict), math.inf if math.isnan(share) else share


def _finite(entries: dict[str, Any]) -> dict[str, Any]:
    """JSON has no numbers that are not finite."""
    return {
        name: None if isinstance(entry, float) and not math.isfinite(entry) else entry
        for name, entry in entries.items()
    }


def _figure(number: float | None) -> str:
    return f"{'-':>8}" if number is None else f"{number:8.1e}"
