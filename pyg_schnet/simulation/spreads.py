"""Spreads of committees in files of ASE.

ASE's files keep those results of a calculator that ASE has a name for, and it has none for a standard deviation. To
give it new names would change how it reads the files of others. Instead its writer of extended xyz, which is how
structures are chosen and labelled in active learning, is asked to put the spreads of our calculators, and of nobody
else's, into its columns and comments.
"""

import functools
from typing import Any

import numpy as np

#: What the calculator of a committee has beyond the properties of ASE.
SPREADS = ("energy_std", "forces_std", "stress_std", "energies_std")


def keep_in_extxyz() -> None:
    """From now on, ``ase.io.write`` to extended xyz keeps ``calculator.spreads`` where a calculator has them.

    Numbers of atoms become columns, numbers of the structure go into the comment; they are read back as
    ``atoms.arrays["forces_std"]`` and ``atoms.info["energy_std"]``. Fields of these names that the structure had before
    are replaced in the file, as they belong to other results; the structure itself stays as it is.
    """
    from ase.io import extxyz  # noqa: PLC0415  ASE imports it only when it is needed, too

    plain: Any = getattr(extxyz, "save_calc_results", None)
    if plain is None or hasattr(plain, "keeps_spreads"):  # another version of ASE, or done already
        return

    @functools.wraps(plain)
    def save_calc_results(atoms: Any, calc: Any = None, calc_prefix: Any = None, *args: Any, **kwargs: Any) -> Any:
        given = atoms.calc if calc is None else calc
        result = plain(atoms, calc, calc_prefix, *args, **kwargs)
        spreads = getattr(given, "spreads", None)
        if isinstance(spreads, dict):
            prefix = f"{type(given).__name__}_" if calc_prefix is None else calc_prefix
            put(atoms, {prefix + name: value for name, value in spreads.items()})
        return result

    save_calc_results.keeps_spreads = True  # type: ignore[attr-defined]
    extxyz.save_calc_results = save_calc_results


def put(atoms: Any, fields: dict[str, Any]) -> None:
    """Put fields into a structure of ASE: those with a row for each atom as arrays, all others as info.

    Args:
        atoms: The structure.
        fields: Numbers and arrays by name; those of these names are replaced.
    """
    for name, value in fields.items():
        of_atoms = np.ndim(value) > 0 and len(value) == len(atoms) and not name.endswith("stress_std")
        (atoms.arrays if of_atoms else atoms.info)[name] = np.array(value) if np.ndim(value) else value
