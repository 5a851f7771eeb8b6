"""What is learnt from files of one's own: energies and forces, or a property."""

import math
import re
from pathlib import Path

import numpy as np

from pyg_schnet.datasets.labels import is_bookkeeping
from pyg_schnet.datasets.property_table import PropertyTable
from pyg_schnet.datasets.surveyed import Survey

#: A number and a unit behind it.
_WITH_UNIT = re.compile(r"\s*[+-]?\d*\.?\d+(?:[eE][+-]?\d+)?\s*[A-Za-z][A-Za-z/_.^0-9 ]*")
#: Fewest structures that a model can be trained, validated and tested on.
_FEWEST = 10


def target_of(found: Survey, table: PropertyTable | None, target: str | None) -> str | None:
    """The property to learn: what is asked for, else of the table, else the energy.

    Args:
        found: What the files hold.
        table: Table of properties.
        target: What is asked for.

    Returns:
        Its name; ``None`` for the energy.

    Raises:
        ValueError: If there is nothing to learn, too little of it, or more than one property could be meant.
    """
    energy = found.labels.keys.get("energy")
    if target is None and (table is not None or energy is None):
        target = _only_property(found, table)
    if target is None:
        _check_energy(found)
    elif target == energy:
        target = None
    elif found.gathered.shapes.get(target) != "number":
        raise ValueError(f"--target must be a number of each structure, {_numbers(found) or 'none'}; got {target!r}")
    known = int(np.isfinite(found.energies if target is None else found.gathered.values(target)).sum())
    if known < _FEWEST:
        many, verb = ("", "is") if known == 1 else ("s", "are")
        raise ValueError(
            f"{known} structure{many} with a known {target or 'energy'} {verb} too few to train, validate and test on; "
            f"expected at least {_FEWEST}{_texts(found)}"
        )
    if (different := len(found) - found.duplicates) < _FEWEST:
        raise ValueError(
            f"only {different} of {len(found)} structures differ from one another, too few to train, validate and test "
            f"on; expected at least {_FEWEST}"
        )
    return target


def _which_tables(file: Path) -> str:
    """What is said of tables beside a file."""
    names = [one.name for one in tables_beside(file)]
    return f" (beside the files: {', '.join(names[:5])}{', ...' * (len(names) > 5)})" if names else ""


def _texts(found: Survey) -> str:
    """What is said of fields with a number and its unit."""
    for name, value in found.gathered.all[0].fields.items():
        if isinstance(value, str) and _WITH_UNIT.fullmatch(value):
            return f"; {name!r} is a text, {value!r}: write the number alone, and name its unit with --energy_unit"
    return ""


def _only_property(found: Survey, table: PropertyTable | None) -> str | None:
    """The property that can be meant without being asked for, of the table if there is one."""
    columns = None if table is None else {name for row in table.rows.values() for name in row}
    forces = found.labels.keys.get("forces")
    if columns is None and forces is not None:
        raise ValueError(
            f"there are forces, {forces!r}, but no field has the name of an energy; the numbers are "
            f"{_numbers(found) or 'none'}: name the energies with --energy_key, or a property to learn with --target"
        )
    named = [*[one for one in [found.labels.keys.get("energy")] if one is not None], *found.properties]
    mine = [one for one in named if (columns is None or one in columns) and not is_bookkeeping(one)]
    if len(mine) > 1:
        raise ValueError(f"{', '.join(mine[:-1])} and {mine[-1]} could be learnt; name one of them with --target")
    return mine[0] if mine else None


def _check_energy(found: Survey) -> None:
    """Check that there are energies to learn, and that it is clear which."""
    if "energy" not in found.labels.keys:
        passed = f" but {', '.join(found.properties)}" if found.properties else ""
        raise ValueError(
            f"there is nothing to learn: no energy and no other number that varies{passed}; the fields are "
            f"{', '.join(sorted(found.gathered.shapes)) or 'none'}; name one with --energy_key or --target, or a table "
            f"of properties with --table{_which_tables(found.files[0])}{_texts(found)}"
        )
    if found.labels.unclear:
        raise ValueError(found.labels.unclear)
    if zeros := len(found.not_calculated):
        raise ValueError(
            f"the energy of {zeros:,} structure{'s' * (zeros > 1)} is exactly 0 and that of others of their "
            "composition is not: they were not calculated, or did not converge; leave them out, or write nan, which "
            "adds nothing to the loss"
        )


def _numbers(found: Survey) -> str:
    return ", ".join(name for name, shape in found.gathered.shapes.items() if shape == "number")


def has_forces(found: Survey) -> bool:
    """True if there are forces to learn from.

    Args:
        found: What the files hold.

    Returns:
        ``True`` or ``False``.
    """
    return "forces" in found.labels.keys and math.isfinite(found.force_square)


def stress_label(found: Survey) -> str | None:
    """What stresses are learnt from.

    Args:
        found: What the files hold.

    Returns:
        ``"stress"``, ``"virial"`` or, if no structure has one, ``None``.
    """
    return next((label for label in ("stress", "virial") if label in found.labels.keys), None)


def learns(found: Survey, target: str | None) -> str:
    """What is learnt, in words.

    Args:
        found: What the files hold.
        target: The property, ``None`` for the energy.

    Returns:
        Labels and their names.
    """
    keys = found.labels.keys
    if target is not None:
        return f"{target!r}" + (", not the forces" if has_forces(found) else "")
    labels = ["energy"]
    if has_forces(found):
        labels += ["forces", *[label for label in [stress_label(found)] if label is not None]]
    return ", ".join(f"{label} {keys[label]!r}" for label in labels)


def tables_beside(file: Path) -> list[Path]:
    """Tables in the folder of a file.

    Args:
        file: The file.

    Returns:
        Their paths.
    """
    return sorted(file.parent.glob("*.csv"))
