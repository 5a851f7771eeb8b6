"""The paper's numbers, held against what its prose says of them."""

import pytest

from pyg_schnet.analysis import Published, published, published_rows
from pyg_schnet.analysis.published import ROWS
from pyg_schnet.datasets import MD17, QM9, MaterialsProject
from pyg_schnet.datasets.md17 import CATALOGUE
from pyg_schnet.units import conversion

MOLECULES = {row.molecule for row in ROWS if row.dataset == "MD17"}


def table(target, number, trained_on, model="SchNet"):
    rows = [
        row
        for row in ROWS
        if (row.target, row.num_train, row.trained_on, row.model) == (target, number, trained_on, model)
    ]
    return {row.molecule: row.value for row in rows if row.dataset == "MD17"}


def test_counts():
    """12 x 2 of table I and 2 of the text; 5; 8 x 6 less 4 that DTNN lacks and 8 x 5; 7 x 2."""
    assert [sum(row.dataset == name for row in ROWS) for name in ("QM9", "MaterialsProject", "MD17", "C20")] == [
        26,
        5,
        84,
        14,
    ]
    assert len(set(ROWS)) == len(ROWS)


#: The tables once more, read column by column: molecules in the order of the paper, then what (model, number of
#: training examples, what was trained on) gave of them; "/" for none.
IN_ORDER = ["benzene", "toluene", "malonaldehyde", "salicylic_acid", "aspirin", "ethanol", "uracil", "naphthalene"]
COLUMNS = {
    ("energy", "GDML", 1000, "forces"): "0.07 0.12 0.16 0.12 0.27 0.15 0.11 0.12",
    ("energy", "SchNet", 1000, "energy"): "1.19 2.95 2.03 3.27 4.20 0.93 2.26 3.58",
    ("energy", "SchNet", 1000, "energy and forces"): "0.08 0.12 0.13 0.20 0.37 0.08 0.14 0.16",
    ("energy", "DTNN", 50_000, "energy"): "0.04 0.18 0.19 0.41 / / / /",
    ("energy", "SchNet", 50_000, "energy"): "0.08 0.16 0.13 0.25 0.25 0.07 0.13 0.20",
    ("energy", "SchNet", 50_000, "energy and forces"): "0.07 0.09 0.08 0.10 0.12 0.05 0.10 0.11",
    ("forces", "GDML", 1000, "forces"): "0.23 0.24 0.80 0.28 0.99 0.79 0.24 0.23",
    ("forces", "SchNet", 1000, "energy"): "14.12 22.31 20.41 23.21 23.54 6.56 20.08 25.36",
    ("forces", "SchNet", 1000, "energy and forces"): "0.31 0.57 0.66 0.85 1.35 0.39 0.56 0.58",
    ("forces", "SchNet", 50_000, "energy"): "1.23 1.79 1.51 3.72 7.36 0.76 3.28 2.58",
    ("forces", "SchNet", 50_000, "energy and forces"): "0.17 0.09 0.08 0.19 0.33 0.05 0.11 0.11",
}
TARGETS = ["homo", "lumo", "gap", "zpve", "mu", "alpha", "r2", "U0", "U", "H", "G", "Cv"]
QM9_COLUMNS = {
    "unit": "eV eV eV meV D a0^3 a0^2 eV eV eV eV cal/(mol_K)",
    "SchNet": "0.041 0.034 0.063 1.7 0.033 0.235 0.073 0.014 0.019 0.014 0.014 0.033",
    "standard error": "0.001 0.000 0.000 0.033 0.001 0.061 0.002 0.001 0.006 0.001 0.000 0.000",
    "enn-s2s": "0.043 0.037 0.069 1.5 0.030 0.092 0.180 0.019 0.019 0.017 0.019 0.040",
}
C20_COLUMNS = {
    "T": "3 6 3 6 6 6 6",
    "F": "64 64 128 128 128 128 128",
    "rho": "0.01 0.01 0.01 0.01 0.1 0.001 0",
    "energy": "0.228 0.202 0.188 0.100 0.027 0.238 0.260",
    "forces": "0.401 0.217 0.197 0.120 0.171 0.061 0.058",
}


def numbers(text):
    return [None if one == "/" else float(one) for one in text.split()]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: "-".join(map(str, column)))
def test_tables_3_and_4_are_what_was_read_again(column):
    target, model, number, trained_on = column
    found = table(target, number, trained_on, model)
    expected = dict(zip(IN_ORDER, numbers(COLUMNS[column]), strict=True))
    assert found == {molecule: value for molecule, value in expected.items() if value is not None}
    unit = {"energy": "kcal/mol", "forces": "kcal/mol/Ang"}[target]
    assert {row.unit for row in published_rows("MD17", target, None, number, trained_on, model=model)} == {unit}


def test_table_1_is_what_was_read_again():
    units = [unit.replace("_", " ") for unit in QM9_COLUMNS["unit"].split()]
    rows = [row for row in ROWS if row.source == "table I"]
    assert {row.num_train for row in rows} == {110_000}
    for model, error in (("SchNet", QM9_COLUMNS["standard error"]), ("enn-s2s", " / " * 12)):
        found = [(row.target, row.unit, row.value, row.standard_error) for row in rows if row.model == model]
        expected = zip(TARGETS, units, numbers(QM9_COLUMNS[model]), numbers(error), strict=True)
        assert sorted(found) == sorted(expected)


def test_tables_2_and_5_are_what_was_read_again():
    rows = published_rows("MaterialsProject", "formation_energy", model=None)
    assert {(row.model, row.num_train): (row.value, row.standard_error) for row in rows} == {
        ("extended Coulomb matrix", 3000): (0.64, None),
        ("Ewald sum matrix", 3000): (0.49, None),
        ("sine matrix", 3000): (0.37, None),
        ("SchNet", 3000): (0.127, 0.001),
        ("SchNet", 60_000): (0.035, 0.0),
    }
    settings = list(zip(*(numbers(C20_COLUMNS[name]) for name in ("T", "F", "rho")), strict=True))
    for target in ("energy", "forces"):
        found = {
            (row.num_interactions, row.hidden_channels, row.rho): (row.value, row.trained_on, row.num_train)
            for row in published_rows("C20", target)
        }
        for setting, value in zip(settings, numbers(C20_COLUMNS[target]), strict=True):
            assert found.pop(setting) == (value, "energy and forces" if setting[2] else "forces", 20_000)
        assert not found


def test_targets_and_molecules_are_those_of_the_datasets():
    assert {row.target for row in ROWS if row.dataset == "QM9"} <= set(QM9.targets)
    for row in published_rows("QM9", "zpve") + published_rows("QM9", "Cv") + published_rows("QM9", "alpha"):
        assert row.unit == QM9.units[row.target] or conversion(row.unit, QM9.units[row.target])
    assert published_rows("MaterialsProject", "formation_energy")[0].unit == MaterialsProject.units["formation_energy"]
    assert {CATALOGUE[molecule].family for molecule in MOLECULES} == {"md17"}
    assert {row.target for row in ROWS if row.dataset == "MD17"} == {"energy", "forces"} <= set(MD17.units)


def test_table_1_against_prose():
    """Better than enn-s2s or equal: on 9 targets by the table; the prose counts <R^2> as worse, hence 8."""
    ours = {row.target: row.value for row in ROWS if row.source == "table I" and row.model == "SchNet"}
    theirs = {row.target: row.value for row in ROWS if row.model == "enn-s2s"}
    assert {target for target in ours if ours[target] > theirs[target]} == {"zpve", "mu", "alpha"}
    assert len(ours) == len(theirs) == 12
    assert {row.num_interactions: row.value for row in published_rows("QM9", "U0")} == {6: 0.014, 2: 0.015, 3: 0.014}


def test_tables_3_and_4_against_prose():
    for target, bound in (("energy", 0.12), ("forces", 0.33)):  # at most these with 50,000 examples and both losses
        assert max(table(target, 50_000, "energy and forces").values()) == bound
        small, gdml = table(target, 1000, "energy and forces"), table(target, 1000, "forces", "GDML")
        assert {"malonaldehyde", "ethanol"} <= {molecule for molecule in small if small[molecule] < gdml[molecule]}
        # errors fall by one to two orders of magnitude when forces are learned too
        energy_only = table(target, 1000, "energy")
        assert all(10 < energy_only[molecule] / small[molecule] < 100 for molecule in small)
        assert len(small) == len(gdml) == len(energy_only) == 8
    forces, gdml = table("forces", 1000, "energy and forces"), table("forces", 1000, "forces", "GDML")
    assert {molecule for molecule in forces if forces[molecule] < gdml[molecule]} == {"malonaldehyde", "ethanol"}
    assert set(table("energy", 50_000, "energy", "DTNN")) == {"benzene", "toluene", "malonaldehyde", "salicylic_acid"}


def test_table_5_against_prose():
    """T = 6, F = 128 is best for rho = 0.01; a larger rho for energies, none for forces."""
    for target, rho in (("energy", 0.1), ("forces", 0.0)):
        rows = published_rows("C20", target)
        best = min((row for row in rows if row.rho == 0.01), key=lambda row: row.value)
        assert (best.num_interactions, best.hidden_channels) == (6, 128)
        assert published("C20", target).rho == rho


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("MD17", "energy", "Salicylic acid", 1000, "energy"), "3.27 kcal/mol"),
        (("md17", "forces", "malondialdehyde", 50_000, "energy"), "1.51 kcal/mol/Ang"),
        (("Materials Project", "formation_energy", None, 3000), "0.127 eV/atom"),
        (("qm9", "zpve"), "1.7 meV"),
    ],
    ids=["energies", "forces", "crystals", "molecules"],
)
def test_lookup(arguments, shown):
    assert str(published(*arguments)) == shown


@pytest.mark.parametrize(
    "arguments",
    [
        ("ISO17", "energy"),
        ("QM9", "U0_atom"),
        ("MD17", "energy", "ethanol_xtb"),
        ("MD17", "energy", "revised_ethanol"),
        ("MD17", "energy", "ethanol", 2000),
        ("MD17", "energy", "ethanol", 50_000, "forces"),
    ],
    ids=lambda arguments: "-".join(map(str, arguments)),
)
def test_nothing_published(arguments):
    assert published(*arguments) is None


def test_other_models():
    assert published("QM9", "mu", model="enn-s2s") == Published(
        "QM9", "mu", 0.030, "D", "table I", "enn-s2s", None, 110_000
    )
    assert len(published_rows("MaterialsProject", "formation_energy", model=None)) == 5


def test_unknown_training():
    with pytest.raises(ValueError, match="`trained_on` must be one of 'energy', 'forces', 'energy and forces'"):
        published("MD17", "energy", trained_on="both")
