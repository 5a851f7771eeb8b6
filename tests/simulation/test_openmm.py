"""OpenMM and OpenMM-ML, where they are installed (extra ``openmm``)."""

import numpy as np
import pytest
from ase.build import bulk, molecule

from pyg_schnet.simulation.ase import SchNetCalculator

openmm = pytest.importorskip("openmm", reason="OpenMM is not installed (extra openmm)")

from openmm import app  # noqa: E402

from pyg_schnet.simulation.openmm import schnet_force  # noqa: E402

#: One kJ/mol in eV, one kJ/mol/nm in eV/Angstrom.
KJ = 0.010364269574711572
KJ_PER_MOLE = openmm.unit.kilojoule_per_mole


def crystal():
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=1)
    atoms.set_cell([[5.5, 0, 0], [0.4, 5.4, 0], [0.3, -0.2, 5.6]], scale_atoms=True)  # OpenMM's are lower triangles
    return atoms


def system_of(atoms):
    system = openmm.System()
    for mass in atoms.get_masses():
        system.addParticle(mass)
    if atoms.pbc.any():
        system.setDefaultPeriodicBoxVectors(*(openmm.Vec3(*row) for row in atoms.cell.array / 10))
    return system


def topology_of(atoms):
    topology = app.Topology()
    residue = topology.addResidue("ALL", topology.addChain())
    for number, z in enumerate(atoms.numbers):
        topology.addAtom(f"A{number}", app.Element.getByAtomicNumber(int(z)), residue)
    if atoms.pbc.any():
        topology.setPeriodicBoxVectors([openmm.Vec3(*row) for row in atoms.cell.array / 10] * openmm.unit.nanometer)
    return topology


def context_of(system, atoms, timestep=0.0001):
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(timestep), platform)
    context.setPositions(atoms.positions / 10)
    return context


def energy_and_forces(context):
    state = context.getState(energy=True, forces=True)
    forces = state.getForces(asNumpy=True).value_in_unit(KJ_PER_MOLE / openmm.unit.nanometer)
    return KJ * state.getPotentialEnergy().value_in_unit(KJ_PER_MOLE), KJ / 10 * np.array(forces)


@pytest.mark.parametrize("atoms", [molecule("CH3CH2OH"), crystal()], ids=str)
def test_as_the_calculator_of_ase(make_model, atoms):
    model = make_model()
    model.units = {"energy": "Ha"}
    system = system_of(atoms)
    system.addForce(schnet_force(model, atoms.numbers, bool(atoms.pbc.any())))
    energy, forces = energy_and_forces(context_of(system, atoms))
    calculator = SchNetCalculator(model)
    assert energy == pytest.approx(calculator.get_potential_energy(atoms), rel=1e-9)
    np.testing.assert_allclose(forces, calculator.get_forces(atoms), atol=1e-8 * np.abs(forces).max())


def test_a_system_is_written_and_read(make_model):
    atoms = molecule("H2O")
    system = system_of(atoms)
    system.addForce(schnet_force(make_model(), atoms.numbers))
    again = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(system))
    expected, found = (energy_and_forces(context_of(one, atoms)) for one in (system, again))
    assert found[0] == expected[0]
    np.testing.assert_array_equal(found[1], expected[1])


def test_dynamics_keep_the_energy(make_model):
    atoms = molecule("CH4")
    system = system_of(atoms)
    system.addForce(schnet_force(make_model(), atoms.numbers))
    context = context_of(system, atoms, 0.0002)
    context.setVelocitiesToTemperature(300, 1)
    kinetic, totals = [], []
    for _ in range(20):
        context.getIntegrator().step(10)
        state = context.getState(energy=True)
        kinetic.append(KJ * state.getKineticEnergy().value_in_unit(KJ_PER_MOLE))
        totals.append(kinetic[-1] + KJ * state.getPotentialEnergy().value_in_unit(KJ_PER_MOLE))
    assert np.ptp(kinetic) > 1e-3
    assert np.ptp(totals) < 1e-2 * np.ptp(kinetic)


@pytest.mark.parametrize("atoms", [molecule("CH3CH2OH"), crystal()], ids=str)
def test_openmm_ml_finds_it(make_model, atoms):
    openmmml = pytest.importorskip("openmmml", reason="OpenMM-ML is not installed (extra openmm)")
    from pyg_schnet.simulation.openmm_ml import SchNetPotentialImplFactory

    model = make_model()
    try:
        potential = openmmml.MLPotential("schnet", model=model)
    except KeyError:  # installed before there was the entry point
        openmmml.MLPotential.registerImplFactory("schnet", SchNetPotentialImplFactory())
        potential = openmmml.MLPotential("schnet", model=model)
    system = potential.createSystem(topology_of(atoms))
    energy, forces = energy_and_forces(context_of(system, atoms))
    calculator = SchNetCalculator(model)
    assert energy == pytest.approx(calculator.get_potential_energy(atoms), rel=1e-9)
    np.testing.assert_allclose(forces, calculator.get_forces(atoms), atol=1e-8 * np.abs(forces).max())
    with pytest.raises(TypeError, match=r'needs a model: MLPotential\("schnet", model='):
        openmmml.MLPotential("schnet")


def test_the_entry_point_is_declared():
    import tomllib
    from pathlib import Path

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    named = project["entry-points"]["openmmml.potentials"]["schnet"]
    module, name = named.split(":")
    pytest.importorskip("openmmml", reason="OpenMM-ML is not installed (extra openmm)")
    assert hasattr(__import__(module, fromlist=[name]), name)


def test_a_mixed_system(make_model):
    """Of two waters of TIP3P, one is SchNet's; the other one, and what is between them, stay as they are."""
    openmmml = pytest.importorskip("openmmml", reason="OpenMM-ML is not installed (extra openmm)")
    from pyg_schnet.simulation.openmm_ml import SchNetPotentialImplFactory

    model, water = make_model(), molecule("H2O")
    other = water.copy()
    other.positions += [0.0, 0.0, 3.0]
    topology = app.Topology()
    chain = topology.addChain()
    for _ in range(2):
        residue = topology.addResidue("HOH", chain)
        names = ["O", "H1", "H2"]
        oxygen, *hydrogens = (topology.addAtom(name, app.Element.getBySymbol(name[0]), residue) for name in names)
        for hydrogen in hydrogens:
            topology.addBond(oxygen, hydrogen)
    field = app.ForceField("tip3p.xml")
    plain = field.createSystem(topology, constraints=None, rigidWater=False)
    openmmml.MLPotential.registerImplFactory("schnet", SchNetPotentialImplFactory())
    mixed = openmmml.MLPotential("schnet", model=model).createMixedSystem(topology, plain, [0, 1, 2])
    both = water + other
    whole, _ = energy_and_forces(context_of(mixed, both))
    classical, _ = energy_and_forces(context_of(plain, both))
    single = app.Topology()
    residue = single.addResidue("HOH", single.addChain())
    oxygen, *hydrogens = (single.addAtom(name, app.Element.getBySymbol(name[0]), residue) for name in names)
    for hydrogen in hydrogens:
        single.addBond(oxygen, hydrogen)
    alone, _ = energy_and_forces(context_of(field.createSystem(single, constraints=None, rigidWater=False), water))
    learnt = SchNetCalculator(model).get_potential_energy(water)
    assert whole - learnt == pytest.approx(classical - alone, abs=1e-6)
    assert abs(learnt - alone) > 1e-2


def test_what_is_refused(make_model):
    with pytest.raises(ValueError, match="one particle for each of the 2 atoms, got 1"):
        schnet_force(make_model(), [6, 6], particles=[0])
    system = openmm.System()
    system.addParticle(1.0)
    system.addParticle(1.0)
    system.addForce(schnet_force(make_model(), [1, 1]))
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(np.array([[0.0, 0, 0], [0, 0, np.nan]]))
    with pytest.raises(openmm.OpenMMException, match="atom 1 is not finite"):
        context.getState(energy=True)
