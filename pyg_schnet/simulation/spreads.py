"""Spreads of committees in files of ASE.

ASE's files keep those results of a calculator that ASE has a name for, and it has none for a standard deviation. To
give it new names would change how it reads the files of others. Instead its writer of extended xyz, which is how
structures are chosen and labelled in active learning, is asked to put the spreads of our calculators, and of nobody
else's, into its columns and comments. It also gives every structure the last results of its calculator, whichever they
belong to; where several structures share one of our calculators, each gets its own.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

#: What the calculator of a committee has beyond the properties of ASE.
SPREADS = ("energy_std", "forces_std", "stress_std", "energies_std")


def keep_in_extxyz() -> None:
    """From now on, ``ase.io.write`` to extended xyz keeps ``calculator.spreads`` where a calculator has them.

    Structures that share such a calculator are written with results of their own, evaluated again where the last ones
    are of another structure.

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
        if not isinstance(getattr(given, "spreads", None), dict):
            return plain(atoms, calc, calc_prefix, *args, **kwargs)
        with _results_of(given, atoms):
            result = plain(atoms, calc, calc_prefix, *args, **kwargs)
            prefix = f"{type(given).__name__}_" if calc_prefix is None else calc_prefix
            put(atoms, {prefix + name: value for name, value in given.spreads.items()})
        return result

    save_calc_results.keeps_spreads = True  # type: ignore[attr-defined]
    extxyz.save_calc_results = save_calc_results


@contextmanager
def _results_of(calculator: Any, atoms: Any) -> Iterator[None]:
    """The results of a calculator are those of this structure; afterwards they are what they were."""
    kept = calculator.atoms, calculator.results
    try:
        if calculator.results and calculator.check_state(atoms):
            calculator.calculate(atoms.copy(), list(calculator.results))
        yield
    finally:
        calculator.atoms, calculator.results = kept


def put(atoms: Any, fields: dict[str, Any]) -> None:
    """Put fields into a structure of ASE: those with a row for each atom as arrays, all others as info.

    Args:
        atoms: The structure.
        fields: Numbers and arrays by name; those of these names are replaced.
    """
    for name, value in fields.items():
        of_atoms = np.ndim(value) > 0 and len(value) == len(atoms) and not name.endswith("stress_std")
        (atoms.arrays if of_atoms else atoms.info)[name] = np.array(value) if np.ndim(value) else value
