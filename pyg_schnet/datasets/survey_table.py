"""A survey of a user's structures in words: a table that is read once."""

import math
from collections import Counter

import numpy as np

from pyg_schnet.datasets.guessed_units import Guess
from pyg_schnet.datasets.surveyed import Survey
from pyg_schnet.units import ENERGY, FORCE, STRESS, SYMBOLS

#: Width of the column of names.
WIDTH = 13


def in_words(found: Survey) -> str:
    """What some files hold, in a table.

    Args:
        found: What was found.

    Returns:
        Some lines of text; a ``?`` stands before what is only assumed.

    Example:
        >>> import ase, ase.io, tempfile
        >>> from pyg_schnet.datasets.survey import survey
        >>> file = f"{tempfile.mkdtemp()}/h2.xyz"
        >>> ase.io.write(file, ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.74]], info={"energy": -31.7}), format="extxyz")
        >>> print(in_words(survey(file, show=False)).splitlines()[1])
        structures    1 of 2 atoms, open: H2
    """
    lines = [("files", _files(found))]
    if names := [file.name for file in found.passed_over]:
        lines.append(("not read", ", ".join(names[:4]) + (f" and {len(names) - 4:,} more" if len(names) > 4 else "")))
    lines += [("structures", _structures(found)), ("elements", _elements(found))]
    lines += [("lengths", _unit(found.units["length"])), *_labels(found)]
    if found.properties:
        named = ", ".join(found.properties[:8]) + (", ..." if len(found.properties) > 8 else "")
        lines.append(("properties", f"{named} (one to learn: --target NAME)"))
    if found.shortest:
        pairs = sorted(found.shortest.items(), key=lambda one: one[1])[:8]
        apart = ", ".join(f"{_symbol(a)}-{_symbol(b)} {distance:.2f}" for (a, b), distance in pairs)
        lines.append(("distances", f"shortest: {apart}; nearest neighbours typically {found.neighbour:.2f} Ang"))
    lines.append(("order", _order(found)))
    lines.append(
        ("repeated", f"{found.duplicates:,} structures are in the files twice" if found.duplicates else "none")
    )
    lines += [("odd" if not place else "", sentence) for place, sentence in enumerate(found.odd or ["nothing"])]
    return "\n".join(f"{name:{WIDTH}} {text}" for name, text in lines)


def _files(found: Survey) -> str:
    files = [file.name for file in found.files]
    if len(files) > 4:
        files = [f"{len(files):,} files, {files[0]} to {files[-1]}"]
    parts = ", ".join(f"{count:,} {name}" for name, count in found.parts.items())
    return ", ".join(files) + (f" ({parts})" if len(found.parts) > 1 else "")


def _structures(found: Survey) -> str:
    sizes = found.gathered.sizes
    atoms = f"{sizes.min()}" if sizes.min() == sizes.max() else f"{sizes.min()} to {sizes.max()}"
    named = Counter(found.gathered.formulas).most_common(4)
    formulas = ", ".join(_formula(formula) for formula, _ in named)
    if found.compositions > 4:
        formulas = f"{found.compositions:,} compositions, {formulas}, ..."
    periodic = found.periodic
    kind = "open" if not periodic else "periodic" if periodic == len(found) else f"{periodic:,} of them periodic"
    if periodic and math.isfinite(found.room) and found.room > 5:
        kind += f" with {found.room:.1f} Ang between images"
    number = f"{len(found):,}"
    if len(found) < found.gathered.total:
        number = f"{found.gathered.total:,}, of which {len(found):,} were looked at,"
    return f"{number} of {atoms} atoms, {kind}: {formulas}"


def _elements(found: Survey) -> str:
    most = len(found)
    return " ".join(
        _symbol(number) if count == most else f"{_symbol(number)} (in {count:,})"
        for number, count in list(found.elements.items())[:30]
    ) + (f" and {len(found.elements) - 30} more" if len(found.elements) > 30 else "")


def _labels(found: Survey) -> list[tuple[str, str]]:
    keys, units, lines = found.labels.keys, found.units, []
    if "energy" in keys:
        own = found.energies[np.isfinite(found.energies)] / ENERGY[units["energy"].unit]
        size = f"{own.mean():.6g}, spread {own.std():.3g}" if len(own) else "none known"
        lines.append(("energy", f"{keys['energy']!r}: {size} {_unit(units['energy'])}{_others(found, 'energy')}"))
    else:
        lines.append(("energy", "none (--energy_key NAME, if it has another name)" + _others(found, "energy")))
    if "forces" in keys:
        force = math.sqrt(found.force_square / 3) / FORCE[units["forces"].unit]
        lines.append(
            ("forces", f"{keys['forces']!r}: {force:.3g} (RMS) {_unit(units['forces'])}{_others(found, 'forces')}")
        )
        slope, correlation = (abs(one) for one in found.slope)
        if correlation > 0.8:
            lines.append(("", f"energies change by {slope:.2f} times the work of the forces between like structures"))
    else:
        lines.append(("forces", "none" + _others(found, "forces")))
    if "stress" in keys:
        stress = math.sqrt(found.stress_square / 9) / STRESS[units["stress"].unit]
        lines.append(
            ("stress", f"{keys['stress']!r}: {stress:.3g} (RMS) {_unit(units['stress'])}{_others(found, 'stress')}")
        )
    elif "virial" in keys:
        sign = "-" if found.signs.get("stress", 1) > 0 else ""
        lines.append(("virial", f"{keys['virial']!r} in {units['energy'].unit}; stress is {sign}virial / volume"))
    return lines


def _others(found: Survey, label: str) -> str:
    others = found.labels.others.get(label, [])
    return f"; others: {', '.join(others)} (--{label}_key NAME)" if others else ""


def _order(found: Survey) -> str:
    correlation, gap = found.near
    if gap:
        text = f"neighbouring frames resemble each other (correlation {correlation:.2f}, gone after {gap} frames)"
    else:
        text = "neighbouring structures do not resemble each other"
    if found.group_key:
        kinds = {str(one.fields.get(found.group_key)) for one in found.gathered.all}
        text += f"; {found.group_key!r} names {len(kinds):,} groups"
    return text


def _unit(guess: Guess) -> str:
    return f"{guess.unit} ({'' if guess.sure else '? '}{guess.why})"


def _symbol(number: int) -> str:
    return SYMBOLS[number] if 0 < number < len(SYMBOLS) else f"[{number}]"


def _formula(formula: tuple[tuple[int, int], ...]) -> str:
    """In Hill's order: carbon, hydrogen, then the alphabet."""
    first = {"C": "", "H": " "} if any(number == 6 for number, _ in formula) else {}
    named = sorted(((_symbol(number), count) for number, count in formula), key=lambda one: first.get(one[0], one[0]))
    return "".join(f"{symbol}{count if count > 1 else ''}" for symbol, count in named)
