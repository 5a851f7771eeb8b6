"""Units against ASE, which uses the same set of constants, and against the exact definitions."""

import itertools

import pytest

from pyg_schnet import units
from pyg_schnet.units import ENERGY, FORCE, LENGTH, conversion


def test_constants_are_those_of_ase() -> None:
    ase = pytest.importorskip("ase.units")
    expected = [ase.Hartree, ase.Bohr, ase.kcal / ase.mol, ase.kJ / ase.mol]
    # two constants are products of rounded numbers, in another order in ASE: the last digit may differ
    ours = [units.HARTREE, units.BOHR, units.KCAL_PER_MOL, units.KJ_PER_MOL]
    assert ours == pytest.approx(expected, rel=3e-16, abs=0)


def test_constants_are_those_of_nature() -> None:
    # CODATA 2018/2022; the sets since 2014 differ by less than 1e-8
    values = [units.HARTREE, units.BOHR, units.KCAL_PER_MOL]
    exact_kcal = 4184.0 / (1.602176634e-19 * 6.02214076e23)
    assert values == pytest.approx([27.211386245981, 0.529177210544, exact_kcal], rel=2e-8, abs=0)


@pytest.mark.parametrize(
    ("source", "target", "factor"),
    [
        ("kcal/mol", "kJ/mol", 4.184),
        ("eV", "meV", 1000.0),
        ("nm", "Ang", 10.0),
        ("eV/Ang", "eV/nm", 10.0),
        ("kcal/mol/Ang", "meV/Ang", 43.36410390059322),
        ("Ha/Bohr", "eV/Ang", 51.42206707),  # the atomic unit of force, NIST
    ],
)
def test_conversion(source: str, target: str, factor: float) -> None:
    assert conversion(source, target) == pytest.approx(factor, rel=1e-8)  # NIST's number has ten digits


@pytest.mark.parametrize(("unit", "factor"), [("GPa", 1e9), ("kbar", 1e8), ("eV/Ang^3", 1.602176634e11)])
def test_units_of_stress(unit: str, factor: float) -> None:
    """In pascals; an eV is 1.602176634e-19 J since 2019, 9e-9 of it more than in CODATA 2014."""
    assert units.STRESS[unit] == pytest.approx(factor / 1.602176634e11, rel=2e-8)
    ase = pytest.importorskip("ase.units")
    assert units.STRESS["GPa"] == pytest.approx(ase.GPa, rel=1e-14)
    assert units.STRESS["kbar"] == pytest.approx(ase.GPa / 10, rel=1e-14)


def test_conversions_invert_and_compose() -> None:
    for kind in (ENERGY, LENGTH, FORCE):
        for a, b in itertools.product(kind, repeat=2):
            assert conversion(a, b) * conversion(b, a) == pytest.approx(1.0, rel=1e-15)  # two roundings
        assert all(conversion(unit, unit) == 1.0 for unit in kind)


@pytest.mark.parametrize("pair", [("kcal", "eV"), ("eV", "electronvolt")])
def test_unknown_unit_is_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=r"unknown unit '(kcal|electronvolt)'; expected one of .*kcal/mol"):
        conversion(*pair)


@pytest.mark.parametrize("pair", [("eV", "Ang"), ("eV/Ang", "eV"), ("Bohr", "Ha/Bohr")])
def test_units_of_different_kinds_are_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=f"{pair[0]}.*{pair[1]}"):
        conversion(*pair)
