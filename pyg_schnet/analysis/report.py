"""Report of a test run: numbers, tables and figures in one folder."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from pyg_schnet.analysis.error_figures import error_histograms, parity_panels, shown_unit
from pyg_schnet.analysis.published import Published, published_rows
from pyg_schnet.analysis.target_errors import TargetErrors, unit_factor
from pyg_schnet.files import replacing

#: Units in which the papers report errors, where they differ from those of the datasets.
PAPER_UNITS: dict[str, str] = {"energy": "kcal/mol", "forces": "kcal/mol/Ang", "zpve": "meV"}
#: Names of data that come with the package: the paper has no numbers for them.
_NOT_OF_THE_PAPER = {"bundled", "emt_alloys", "iso17_xtb", "qm9_small"}
_COLUMNS = {"mae": "MAE", "rmse": "RMSE", "median": "median", "max": "largest", "bias": "bias"}
_FIGURES: dict[str, tuple[str, Callable[[Sequence[TargetErrors], Path], Path]]] = {
    "errors.png": ("Histograms of absolute errors, on a logarithmic scale", error_histograms),
    "parity.png": ("Predicted against true values", parity_panels),
}


def in_paper_units(errors: Sequence[TargetErrors]) -> list[TargetErrors]:
    """Errors in the units of the papers' tables.

    Args:
        errors: Errors, for example of :func:`~pyg_schnet.analysis.evaluate`.

    Returns:
        Energies in kcal/mol, forces in kcal/mol/Angstrom, zero-point energies in meV, all others as they are.

    Example:
        >>> in_paper_units([TargetErrors("zpve", "eV", [1.0], [0.5]), TargetErrors("U0", "eV", [1.0], [0.5])])[0].unit
        'meV'
    """
    return [target.converted(PAPER_UNITS.get(target.name, target.unit)) for target in errors]


@dataclass(frozen=True)
class Report:
    """What is written of a test run.

    Beside each mean absolute error stands that of the paper, if it has one for the facts ``dataset`` (``"QM9"``,
    ``"MD17"``, ``"MaterialsProject"``, ``"C20"``), ``molecule`` or ``name`` (of MD17), ``num_train`` (the nearest one,
    printed beside the value) and ``trained_on`` (``"energy"``, ``"forces"``, ``"energy and forces"``). Data that come
    with the package (``name="bundled"``, ``"ethanol_xtb"``) are not those of the paper and have none.

    Attributes:
        title: Headline.
        facts: What is worth knowing of the run, JSON-compatible: dataset, number of steps, model file, ...
        errors: Errors of each target, in the units in which they are to be written, see :func:`in_paper_units`.

    Raises:
        TypeError: If the facts are not JSON-compatible.
        ValueError: If there is no target, or two have the same name.
    """

    title: str
    facts: Mapping[str, Any]
    errors: Sequence[TargetErrors]

    def __post_init__(self) -> None:
        names = [target.name for target in self.errors]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"a report needs targets with different names, got {', '.join(names) or 'none'}")
        try:
            json.dumps(dict(self.facts), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise TypeError(f"`facts` must be JSON-compatible: {error}") from None

    def write(self, folder: str | Path) -> list[Path]:
        """Write ``report.json``, ``report.md``, ``errors.png`` and ``parity.png``.

        Each file replaces an older one in a single step. Numbers come first: without matplotlib they are written
        before the missing figures are complained about.

        Args:
            folder: Where to write; made if it is not there.

        Returns:
            The files.

        Raises:
            ImportError: If matplotlib is missing.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "report.json") as part:
            part.write_text(self.json() + "\n", encoding="utf-8")
        drawn: list[str] = []
        try:
            for name, (_, draw) in _FIGURES.items():
                with replacing(folder / name) as part:
                    draw(self.errors, part)
                drawn.append(name)
        finally:
            text = self.markdown(drawn)
            with replacing(folder / "report.md") as part:
                part.write_text(text, encoding="utf-8")
        return [folder / name for name in ("report.json", "report.md", *drawn)]

    def json(self) -> str:
        """All numbers: facts, metrics of each target with their unit, and what the paper reports.

        Returns:
            A JSON object.
        """
        targets: dict[str, dict[str, Any]] = {}
        for target in self.errors:
            paper = self._paper(target)
            targets[target.name] = {"unit": target.unit} | target.metrics()
            if target.left_out:
                targets[target.name]["unknown"] = target.left_out
            if groups := target.by_group():
                targets[target.name]["groups"] = {name: one.metrics() for name, one in groups.items()}
            if paper is not None:
                known = {name: value for name, value in vars(paper).items() if value is not None}
                targets[target.name]["published"] = known
        return json.dumps(
            {"title": self.title, "facts": dict(self.facts), "targets": targets}, indent=2, ensure_ascii=False
        )

    def markdown(self, figures: Sequence[str] = ()) -> str:
        """Tables of facts and errors.

        Args:
            figures: Names of figures beside the file, to be shown.

        Returns:
            Markdown text.
        """
        head = ["target", "unit", *_COLUMNS.values(), "mean predictor", "references alone", "values", "paper"]
        lines = [f"# {self.title}", "", *_row(head), *_row(["---"] * 2 + ["---:"] * (len(head) - 3) + ["---"])]
        for target in self.errors:
            metrics = target.metrics()
            numbers = [f"{metrics[name]:.4g}" for name in (*_COLUMNS, "mae_of_mean")]
            numbers.append(f"{metrics['mae_of_references']:.4g}" if "mae_of_references" in metrics else "")
            count, paper = f"{metrics['count']:,}", self._paper_cell(target)
            lines += _row([target.name, shown_unit(target.unit), *numbers, count, paper])
        lines += [
            "",
            "MAE, RMSE, median and largest are of absolute errors, bias is the mean error; the mean predictor",
        ]
        lines += [
            "always gives the mean of the true values, its MAE is shown; references alone are single-atom values and"
        ]
        lines += [
            "means of the model without its network. Paper: MAE of Schütt et al., J. Chem. Phys. 148, 241722 (2018),"
        ]
        lines += ["where it reports one.", "", *self._unknown(), *self._groups()]
        for name in figures:
            lines += [f"![{_FIGURES[name][0]}]({name})", ""]
        if self.facts:
            lines += [*_row(["fact", "value"]), *_row(["---", "---"])]
            lines += [line for name, value in self.facts.items() for line in _row([name, _plain(value)])]
        return "\n".join(lines).rstrip() + "\n"

    def _unknown(self) -> list[str]:
        """How many labels are not known."""
        counts = [f"{target.left_out:,} of {target.name}" for target in self.errors if target.left_out]
        return [f"Labels that are not known, left out: {', '.join(counts)}.", ""] if counts else []

    def _groups(self) -> list[str]:
        """A table of the errors of each kind of structures, where they have names."""
        rows = []
        for target in self.errors:
            for name, one in target.by_group().items():
                metrics = one.metrics()
                numbers = f"{metrics['mae']:.4g}", f"{metrics['rmse']:.4g}", f"{metrics['count']:,}"
                rows.append([name, target.name, shown_unit(target.unit), *numbers])
        if not rows:
            return []
        head = ["kind of structures", "target", "unit", "MAE", "RMSE", "values"]
        lines = [*_row(head), *_row(["---"] * 3 + ["---:"] * 3)]
        return [
            *lines,
            *(line for row in sorted(rows, key=itemgetter(0)) for line in _row([row[0] or "(no name)", *row[1:]])),
            "",
        ]

    def _paper(self, target: TargetErrors) -> Published | None:
        """What the paper reports for the nearest number of training examples, in any unit."""
        facts = self.facts
        if "dataset" not in facts or facts.get("name") in _NOT_OF_THE_PAPER:
            return None
        molecule = facts.get("molecule", facts.get("name")) if str(facts["dataset"]).lower() == "md17" else None
        rows = published_rows(str(facts["dataset"]), target.name, molecule, trained_on=facts.get("trained_on"))
        number = facts.get("num_train")

        def distance(row: Published) -> tuple[float, float]:
            known = bool(number) and row.num_train is not None
            return abs(math.log(row.num_train / number)) if known else 0.0, row.value  # type: ignore[operator]

        return min(rows, key=distance, default=None)

    def _paper_cell(self, target: TargetErrors) -> str:
        paper = self._paper(target)
        if paper is None:
            return ""
        try:
            shown = f"{paper.value * unit_factor(paper.unit, target.unit):.3g}"
        except ValueError:  # of another kind
            shown = str(paper)
        return f"{shown} (N = {paper.num_train:,}, {paper.source})"


def _row(cells: Sequence[str]) -> list[str]:
    escaped = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
    return [f"| {' | '.join(escaped)} |"]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
