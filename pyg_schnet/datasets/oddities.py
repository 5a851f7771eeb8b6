"""What is odd in a user's own structures: what to look at before anything is learnt from them."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyg_schnet.batching import CHARGES
from pyg_schnet.datasets.guessed_units import LARGEST_FORCE
from pyg_schnet.datasets.label_values import known_part
from pyg_schnet.datasets.placeholders import not_converged
from pyg_schnet.datasets.surveyed import Survey
from pyg_schnet.units import FORCE

#: Median distances from the median beyond which a value is far from all others.
_FAR = 15.0


def oddities(found: Survey) -> list[str]:
    """What a user should look at.

    Args:
        found: What a first look found.

    Returns:
        A sentence for each.
    """
    rest, odd = found.rest, list[str]()
    known = rest[np.isfinite(rest)]
    spread = float(np.median(np.abs(known - np.median(known)))) if len(known) else 0.0
    if spread > 0:
        per_atom = np.abs(rest - np.median(known)) / spread
        far = np.flatnonzero(per_atom > _FAR)
        if len(far):
            odd.append(f"energies far from all others: {_places(far)}")
    if found.largest_force > 4 * LARGEST_FORCE:
        odd.append(f"a component of a force is {found.largest_force:.3g} eV/Ang; are there structures that flew apart?")
    odd += found.placeholders.values()
    if len(found.not_calculated):
        odd.append(f"the energy is exactly 0, unlike others of the composition: {_places(found.not_calculated)}")
    if len(failed := not_converged(found.gathered)):
        odd.append(f"not converged, as the files say; better leave out: {_places(failed)}")
    odd += _doubtful_forces(found)
    if found.signs.get("stress") == -1:
        key = found.labels.keys.get("stress", found.labels.keys.get("virial"))
        odd.append(f"{key!r} has not ASE's sign, which is turned (stress_sign: -1 in the settings)")
    if 0 < found.ratio < 0.5:
        odd.append(f"nearest neighbours are {found.ratio:.2f} times the sum of their covalent radii apart")
    if found.gathered.partly_occupied:
        odd.append(f"{found.gathered.partly_occupied:,} crystals have sites partly occupied and are left out")
    return odd + _unknown_labels(found) + _not_told_apart(found)


def _doubtful_forces(found: Survey) -> list[str]:
    """What speaks against the units of the forces and their sign."""
    odd, (slope, _), stiff = [], found.slope, found.stiffness
    if found.follows and not 0.75 < abs(slope) < 1.35:
        odd.append(
            f"energies change by {abs(slope):.3g} times the work of the forces; units of energy and forces do not "
            "belong together (--energy_unit, --length_unit, --forces_unit)"
        )
    if stiff is not None and abs(stiff.off(FORCE[found.units["forces"].unit])) > 3:
        value = abs(stiff.value) * FORCE[found.units["forces"].unit]
        odd.append(
            f"{stiff.bond} bonds are {value:.3g} eV/Ang^2 stiff with forces in {found.units['forces'].unit}, about "
            f"{stiff.usual:.0f} are usual; the unit of forces or of lengths is another (--forces_unit, --length_unit)"
        )
    if found.signs.get("forces") == -1:
        key = found.labels.keys["forces"]
        odd.append(f"{key!r} are gradients, not forces: their sign is turned (forces_sign: -1 in the settings)")
    return odd


def unused(table: Path, names: list[str]) -> list[str]:
    """Which lines of a table have no structure.

    Args:
        table: The table.
        names: Files that it names and that are not there.

    Returns:
        A sentence, or none.
    """
    if not names:
        return []
    few = ", ".join(names[:3]) + ", ..." * (len(names) > 3)
    one = len(names) == 1
    return [f"{len(names):,} line{'' if one else 's'} of {table.name} {'is' if one else 'are'} of no file: {few}"]


def _unknown_labels(found: Survey) -> list[str]:
    """Which labels and lattice vectors are lacking."""
    odd = []
    for label, key in found.labels.keys.items():
        known_parts = [known_part(one.fields.get(key)) for one in found.gathered.all]
        lacking, partly = known_parts.count(0.0), sum(0 < part < 1 for part in known_parts)
        lacking -= found.without_volume if label in {"stress", "virial"} else 0
        if lacking:
            odd.append(f"{lacking:,} structures have no {label}")
        if partly:
            odd.append(f"some {label} of {partly:,} structures are not known")
    for name in [] if "energy" in found.labels.keys else found.properties:  # one of which is learnt
        if lacking := int(np.isnan(found.gathered.values(name)).sum()):
            odd.append(f"{lacking:,} structures have no {name}")
    if found.without_volume:
        odd.append(
            f"{found.without_volume:,} structures have a stress but no complete periodic cell; it is taken as not known"
        )
    if found.gathered.without_cell:
        odd.append(f"{found.gathered.without_cell:,} structures have periodic axes but no lattice vectors and are open")
    return odd


def _not_told_apart(found: Survey) -> list[str]:
    """What differs in charge alone."""
    odd = []
    if charges := _mixed_charges(found):
        odd.append(
            f"structures of one composition have the net charges {', '.join(f'{one:+g}' for one in charges)}, which a "
            "network of atomic numbers and positions cannot tell apart; train on those of one charge"
        )
    return odd


def _mixed_charges(found: Survey) -> list[float]:
    """Net charges that structures of a same composition have; none if all of each composition have one."""
    charges = dict[Any, set[float]]()
    for key in CHARGES:
        if found.gathered.shapes.get(key) == "number":
            for formula, charge in zip(found.gathered.formulas, found.gathered.values(key), strict=True):
                charges.setdefault(formula, set()).add(float(np.nan_to_num(charge)))
    return sorted(next((several for several in charges.values() if len(several) > 1), set()))


def _places(places: NDArray) -> str:
    few = ", ".join(map(str, places[:5].tolist()))
    return f"structures {few}{' and ' + str(len(places) - 5) + ' more' if len(places) > 5 else ''} (from 0)"
